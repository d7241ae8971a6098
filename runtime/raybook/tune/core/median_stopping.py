"""Median stopping: ends a trial whose best value lies below the median of the other trials' running means.

Decides from full histories of (time, value) pairs. Knows nothing of rungs.
Arithmetic: at time t, for every other trial with a result at or past t, take the mean of its values in [grace, t];
if there are at least min_samples_required of them and this trial's best value so far is below their median, stop.
Source: Golovin et al., "Google Vizier" (2017), section 3.2.2, with the defaults of Ray's MedianStoppingRule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup, percentile
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.trial_events import CONTINUE, PAUSE, STOP


class MedianStoppingRule(TrialScheduler):
    """Stops trials below the running median.

    time_attr: result key that counts up. grace_period, min_time_slice: in its units, the least every trial gets and
    the least between two judgements of one trial. hard_stop: False pauses instead of stopping.
    """

    needs_metric = True

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        grace_period: float = 60.0,
        min_samples_required: int = 3,
        min_time_slice: float = 0,
        hard_stop: bool = True,
    ) -> None:
        super().__init__(metric, mode)
        if min_samples_required < 1:
            raise ValueError(f"min_samples_required must be 1 or more, not {min_samples_required!r}.")
        self._time_attr = time_attr
        self._grace_period = grace_period
        self._min_samples = min_samples_required
        self._min_time_slice = min_time_slice
        self._verdict_below = STOP if hard_stop else PAUSE
        self._histories: dict[str, list[tuple[float, float]]] = {}
        self._completed: set[str] = set()
        self._judged_at: dict[str, float] = {}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> str:
        value = self._score(result)
        if value is None or not has_metric(result, self._time_attr):
            return CONTINUE
        time = float(lookup(result, self._time_attr))
        history = self._histories.setdefault(trial_id, [])
        history.append((time, value))
        judged_at = self._judged_at.get(trial_id, 0.0)
        if time < self._grace_period or (judged_at and time - judged_at < self._min_time_slice):
            return CONTINUE
        means = [
            _running_mean(other, self._grace_period, time)
            for other_id, other in self._histories.items()
            if other_id != trial_id and (other_id in self._completed or other[-1][0] >= time)
        ]
        means = [mean for mean in means if mean > WORST]
        if len(means) < self._min_samples:
            return CONTINUE
        self._judged_at[trial_id] = time
        best = max(value for _, value in history)
        return self._verdict_below if best < percentile(means, 0.5) else CONTINUE

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if trial_id in self._histories:
            self._completed.add(trial_id)

    def on_trial_error(self, trial_id: str) -> None:
        # What a failed trial measured before it failed says nothing against the others.
        self._histories.pop(trial_id, None)


def _running_mean(history: list[tuple[float, float]], start: float, end: float) -> float:
    """Return the mean of the finite values with start <= time <= end, WORST if there is none."""
    values = [value for time, value in history if start <= time <= end and value > WORST]
    return sum(values) / len(values) if values else WORST
