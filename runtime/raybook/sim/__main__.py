"""``python -m raybook.sim``: play one world again, a range of them, or as many as there is time for.

Exit status 1 when a checker found something; what it found is printed, in the smallest form that was found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from raybook.sim.cases import make_chaos_world, make_world, shrink, violation_of
from raybook.sim.checkers.violation import Violation
from raybook.sim.faults import describe, parse_schedule
from raybook.sim.world import World


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raybook.sim", description="Play seeded worlds of a cluster.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="one world, with its stories if it fails")
    what.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "END"), help="a range of worlds")
    what.add_argument(
        "--chaos", type=int, metavar="SEED", help="the kills that tests/many_nodes/chaos.py has for a seed"
    )
    what.add_argument("--minutes", type=float, help="as many worlds as there is time for")
    parser.add_argument("--first", type=int, default=0, help="first seed of --minutes")
    parser.add_argument("--seconds", type=float, default=60, help="how long --chaos goes on (default 60)")
    parser.add_argument("--wide", action="store_true", help="several nodes, which die and are cut off")
    parser.add_argument("--calm", action="store_true", help="nothing goes wrong")
    parser.add_argument("--steps", type=int, help="how long the drivers' programs are")
    parser.add_argument("--faults", help="a schedule, as a report shows it")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every message")
    return parser.parse_args(arguments)


def _play_one(options: argparse.Namespace) -> int:
    schedule = None if options.faults is None else parse_schedule(options.faults)
    if options.chaos is not None:
        world = make_chaos_world(options.chaos, options.seconds)
        print(f"{len(world.faults.schedule)} faults: {describe(world.faults.schedule)}")
    else:
        world = make_world(options.seed, calm=options.calm, wide=options.wide, steps=options.steps, schedule=schedule)
    if options.trace:
        world.network.watch = lambda port, message: print(
            f"{world.timeline.now_us:>10} µs  {port.listener.name} → {port.far.listener.name}: {str(message)[:160]}"
        )
    violation = violation_of(world)
    print(violation if violation is not None else _summary(world))
    return int(violation is not None)


def _summary(world: World) -> str:
    ends = dict(sorted(world.ledger.ends.items()))
    return (
        f"seed {world.seed}: {world.timeline.now_ms} virtual ms, {world.timeline.happened} events, "
        f"{world.network.delivered} messages, trace {world.network.trace:08x}; ended: {ends}"
    )


def _play_many(options: argparse.Namespace) -> int:
    first, end = options.seeds or (options.first, sys.maxsize)
    end_s = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    begin_s = time.process_time()
    ends: Counter[str] = Counter()
    worlds = events = failures = 0
    for seed in range(first, end):
        if time.monotonic() >= end_s:
            break
        for calm in (True, False):
            world = make_world(seed, calm=calm or options.calm, wide=options.wide, steps=options.steps)
            violation = violation_of(world)
            worlds, events = worlds + 1, events + world.timeline.happened
            ends.update(world.ledger.ends)
            if violation is not None:
                failures += 1
                _tell(seed, violation, calm=calm or options.calm, wide=options.wide)
    spent_s = time.process_time() - begin_s
    print(f"{worlds} worlds, {events} events, {events / max(spent_s, 1e-9):,.0f} a second of CPU, {failures} failures")
    print(f"results ended: {dict(sorted(ends.items()))}")
    return int(failures > 0)


def _tell(seed: int, violation: Violation, *, calm: bool, wide: bool) -> None:
    print(f"--- seed {seed}\n{shrink(seed, violation, calm=calm, wide=wide)}", flush=True)


def main(arguments: list[str]) -> int:
    """The exit status."""
    options = _options(arguments)
    return _play_many(options) if options.seed is None and options.chaos is None else _play_one(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
