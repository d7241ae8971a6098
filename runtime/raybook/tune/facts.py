"""Facts of a sweep: what panels show of trials, as plain records.

Makes the records and decides how often they go out; does not know who reads them.
Invariants: every change of state goes out at once; reports of one trial go out at most every INTERVAL_MS, and the last
one never gets lost; a record holds only short plain values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.core.metrics import flatten, is_better
from raybook.tune.core.trial_table import ERROR, PAUSING, RUNNING, STOPPED, TERMINATED, Trial, TrialTable
from raybook.tune.observer import SweepObserver

# A panel redraws four times a second at most; more records than that are work for nobody.
INTERVAL_MS = 250
TEXT_MAX = 60
ERROR_MAX = 300

Publish = Callable[[str, str, dict[str, Any]], None]


class FactPublisher(SweepObserver):
    """Publishes a "trial" fact for each trial and one "experiment" fact.

    epoch_ms: milliseconds since 1970 at the controller's time zero. total: how many trials there will be, None if
    nobody knows. run_id: key of the experiment fact.
    """

    def __init__(
        self,
        publish: Publish,
        run_id: str,
        name: str,
        metric: str | None,
        mode: str | None,
        total: int | None,
        epoch_ms: int,
    ) -> None:
        self._publish = publish
        self._run_id = run_id
        self._name = name
        self._metric = metric
        self._mode = mode or "max"
        self._total = total
        self._epoch_ms = epoch_ms
        self._sent_ms: dict[str, int] = {}
        self._waiting: dict[str, Trial] = {}
        self._best: tuple[str | None, float | None] = (None, None)
        self._experiment: dict[str, Any] = {}

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        self._send(trial, now_ms)

    def on_result(self, trial: Trial, result: Mapping[str, Any], now_ms: int) -> None:
        best = self._best_of(trial)
        if best is not None and is_better(best, self._best[1], self._mode):
            self._best = (trial.trial_id, best)
        if now_ms - self._sent_ms.get(trial.trial_id, -INTERVAL_MS) >= INTERVAL_MS:
            self._send(trial, now_ms)
        else:
            self._waiting[trial.trial_id] = trial

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        due = [t for t in self._waiting.values() if now_ms - self._sent_ms[t.trial_id] >= INTERVAL_MS]
        for trial in due:
            self._send(trial, now_ms)
        self._send_experiment(table, now_ms, is_over=False)

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        for trial in list(self._waiting.values()):
            self._send(trial, now_ms)
        self._send_experiment(table, now_ms, is_over=True)

    def _send(self, trial: Trial, now_ms: int) -> None:
        self._waiting.pop(trial.trial_id, None)
        self._sent_ms[trial.trial_id] = now_ms
        self._publish("trial", trial.trial_id, self._trial_record(trial, now_ms))

    def _trial_record(self, trial: Trial, now_ms: int) -> dict[str, Any]:
        summary = trial.summaries.get(self._metric) if self._metric else None
        end_ms = trial.ended_ms if trial.ended_ms is not None else now_ms
        return {
            "experiment": self._name,
            # Two runs may share a name; this tells them apart.
            "experiment_id": self._run_id,
            "trial_id": trial.trial_id,
            "name": trial.name,
            "state": STOPPED if trial.state == STOPPED else trial.status,
            "config": short_config(trial.varying or trial.config),
            "iteration": trial.iteration,
            "metric_name": self._metric,
            "mode": self._mode,
            "last": _finite(summary.last) if summary else None,
            "best": self._best_of(trial),
            "history": [_finite(value) for value in trial.history],
            "resources": trial.resources,
            "started_unix_ms": self._unix_ms(trial.started_ms),
            "ended_unix_ms": self._unix_ms(trial.ended_ms),
            "error": _error_line(trial),
            "seconds": (end_ms - trial.started_ms) / 1000 if trial.started_ms is not None else 0.0,
        }

    def _send_experiment(self, table: TrialTable, now_ms: int, is_over: bool) -> None:
        counts = table.statistics()
        ended = counts[TERMINATED] + counts[STOPPED]
        record = {
            "name": self._name,
            "state": "FINISHED" if is_over else "RUNNING",
            "metric_name": self._metric,
            "mode": self._mode,
            "total": len(table) if is_over else self._total,
            "running": counts[RUNNING] + counts[PAUSING],
            "done": ended,
            "errored": counts[ERROR],
            "best_trial": self._best[0],
            "best_value": self._best[1],
        }
        if record != self._experiment:
            self._experiment = record
            self._publish("experiment", self._run_id, record)

    def _best_of(self, trial: Trial) -> float | None:
        summary = trial.summaries.get(self._metric) if self._metric else None
        return _finite(summary.value("all", self._mode)) if summary else None

    def _unix_ms(self, at_ms: int | None) -> int | None:
        return None if at_ms is None else self._epoch_ms + at_ms


def short_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return config flat, with numbers, flags and short text as they are and the rest as a short repr."""
    return {name: _short(value) for name, value in flatten(config).items()}


def _short(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _error_line(trial: Trial) -> str | None:
    if trial.error is None:
        return None
    lines = str(trial.error).strip().splitlines()
    line = f"{type(trial.error).__name__}: {lines[0]}" if lines else type(trial.error).__name__
    return line[:ERROR_MAX]
