"""Queued tasks: how much memory and time a driver needs for a million tasks that it submits before it waits for any.

Not a row of the core table: Ray's driver needs several gigabytes for them. Each task is asked for its reference, so every
record, argument and result lives until the end. Memory is what the driver's resident set grows by at most.

Arithmetic before: a spec of 18 fields and a record of 12 are 160 + 110 bytes, ids 100, an ObjectRef 80 (with its slot in
the list), four dictionary entries about 400: 850 bytes a task, 0.85 GB.

Usage: ``python benchmarks/queued_tasks.py [--count 1000000] [--engine raybook|ray]``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
import time
from pathlib import Path

from machine import machine_line

GOAL_GB = 1.2


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="tasks queued at once (default a million)")
    parser.add_argument("--engine", choices=("raybook", "ray"), default="raybook")
    options = parser.parse_args(arguments)
    ray = importlib.import_module(options.engine)
    print(machine_line())
    ray.init(num_cpus=os.cpu_count())

    @ray.remote
    def nothing() -> None:
        return None

    ray.get([nothing.remote() for _ in range(100)])
    before = resident_bytes()
    begin = time.perf_counter()
    refs = [nothing.remote() for _ in range(options.count)]
    submitted = time.perf_counter()
    queued_bytes = resident_bytes() - before
    for start in range(0, options.count, 100_000):
        ray.get(refs[start : start + 100_000])
    done = time.perf_counter()
    largest_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{options.count} tasks submitted  {options.count / (submitted - begin):10,.0f} /s")
    print(f"submitted and done     {options.count / (done - begin):10,.0f} /s, {done - begin:.1f} s")
    print(f"queued, for each       {queued_bytes / options.count:10,.0f} bytes")
    print(f"largest resident set   {largest_gb:10.2f} GB   goal {GOAL_GB:g} GB for a million")
    begin = time.perf_counter()
    del refs
    ray.get(nothing.remote())
    print(f"all let go in          {time.perf_counter() - begin:10.2f} s")
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
