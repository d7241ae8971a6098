"""Fleet world: nodes, drivers that want leases, actors and placement groups, nodes that die and join, and the books.

``Fleet(seed, FleetSetting(nodes=10_000)).run(clock)`` plays a number of events, lets everything come to rest and looks what
is left. Same seed, same trace. Decides nothing.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybook.base.specs import ActorSpec, Bundle, Endpoint, PlacementGroupSpec
from raybook.base.strategies import SPREAD
from raybook.core.scheduling.bundles import STRATEGIES
from raybook.sim.calls import RETRY_MS, Away, Refusal
from raybook.sim.checkers.violation import Violation
from raybook.sim.fleet.books import Books
from raybook.sim.fleet.driver import FleetDriver
from raybook.sim.fleet.gcs import FleetGcs
from raybook.sim.fleet.meter import Meter
from raybook.sim.fleet.node import FleetNode
from raybook.sim.plans import CPU
from raybook.sim.timeline import Timeline

GIB = 1 << 30
ZONES = "abcdefgh"
CHECK_EVERY = 20_000
"""Walks over all drivers, and a look at one node's lease manager, are made this often."""
REST_MS = 12_000
LATENCY_US, SPREAD_US = 60, 300


@dataclass(frozen=True)
class FleetSetting:
    """hogs: so many of a hundred nodes are taken, but for one CPU, from the beginning to the end. actors, groups: at most so
    many at a time; 0: as suits the nodes. Times between deaths of nodes and of the GCS; 0: never."""

    nodes: int = 100
    events: int = 100_000
    drivers: int = 8
    hogs: int = 60
    actors: int = 0
    groups: int = 0
    node_every_ms: int = 400
    gcs_every_ms: int = 9_000


