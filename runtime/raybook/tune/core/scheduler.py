"""Trial schedulers: the contract, and the one that never interferes.

A scheduler answers each result with a verdict. It gets a trial's id and its result, and no controller: so it runs in
virtual time, in a test, or over a recorded sweep alike.
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
from raybook.tune.core.trial_events import COMPLETE, CONTINUE, PAUSE, SAVE, STOP, YIELD


class TrialScheduler:
    """Base of all schedulers. Subclasses override what they care about; the defaults let every trial run."""

    CONTINUE = CONTINUE
    PAUSE = PAUSE
    STOP = STOP
    COMPLETE = COMPLETE
    SAVE = SAVE
    YIELD = YIELD
    needs_metric = False
    # True for schedulers that change configurations while trials run, which a model-based searcher must not see.
    replaces_search = False
    supports_buffered_results = True

    def __init__(self, metric: str | None = None, mode: str | None = None) -> None:
        if mode is not None:
            check_mode(mode, "mode")
        self.metric = metric
        self.mode = mode
        self._orders: list[Order] = []

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take metric and mode from TuneConfig. Returns False if they contradict the scheduler's own."""
        if (self.metric and metric and self.metric != metric) or (self.mode and mode and self.mode != mode):
            return False
        self.metric = self.metric or metric
        self.mode = self.mode or mode
        return True

    def on_trial_add(self, trial_id: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """A trial has come into being. Returns the configuration it shall have instead, None to leave it."""
        return None

    def on_trial_state(self, trial_id: str, state: str) -> None:
        """A trial is now in this state of the trial table."""

    def on_trial_resources(self, trial_id: str, request: ResourceRequest) -> None:
        """A trial holds this while it runs. Told after on_trial_add, and when it changes."""

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

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> str:
        """A trial reported. Returns the verdict; the trial waits for it."""
        return CONTINUE

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A trial has ended well, be it by itself or by a verdict. result: its last one, {} if none."""

    def on_trial_error(self, trial_id: str) -> None:
        """A trial has failed for good."""

    def choose_trial_to_run(self, waiting: Sequence[str]) -> str | None:
        """Return which of the waiting trials (new and paused ones) starts next, None for none of them now."""
        return waiting[0] if waiting else None

    def on_trial_remove(self, trial_id: str) -> None:
        """A trial was ended before it reported."""

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


class FIFOScheduler(TrialScheduler):
    """Runs every trial to its end, in the order they were made."""
