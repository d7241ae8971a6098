"""Cases: a whole world from one number, and smaller ones that fail in the same way.

A case is a seed, a setting and a schedule; the first gives the other two, unless they are said. Decides nothing.
"""

from __future__ import annotations

import random
from dataclasses import replace

from raybook.base.config import Config
from raybook.sim.chaos import draw_chaos
from raybook.sim.checkers.violation import Violation
from raybook.sim.faults import KINDS, NO_FAULTS, NODE_KINDS, Schedule, describe, draw_schedule
from raybook.sim.world import MIB, Setting, World

SPAN_MS = 3_000
"""Faults strike within the first seconds, where most programs are at work."""
STEPS_A_SECOND = 10
"""Of a driver's program, on the average."""


def draw_setting(seed: int) -> Setting:
    """A cluster of a size and temper that follows from the seed."""
    rng = random.Random(seed ^ 0xC1A55)
    spills = rng.random() < 0.4
    return Setting(
        steps=rng.choice((20, 40, 40, 80)),
        drivers=rng.randrange(1, 3),
        cpus=rng.choice((2, 3, 4, 8)),
        store_bytes=rng.choice((16, 24, 40)) * MIB if spills else 512 * MIB,
        config=Config(
            spilling=int(spills),
            spill_batch_bytes=4 * MIB,
            pipeline_depth_max=rng.choice((2, 8, 256)),
            lease_idle_ms=rng.choice((20, 200, 1_000)),
        ),
    )


def draw_wide_setting(seed: int) -> Setting:
    """The same of several nodes, whose deaths are noticed within two seconds."""
    rng = random.Random(seed ^ 0x41DE)
    spills = rng.random() < 0.3
    return Setting(
        steps=rng.choice((10, 20, 40)),
        drivers=rng.randrange(1, 4),
        nodes=rng.randrange(2, 6),
        cpus=rng.choice((3, 4)),
        gpus=2,
        store_bytes=rng.choice((24, 40)) * MIB if spills else 512 * MIB,
        config=Config(
            spilling=int(spills),
            spill_batch_bytes=4 * MIB,
            pipeline_depth_max=rng.choice((2, 8, 256)),
            lease_idle_ms=rng.choice((20, 200, 1_000)),
            health_check_period_ms=200,
            health_check_timeout_ms=1_500,
        ),
    )


def make_world(
    seed: int, *, calm: bool = False, wide: bool = False, steps: int | None = None, schedule: Schedule | None = None
) -> World:
    """The world of a seed. calm: nothing goes wrong, and no code ends its process. wide: of several nodes."""
    setting = replace(draw_wide_setting(seed) if wide else draw_setting(seed), actors_exit=not calm)
    command = f"python -m raybook.sim --seed {seed}" + " --wide" * wide
    if steps is not None:
        setting = replace(setting, steps=steps)
        command += f" --steps {steps}"
    if calm:
        schedule = NO_FAULTS
        command += " --calm"
    elif schedule is None:
        schedule = draw_schedule(seed, SPAN_MS, KINDS + NODE_KINDS if wide else KINDS)
    else:
        command += f' --faults "{describe(schedule)}"'
    return World(seed, replace(setting, replay=command), schedule)


def make_chaos_world(seed: int, seconds: float) -> World:
    """Four nodes, mixed load, and the kills that ``tests/many_nodes/chaos.py`` has for this seed."""
    wide = draw_wide_setting(seed)
    setting = replace(
        wide,
        steps=int(STEPS_A_SECOND * seconds),
        drivers=1,
        nodes=4,
        actors_exit=False,
        replay=f"python -m raybook.sim --chaos {seed} --seconds {seconds:g}",
    )
    return World(seed, setting, draw_chaos(seed, seconds))


def violation_of(world: World) -> Violation | None:
    """Run it; what was found, if anything."""
    try:
        world.run()
    except Violation as violation:
        return violation
    return None


def shrink(seed: int, violation: Violation, *, calm: bool = False, wide: bool = False) -> Violation:
    """The violation of the same checker with the fewest faults and steps that was found by leaving some out. Cost: some
    dozen runs."""
    world = make_world(seed, calm=calm, wide=wide)
    schedule, steps = world.faults.schedule, world.setting.steps

    def attempt(schedule: Schedule, steps: int) -> Violation | None:
        found = violation_of(make_world(seed, calm=calm, wide=wide, steps=steps, schedule=schedule))
        return found if found is not None and found.checker == violation.checker else None

    for fault in schedule:
        fewer = tuple(other for other in schedule if other is not fault)
        found = attempt(fewer, steps)
        if found is not None:
            schedule, violation = fewer, found
    for fewer_steps in sorted({max(1, steps * part // 8) for part in range(1, 8)}):
        found = attempt(schedule, fewer_steps)
        if found is not None:
            return found
    return violation
