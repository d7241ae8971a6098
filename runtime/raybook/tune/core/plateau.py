"""Plateau stoppers: end a trial, or the whole sweep, when its figures no longer move.

Decides from the standard deviation of recent or of the best values. Source: the rules and defaults of Ray Tune's
TrialPlateauStopper and ExperimentPlateauStopper.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any

from raybook.ml.core.metrics import check_mode, has_metric, lookup, score
from raybook.tune.core.stopper import Stopper


class TrialPlateauStopper(Stopper):
    """Ends a trial whose metric has stopped moving: standard deviation of the last num_results below std.

    grace_period: results before it may be stopped. metric_threshold: with mode, what it must have passed as well.
    """

    def __init__(
        self,
        metric: str,
        std: float = 0.01,
        num_results: int = 4,
        grace_period: int = 4,
        metric_threshold: float | None = None,
        mode: str | None = None,
    ) -> None:
        if metric_threshold is not None and mode not in ("min", "max"):
            raise ValueError(f"metric_threshold needs mode 'min' or 'max', not {mode!r}.")
        self._metric = metric
        self._std = std
        self._num_results = num_results
        self._grace_period = grace_period
        self._threshold = metric_threshold
        self._mode = mode
        self._counts: dict[str, int] = {}
        self._windows: dict[str, deque[float]] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if not has_metric(result, self._metric):
            return False
        value = lookup(result, self._metric)
        window = self._windows.setdefault(trial_id, deque(maxlen=self._num_results))
        window.append(float(value))
        self._counts[trial_id] = self._counts.get(trial_id, 0) + 1
        if self._counts[trial_id] < self._grace_period or len(window) < self._num_results:
            return False
        if self._threshold is not None and score(value, self._mode or "max") < score(
            self._threshold, self._mode or "max"
        ):
            return False
        return _deviation(window) < self._std


class ExperimentPlateauStopper(Stopper):
    """Ends the sweep once its best values lie within std of each other, for more than patience results.

    top: how many of the best values count. mode: min or max. Raises ValueError for wrong arguments.
    """

    def __init__(self, metric: str, std: float = 0.001, top: int = 10, mode: str = "min", patience: int = 0) -> None:
        check_mode(mode, "mode")
        if not isinstance(top, int) or top <= 1:
            raise ValueError(f"top must be an integer above 1, not {top!r}.")
        if not isinstance(patience, int) or patience < 0:
            raise ValueError(f"patience must be an integer of 0 or more, not {patience!r}.")
        if not isinstance(std, float) or std <= 0:
            raise ValueError(f"std must be a float above 0, not {std!r}.")
        self._metric = metric
        self._std = std
        self._top = top
        self._mode = mode
        self._patience = patience
        self._best: list[float] = []
        self._calm = 0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if has_metric(result, self._metric):
            ranked = sorted([*self._best, lookup(result, self._metric)], key=lambda value: score(value, self._mode))
            self._best = ranked[-self._top :]
            self._calm = self._calm + 1 if self.has_plateaued() else 0
        return self.stop_all()

    def has_plateaued(self) -> bool:
        """Ask whether the best values no longer move."""
        return len(self._best) == self._top and _deviation(self._best) <= self._std

    def stop_all(self) -> bool:
        return self.has_plateaued() and self._calm >= self._patience


def _deviation(values: Collection[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
