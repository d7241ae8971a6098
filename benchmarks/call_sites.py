"""Call sites: what recording the line of code costs a submission, in CPU time of the submitting thread.

Expected: two calls (0.1 µs), a look at a frame that must be made for it (0.2 µs), a look-up (0.1 µs). Recording on and
off take turns in one process, so that drift of the machine meets both alike; a thread's own CPU time leaves out what
other processes take.

Usage: ``python benchmarks/call_sites.py [--rounds 15]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from machine import machine_line

import raybook as ray
from raybook.api.context import started_engine
from raybook.engines.call_sites import OFF, ON, recorder

PUTS = 3_000
TASKS = 1_000


def microseconds(body: Callable[[], object], count: int) -> float:
    """CPU time of this thread for each of ``count`` calls."""
    began = time.thread_time_ns()
    for _ in range(count):
        body()
    return (time.thread_time_ns() - began) / count / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    ray.init(num_cpus=1)
    engine = started_engine()

    @ray.remote
    def nothing() -> None:
        return None

    ray.get([nothing.remote() for _ in range(TASKS)])
    costs: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for switch in (OFF, ON):
            engine._stamp, engine._site_of_put = recorder(switch)
            costs.setdefault(("put", switch), []).append(microseconds(lambda: ray.put(1), PUTS))
            refs: list[object] = []
            costs.setdefault(("task", switch), []).append(
                microseconds(lambda refs=refs: refs.append(nothing.remote()), TASKS)
            )
            ray.get(refs)
    print(machine_line())
    for what in ("put", "task"):
        off, on = (statistics.median(costs[what, switch]) for switch in (OFF, ON))
        print(
            f"{what:>5}: {off:6.2f} µs without, {on:6.2f} µs with call sites: {on - off:+.2f} µs, {on / off - 1:+.1%}"
        )
    ray.shutdown()


if __name__ == "__main__":
    main()
