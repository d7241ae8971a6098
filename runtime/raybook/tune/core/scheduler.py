"""Trial schedulers: the contract, and the one that never interferes.

A scheduler answers each result with a verdict. `judge` and its kin get a trial's id and its result, and no controller:
so ours run in virtual time, in a test, or over a recorded sweep alike. What the controller calls are Ray's hooks
(`on_trial_result(tune_controller, trial, result)` and so on), which hand these questions on; schedulers written for
Ray override the hooks and never meet the others (0081).
Contract (tests/libs/test_scheduler_contract.py): verdicts are one of VERDICTS; trials it does not know are never named;
equal sequences of calls give equal verdicts; NaN ranks as the worst value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cloudpickle

from raybook.ml.core.metrics import check_mode, has_metric, lookup, score
from raybook.tune.core.orders import Order
from raybook.tune.core.resource_request import ResourceRequest
from raybook.tune.core.trial_events import COMPLETE, CONTINUE, IN_RAYS_WORDS, NOOP, PAUSE, SAVE, STOP, YIELD
from raybook.tune.core.trial_table import PAUSED, PENDING


class TrialScheduler:
    """Base of all schedulers. Subclasses override what they care about; the defaults let every trial run."""

    CONTINUE = CONTINUE
    PAUSE = PAUSE
    STOP = STOP
    COMPLETE = COMPLETE
    SAVE = SAVE
    YIELD = YIELD
    NOOP = NOOP
    needs_metric = False
    # True for schedulers that change configurations while trials run, which a model-based searcher must not see.
    replaces_search = False
    supports_buffered_results = True

    def __init__(self, metric: str | None = None, mode: str | None = None) -> None:
        if mode is not None:
            check_mode(mode, "mode")
        self._metric = metric
        self._mode = mode
        self._orders: list[Order] = []

    # Subclasses written for Ray read and set the names with underscores, and may not have called our __init__.
    @property
    def metric(self) -> str | None:
        """What is tuned."""
        return getattr(self, "_metric", None)

    @metric.setter
    def metric(self, metric: str | None) -> None:
        self._metric = metric

    @property
    def mode(self) -> str | None:
        """min or max."""
        return getattr(self, "_mode", None)

    @mode.setter
    def mode(self, mode: str | None) -> None:
        self._mode = mode

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take metric and mode from TuneConfig. Returns False if they contradict the scheduler's own."""
        if (self.metric and metric and self.metric != metric) or (self.mode and mode and self.mode != mode):
            return False
        self.metric = self.metric or metric
        self.mode = self.mode or mode
        return True

    def add_trial(self, trial_id: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """A trial has come into being. Returns the configuration it shall have instead, None to leave it."""
        return None

    def on_trial_state(self, trial_id: str, state: str) -> None:
        """A trial is now in this state of the trial table."""

    def on_trial_resources(self, trial_id: str, request: ResourceRequest) -> None:
        """A trial holds this while it runs. Told after add_trial, and when it changes."""

    def on_checkpoint(self, trial_id: str) -> None:
        """A trial has a new checkpoint, from which others could go on."""

    def on_cluster(self, total: Mapping[str, float]) -> None:
        """The cluster has these resources. Told before each result."""

    def on_search_end(self) -> None:
        """No more trials will be added."""

    def on_stall(self) -> None:
        """Nothing runs, none was chosen and no trial can be added now: the last chance to let something go on."""

    def take_orders(self) -> list[Order]:
        """Hand over what else is to be done, once. The controller asks after every call."""
        # A subclass of the user's may not have called our __init__.
        orders, self._orders = getattr(self, "_orders", []), []
        return orders

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> str:
        """A trial reported. Returns the verdict; the trial waits for it."""
        return CONTINUE

    def complete_trial(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A trial has ended well, be it by itself or by a verdict. result: its last one, {} if none."""

    def fail_trial(self, trial_id: str) -> None:
        """A trial has failed for good."""

    def choose(self, waiting: Sequence[str]) -> str | None:
        """Return which of the waiting trials (new and paused ones) starts next, None for none of them now."""
        return waiting[0] if waiting else None

    def remove_trial(self, trial_id: str) -> None:
        """A trial was ended while it waited."""

    # Ray's hooks. tune_controller: a `sweep_view.SweepView`.

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial has come into being; what is put into `trial.config` here is what it runs with."""
        config = self.add_trial(trial.trial_id, trial.config)
        if config is not None:
            trial.config = config

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A running trial reported. Returns CONTINUE, PAUSE, STOP, or NOOP where the controller was told already."""
        verdict = self.judge(trial.trial_id, result)
        word = IN_RAYS_WORDS.get(verdict, verdict)
        if word != verdict and hasattr(tune_controller, "refine"):
            tune_controller.refine(word, verdict)
        return word

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A running trial has ended well, by itself or by a verdict."""
        self.complete_trial(trial.trial_id, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial has failed for good."""
        self.fail_trial(trial.trial_id)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial was ended while it waited, new or paused."""
        self.remove_trial(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any | None:
        """Return which of the new and the paused trials starts next, None for none of them now."""
        waiting = waiting_trials(tune_controller)
        chosen = self.choose([trial.trial_id for trial in waiting])
        return next((trial for trial in waiting if trial.trial_id == chosen), None)

    def debug_string(self) -> str:
        """Return a line about the scheduler's state."""
        return f"Using {type(self).__name__}."

    def save(self, checkpoint_path: str) -> None:
        """Store the whole state in a file. Raises what pickling raises."""
        with open(checkpoint_path, "wb") as file:
            cloudpickle.dump(self.__dict__, file)

    def restore(self, checkpoint_path: str) -> None:
        """Take back what save stored. Only from files you trust."""
        with open(checkpoint_path, "rb") as file:
            self.__dict__.update(cloudpickle.load(file))

    def _score(self, result: Mapping[str, Any]) -> float | None:
        """Return the tuned metric with higher as better, WORST for NaN, None if it was not reported."""
        if self.metric is None or not has_metric(result, self.metric):
            return None
        return score(lookup(result, self.metric), self.mode or "max")


def waiting_trials(tune_controller: Any) -> list[Any]:
    """Return a controller's waiting trials, new ones first."""
    listed = getattr(tune_controller, "waiting_trials", None)
    if listed is not None:
        return listed()
    trials = tune_controller.get_trials()
    return [trial for status in (PENDING, PAUSED) for trial in trials if trial.status == status]


class FIFOScheduler(TrialScheduler):
    """Runs every trial to its end, in the order they were made."""
