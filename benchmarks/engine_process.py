"""Engine process: runs rows of one engine in interpreters of their own and gives back their results.

Decides what happens when such an interpreter hangs or dies: everything it started is ended, the row it was in is
reported as failed, and a new interpreter goes on with the rows that are left. Knows nothing of what a row measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from machine import PROJECT_ROOT
from microbench.figures import STATUS_FAILED, STATUS_OK, RowResult
from microbench.plan import Row

BENCHMARKS = Path(__file__).resolve().parent
STARTUP_DEADLINE_S = 90.0
INIT_ALLOWANCE_S = 60.0
"""Time for starting and stopping clusters on top of the rows' own deadlines."""


@dataclass(frozen=True)
class Engine:
    """An engine to measure: its module's name and the interpreter that has it."""

    name: str
    python: Path

    def environment(self) -> dict[str, str]:
        """The environment of its interpreters. raybook's source roots come first: a checkout measures itself. Compiled
        modules may be written, since an installed engine has them and start-up would otherwise measure the compiler."""
        environment = dict(os.environ)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if self.name == "raybook":
            roots = [str(PROJECT_ROOT / root) for root in ("runtime", "kernel_ext", "widgets")]
            environment["PYTHONPATH"] = os.pathsep.join([*roots, *filter(None, [environment.get("PYTHONPATH")])])
        return environment


@dataclass(frozen=True)
class Box:
    """How long to measure: seconds a sample, samples a row, and the deadline of a row."""

    seconds: float
    repeats: int
    deadline_s: float


def end_with_descendants(process: subprocess.Popen) -> None:
    """Kill an interpreter and everything below it. Collects first: an orphaned child is no longer found below."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def start(engine: Engine, script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [engine.python, BENCHMARKS / script, *arguments],
        env=engine.environment(),
        cwd=BENCHMARKS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )


def last_words(stderr: str) -> str:
    """The last line that the interpreter wrote to stderr: of an uncaught exception, its type and message."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "nothing on stderr"


def measure_startup(engine: Engine, rows: Sequence[Row], repeats: int) -> list[RowResult]:
    """Run the start-up probe `repeats` times, each in a fresh interpreter, after one that does not count: it compiles
    modules and brings files into memory, for either engine."""
    times: dict[str, list[float]] = {row.key: [] for row in rows}
    for run in range(repeats + 1):
        probe = start(engine, "startup_probe.py", engine.name)
        try:
            stdout, stderr = probe.communicate(timeout=STARTUP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            end_with_descendants(probe)
            reason = f"the start-up probe was not finished after {STARTUP_DEADLINE_S:g} s"
            return [RowResult(row.key, STATUS_FAILED, row.unit, reason=reason) for row in rows]
        if probe.returncode != 0:
            return [RowResult(row.key, STATUS_FAILED, row.unit, reason=last_words(stderr)) for row in rows]
        measured = next(json.loads(line) for line in reversed(stdout.splitlines()) if line.startswith("{"))
        if run:
            for row in rows:
                times[row.key].append(measured[row.key])
    return [RowResult(row.key, STATUS_OK, row.unit, tuple(times[row.key])) for row in rows]


def measure_rows(engine: Engine, rows: Sequence[Row], box: Box) -> list[RowResult]:
    """Measure rows on one cluster, and on a new one in a new interpreter whenever a row takes its interpreter down."""
    results: dict[str, RowResult] = {}
    left = list(rows)
    while left:
        reported, reason = run_once(engine, left, box)
        results.update((result.row, result) for result in reported)
        left = [row for row in left if row.key not in results]
        if left and reason:
            results[left[0].key] = RowResult(left[0].key, STATUS_FAILED, left[0].unit, reason=reason)
            left = left[1:]
    return [results[row.key] for row in rows]


def run_once(engine: Engine, rows: Sequence[Row], box: Box) -> tuple[list[RowResult], str]:
    """One interpreter over `rows`. Returns its reports, and why it stopped early ("" if the last report says so)."""
    process = start(
        engine,
        "run_rows.py",
        *("--engine", engine.name, "--rows", *(row.key for row in rows)),
        *("--seconds", str(box.seconds), "--repeats", str(box.repeats), "--deadline-s", str(box.deadline_s)),
    )
    stderr: list[str] = []
    reader = threading.Thread(target=lambda: stderr.append(process.stderr.read()), name="engine-stderr")
    reader.start()
    overdue = threading.Timer(box.deadline_s * len(rows) + INIT_ALLOWANCE_S, end_with_descendants, [process])
    overdue.start()
    reported = []
    try:
        for line in process.stdout:
            if line.startswith('{"row"'):
                reported.append(RowResult.from_json(json.loads(line)))
                print(f"  {engine.name:8} {reported[-1].row}", file=sys.stderr, flush=True)
    finally:
        overdue.cancel()
        end_with_descendants(process)
        reader.join()
    hung = bool(reported) and "hung beyond" in reported[-1].reason
    return reported, "" if hung else f"its interpreter ended with status {process.returncode}: {last_words(stderr[0])}"
