"""Logger callbacks: the base of those who write trials' reports somewhere.

An adapter with fewer hooks: a trial begins, reports, saves, ends. Source: the surface of Ray's LoggerCallback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import flatten
from raybook.tune.callback import Callback
from raybook.tune.core.trial_table import Trial


class LoggerCallback(Callback):
    """Base of loggers: override the four hooks you need."""

    def log_trial_start(self, trial: Trial) -> None:
        """A trial begins, or goes on."""

    def log_trial_restore(self, trial: Trial) -> None:
        """A trial goes on from a checkpoint."""

    def log_trial_save(self, trial: Trial) -> None:
        """A trial has saved a checkpoint."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """A trial reported."""

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """A trial is over."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_start(trial)

    def on_trial_restore(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_restore(trial)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_save(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self.log_trial_result(iteration, trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_end(trial, failed=True)


def pretty_print(result: Mapping[str, Any], exclude: set[str] | None = None) -> str:
    """Return a report as readable lines, without its configuration and what is None or excluded."""
    left_out = {"config", "hist_stats", *(exclude or ())}
    shown = {key: value for key, value in result.items() if value is not None and key not in left_out}
    lines = (f"{key}: {json.dumps(value, default=str)}" for key, value in sorted(flatten(shown).items()))
    return "\n".join(lines) + "\n"
