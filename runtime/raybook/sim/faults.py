"""Faults: what goes wrong in a run, drawn from the seed and printable: the schedule is what a report shows.

    crash N       at a moment, a worker (chosen then) is killed outright, or with its N-th next message
    owner N       the same for a second driver
    gcs D         the GCS is gone for D milliseconds
    slow S D      from then on a share S of messages is up to D milliseconds late
    forks S       from then on a share S of forks fails
Knows nothing of machines.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from raybook.sim.world import World


class Fault(NamedTuple):
    """One line of a schedule. ``amount`` as the kind has it."""

    at_ms: int
    kind: str
    amount: float = 0

    def __str__(self) -> str:
        return f"{self.at_ms} ms: {self.kind} {self.amount:g}"


Schedule = tuple[Fault, ...]
NO_FAULTS: Schedule = ()
KINDS = ("crash", "owner", "gcs", "slow", "forks")


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
        faults.append(Fault(int(span_ms * rng.random() ** 2), kind, amount))
    return tuple(sorted(faults))


def parse_schedule(text: str) -> Schedule:
    """What ``str`` makes of faults, with semicolons between. ValueError naming what is none."""
    faults = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        at_ms, _, rest = part.partition(" ms: ")
        kind, _, amount = rest.partition(" ")
        if kind not in KINDS or not at_ms.isdigit():
            raise ValueError(
                f"{part!r} is no fault; write for example '250 ms: crash 3', with one of {', '.join(KINDS)}."
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
        self.is_disturbed = False
        """Whether something has gone wrong already: then some errors are right answers."""

    def start(self) -> None:
        """From now on."""
        for fault in self.schedule:
            self._world.timeline.at(fault.at_ms * 1000, self._strike, fault)

    def fails_to_start(self) -> bool:
        """Whether this fork fails."""
        return bool(self._failing_forks) and self._rng.random() < self._failing_forks

    def heal(self) -> None:
        """What goes on going wrong ends."""
        self._failing_forks = 0.0

    def _strike(self, fault: Fault) -> None:
        world = self._world
        if fault.kind == "slow":
            world.network.slow_share, world.network.slow_us = fault.amount, 30_000
        elif fault.kind == "forks":
            self._failing_forks = fault.amount
        elif fault.kind == "gcs":
            self.is_disturbed = True
            if world.gcs.is_up:
                world.gcs.crash()
                world.timeline.after(int(fault.amount) * 1000, world.gcs.start)
        else:
            kind = "worker" if fault.kind == "crash" else "driver"
            victims = [p for p in world.processes.values() if p.is_alive and p.kind == kind and p is not world.driver]
            if not victims:
                return
            self.is_disturbed = True
            victim = self._rng.choice(victims)
            if fault.amount:
                victim.fuse = int(fault.amount)
            else:
                victim.die("a fault of the schedule")
