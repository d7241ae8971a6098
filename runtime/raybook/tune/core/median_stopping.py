"""Median stopping: ends a trial whose best value lies below the median of the other trials' running means.

Decides from full histories of (time, value) pairs. Knows nothing of rungs.
Arithmetic: at time t, for every other trial with a result at or past t, take the mean of its values in [grace, t];
if there are at least min_samples_required of them and this trial's best value so far is below their median, stop. A
trial that was only paused is left alone from then on.
Source: Golovin et al., "Google Vizier" (2017), section 3.2.2, with the defaults of Ray's MedianStoppingRule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup, percentile
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.trial_events import CONTINUE, PAUSE, STOP
from raybook.tune.core.trial_table import PAUSED, PENDING


class MedianStoppingRule(TrialScheduler):
    """Stops trials below the running median.

    time_attr: result key that counts up. grace_period: in its units, the least every trial gets. min_samples_required:
    how many others must have come as far. min_time_slice: in the units of time_attr, the least a trial runs before it
    yields to trials that wait, while there are too few others to judge it (only if it has a checkpoint to go on from).
    hard_stop: False pauses a trial once instead of stopping it.
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
        self._lagging: set[str] = set()
        self._waiting: set[str] = set()
        self._saved: set[str] = set()
        self._yielded_at: dict[str, float] = {}

    def on_trial_state(self, trial_id: str, state: str) -> None:
        if state in (PENDING, PAUSED):
            self._waiting.add(trial_id)
        else:
            self._waiting.discard(trial_id)

    def on_checkpoint(self, trial_id: str) -> None:
        self._saved.add(trial_id)

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> str:
        value = self._score(result)
        if value is None or not has_metric(result, self._time_attr) or trial_id in self._lagging:
            return CONTINUE
        time = float(lookup(result, self._time_attr))
        history = self._histories.setdefault(trial_id, [])
        history.append((time, value))
        if time < self._grace_period:
            return CONTINUE
        means = [
            _running_mean(other, self._grace_period, time)
            for other_id, other in self._histories.items()
            if other_id != trial_id and other[-1][0] >= time
        ]
        means = [mean for mean in means if mean > WORST]
        if len(means) < self._min_samples:
            return self._perhaps_yield(trial_id, time)
        best = max(value for _, value in history)
        if best >= percentile(means, 0.5):
            return CONTINUE
        self._lagging.add(trial_id)
        return self._verdict_below

    def complete_trial(self, trial_id: str, result: Mapping[str, Any]) -> None:
        history = self._histories.get(trial_id)
        value = self._score(result)
        if history is None or value is None or not has_metric(result, self._time_attr):
            return
        time = float(lookup(result, self._time_attr))
        if time > history[-1][0]:
            history.append((time, value))

    def debug_string(self) -> str:
        return f"Using MedianStoppingRule: num_stopped={len(self._lagging)}."

    def _perhaps_yield(self, trial_id: str, time: float) -> str:
        ran_long = time - self._yielded_at.get(trial_id, WORST) > self._min_time_slice
        if not (ran_long and trial_id in self._saved and self._waiting):
            return CONTINUE
        self._yielded_at[trial_id] = time
        return PAUSE

    def fail_trial(self, trial_id: str) -> None:
        # What a failed trial measured before it failed says nothing against the others.
        self._histories.pop(trial_id, None)


def _running_mean(history: list[tuple[float, float]], start: float, end: float) -> float:
    """Return the mean of the finite values with start <= time <= end, WORST if there is none."""
    values = [value for time, value in history if start <= time <= end and value > WORST]
    return sum(values) / len(values) if values else WORST
