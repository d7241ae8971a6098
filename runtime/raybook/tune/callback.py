"""Callbacks: the user's hooks into a sweep, with the names and arguments of Ray's `tune.Callback`.

An adapter from what observers hear. What a callback raises ends the sweep and reaches the caller of fit(): a hook that
fails unseen is worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybook.tune.core.trial_table import ERROR, RUNNING, STOPPED, TERMINATED, Trial, TrialTable
from raybook.tune.observer import SweepObserver


class Callback:
    """Base of user callbacks: override what you need. iteration counts the controller's rounds."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial runs (again)."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reported."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has ended well, by itself or stopped."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed for good."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """One round of the controller is over."""

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The sweep is over."""


class CallbackObserver(SweepObserver):
    """Tells callbacks what an observer hears. Raises TypeError for what is no Callback."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must derive from tune.Callback, and {callback!r} does not.")
        self._callbacks = tuple(callbacks)
        self._trials: dict[str, Trial] = {}
        self._iteration = 0

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        self._trials[trial.trial_id] = trial
        hooks = {RUNNING: "on_trial_start", TERMINATED: "on_trial_complete", STOPPED: "on_trial_complete"}
        name = "on_trial_error" if trial.state == ERROR else hooks.get(trial.state)
        if name is not None:
            for callback in self._callbacks:
                getattr(callback, name)(iteration=self._iteration, trials=self._listed(), trial=trial)

    def on_result(self, trial: Trial, result: Mapping[str, Any], now_ms: int) -> None:
        for callback in self._callbacks:
            callback.on_trial_result(iteration=self._iteration, trials=self._listed(), trial=trial, result=dict(result))

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        self._iteration += 1
        for callback in self._callbacks:
            callback.on_step_end(iteration=self._iteration, trials=self._listed())

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        for callback in self._callbacks:
            callback.on_experiment_end(trials=self._listed())

    def _listed(self) -> list[Trial]:
        return list(self._trials.values())
