"""Data benchmark, one engine: every row in this process, as JSON lines. Started by data.py with the engine's Python.

Usage: ``python data_rows.py ENGINE FOLDER ROWS CPUS PASSES MEMORY_BYTES``. Each row runs PASSES times over the set; the
first pass is the cold one. A row's result is rows per second and a checksum, so that nobody is quick by leaving out.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

UDF_SHARE = 0.1
"""Row functions get a tenth of the rows: they are a hundred times slower than everything else."""
BATCH_ROWS = 65_536


def files(folder: str, share: float = 1.0) -> list[str]:
    found = sorted(str(path) for path in Path(folder).glob("*.parquet"))
    return found[: max(1, int(len(found) * share))]


def doubled(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"y": batch["v"] * 2.0 + 1.0}


def row_function(row: dict[str, Any]) -> dict[str, Any]:
    return {"k": row["k"], "y": row["v"] * 2.0 + 1.0}


def of_dataset_library(library: Any, folder: str) -> dict[str, Callable[[], tuple[int, float]]]:
    """Ray's and our rows: the same code."""

    def scan_map() -> tuple[int, float]:
        rows = total = 0
        made = library.read_parquet(files(folder), columns=["v"]).map_batches(doubled, batch_format="numpy")
        made = made.map_batches(lambda batch: {"n": [len(batch["y"])], "s": [float(batch["y"].sum())]})
        for row in made.take_all():
            rows, total = rows + row["n"], total + row["s"]
        return rows, total

    def group() -> tuple[int, float]:
        rows = library.read_parquet(files(folder), columns=["k", "v"]).groupby("k").sum("v").take_all()
        return 0, sum(row["sum(v)"] for row in rows)

    def sort() -> tuple[int, float]:
        made = library.read_parquet(files(folder), columns=["v"]).sort("v").materialize()
        return made.count(), 0.0

    def iterate() -> tuple[int, float]:
        rows = 0
        batches = library.read_parquet(files(folder), columns=["k", "v"]).iter_batches(
            batch_size=BATCH_ROWS, batch_format="numpy"
        )
        for batch in batches:
            rows += len(batch["v"])
        return rows, 0.0

    def row_udf() -> tuple[int, float]:
        made = library.read_parquet(files(folder, UDF_SHARE), columns=["k", "v"]).map(row_function).materialize()
        return made.count(), 0.0

    return {"scan + map": scan_map, "group": group, "sort": sort, "iterate": iterate, "row function": row_udf}


def of_pyarrow(folder: str) -> dict[str, Callable[[], tuple[int, float]]]:
    def scan_map() -> tuple[int, float]:
        rows = total = 0
        for batch in pads.dataset(files(folder)).to_batches(columns=["v"]):
            made = batch.column("v").to_numpy() * 2.0 + 1.0
            rows, total = rows + len(made), total + float(made.sum())
        return rows, total

    def group() -> tuple[int, float]:
        table = pads.dataset(files(folder)).to_table(columns=["k", "v"])
        made = table.group_by("k").aggregate([("v", "sum")])
        return table.num_rows, pc.sum(made.column("v_sum")).as_py()

    def sort() -> tuple[int, float]:
        return pads.dataset(files(folder)).to_table(columns=["v"]).sort_by("v").num_rows, 0.0

    def iterate() -> tuple[int, float]:
        rows = 0
        for batch in pads.dataset(files(folder)).to_batches(columns=["k", "v"], batch_size=BATCH_ROWS):
            columns = {name: batch.column(name).to_numpy() for name in ("k", "v")}
            rows += len(columns["v"])
        return rows, 0.0

    def row_udf() -> tuple[int, float]:
        rows = pads.dataset(files(folder, UDF_SHARE)).to_table(columns=["k", "v"]).to_pylist()
        return pa.Table.from_pylist([row_function(row) for row in rows]).num_rows, 0.0

    return {"scan + map": scan_map, "group": group, "sort": sort, "iterate": iterate, "row function": row_udf}


def of_dask(folder: str) -> dict[str, Callable[[], tuple[int, float]]]:
    import dask.dataframe as dd

    def read(columns: list[str], share: float = 1.0) -> Any:
        return dd.read_parquet(files(folder, share), columns=columns)

    def scan_map() -> tuple[int, float]:
        made = read(["v"])["v"] * 2.0 + 1.0
        return int(made.count().compute()), float(made.sum().compute())

    def group() -> tuple[int, float]:
        return 0, float(read(["k", "v"]).groupby("k")["v"].sum().compute().sum())

    def sort() -> tuple[int, float]:
        return len(read(["v"]).sort_values("v").persist()), 0.0

    def iterate() -> tuple[int, float]:
        return sum(len(part.compute()) for part in read(["k", "v"]).partitions), 0.0

    return {"scan + map": scan_map, "group": group, "sort": sort, "iterate": iterate}


def main(engine: str, folder: str, rows: int, cpus: int, passes: int, memory_bytes: int) -> int:
    stop: Callable[[], Any] = lambda: None  # noqa: E731
    if engine == "pyarrow":
        table = of_pyarrow(folder)
    elif engine == "dask":
        from distributed import Client, LocalCluster

        client = Client(LocalCluster(n_workers=cpus, threads_per_worker=1, dashboard_address=None))
        stop, table = client.shutdown, of_dask(folder)
    else:
        library = __import__("raybook" if engine == "raybook" else "ray")
        library.init(num_cpus=cpus, object_store_memory=memory_bytes)
        data = __import__(f"{library.__name__}.data", fromlist=["data"])
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        stop, table = library.shutdown, of_dataset_library(data, folder)
    for name, run in table.items():
        share = UDF_SHARE if name == "row function" else 1.0
        for number in range(passes):
            started = time.perf_counter()
            try:
                _, checksum = run()
                seconds = time.perf_counter() - started
                line: dict[str, Any] = {"rate": rows * share / seconds, "checksum": checksum}
            except Exception as error:  # noqa: BLE001 - a peer's failure is a result.
                line = {"error": f"{type(error).__name__}: {error}"[:200]}
            print(json.dumps({"row": name, "pass": number, **line}), flush=True)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
    print(json.dumps({"row": "peak of one process", "pass": 0, "rate": peak}), flush=True)
    stop()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])))
