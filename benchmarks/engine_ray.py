"""What raybook's API costs on a real Ray: the same rows through ``ray`` and through raybook with ``engine="ray"``, in one
process, on one Ray, turn about.

Arithmetic before: a task of Ray's takes 500 µs one by one and 100 µs of its driver in a batch. raybook checks the options,
makes two records and a reference, and translates nothing unless there is an error: 10 µs a call, and one function more in
the worker: under 10 % either way.

Usage: ``python benchmarks/engine_ray.py [--seconds 1] [--rounds 5] [--rows task_sync …] [--ray-python PATH]``. The default
environment is the one that ``make test-ray`` makes. `--address` measures on a Ray that runs already.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from machine import PROJECT_ROOT, machine_line
from microbench.plan import select

ROWS = ("task_sync", "task_async", "actor_sync", "actor_async", "small_put", "small_get")
GOAL = 1.10
"""Time beside Ray's own, on the rows of tasks."""
DEFAULT_PYTHON = PROJECT_ROOT / ".venv-ray-engine" / "bin" / "python"


def measure(rows: list[str], seconds: float, rounds: int, address: str | None) -> dict[str, dict[str, list[float]]]:
    """Row → "ray" and "raybook" → figures. In an interpreter that has both."""
    import ray

    import raybook

    cores = {} if address else {"num_cpus": os.cpu_count()}
    raybook.init(engine="ray", address=address, log_to_driver=False, **cores)
    sides = {"ray": ray, "raybook": raybook}
    figures: dict[str, dict[str, list[float]]] = {}
    try:
        for row in select(rows):
            found = figures.setdefault(row.key, {side: [] for side in sides})
            for turn in range(rounds):
                for side in sides if turn % 2 == 0 else reversed(sides):
                    found[side].append(row.function(sides[side], seconds).value)
            print(f"  {row.key}", file=sys.stderr, flush=True)
    finally:
        raybook.shutdown()
    return figures


def report(figures: dict[str, dict[str, list[float]]]) -> str:
    """The table: medians, and how much longer a call takes through raybook, with the least and the most of the rounds."""
    lines = [f"{'row':<14}{'ray /s':>12}{'raybook /s':>12}{'time beside Ray':>18}   of rounds"]
    for row, sides in figures.items():
        ratios = [theirs / ours for theirs, ours in zip(sides["ray"], sides["raybook"], strict=True)]
        theirs, ours = statistics.median(sides["ray"]), statistics.median(sides["raybook"])
        verdict = ""
        if row.startswith("task_"):
            verdict = "reached" if statistics.median(ratios) <= GOAL else f"over {GOAL:.2f}"
        lines.append(
            f"{row:<14}{theirs:>12,.0f}{ours:>12,.0f}{statistics.median(ratios):>17.2f}×   "
            f"{min(ratios):.2f} – {max(ratios):.2f}  {verdict}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), help="keys of rows of the core table")
    parser.add_argument("--seconds", type=float, default=1.0, help="time box of one measurement (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each row (default 5)")
    parser.add_argument("--address", help="a Ray that runs already (default: one is started)")
    parser.add_argument(
        "--ray-python", type=Path, default=DEFAULT_PYTHON, help="a Python with Ray and what raybook needs"
    )
    parser.add_argument("--json", action="store_true", help="figures alone, as JSON")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(options.rows, options.seconds, options.rounds, options.address)))
        return 0
    if not options.ray_python.exists():
        print(f"There is no {options.ray_python}: `make .venv-ray-engine/.installed` makes it.", file=sys.stderr)
        return 2
    roots = [str(PROJECT_ROOT / root) for root in ("runtime", "kernel_ext", "widgets")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "RAY_worker_niceness": "0"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    child = subprocess.run(
        [options.ray_python, __file__, "--inside", *sys.argv[1:]], env=environment, stdout=subprocess.PIPE, text=True
    )
    if child.returncode != 0:
        return child.returncode
    figures = json.loads(child.stdout.splitlines()[-1])
    print(json.dumps(figures) if options.json else f"{machine_line()}\n{report(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
