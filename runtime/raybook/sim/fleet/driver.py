"""Fleet driver: a client that wants leases of several classes, around its raylet's shipped spillover and view.

It states what it could use, holds what it is given for as long as a task might take, and gives it back. The view is brought
up to date with what has changed since the last look. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.base.specs import SchedulingClass
from raybook.base.strategies import SPREAD, near_node
from raybook.core.node import lease_events as le
from raybook.core.node import spillover as so
from raybook.core.node.node_view import Cursor, NodeDied, NodeView
from raybook.protocol.messages.gcs import NodesDelta
from raybook.sim.plans import CPU

if TYPE_CHECKING:
    from raybook.sim.fleet.node import FleetNode
    from raybook.sim.fleet.world import Fleet

GRACE_MS = 10_000
LOOK_US = 1_000_000
LOOK_SOON_US = 250_000
CLASSES = (
    SchedulingClass((("CPU", CPU),)),
    SchedulingClass((("CPU", 2 * CPU),)),
    SchedulingClass((("CPU", CPU // 2),)),
    SchedulingClass((("CPU", CPU),), strategy=SPREAD),
    SchedulingClass((("CPU", CPU), ("GPU", CPU))),
    SchedulingClass((("CPU", CPU),), labels=(("zone", "a"),)),
    SchedulingClass((("CPU", CPU), ("memory", 1 << 30))),
)
NEAR = len(CLASSES)
"""The class key of a demand near some node's data."""
HOG, HOG_CLASS = NEAR + 1, SchedulingClass((("CPU", 3 * CPU),))
"""Leases that are held to the end: room is scarce."""
COUNT_MAX = 48
HELD_US = (2_000, 40_000, 200_000, 1_000_000)
PAUSE_US = 150_000


class FleetDriver:
    """home: its node, which lives as long as the fleet. hogs: leases that it keeps."""

    def __init__(self, fleet: Fleet, number: int, home: FleetNode, hogs: int) -> None:
        self.client_id = b"d%07d" % number
        self.home = home
        self.view = NodeView(GRACE_MS)
        self.held: dict[int, tuple[FleetNode, int]] = {}
        """Lease → (node, class)."""
        self._fleet = fleet
        self._machine = so.Spillover(home.node_id, self.view, home.leases.available_for_reports)
        self._wanted: dict[int, int] = {}
        self._since_ms: dict[int, int] = {}
        self._classes: dict[int, SchedulingClass] = {**dict(enumerate(CLASSES)), HOG: HOG_CLASS}
        self._hogs = hogs
        self._cursor = Cursor()
        fleet.timeline.after(int(fleet.rng.random() * LOOK_SOON_US), self._look)

    def start(self) -> None:
        """Want something, again and again."""
        self._wanted[HOG], self._since_ms[HOG] = self._hogs, self._fleet.timeline.now_ms
        self._state(HOG)
        self._fleet.timeline.after(int(self._fleet.rng.random() * PAUSE_US), self._want)

    # Wanting

    def _want(self) -> None:
        fleet = self._fleet
        if fleet.is_closing:
            return
        rng = fleet.rng
        key = rng.randrange(NEAR + 1)
        if key == NEAR and not self._wanted.get(NEAR):
            near = rng.choice(fleet.node_ids)
            self._classes[NEAR] = SchedulingClass((("CPU", CPU),), strategy=near_node(near))
        if key in self._classes:
            if not self._wanted.get(key):
                self._since_ms[key] = fleet.timeline.now_ms
            self._wanted[key] = self._wanted.get(key, 0) + rng.randrange(1, COUNT_MAX)
            self._state(key)
        fleet.timeline.after(int(2 * PAUSE_US * rng.random()), self._want)

    def _state(self, key: int) -> None:
        self._decide(so.DemandStated(self.client_id, key, self._classes[key], self._wanted[key], "f"))

    def check(self) -> None:
        """Nobody waits too long for what somebody could hold."""
        self._machine.check_invariants()
        for key, count in self._wanted.items():
            if count:
                text = f"{self.client_id!r} waits for {count} leases of {self._classes[key]}"
                self._fleet.books.check_wait(self._since_ms[key], text)

    def close(self) -> None:
        """Want nothing more."""
        for key in [key for key, count in self._wanted.items() if count]:
            self._wanted[key] = 0
            self._state(key)
        for lease_id in [lease_id for lease_id, (_, key) in self.held.items() if key == HOG]:
            self._give_back(lease_id)

    def _decide(self, *events: Any) -> None:
        fleet = self._fleet
        kind = "view" if type(events[0]) is so.ViewChanged else "spillover"
        for effect in fleet.meter.run(kind, self._machine.handle, events):
            if isinstance(effect, so.RefuseDemand):
                self._wanted[effect.class_key] = 0
                continue
            demand = le.DemandSet(effect.client, effect.class_key, effect.what, effect.count, effect.name)
            node = fleet.nodes.get(effect.node_id)
            if node is self.home:
                fleet.timeline.after(0, node.tell, demand)
            elif node is not None:
                fleet.to_node(self, node, node.tell, demand)
            elif effect.count:
                lost = so.PartUndelivered(effect.client, effect.class_key, effect.node_id)
                fleet.timeline.after(0, self._decide, lost)

    # What comes back

    def granted(self, node: FleetNode, grant: le.Grant) -> None:
        """A lease."""
        fleet, key = self._fleet, grant.class_key
        self._decide(so.GrantPassed(self.client_id, key, node.node_id))
        if not self._wanted.get(key):
            fleet.to_node(self, node, node.returned, self.client_id, grant.lease_id)
            return
        self._wanted[key] -= 1
        fleet.books.waited(self._since_ms[key])
        self._since_ms[key] = fleet.timeline.now_ms
        self.held[grant.lease_id] = (node, key)
        if key == HOG:
            if fleet.is_closing:
                self._give_back(grant.lease_id)
            return
        held_us = int(fleet.rng.choice(HELD_US) * (0.5 + fleet.rng.random()))
        fleet.timeline.after(held_us, self._give_back, grant.lease_id)

    def _give_back(self, lease_id: int) -> None:
        node, _ = self.held.pop(lease_id, (None, 0))
        if node is not None:
            self._fleet.to_node(self, node, node.returned, self.client_id, lease_id)

    def lost(self, node: FleetNode, lease_id: int) -> None:
        """A lease is over before its time."""
        self.held.pop(lease_id, None)

    def refused(self, node: FleetNode, class_key: int) -> None:
        """It will never be served."""
        self._decide(so.DemandEnded(self.client_id, class_key))
        self._wanted[class_key] = 0

    # The view

    def _look(self) -> None:
        fleet = self._fleet
        if fleet.gcs.is_up:
            is_first = not self._cursor.since
            delta = fleet.gcs.watch(self._cursor.epoch, self._cursor.since)
            fleet.meter.run("list" if delta.reset else "look", self._take, delta)
            if is_first:
                self.start()
            self._decide(so.ViewChanged())
        fleet.timeline.after(LOOK_SOON_US if self._machine.is_waiting() else LOOK_US, self._look)

    def _take(self, delta: NodesDelta) -> None:
        now_ms = self._fleet.timeline.now_ms
        for event in (*self.view.apply(self._cursor, delta, now_ms), *self.view.elapse(now_ms)):
            if isinstance(event, NodeDied):
                for lease_id in [each for each, (node, _) in self.held.items() if node.node_id == event.node_id]:
                    del self.held[lease_id]
        self.view.take_back_guesses(self._cursor, delta.newest)
