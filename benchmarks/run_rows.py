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
import signal
import sys
import threading
import time
from types import FrameType, ModuleType

from microbench import rows
from microbench.figures import STATUS_FAILED, STATUS_NOT_YET, STATUS_OK, RowResult
from microbench.plan import STARTUP, Row, select

EXIT_HUNG = 75
"""Exit status after a row that could not be interrupted (EX_TEMPFAIL: try the rest again)."""

HANG_GRACE_S = 10.0
"""How long an interrupted row may take to let go. Ray's own blocking calls look for signals within a second."""


class RowDeadlineExceeded(Exception):
    """A row took longer than its deadline."""


class Deadline:
    """Raises in the main thread after `deadline_s`; ends the process if that has not helped `HANG_GRACE_S` later."""

    def __init__(self, row: Row, deadline_s: float) -> None:
        self._row = row
        self._deadline_s = deadline_s
        self._watchdog = threading.Timer(deadline_s + HANG_GRACE_S, self._give_up)
        self._watchdog.daemon = True

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, self._deadline_s)
        self._watchdog.start()

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._watchdog.cancel()

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        raise RowDeadlineExceeded(f"not finished after {self._deadline_s:g} s")

    def _give_up(self) -> None:
        report(RowResult(self._row.key, STATUS_FAILED, self._row.unit, reason=f"hung beyond {self._deadline_s:g} s"))
        os._exit(EXIT_HUNG)


def report(result: RowResult) -> None:
    print(json.dumps(result.to_json()), flush=True)


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def measure(ray: ModuleType, row: Row, seconds: float, repeats: int, deadline_s: float) -> RowResult:
    """Run one row `repeats` times under its deadline. Never raises for what the row does: the result tells."""
    if row.function is None:
        raise ValueError(f"{row.key} needs a fresh interpreter: run startup_probe.py")
    samples = []
    try:
        with Deadline(row, deadline_s):
            for _ in range(1 if row.once else repeats):
                samples.append(row.function(ray, seconds).value)
    except rows.NotYet as error:
        return RowResult(row.key, STATUS_NOT_YET, row.unit, reason=str(error))
    except Exception as error:  # noqa: BLE001 - a row fails in any way it can; those after it must still run.
        return RowResult(row.key, STATUS_FAILED, row.unit, reason=first_line(error))
    return RowResult(row.key, STATUS_OK, row.unit, tuple(samples))


def run(ray: ModuleType, chosen: tuple[Row, ...], seconds: float, repeats: int, deadline_s: float) -> None:
    """Measure the rows one after the other on one cluster, and on a fresh one after a failure."""
    for row in chosen:
        if not ray.is_initialized():
            ray.init(num_cpus=os.cpu_count())
        result = measure(ray, row, seconds, repeats, deadline_s)
        report(result)
        if result.status == STATUS_FAILED:
            ray.shutdown()
    ray.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure rows of the core table on one engine; prints JSON lines.")
    parser.add_argument("--engine", choices=("raybook", "ray"), required=True)
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
    run(importlib.import_module(options.engine), chosen, options.seconds, options.repeats, options.deadline_s)
    print(f"{len(chosen)} rows in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
