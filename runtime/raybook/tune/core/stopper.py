"""Stoppers: when a trial has done enough, in the user's own terms.

Decides from results alone; the time budget of a sweep is the controller's.
Source: the `stop` argument and the stoppers of Ray Tune.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, is_number, lookup, score


class Stopper:
    """Base: called with each result, answers whether that trial is done; `stop_all` whether the sweep is."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Ask whether every trial should end now."""
        return False


class NoopStopper(Stopper):
    """Lets every trial end by itself."""


class ThresholdStopper(Stopper):
    """Ends a trial once any metric has reached its threshold (>=, whatever the mode)."""

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        for name, threshold in thresholds.items():
            if not is_number(threshold):
                raise ValueError(f"stop={{{name!r}: ...}} needs a number to reach, not {threshold!r}.")
        self._thresholds = dict(thresholds)

    @property
    def metrics(self) -> list[str]:
        """The metrics that must be reported."""
        return list(self._thresholds)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return any(
            has_metric(result, name)
            and score(lookup(result, name), "max") > WORST
            and lookup(result, name) >= threshold
            for name, threshold in self._thresholds.items()
        )


class FunctionStopper(Stopper):
    """Ends a trial when the user's function says so."""

    def __init__(self, function: Callable[[str, dict[str, Any]], bool]) -> None:
        if not callable(function):
            raise ValueError(f"FunctionStopper takes a function (trial_id, result) -> bool, not {function!r}.")
        self._function = function

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return bool(self._function(trial_id, result))


class MaximumIterationStopper(Stopper):
    """Ends a trial after max_iter reports."""

    def __init__(self, max_iter: int) -> None:
        self._max_iter = max_iter
        self._counts: dict[str, int] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._counts[trial_id] = self._counts.get(trial_id, 0) + 1
        return self._counts[trial_id] >= self._max_iter


class CombinedStopper(Stopper):
    """Ends a trial when any of several stoppers would."""

    def __init__(self, *stoppers: Stopper) -> None:
        for stopper in stoppers:
            if not isinstance(stopper, Stopper):
                raise ValueError(f"CombinedStopper combines stoppers, and {stopper!r} is none.")
        self._stoppers = stoppers

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        # Every stopper sees every result, so that each counts right.
        return any([stopper(trial_id, result) for stopper in self._stoppers])

    def stop_all(self) -> bool:
        return any(stopper.stop_all() for stopper in self._stoppers)


def make_stopper(stop: object) -> Stopper:
    """Return the stopper for RunConfig(stop=...). Raises TypeError for what is none."""
    if stop is None:
        return NoopStopper()
    if isinstance(stop, Stopper):
        return stop
    if isinstance(stop, Mapping):
        return ThresholdStopper(stop)
    if callable(stop):
        return FunctionStopper(stop)
    if isinstance(stop, (list, tuple)):
        return CombinedStopper(*(make_stopper(entry) for entry in stop))
    raise TypeError(
        f"stop must be a dict of metric thresholds, a function (trial_id, result) or a Stopper, not {stop!r}."
    )
