"""Plans: what a simulated task is to do, as data that travels in its arguments, and what its value must be.

Everything about a task follows from its plan and the digests of its arguments, so a retry, or another worker, gives the
same, and whoever submitted it knows the right answer before there is one. Knows nothing of machines.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

import msgspec

from raybook.base.specs import STREAMING, SchedulingClass

CPU = 10_000
CLASSES: tuple[SchedulingClass, ...] = (
    SchedulingClass((("CPU", CPU),)),
    SchedulingClass((("CPU", CPU // 2),)),
    SchedulingClass((("CPU", 2 * CPU),)),
    SchedulingClass(()),
    SchedulingClass((("GPU", CPU),)),
    SchedulingClass((("GPU", CPU // 2),)),
)
"""What tasks ask for. Nested ones take the first four: a task that waits keeps its GPU."""
NESTED_CLASSES = 4

SIZES = (0, 0, 0, 0, 0, 0, 200_000, 600_000, 3_000_000)
"""Bytes of values; 0 is inline."""
RUNS_US = (3, 10, 40, 300, 2_000, 12_000, 40_000)
"""How long code runs: from what is pipelined to what stalls a worker."""


class TaskPlan(msgspec.Struct, frozen=True, array_like=True):
    """One task, method call or ``__init__``. ``num_returns`` as of TaskSpec; ``size`` of each value in bytes."""

    seed: int
    name: str
    run_us: int
    num_returns: int = 1
    size: int = 0
    kind: int = 0
    """Index into CLASSES."""
    retries: int = 0
    retry_exceptions: bool = False
    raises: bool = False
    """At its last attempt, too."""
    raises_before: int = 0
    """Attempts below this one raise."""
    depth: int = 0
    """How many levels of tasks it may submit."""
    gives_refs: bool = False
    """Its value contains references."""
    keeps_refs: bool = False
    """A method: the actor keeps what it is given."""
    items: int = 0
    window: int = -1
    max_calls: int = 0
    exits: bool = False
    """A method: its process ends, as by ``os._exit``."""
    asks: int = 0
    """How often it calls the actors that it is given, with a pause each time."""

    @property
    def scheduling_class(self) -> SchedulingClass:
        """What its worker must have."""
        return CLASSES[self.kind]


def digest_of(seed: int, index: int, arguments: Sequence[int]) -> int:
    """The value of return number ``index``: depends on everything that it should."""
    return zlib.crc32(repr((seed, index, list(arguments))).encode())


def draw_task(rng: random.Random, depth: int, *, is_nested: bool = False) -> TaskPlan:
    """A task such as people write, with all its odd options now and then."""
    seed = rng.getrandbits(48)
    run_us = rng.choice(RUNS_US)
    retries = rng.choice((0, 1, 3, 3))
    raises = rng.random() < 0.06
    kind = rng.randrange(NESTED_CLASSES if is_nested or depth else len(CLASSES)) if rng.random() < 0.3 else 0
    if rng.random() < 0.08 and not is_nested:
        items = rng.randrange(0, 9)
        window = rng.choice((-1, -1, 1, 2))
        return TaskPlan(
            seed, "stream", run_us, STREAMING, rng.choice(SIZES), kind, retries, raises=raises, items=items,
            window=window, gives_refs=rng.random() < 0.2,
        )  # fmt: skip
    gives_refs = rng.random() < 0.15
    return TaskPlan(
        seed,
        f"f{run_us}",
        run_us,
        rng.choice((1, 1, 1, 1, 1, 0, 2)),
        rng.choice(SIZES),
        kind,
        retries,
        retry_exceptions=rng.random() < 0.2,
        raises=raises,
        raises_before=rng.choice((0, 0, 0, 1)) if retries else 0,
        depth=depth if rng.random() < 0.35 else 0,
        gives_refs=gives_refs,
        max_calls=0 if gives_refs or rng.random() < 0.95 else rng.choice((1, 3)),
    )


def draw_call(rng: random.Random, *, may_exit: bool) -> TaskPlan:
    """A call of an actor's method."""
    run_us = rng.choice(RUNS_US[:-1])
    return TaskPlan(
        rng.getrandbits(48),
        f"m{run_us}",
        run_us,
        rng.choice((1, 1, 1, 1, 0, 2)),
        rng.choice(SIZES),
        raises=rng.random() < 0.05,
        depth=1 if rng.random() < 0.15 else 0,
        gives_refs=rng.random() < 0.15,
        keeps_refs=rng.random() < 0.2,
        exits=may_exit and rng.random() < 0.04,
    )
