"""Many actors: how fast a thousand actors come to life, how fast they all answer, and what each costs in memory.

Not a row of the core table: Ray starts a process from scratch for each actor, so a ratio would take ten minutes to take
and say nothing new. Memory is the proportional set size: pages that workers share count once, divided among them.

The memory that the actors will need is touched before: a virtual machine gets each page from its host on first touch,
which takes longer than everything else here (600 actors: 84 a second on untouched memory, 153 on touched).

Usage: ``python benchmarks/many_actors.py [--count 1000] [--engine raybook|ray]``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from machine import machine_line, touch_memory

GOAL_PER_S = 120
GOAL_MB_EACH = 6.0


def proportional_bytes(pid: int) -> int:
    """The proportional set size of a process, as the kernel adds it up."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no line for Pss")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="actors alive at once (default 1000)")
    parser.add_argument("--engine", choices=("raybook", "ray"), default="raybook")
    options = parser.parse_args(arguments)
    ray = importlib.import_module(options.engine)
    print(machine_line())
    touch_memory(int(options.count * GOAL_MB_EACH * 1e6))
    ray.init(num_cpus=os.cpu_count())

    @ray.remote(num_cpus=0)
    class Resident:
        def pid(self) -> int:
            return os.getpid()

    begin = time.perf_counter()
    actors = [Resident.remote() for _ in range(options.count)]
    pids = ray.get([actor.pid.remote() for actor in actors])
    alive = time.perf_counter()
    ray.get([actor.pid.remote() for actor in actors])
    answered = time.perf_counter()
    if len(set(pids)) != options.count:
        raise AssertionError(f"{options.count} actors share {len(set(pids))} processes")
    each_mb = sum(map(proportional_bytes, pids)) / options.count / 1e6
    print(f"{options.count} actors alive  {options.count / (alive - begin):10,.0f} /s   goal {GOAL_PER_S} /s")
    print(f"one call to each     {options.count / (answered - alive):10,.0f} /s")
    print(f"memory of each       {each_mb:10.1f} MB   goal {GOAL_MB_EACH:g} MB")
    begin = time.perf_counter()
    ray.shutdown()
    print(f"shutdown with all    {time.perf_counter() - begin:10.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
