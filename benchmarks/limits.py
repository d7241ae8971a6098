"""Limits: one task with 10,000 objects as arguments, one with 3,000 returns, and one get of 10,000 stored objects.

Ray states these in its scalability envelope (10,000 arguments 17 s, 3,000 returns 5.5 s, get of 10,000 objects 23 s on a
machine of 64 cores); they are sizes that must work, so there is no ratio in the core table. Arithmetic before: an
argument is a slot in the message (60 bytes) and a look-up in a table at either end, 5 µs; a return is a record, 10 µs.

Usage: ``python benchmarks/limits.py [--rounds 5] [--engine raybook|ray]``. Medians.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from machine import machine_line

ARGUMENTS = 10_000
RETURNS = 3_000
STORED_BYTES = 110_000
"""Above what travels inside messages, so that each lies in the store: 1.1 GB together."""


def timed(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--engine", choices=("raybook", "ray"), default="raybook")
    options = parser.parse_args(arguments)
    ray = importlib.import_module(options.engine)
    print(machine_line())
    ray.init(num_cpus=os.cpu_count(), object_store_memory=3_000_000_000)

    @ray.remote
    def count(*values: object) -> int:
        return len(values)

    @ray.remote(num_returns=RETURNS)
    def spread() -> range:
        return range(RETURNS)

    refs = [ray.put(index) for index in range(ARGUMENTS)]
    stored = [ray.put(np.full(STORED_BYTES, index % 251, dtype=np.uint8)) for index in range(ARGUMENTS)]

    def many_arguments() -> None:
        assert ray.get(count.remote(*refs)) == ARGUMENTS

    def many_returns() -> None:
        assert ray.get(spread.remote()) == list(range(RETURNS))

    def many_objects() -> None:
        values = ray.get(stored)
        assert values[7][0] == 7 and len(values) == ARGUMENTS

    rows = (
        (f"one task, {ARGUMENTS:,} arguments", many_arguments),
        (f"one task, {RETURNS:,} returns, fetched", many_returns),
        (f"one get of {ARGUMENTS:,} stored objects", many_objects),
    )
    samples: dict[str, list[float]] = {name: [] for name, _ in rows}
    for _, step in rows:
        step()
    for _ in range(options.rounds):
        for name, step in rows:
            samples[name].append(timed(step))
    for name, values in samples.items():
        print(f"{name:38s} {statistics.median(values):8.4f} s   {min(values):.4f} to {max(values):.4f}")
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
