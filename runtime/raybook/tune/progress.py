"""Progress: a sweep in text, for where no panel shows it.

Prints one line every few seconds and a table at the end. Decides nothing about the sweep.
Invariants: nothing between start and end where nobody watches or a panel shows the trials; at the end one line, and
below it the table of trials unless a panel shows it already. With verbose 0 nobody makes a reporter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.core.metrics import MetricSummary, is_number, score
from raybook.tune.core.trial_table import ERROR, LIVE, STOPPED, TERMINATED, Trial, TrialTable
from raybook.tune.facts import short_config
from raybook.tune.observer import SweepObserver

LINE_INTERVAL_MS = 5_000
ROWS_MAX = 20
CELL_MAX = 28


class ProgressReporter(SweepObserver):
    """Prints a sweep's progress. show_lines: print between start and end. show_table: list the trials at the end."""

    def __init__(
        self,
        name: str,
        metric: str | None,
        mode: str | None,
        total: int | None,
        show_lines: bool,
        show_table: bool,
        write: Callable[[str], None],
    ) -> None:
        self._name = name
        self._metric = metric
        self._mode = mode or "max"
        self._total = total
        self._show_lines = show_lines
        self._show_table = show_table
        self._write = write
        self._started_ms: int | None = None
        self._printed_ms = 0

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        if self._started_ms is None:
            self._started_ms = self._printed_ms = now_ms
        if self._show_lines and now_ms - self._printed_ms >= LINE_INTERVAL_MS:
            self._printed_ms = now_ms
            self._write(self._line(table, now_ms))

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        started_ms = self._started_ms if self._started_ms is not None else now_ms
        self._write(self._summary(table, (now_ms - started_ms) / 1000))

    def _line(self, table: TrialTable, now_ms: int) -> str:
        counts = table.statistics()
        ended = counts[TERMINATED] + counts[STOPPED] + counts[ERROR]
        of = f"/{self._total}" if self._total is not None else ""
        parts = [f"{ended}{of} trials done", f"{table.count(*LIVE)} live"]
        if counts[ERROR]:
            parts.append(f"{counts[ERROR]} failed")
        best = best_trial(table, self._metric, self._mode)
        if best is not None:
            parts.append(f"best {self._metric} {_number(self._best_value(best))} ({best.trial_id})")
        return f"[{self._name}] {(now_ms - (self._started_ms or 0)) / 1000:.0f} s: {', '.join(parts)}"

    def _summary(self, table: TrialTable, seconds: float) -> str:
        counts = table.statistics()
        head = (
            f"[{self._name}] {len(table)} trials in {seconds:.1f} s: {counts[TERMINATED]} ran to their end, "
            f"{counts[STOPPED]} stopped early, {counts[ERROR]} failed"
        )
        trials = sorted(table, key=lambda trial: score(self._best_value(trial), self._mode), reverse=True)
        rows = [self._row(trial) for trial in trials[:ROWS_MAX]]
        if not rows or not self._show_table:
            return head
        lines = [head, *format_table(["trial", "state", "iter", self._metric or "metric", "config"], rows)]
        if len(trials) > ROWS_MAX:
            lines.append(f"… and {len(trials) - ROWS_MAX} more")
        return "\n".join(lines)

    def _row(self, trial: Trial) -> list[str]:
        config = ", ".join(f"{name}={_number(value)}" for name, value in short_config(trial.varying).items())
        return [
            trial.trial_id,
            STOPPED if trial.state == STOPPED else trial.status,
            str(trial.iteration),
            _number(self._best_value(trial)),
            config,
        ]

    def _best_value(self, trial: Trial) -> float | None:
        summary: MetricSummary | None = trial.summaries.get(self._metric) if self._metric else None
        return summary.value("all", self._mode) if summary else None


def best_trial(table: TrialTable, metric: str | None, mode: str) -> Trial | None:
    """Return the trial with the best value of metric so far, None if none has one."""
    rated = [trial for trial in table if metric is not None and metric in trial.summaries]
    return max(rated, key=lambda trial: score(trial.summaries[metric].value("all", mode), mode), default=None)  # type: ignore[index]


def format_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Return aligned lines; the last column is not cut, the others are at CELL_MAX characters."""
    cut = [[*(cell[:CELL_MAX] for cell in row[:-1]), row[-1]] for row in [columns, *rows]]
    widths = [max(len(row[index]) for row in cut) for index in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cut]


def is_noninteractive(environ: Mapping[str, str] = os.environ) -> bool:
    """Ask whether RAYBOOK_NONINTERACTIVE=1 says that nobody watches."""
    return environ.get("RAYBOOK_NONINTERACTIVE", "") not in ("", "0")


def has_panels(modules: Mapping[str, Any] = sys.modules) -> bool:
    """Ask whether this is a notebook whose panels show the trials."""
    return "ipykernel" in modules and "raybook_widgets" in modules


def terminal_writer() -> Callable[[str], None]:
    """Return a function that prints one text: through rich on a terminal if it is installed, plainly elsewhere."""
    if not sys.stdout.isatty():
        return print
    try:
        from rich.console import Console
    except ImportError:
        return print
    console = Console()
    return lambda text: console.print(text, markup=False, soft_wrap=True)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and is_number(value) else str(value)
