"""Process pool: a map of 10 ms tasks beside `concurrent.futures.ProcessPoolExecutor`, in turns; and chunks of tiny items.

Arithmetic before: 1,000 tasks of 10 ms on 2 cores are 5.0 s; whatever is above is overhead. A chunk of 1,000 no-op items
costs one task, so 1 × 1,000 should be faster than 1,000 × 1 by about the cost of a task over that of a call.

Usage: ``python benchmarks/process_pool.py [--count 1000] [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from machine import machine_line

import raybook as ray
from raybook.util import map_unordered
from raybook.util.multiprocessing import Pool

TASK_S = 0.01


def ten_ms(value: int) -> int:
    time.sleep(TASK_S)
    return value


def add_one(value: int) -> int:
    return value + 1


def timed(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def line(name: str, samples: list[float]) -> str:
    return f"{name:36s} {statistics.median(samples):8.4f} s   {min(samples):.4f} to {max(samples):.4f}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="tasks of 10 ms (default 1,000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    options = parser.parse_args(arguments)
    print(machine_line())
    cores = os.cpu_count() or 1
    ray.init(num_cpus=cores)
    remote = ray.remote(ten_ms)
    ours: list[float] = []
    theirs: list[float] = []
    ones: list[float] = []
    chunks: list[float] = []
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(ten_ms, range(cores)))
        ray.get([remote.remote(index) for index in range(cores)])
        for _ in range(options.rounds):
            theirs.append(timed(lambda: list(pool.map(ten_ms, range(options.count)))))
            ours.append(timed(lambda: ray.get([remote.remote(index) for index in range(options.count)])))
    tiny = ray.remote(add_one)
    singles: list[float] = []
    batched: list[float] = []
    for _ in range(options.rounds):
        singles.append(timed(lambda: list(map_unordered(tiny, range(1000), yield_obj_refs=True))))
        batched.append(timed(lambda: list(map_unordered(tiny, range(1000)))))
    with Pool(cores) as actors:
        actors.map(add_one, range(cores))
        for _ in range(options.rounds):
            ones.append(timed(lambda: actors.map(add_one, range(1000), chunksize=1)))
            chunks.append(timed(lambda: actors.map(add_one, range(1000), chunksize=1000)))
    print(line(f"{options.count} × 10 ms, ProcessPoolExecutor", theirs))
    print(line(f"{options.count} × 10 ms, raybook tasks", ours))
    print(line("Pool.map, 1,000 chunks of 1", ones))
    print(line("Pool.map, 1 chunk of 1,000", chunks))
    print(line("map_unordered, a task for each item", singles))
    print(line("map_unordered, batches by itself", batched))
    print(f"chunks are faster by {statistics.median(ones) / statistics.median(chunks):.1f}   goal 10")
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
