"""Faults: what goes wrong in a run, drawn from the seed and printable: the schedule is what a report shows.

    crash N       at a moment, a worker (chosen then) is killed outright, or with its N-th next message
    owner N       the same for a second driver
    gcs D         the GCS is gone for D milliseconds
    slow S        from then on a share S of messages is up to 30 ms late
    forks S       from then on a share S of forks fails
And where there are several nodes:
    kill N        worker number N is killed, as ``sim/chaos`` counts
    node N        node number N is gone with everything on it, and another one joins
    part D        two nodes are cut off from each other for D milliseconds
    lone D        a node is cut off from the GCS for so long; longer than the health check allows: it is held for dead
    split D       a node is cut off from everybody
    lose N        connection number N between two nodes breaks; both ends live
    drain N       node number N is asked to leave within five seconds, and another one joins
    jump D        the GCS's clock jumps ahead by D milliseconds
Knows nothing of machines.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from raybook.sim.network import GCS_PLACE

if TYPE_CHECKING:
    from raybook.sim.node import Node
    from raybook.sim.world import World


class Fault(NamedTuple):
    """One line of a schedule. ``amount`` as the kind has it."""

    at_ms: int
    kind: str
    amount: float = 0

    def __str__(self) -> str:
        return f"{self.at_ms} ms: {self.kind} {self.amount:g}"

    @property
    def end_ms(self) -> int:
        """When it is over."""
        return self.at_ms + (int(self.amount) if self.kind in SPANS else 0)


Schedule = tuple[Fault, ...]
NO_FAULTS: Schedule = ()
KINDS = ("crash", "owner", "gcs", "slow", "forks")
NODE_KINDS = ("node", "part", "lone", "split", "lose", "jump", "drain")
"""Drawn where there are several nodes."""
DRAIN_MS = 5_000
"""A node with a driver leaves only then."""
SPANS = ("gcs", "part", "lone", "split")
"""Those that last for ``amount`` milliseconds."""
ALL_KINDS = (*KINDS, *NODE_KINDS, "kill")


def draw_schedule(seed: int, span_ms: int, kinds: tuple[str, ...] = KINDS) -> Schedule:
    """Some faults within ``span_ms``."""
    rng = random.Random(seed ^ 0x5EED)
    faults = []
    for _ in range(rng.randrange(1, 7)):
        kind = rng.choice(kinds + ("crash",) * (3 if "crash" in kinds else 0))
        amount: float = 0
        if kind in ("crash", "owner"):
            amount = rng.choice((0, 0, 1, 2, 3, 5, 9, 20))
        elif kind == "gcs":
            amount = rng.choice((50, 300, 2_000))
        elif kind == "slow":
            amount = rng.choice((0.01, 0.1, 0.5))
        elif kind == "forks":
            amount = rng.choice((0.1, 0.5))
        elif kind in ("part", "lone", "split", "jump"):
            amount = rng.choice((50, 300, 1_000, 4_000))
        elif kind in ("node", "kill", "lose", "drain"):
            amount = rng.randrange(1_000)
        faults.append(Fault(int(span_ms * rng.random() ** 2), kind, amount))
    return tuple(sorted(faults))


def parse_schedule(text: str) -> Schedule:
    """What ``str`` makes of faults, with semicolons between. ValueError naming what is none."""
    faults = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        at_ms, _, rest = part.partition(" ms: ")
        kind, _, amount = rest.partition(" ")
        if kind not in ALL_KINDS or not at_ms.isdigit():
            raise ValueError(
                f"{part!r} is no fault; write for example '250 ms: crash 3', with one of {', '.join(ALL_KINDS)}."
            )
        faults.append(Fault(int(at_ms), kind, float(amount or 0)))
    return tuple(sorted(faults))


def describe(schedule: Schedule) -> str:
    """In one line; ``parse_schedule`` reads it."""
    return "; ".join(map(str, schedule))


class Faults:
    """A schedule at work in a world."""

    def __init__(self, world: World, schedule: Schedule) -> None:
        self.schedule = schedule
        self._world = world
        self._rng = random.Random(world.seed ^ 0xFA17)
        self._failing_forks = 0.0
        self._out_of_reach_ms: dict[bytes, int] = {}
        """Node → until when the GCS cannot reach it, or could not."""
        self._gcs_away_ms = 0
        self._strikes: dict[str, Callable[[float], None]] = {
            "crash": lambda amount: self._crash("worker", amount),
            "owner": lambda amount: self._crash("driver", amount),
            "gcs": self._gcs,
            "slow": self._slow,
            "forks": self._forks,
            "kill": self._kill,
            "node": self._node,
            "part": self._part,
            "lone": lambda amount: self._alone(amount, [GCS_PLACE]),
            "split": lambda amount: self._alone(amount, [GCS_PLACE, *self._world.nodes]),
            "lose": self._lose,
            "drain": self._drain,
            "jump": self._jump,
        }
        self.is_disturbed = False
        """Whether something has gone wrong already: then some errors are right answers."""

    def start(self) -> None:
        """From now on."""
        for fault in self.schedule:
            self._world.timeline.at(fault.at_ms * 1000, self._strike, fault)

    def fails_to_start(self) -> bool:
        """Whether this fork fails."""
        return bool(self._failing_forks) and self._rng.random() < self._failing_forks

    def out_of_reach_until_ms(self, node_id: bytes) -> int:
        """Since when the GCS reaches the node, or will."""
        return max(self._gcs_away_ms, self._out_of_reach_ms.get(node_id, 0))

    def may_look_dead(self, node_id: bytes) -> bool:
        """Whether the GCS may take the node for dead although it lives."""
        return node_id in self._out_of_reach_ms

    def heal(self) -> None:
        """What goes on going wrong ends."""
        self._failing_forks = 0.0
        self._world.network.heal_all()

    def _strike(self, fault: Fault) -> None:
        if fault.kind not in ("slow", "forks"):
            self.is_disturbed = True
        self._strikes[fault.kind](fault.amount)

    # What may happen

    def _slow(self, share: float) -> None:
        self._world.network.slow_share, self._world.network.slow_us = share, 30_000

    def _forks(self, share: float) -> None:
        self._failing_forks = share

    def _gcs(self, away_ms: float) -> None:
        world = self._world
        if world.gcs.is_up:
            world.gcs.crash()
            world.timeline.after(int(away_ms) * 1000, world.gcs.start)
            self._gcs_away_ms = world.timeline.now_ms + int(away_ms)

    def _jump(self, span_ms: float) -> None:
        self._world.gcs.jump(int(span_ms))

    def _crash(self, kind: str, fuse: float) -> None:
        world = self._world
        victims = [p for p in world.processes.values() if p.is_alive and p.kind == kind and p is not world.driver]
        if victims:
            victim = self._rng.choice(victims)
            if fuse:
                victim.fuse = int(fuse)
            else:
                victim.die("a fault of the schedule")

    def _mortal(self) -> list[Node]:
        """All nodes but the first driver's, in the order in which they joined."""
        return [node for node in self._world.nodes.values() if node is not self._world.driver.node]

    def _kill(self, ordinal: float) -> None:
        nodes = self._mortal()
        if nodes:
            number, index = divmod(int(ordinal), len(nodes))
            workers = [c.process for c in nodes[index].clients.values() if c.process.executor is not None]
            if workers:
                workers[number % len(workers)].die("a fault of the schedule")

    def _node(self, ordinal: float) -> None:
        nodes = self._mortal()
        if nodes:
            self._world.add_node()
            nodes[int(ordinal) % len(nodes)].stop("a fault of the schedule")

    def _drain(self, ordinal: float) -> None:
        nodes = self._mortal()
        if nodes:
            self._world.add_node()
            self._world.gcs.drain(nodes[int(ordinal) % len(nodes)].node_id, DRAIN_MS)

    def _part(self, span_ms: float) -> None:
        if len(self._world.nodes) > 1:
            here, there = self._rng.sample(list(self._world.nodes), 2)
            self._cut(here, there, span_ms)

    def _alone(self, span_ms: float, others: list[bytes]) -> None:
        nodes = self._mortal()
        if nodes:
            node_id = self._rng.choice(nodes).node_id
            until_ms = self._world.timeline.now_ms + int(span_ms)
            self._out_of_reach_ms[node_id] = max(self._out_of_reach_ms.get(node_id, 0), until_ms)
            for other in others:
                if other != node_id:
                    self._cut(node_id, other, span_ms)

    def _cut(self, here: bytes, there: bytes, span_ms: float) -> None:
        network = self._world.network
        network.cut(here, there)
        self._world.timeline.after(int(span_ms) * 1000, network.heal, here, there)

    def _lose(self, number: float) -> None:
        self._world.network.lose(int(number))
