"""Compiled graphs beside plain actor calls, in raybook and in Ray: latency of one call at a time, and of large arrays.

Before: one execution through one actor is two hand-overs in shared memory (1 µs each where both sides look, 25 to 50 where
they sleep and are rung), and 16 µs of Python in all, pickling included. A plain call is two wake-ups and 60 µs of Python.
Goal: 5 times less.

Rounds of plain calls and of executions take turns, so that both see the same machine; figures are medians, over rounds, of
the median of a round. CPU time is the driver's own.

Usage: ``python benchmarks/compiled_dag.py [--engine raybook|ray] [--rounds 7] [--calls 300]``; for Ray, with the Python of
the peer environment (``peer_env.py``).
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import machine_line

GOAL = 5.0
ARRAY_BYTES = 8 << 20
STAGES = 3


def median_us(call: Callable[[int], Any], count: int) -> tuple[float, float]:
    """(median wall time, mean CPU time of this process) of a call, in µs."""
    times = []
    cpu = time.process_time()
    for number in range(count):
        begin = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6, (time.process_time() - cpu) / count * 1e6


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("raybook", "ray"), default="raybook")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=300, help="calls in a round (default 300)")
    options = parser.parse_args(arguments)
    ray = importlib.import_module(options.engine)
    dag = importlib.import_module(f"{options.engine}.dag")
    print(machine_line())
    extra = {"include_dashboard": False} if options.engine == "ray" else {}
    ray.init(num_cpus=4, **extra)

    @ray.remote
    class Stage:
        def echo(self, x: Any) -> Any:
            return x

    stages = [Stage.remote() for _ in range(STAGES)]
    ray.get([stage.echo.remote(0) for stage in stages])

    def compile_chain(actors: list[Any]) -> Any:
        with dag.InputNode() as node:
            last = node
            for actor in actors:
                last = actor.echo.bind(last)
        return last.experimental_compile()

    array = np.ones(ARRAY_BYTES, np.uint8)

    def chained(number: int) -> Any:
        ref = number
        for stage in stages:
            ref = stage.echo.remote(ref)
        return ray.get(ref)

    first = stages[0].echo
    rows: list[tuple[str, int, Callable[[int], Any], Any, int]] = [
        ("one actor, an int", 1, lambda number: ray.get(first.remote(number)), None, options.calls),
        (f"{STAGES} actors in a row, an int", STAGES, chained, None, options.calls),
        (
            f"one actor, {ARRAY_BYTES >> 20} MiB there and back",
            1,
            lambda number: ray.get(first.remote(array)).nbytes,
            array,
            max(options.calls // 20, 3),
        ),
    ]
    for name, length, plain, value, count in rows:
        # One graph at a time: in Ray, an actor that is in two graphs answers only one of them.
        graph = compile_chain(stages[:length])

        def compiled(number: int, graph: Any = graph, value: Any = value) -> Any:
            return np.size(ray.get(graph.execute(number if value is None else value)))

        plain(0), compiled(0)
        taken = [(*median_us(plain, count), *median_us(compiled, count)) for _ in range(options.rounds)]
        plain_us, plain_cpu, graph_us, graph_cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        ratios = sorted(row[0] / row[2] for row in taken)
        print(
            f"{name:34s} plain {plain_us:9.1f} us (CPU {plain_cpu:7.1f})   compiled {graph_us:9.1f} us (CPU "
            f"{graph_cpu:7.1f})   {plain_us / graph_us:5.1f} x (rounds {ratios[0]:.1f} to {ratios[-1]:.1f}, goal {GOAL:g})"
        )
        graph.teardown()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
