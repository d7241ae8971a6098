"""Callbacks: the user's hooks into a sweep, with the names and arguments of Ray's `tune.Callback`.

An adapter from what observers hear. What a callback raises ends the sweep and reaches the caller of fit(): a hook that
fails unseen is worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.tune.core.stopper import Stopper
from raybook.tune.core.trial_table import ERROR, PENDING, RUNNING, STOPPED, TERMINATED, Trial, TrialTable
from raybook.tune.observer import SweepObserver
from raybook.tune.trial import checkpoint_of


class Callback:
    """Base of user callbacks: override what you need. iteration counts the controller's rounds."""

    def setup(
        self,
        stop: Stopper | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """The sweep is about to begin."""

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """One round of the controller begins."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """One round of the controller is over."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial runs (again)."""

    def on_trial_restore(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial goes on from a checkpoint."""

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has saved a checkpoint."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reported."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has ended well, by itself or stopped."""

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed and is tried again."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed for good."""

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """A trial has saved this checkpoint."""

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The sweep is over."""

    def get_state(self) -> dict[str, Any] | None:
        """Return what shall be kept for a restored run, None for nothing."""
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what get_state returned in the run that is restored."""


class CallbackObserver(SweepObserver):
    """Tells callbacks what an observer hears. Raises TypeError for what is no Callback."""

    def __init__(
        self,
        callbacks: Sequence[Any],
        stopper: Stopper | None = None,
        total: int | None = None,
        folder: Path | None = None,
    ) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must derive from tune.Callback, and {callback!r} does not.")
        self._callbacks = tuple(callbacks)
        self._setup = {"stop": stopper, "num_samples": total, "total_num_samples": total}
        self._folder = folder
        self._trials: dict[str, Trial] = {}
        self._failures: dict[str, int] = {}
        self._iteration = 0

    def get_state(self) -> list[Any]:
        """Return every callback's state."""
        return [callback.get_state() for callback in self._callbacks]

    def set_state(self, states: Sequence[Any] | None) -> None:
        """Hand back what get_state returned, if the callbacks are as many as then."""
        if states is None or len(states) != len(self._callbacks):
            return
        for callback, state in zip(self._callbacks, states, strict=True):
            if state is not None:
                callback.set_state(state)

    def on_start(self, table: TrialTable, now_ms: int) -> None:
        for callback in self._callbacks:
            callback.setup(**self._setup, experiment_path=str(self._folder) if self._folder else None)
        self._begin_step()

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        self._trials[trial.trial_id] = trial
        if trial.state == RUNNING:
            if trial.checkpoints.latest() is not None:
                self._tell("on_trial_restore", trial)
            self._tell("on_trial_start", trial)
        elif trial.state in (TERMINATED, STOPPED):
            self._tell("on_trial_complete", trial)
        elif trial.state == ERROR:
            self._tell("on_trial_error", trial)
        elif trial.state == PENDING and trial.failures > self._failures.get(trial.trial_id, 0):
            self._failures[trial.trial_id] = trial.failures
            self._tell("on_trial_recover", trial)

    def on_result(self, trial: Trial, result: Mapping[str, Any], now_ms: int) -> None:
        self._tell("on_trial_result", trial, result=dict(result))

    def on_checkpoint(self, trial: Trial, name: str, now_ms: int) -> None:
        self._tell("on_checkpoint", trial, checkpoint=checkpoint_of(trial, name))
        self._tell("on_trial_save", trial)

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        self._iteration += 1
        for callback in self._callbacks:
            callback.on_step_end(iteration=self._iteration, trials=self._listed())
        self._begin_step()

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        for callback in self._callbacks:
            callback.on_experiment_end(trials=self._listed())

    def _begin_step(self) -> None:
        for callback in self._callbacks:
            callback.on_step_begin(iteration=self._iteration, trials=self._listed())

    def _tell(self, hook: str, trial: Trial, **info: Any) -> None:
        if self._callbacks:
            listed = self._listed()
            for callback in self._callbacks:
                getattr(callback, hook)(iteration=self._iteration, trials=listed, trial=trial, **info)

    def _listed(self) -> list[Trial]:
        return list(self._trials.values()) if self._callbacks else []
