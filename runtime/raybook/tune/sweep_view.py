"""Sweep view: what a scheduler sees of the controller, and what it may ask of it, under Ray's names.

Stands where schedulers written for Ray expect a `TuneController`. Decides nothing: what is asked for becomes an order to
steering, as for our own schedulers.
Invariant: while a scheduler chooses, it is shown no trial that is being started or that a user holds, since Ray has
one word, PENDING, for those and for trials that can be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raybook.tune.core.orders import StopTrial
from raybook.tune.core.resource_request import ResourceRequest
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.core.trial_events import CONTINUE, NOOP
from raybook.tune.core.trial_table import PAUSED, PENDING, STARTING, Trial, TrialTable
from raybook.tune.error import TuneError
from raybook.tune.steering import Steering

_CHOSEN_FROM = frozenset({PENDING, PAUSED, STARTING})


class SweepView:
    """One sweep, as a scheduler sees it. scheduler_alg, search_alg: those of the sweep."""

    def __init__(
        self,
        table: TrialTable,
        steering: Steering,
        has_room: Callable[[ResourceRequest], bool],
        scheduler: TrialScheduler,
        searcher: Searcher,
    ) -> None:
        self.scheduler_alg = scheduler
        self.search_alg = searcher
        self._table = table
        self._steering = steering
        self._has_room = has_room
        self._offered: dict[str, Trial] | None = None
        self._refined: dict[str, str] = {}

    def choice_among(self, able: Sequence[Trial]) -> Trial | None:
        """Ask the scheduler which of these trials starts next. Raises TuneError for an answer that is none of them."""
        self._offered = {trial.trial_id: trial for trial in able}
        try:
            chosen = self.scheduler_alg.choose_trial_to_run(self)
            if chosen is None or self._offered.get(getattr(chosen, "trial_id", "")) is chosen:
                return None if chosen is None or chosen.is_terminal else chosen
        finally:
            self._offered = None
        raise TuneError(
            f"{type(self.scheduler_alg).__name__}.choose_trial_to_run() returned {chosen!r}, which is no trial that waits. "
            "It must return one of tune_controller.get_trials() whose status is PENDING or PAUSED, or None."
        )

    def verdict_on(self, trial: Trial, result: dict[str, Any]) -> str:
        """Ask the scheduler for its verdict on a result; one of ours where it has said more than Ray has words for."""
        self._refined.clear()
        word = self.scheduler_alg.on_trial_result(self, trial, result)
        return self._refined.get(word, CONTINUE if word == NOOP else word)

    def refine(self, word: str, verdict: str) -> None:
        """Take note of what exactly a scheduler means by the word that it is about to answer."""
        self._refined[word] = verdict

    def get_trials(self) -> list[Trial]:
        """Return all trials of the sweep, in the order they were made. Cost: O(all trials)."""
        offered = self._offered
        if offered is None:
            return list(self._table)
        return [trial for trial in self._table if trial.state not in _CHOSEN_FROM or trial.trial_id in offered]

    def get_live_trials(self) -> set[Trial]:
        """Return the trials that have not ended."""
        return {trial for trial in self._table if not trial.is_terminal}

    def get_trial(self, tid: str) -> Trial | None:
        """Return the trial of this id, None if there is none."""
        return self._table.get(tid) if tid in self._table else None

    def waiting_trials(self) -> list[Trial]:
        """Return the trials that could be chosen, new ones first. Cost: O(waiting trials)."""
        if self._offered is not None:
            return list(self._offered.values())
        return self._table.in_state(PENDING, PAUSED)

    def has_resources_for_trial(self, trial: Trial) -> bool:
        """Ask whether the trial could be launched now."""
        return self._has_room(trial.request)

    def stop_trial(self, trial: Trial) -> None:
        """End a trial: one that waits now, one that runs at its next report (the one it is judged for, included)."""
        self._steering.order(StopTrial(trial.trial_id, f"stopped by {type(self.scheduler_alg).__name__}"))

    request_stop_trial = stop_trial

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Pause a trial at its next report, saving a checkpoint where the trainable can, or none."""
        self._steering.pause(trial.trial_id, saves=should_checkpoint)

    def request_stop_experiment(self) -> None:
        """End the sweep after this round."""
        self._steering.stop_sweep(f"stopped by {type(self.scheduler_alg).__name__}")

    def is_finished(self) -> bool:
        """Ask whether every trial so far has ended."""
        return self._table.is_settled()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"raybook's controller shows schedulers no {name!r}; it has get_trials, get_live_trials, get_trial, "
            "has_resources_for_trial, stop_trial, pause_trial, request_stop_experiment, search_alg and scheduler_alg."
        )
