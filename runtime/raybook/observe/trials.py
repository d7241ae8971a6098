"""Trials: from Tune's facts to sweeps with their trials, the best one named, the most telling ones kept. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from raybook.base.facts import Row
from raybook.observe.fields import ERROR_LENGTH_MAX, NAME_LENGTH_MAX, amounts_of, integer_of, number_of, text_of
from raybook.observe.format import metric_text, shortened
from raybook.observe.history import POINTS_MAX, thinned
from raybook.observe.mirror import Tables
from raybook.observe.schema import ExperimentRow, TrialRow

PARAMETERS_LENGTH_MAX = 160
PARAMETERS_MAX = 12
TRIAL_ENDED = frozenset({"TERMINATED", "STOPPED", "COMPLETED", "FINISHED", "ERROR", "FAILED", "DONE"})
TRIAL_FAILED = frozenset({"ERROR", "FAILED"})


def experiments_of(
    tables: Tables, curves: Mapping[str, list[float]], now_ms: float, experiments_max: int, trials_max: int
) -> list[ExperimentRow]:
    """The newest sweeps, newest first. curves: points by trial key, for trials whose rows bring no history. Cost:
    O(trials)."""
    rows = dict(tables.rows("experiment"))
    by_experiment: dict[str, list[tuple[str, Row]]] = {}
    for key, row in tables.rows("trial").items():
        by_experiment.setdefault(experiment_named_by(row), []).append((key, row))
    for name in by_experiment:
        # A trial may name its experiment by id or by name; one that names none still shows.
        if name not in rows and not any(row.get("name") == name for row in rows.values()):
            rows[name] = {"name": name or "trials"}
    newest = list(rows.items())[-experiments_max:]
    return [
        _experiment(
            key,
            row,
            by_experiment.get(key) or by_experiment.get(str(row.get("name"))) or [],
            curves,
            now_ms,
            trials_max,
        )
        for key, row in reversed(newest)
    ]


def experiment_named_by(row: Row) -> str:
    """By id or by name, as a trial's row has it; "" when it names none."""
    return str(row.get("experiment_id") or row.get("experiment") or "")


def _experiment(
    key: str,
    row: Row,
    trial_rows: list[tuple[str, Row]],
    curves: Mapping[str, list[float]],
    now_ms: float,
    trials_max: int,
) -> ExperimentRow:
    first = trial_rows[0][1] if trial_rows else {}
    mode = "min" if (row.get("mode") or first.get("mode")) == "min" else "max"
    trials = [_trial(trial_key, trial_row, curves, key) for trial_key, trial_row in trial_rows]
    trials.sort(key=lambda trial: trial.label)
    best = _best(trials, mode, text_of(row, "best_trial", "best_trial_id"))
    if best is not None:
        trials = [msgspec.structs.replace(trial, best=True) if trial is best else trial for trial in trials]
        best = next(trial for trial in trials if trial.best)
    shown = _most_telling(trials, trials_max)
    done = sum(trial.state in TRIAL_ENDED for trial in trials)
    running = sum(trial.state == "RUNNING" for trial in trials)
    total = max(integer_of(row, "total", "trials_total"), len(trials))
    is_over = bool(integer_of(row, "total", "trials_total")) and done >= total
    return ExperimentRow(
        experiment_id=key,
        name=text_of(row, "name") or key,
        state=text_of(row, "state") or ("FINISHED" if is_over else "RUNNING"),
        metric=text_of(row, "metric", "metric_name") or text_of(first, "metric", "metric_name"),
        mode=mode,
        trials_total=total,
        trials_done=done,
        trials_running=running,
        trials_failed=sum(trial.state in TRIAL_FAILED for trial in trials),
        trials_stopped=sum(trial.state == "STOPPED" for trial in trials),
        best_trial_id=best.trial_id if best else "",
        best_value=_best_value(best, row, mode),
        best_parameters=best.parameters if best else "",
        trials=shown,
        trials_hidden=len(trials) - len(shown),
        seconds=_seconds_of(trial_rows, is_over, now_ms),
    )