class Fleet:
    """See the module."""

    def __init__(self, seed: int, setting: FleetSetting = FleetSetting()) -> None:
        self.seed = seed
        self.setting = setting
        self.rng = random.Random(seed)
        self.timeline = Timeline()
        self.meter = Meter(lambda: 0.0)
        self.books = Books(self)
        self.nodes: dict[bytes, FleetNode] = {}
        self.ever: dict[bytes, FleetNode] = {}
        """Dead ones, too."""
        self.node_ids: list[bytes] = []
        """Of those that live, in no order that means anything."""
        self.strategies: dict[bytes, str] = {}
        self.last_fault_ms = 0
        self.deaths = 0
        self.is_closing = False
        self.trace = 0
        self._homes: dict[bytes, None] = {}
        self._made = 0
        self._unsettled: dict[bytes, int] = {}
        """Actors and groups that are to come → since when."""
        self._actors: list[bytes] = []
        self._groups: list[bytes] = []
        self.gcs = FleetGcs(self)
        self.gcs.start()
        self._actors_max = setting.actors or setting.nodes // 8
        self._groups_max = setting.groups or setting.nodes // 20
        for _ in range(setting.nodes):
            self._add_node()
        self.drivers: dict[bytes, FleetDriver] = {}
        hogs = setting.nodes * setting.hogs // 100 // setting.drivers
        for number in range(setting.drivers):
            home = self.nodes[self.node_ids[number * len(self.node_ids) // setting.drivers]]
            driver = FleetDriver(self, number, home, hogs)
            self._homes[home.node_id] = None
            self.drivers[driver.client_id] = driver

    # Making

    def _add_node(self) -> None:
        number = len(self.ever) + 1
        kind = number % 10
        total = {"CPU": (8 if kind == 0 else 4) * CPU, "memory": (16 + kind) * GIB, "object_store_memory": 4 * GIB}
        if kind == 0:
            total["GPU"] = 2 * CPU
        node = FleetNode(self, number, total, {"zone": ZONES[number % len(ZONES)], "name": f"n{number}"})
        self.nodes[node.node_id] = self.ever[node.node_id] = node
        self.node_ids.append(node.node_id)
        node.start()

    def latency_us(self) -> int:
        """Of one message."""
        return LATENCY_US + int(SPREAD_US * self.rng.random() ** 2)

    # Messages

    def to_driver(self, client_id: bytes, what: str, node: FleetNode, detail: Any) -> None:
        """A node tells a client, by way of its home."""
        driver = self.drivers[client_id]
        self.timeline.after(self.latency_us(), getattr(driver, what), node, detail)

    def to_node(self, driver: FleetDriver, node: FleetNode, told: Callable[..., None], *what: Any) -> None:
        """And the other way."""
        self.timeline.after(0 if node is driver.home else self.latency_us(), told, *what)

    def call_gcs(self, node: FleetNode, method: str, request: Any) -> None:
        """A node tells the GCS; again while that is away."""
        self.timeline.after(self.latency_us(), self._call, node, method, request)

    def _call(self, node: FleetNode, method: str, request: Any) -> None:
        if not node.is_alive:
            return
        try:
            self.gcs.call(method, request)
        except Away:
            if method != "ReportNode":
                self.timeline.after(RETRY_MS * 1000, self._call, node, method, request)
        except Refusal:
            self.call_gcs(node, "RegisterNode", node.registration())

    # What users do beside tasks

    def settled(self, key: bytes) -> None:
        """An actor or group is there, or is gone."""
        self._unsettled.pop(key, None)

    def _next_id(self, letter: bytes) -> bytes:
        self._made += 1
        return letter + b"%015d" % self._made

    def _make_actor(self) -> None:
        if self.is_closing:
            return
        rng = self.rng
        if self.gcs.is_up:
            if len(self._actors) >= self._actors_max:
                self._kill_actor(rng.randrange(len(self._actors)))
            actor_id = self._next_id(b"a")
            owner = Endpoint(b"d0000000", self.node_ids[0], "tcp")
            resources = rng.choice(({}, {"CPU": CPU}, {"GPU": CPU}))
            spec = ActorSpec(actor_id, b"job", "A", owner, resources, resources or {"CPU": CPU}, b"")
            spec.max_restarts = -1
            spec.strategy = rng.choice(("", "", SPREAD))
            if "GPU" not in resources:
                spec.labels = rng.choice(({}, {}, {"zone": rng.choice(ZONES)}))
            spec.detached = True
            self._actors.append(actor_id)
            self._unsettled[actor_id] = self.timeline.now_ms
            self.gcs.create_actor(spec)
        self.timeline.after(int(rng.random() * 2_000_000 / max(1, self._actors_max // 10)), self._make_actor)

    def _kill_actor(self, index: int) -> None:
        actor_id = self._actors.pop(index)
        self._unsettled.pop(actor_id, None)
        self.gcs.kill_actor(actor_id)

    def _make_group(self) -> None:
        if self.is_closing:
            return
        rng = self.rng
        if self.gcs.is_up:
            if len(self._groups) >= self._groups_max:
                self._remove_group(rng.randrange(len(self._groups)))
            group_id = self._next_id(b"g")
            strategy = rng.choice(STRATEGIES)
            bundles = [Bundle({"CPU": CPU}) for _ in range(rng.choice((1, 2, 3, 4)))]
            if rng.random() < 0.2:
                bundles[0].shape["GPU"] = CPU
            self.strategies[group_id] = strategy
            self._groups.append(group_id)
            self._unsettled[group_id] = self.timeline.now_ms
            self.gcs.create_group(PlacementGroupSpec(group_id, b"job", bundles, strategy, detached=True))
        self.timeline.after(int(rng.random() * 2_000_000 / max(1, self._groups_max // 4)), self._make_group)

    def _remove_group(self, index: int) -> None:
        group_id = self._groups.pop(index)
        self._unsettled.pop(group_id, None)
        self.gcs.remove_group(group_id)

    # What goes wrong

    def _kill_node(self) -> None:
        if self.is_closing:
            return
        rng = self.rng
        index = rng.randrange(len(self.node_ids))
        node_id = self.node_ids[index]
        if node_id not in self._homes:
            self.node_ids[index] = self.node_ids[-1]
            self.node_ids.pop()
            node = self.nodes.pop(node_id)
            node.stop()
            self.books.node_ended(node)
            self.deaths += 1
            self.last_fault_ms = self.timeline.now_ms
            self._add_node()
        self.timeline.after(int(rng.random() * 2_000 * self.setting.node_every_ms), self._kill_node)

    def _kill_gcs(self) -> None:
        if self.is_closing:
            return
        self.gcs.crash()
        self.last_fault_ms = self.timeline.now_ms
        self.timeline.after(300_000, self.gcs.start)
        self.timeline.after(1_000 * self.setting.gcs_every_ms, self._kill_gcs)

    # Running

    def run(self, clock: Callable[[], float] = lambda: 0.0) -> Fleet:
        """Play to the end; itself. clock: seconds, for the meter. Violation."""
        setting, timeline = self.setting, self.timeline
        self.meter = Meter(clock)
        timeline.after(500_000, self._make_actor)
        timeline.after(500_000, self._make_group)
        if setting.node_every_ms:
            timeline.after(1_000 * setting.node_every_ms, self._kill_node)
        if setting.gcs_every_ms:
            timeline.after(1_000 * setting.gcs_every_ms, self._kill_gcs)
        while timeline.happened < setting.events and timeline.step():
            if timeline.happened % CHECK_EVERY == 0:
                self._look()
        self._close()
        self._look()
        self.books.at_end()
        return self

    def _look(self) -> None:
        waits = self.books.waits_ms
        self.trace = zlib.crc32(repr((self.timeline.now_us, len(waits), sum(waits))).encode(), self.trace)
        for driver in self.drivers.values():
            driver.check()
        for key, since_ms in self._unsettled.items():
            self.books.check_wait(since_ms, f"{key!r} is waited for")
        self.nodes[self.rng.choice(self.node_ids)].leases.check_invariants()

    def _close(self) -> None:
        """Nobody wants anything any more."""
        self.is_closing = True
        while not self.gcs.is_up:
            self.timeline.step()
        for driver in self.drivers.values():
            driver.close()
        while self._actors:
            self._kill_actor(len(self._actors) - 1)
        while self._groups:
            self._remove_group(len(self._groups) - 1)
        end_ms = self.timeline.now_ms + REST_MS
        while self.timeline.now_ms < end_ms and self.timeline.step():
            pass
        self.gcs.view.check_invariants()
        self.gcs.nodes.check_invariants()
        self.gcs.actors.check_invariants()
        self.gcs.groups.check_invariants()
        left = [driver.client_id for driver in self.drivers.values() if driver.held]
        if left:
            raise Violation("grants", f"{left} still hold leases", *left)

    def summary(self) -> str:
        """One line for people."""
        counts = self.meter.counts
        decided = sum(counts.get(kind, 0) for kind in ("spillover", "lease", "choose", "place"))
        return (
            f"fleet of {self.setting.nodes} nodes, seed {self.seed}: {self.timeline.happened} events in "
            f"{self.timeline.now_ms} virtual ms, {decided} decisions, {len(self.books.waits_ms)} leases, {self.deaths} "
            f"nodes died, trace {self.trace:08x}"
        )
