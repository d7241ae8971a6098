"""Run rows: measures rows of one engine in this interpreter and prints one JSON line per row.

Decides how a row is repeated, boxed in time and given up: a row that raises is reported with its error's first line;
one that passes its deadline is interrupted, and if it does not come back from that either, this process reports it and
ends itself with `EXIT_HUNG` for the caller to go on with the rows that are left. After any failure the next row gets a
fresh cluster.

Usage: ``python run_rows.py --engine raybook --rows task_sync task_async``. Lines that are not JSON objects are the
engine's own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from types import ModuleType

from microbench.figures import STATUS_FAILED, RowResult
from microbench.measure import measure
from microbench.plan import STARTUP, Row, select

MODULES = {"raybook": "raybook", "ray": "ray", "dask": "dask_engine", "ipyparallel": "ipyparallel_engine"}
"""Engine → the module that the rows are handed. The last two speak Ray's words over another library's."""

EXIT_HUNG = 75
"""Exit status after a row that could not be interrupted (EX_TEMPFAIL: try the rest again)."""


def report(result: RowResult) -> None:
    print(json.dumps(result.to_json()), flush=True)


def give_up(row: Row, deadline_s: float) -> None:
    """A row could not be interrupted: say so, and end this interpreter."""
    report(RowResult(row.key, STATUS_FAILED, row.unit, reason=f"hung beyond {deadline_s:g} s"))
    os._exit(EXIT_HUNG)


def run(ray: ModuleType, chosen: tuple[Row, ...], seconds: float, repeats: int, deadline_s: float) -> None:
    """Measure the rows one after the other on one cluster, and on a fresh one after a failure."""
    for row in chosen:
        if not ray.is_initialized():
            ray.init(num_cpus=os.cpu_count())
        result = measure(ray, row, seconds, repeats, deadline_s, give_up)
        report(result)
        if result.status == STATUS_FAILED:
            ray.shutdown()
    ray.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure rows of the core table on one engine; prints JSON lines.")
    parser.add_argument("--engine", choices=tuple(MODULES), required=True)
    parser.add_argument("--rows", nargs="+", help="keys or groups (default: all that need no fresh interpreter)")
    parser.add_argument("--seconds", type=float, default=1.0, help="time box of one measurement (default 1)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements a row (default 3)")
    parser.add_argument(
        "--deadline-s", type=float, default=90.0, help="limit for one row with all its repeats (default 90)"
    )
    options = parser.parse_args()
    try:
        chosen = tuple(row for row in select(options.rows) if row.group != STARTUP)
    except ValueError as error:
        parser.error(str(error))
    begin = time.perf_counter()
    run(importlib.import_module(MODULES[options.engine]), chosen, options.seconds, options.repeats, options.deadline_s)
    print(f"{len(chosen)} rows in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