def _seconds_of(trial_rows: list[tuple[str, Row]], is_over: bool, now_ms: float) -> float:
    """From the first trial's start to now, or to the last one's end."""
    started = [number_of(row, "started_unix_ms") for _, row in trial_rows if row.get("started_unix_ms")]
    if not started:
        return 0.0
    until = max((number_of(row, "ended_unix_ms") for _, row in trial_rows), default=0) if is_over else now_ms
    return max(0.0, (until - min(started)) / 1_000)


def _trial(key: str, row: Row, curves: Mapping[str, list[float]], experiment_id: str) -> TrialRow:
    history = trial_history(row)
    points = history if history is not None else curves.get(key) or []
    return TrialRow(
        trial_id=text_of(row, "trial_id") or key,
        name=text_of(row, "name"),
        state=text_of(row, "state").upper(),
        value=trial_value(row),
        step=trial_step(row),
        step_max=integer_of(row, "iterations_max", "step_max"),
        history=thinned(points, POINTS_MAX),
        parameters=_parameters(row),
        error=text_of(row, "error", length_max=ERROR_LENGTH_MAX),
        seconds=float(number_of(row, "seconds")),
        experiment_id=experiment_id,
        config=_config(row),
        resources=amounts_of(row, "resources"),
    )


def _config(row: Row) -> dict[str, float | str | bool | None]:
    """The first parameters, short: a panel has an axis for each."""
    config = row.get("config", row.get("parameters"))
    pairs = list(config.items())[:PARAMETERS_MAX] if isinstance(config, Mapping) else []
    return {
        shortened(str(name), NAME_LENGTH_MAX): value
        if value is None or isinstance(value, bool) or (isinstance(value, (int, float)) and math.isfinite(value))
        else shortened(str(value), NAME_LENGTH_MAX)
        for name, value in pairs
    }


def trial_value(row: Row) -> float | None:
    """The metric of a trial's latest report, None before the first."""
    for name in ("value", "last"):
        value = row.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def trial_step(row: Row) -> int:
    """How many reports a trial has made."""
    return integer_of(row, "iteration", "step")


def trial_history(row: Row) -> list[float] | None:
    """The metric over the reports, when the trial's row brings it along."""
    history = row.get("history")
    if not isinstance(history, (list, tuple)):
        return None
    numbers = [point[-1] if isinstance(point, (list, tuple)) and point else point for point in history]
    return [float(point) for point in numbers if isinstance(point, (int, float)) and math.isfinite(point)]


def _parameters(row: Row) -> str:
    parameters = row.get("config", row.get("parameters"))
    if isinstance(parameters, Mapping):
        parts = [
            f"{name}={metric_text(value) if isinstance(value, float) else value}" for name, value in parameters.items()
        ]
        return shortened(", ".join(parts), PARAMETERS_LENGTH_MAX)
    return shortened(str(parameters), PARAMETERS_LENGTH_MAX) if parameters else ""


def _best(trials: list[TrialRow], mode: str, named: str) -> TrialRow | None:
    """The trial that the experiment names; else the best last value, the earlier one when two are equal."""
    for trial in trials:
        if named and trial.trial_id == named:
            return trial
    scored = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
    if not scored:
        return None
    choose = min if mode == "min" else max
    return choose(scored, key=lambda trial: trial.value or 0.0)


def _best_value(best: TrialRow | None, row: Row, mode: str) -> float | None:
    told = row.get("best_value")
    if isinstance(told, (int, float)) and not isinstance(told, bool):
        return float(told)
    return best.value if best else None


def _most_telling(trials: list[TrialRow], count_max: int) -> list[TrialRow]:
    """The best, the running, then the newest, shown in the order in which they began."""

    def importance(item: tuple[int, TrialRow]) -> tuple[bool, bool, int]:
        return (not item[1].best, item[1].state != "RUNNING", -item[0])

    chosen = sorted(enumerate(trials), key=importance)[:count_max]
    return [trial for _, trial in sorted(chosen, key=lambda item: item[0])]
