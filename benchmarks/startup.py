"""Start-up benchmark: medians of import, init, first task and shutdown, each sample from a fresh interpreter, beside
their goals.

Usage: ``python benchmarks/startup.py [--repeats 7] [--engine raybook|ray] [--python PATH]``. Ends with 1 if a probe
fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine_process import Engine, measure_startup
from machine import machine_line
from microbench.figures import STATUS_OK, format_value, goal_reached
from microbench.plan import STARTUP, select


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="fresh interpreters (default 7)")
    parser.add_argument("--engine", choices=("raybook", "ray"), default="raybook")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="the interpreter that has the engine")
    options = parser.parse_args(arguments)
    machine = machine_line()
    rows = select([STARTUP])
    results = measure_startup(Engine(options.engine, options.python), rows, options.repeats)
    print(machine)
    print(f"{options.engine}, medians of {options.repeats} fresh interpreters (smallest – largest)\n")
    for row, result in zip(rows, results, strict=True):
        if result.status != STATUS_OK:
            print(f"{row.title:12} {result.status}: {result.reason}")
            continue
        reached = "reached" if goal_reached(result.median, row.goal, row.unit) else "not reached"
        low, high = (format_value(value, row.unit) for value in (min(result.samples), max(result.samples)))
        print(
            f"{row.title:12} {format_value(result.median, row.unit):>9}   ({low} – {high})   "
            f"goal {format_value(row.goal, row.unit)}, {reached}"
        )
    return 0 if all(result.status == STATUS_OK for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
