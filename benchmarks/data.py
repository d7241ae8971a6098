"""Data benchmark: scan + map, group, sort, iterate and row functions over a Parquet set, by raybook, Ray 2.60, Dask and
plain pyarrow in one run, as a table of rows per second, warm and cold.

Decides the set (files of a key of 1,000 values and a double), the order and the table; what a row does is in
data_rows.py. Before: a pass reads 16 bytes a row from the page cache, so 40 M rows are 640 MB, 0.1 s of memcpy; what
takes longer is decoding and computing.

Usage: ``python benchmarks/data.py [--rows 4000000] [--passes 2] [--cpus N] [--no-ray] [--no-dask] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import peer_env
from machine import PROJECT_ROOT, machine_line

RAY_DATA = peer_env.Peer("ray", "Ray 2.60", "ray", "2.60.0", ("pyarrow", "pandas", "fsspec"))
DASK_FRAMES = peer_env.Peer("dask", "Dask 2026.8", "distributed", "2026.8.0", ("dask[dataframe]", "pyarrow", "pandas"))
ROWS_PER_FILE = 500_000
GROUP_ROWS = 131_072
KEYS = 1000
ROW_NAMES = ("scan + map", "group", "sort", "iterate", "row function", "peak of one process")


def parse_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000_000, help="rows of the set (default 4 M)")
    parser.add_argument("--passes", type=int, default=2, help="passes; the first is cold, the best of the others warm")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory", type=int, default=2 << 30, help="bytes of the object store (default 2 GiB)")
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--no-dask", action="store_true")
    parser.add_argument("--ray-python", type=Path, help="a Python with Ray, pyarrow and pandas")
    parser.add_argument("--dask-python", type=Path, help="a Python with Dask, distributed, pyarrow and pandas")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(arguments)


def make_set(folder: Path, rows: int) -> None:
    """Files of ROWS_PER_FILE rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        count = min(ROWS_PER_FILE, rows - start)
        table = pa.table({"k": rng.integers(0, KEYS, count), "v": rng.random(count), "w": rng.random(count)})
        pq.write_table(table, folder / f"{number:05}.parquet", row_group_size=GROUP_ROWS, use_dictionary=["k"])


def run_engine(engine: str, python: Path, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The engine's lines."""
    print(f"data: {engine}", file=sys.stderr, flush=True)
    program = Path(__file__).with_name("data_rows.py")
    numbers = [str(value) for value in (options.rows, options.cpus, options.passes, options.memory)]
    environment = dict(os.environ)
    if engine == "raybook":
        environment["PYTHONPATH"] = str(PROJECT_ROOT / "runtime")
    done = subprocess.run(
        [str(python), str(program), engine, str(folder), *numbers], capture_output=True, text=True, env=environment
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        print(f"{engine} ended with status {done.returncode}: {done.stderr[-800:]}", file=sys.stderr)
    return lines


def rates(lines: list[dict[str, Any]], name: str) -> tuple[float | None, float | None]:
    """Rows a second of the cold pass, and of the best warm one."""
    found = {line["pass"]: line.get("rate") for line in lines if line["row"] == name}
    warm = [value for number, value in found.items() if number and value]
    return found.get(0), max(warm) if warm else None


def table_of(results: dict[str, list[dict[str, Any]]]) -> str:
    """Warm rates, the cold one in brackets, and our ratio to Ray and to pyarrow."""
    lines = ["row                  " + "".join(f"{engine:>24}" for engine in results) + "   ours/Ray   ours/pyarrow"]
    for name in ROW_NAMES:
        cells = []
        for engine_lines in results.values():
            cold, warm = rates(engine_lines, name)
            if name.startswith("peak"):
                cells.append(f"{cold / 1e6:,.0f} MB" if cold else "-")
            else:
                cells.append(f"{(warm or cold) / 1e6:.3f} ({cold / 1e6:.3f}) M/s" if cold else "-")
        lines.append(f"{name:<21}" + "".join(f"{cell:>24}" for cell in cells) + _ratios(results, name))
    return "\n".join(lines)


def _ratios(results: dict[str, list[dict[str, Any]]], name: str) -> str:
    def warm(engine: str) -> float | None:
        cold, value = rates(results.get(engine, []), name)
        return value or cold

    ours = warm("raybook")
    cells = []
    for peer in ("ray", "pyarrow"):
        other = warm(peer)
        cells.append(f"{ours / other:>10.2f}" if ours and other and not name.startswith("peak") else f"{'-':>10}")
    return " ".join(cells)


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    engines: dict[str, Path] = {"raybook": Path(sys.executable), "pyarrow": Path(sys.executable)}
    try:
        if not options.no_ray:
            engines["ray"] = options.ray_python or peer_env.ensure(RAY_DATA)
        if not options.no_dask:
            engines["dask"] = options.dask_python or peer_env.ensure(DASK_FRAMES)
    except peer_env.PeerEnvironmentError as error:
        print(error, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="raybook-data-") as folder:
        make_set(Path(folder), options.rows)
        results = {engine: run_engine(engine, python, Path(folder), options) for engine, python in engines.items()}
    print(machine_line())
    print(f"{options.rows:,} rows, {options.cpus} CPUs, warm (cold) passes, millions of rows a second")
    print(table_of(results))
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine_line(), "rows": options.rows, "results": results}, indent=1)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
