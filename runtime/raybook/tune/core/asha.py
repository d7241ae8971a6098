"""ASHA: asynchronous successive halving. Stops a trial that lags behind at a rung; never waits for others.

Decides from the values recorded at each rung. Knows nothing of time but the attribute it is given.
Arithmetic: rungs lie at grace_period · rf^(s + k) below max_t, where s is the bracket. The first result at or past a
rung is compared with the (1 - 1/rf) quantile (linear interpolation) of what earlier trials recorded there; below it,
the trial stops; either way its value is recorded. The first trial at a rung always goes on. A trial that came past
several rungs at once is judged at the highest first, and with its next results at those below, as Ray does. At max_t a
trial is complete.
Invariants: a trial is recorded at most once a rung; a verdict depends on earlier calls alone.
Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2020), in the stopping form, with the
defaults of Ray's AsyncHyperBandScheduler.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup, percentile_of_sorted
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.trial_events import COMPLETE, CONTINUE, STOP


class Rung:
    """One milestone of a bracket and the values that trials had when they first reached it (higher is better)."""

    def __init__(self, milestone: float) -> None:
        self.milestone = milestone
        self.recorded: dict[str, float] = {}
        # In order, so that the ten-thousandth trial is judged as quickly as the first.
        self._finite: list[float] = []

    def record(self, trial_id: str, value: float) -> None:
        """Enter what a trial had here. Once a trial."""
        self.recorded[trial_id] = value
        if value > WORST:
            insort(self._finite, value)

    def cutoff(self, reduction_factor: float) -> float | None:
        """Return the value below which a trial stops, None if nobody has come by. Cost: O(1)."""
        return percentile_of_sorted(self._finite, 1 - 1 / reduction_factor) if self._finite else None


class Bracket:
    """The rungs of one early-stopping rate, highest first."""

    def __init__(self, grace_period: float, max_t: float, reduction_factor: float, rate: int) -> None:
        # The epsilon keeps log(81)/log(3) = 3.9999999999999996 at 4 rungs.
        count = int(math.log(max_t / grace_period) / math.log(reduction_factor) - rate + 1 + 1e-9)
        self.reduction_factor = reduction_factor
        self.rungs = [Rung(grace_period * reduction_factor ** (rate + k)) for k in reversed(range(count))]

    def verdict(self, trial_id: str, time: float, value: float, looks_below: bool) -> str:
        """Record value at the highest rung that time has reached and the trial has no record at, and judge it there.

        looks_below: False leaves a trial alone that has a record at the highest one it has reached.
        """
        for rung in self.rungs:
            if time < rung.milestone:
                continue
            if trial_id in rung.recorded:
                if not looks_below:
                    return CONTINUE
                continue
            cutoff = rung.cutoff(self.reduction_factor)
            rung.record(trial_id, value)
            return STOP if cutoff is not None and value < cutoff else CONTINUE
        return CONTINUE


class AsyncHyperBandScheduler(TrialScheduler):
    """Asynchronous successive halving (ASHA), the usual choice for stopping bad trials early.

    time_attr: result key that counts up. max_t: budget of one trial in its units. grace_period: the least every trial
    gets. reduction_factor: of how many trials one survives a rung. brackets: how many early-stopping rates are mixed.
    stop_last_trials: whether trials end at max_t; False lets them run on.
    """

    needs_metric = True

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: float = 100,
        grace_period: float = 1,
        reduction_factor: float = 4,
        brackets: int = 1,
        stop_last_trials: bool = True,
    ) -> None:
        super().__init__(metric, mode)
        if max_t <= 0:
            raise ValueError(f"max_t must be above 0, not {max_t!r}.")
        if not 0 < grace_period <= max_t:
            raise ValueError(f"grace_period must be above 0 and at most max_t = {max_t!r}, not {grace_period!r}.")
        if reduction_factor <= 1:
            raise ValueError(f"reduction_factor must be above 1, not {reduction_factor!r}.")
        if brackets < 1:
            raise ValueError(f"brackets must be 1 or more, not {brackets!r}.")
        self._time_attr = time_attr
        self._max_t = max_t
        self._stop_last_trials = stop_last_trials
        self.brackets = [Bracket(grace_period, max_t, reduction_factor, rate) for rate in range(brackets)]
        self._bracket_of: dict[str, Bracket] = {}
        self._shares = _softmax([len(bracket.rungs) for bracket in self.brackets])
        self._credit = [0.0] * brackets
        self._stopped = 0

    def add_trial(self, trial_id: str, config: Mapping[str, Any]) -> None:
        # The published rule draws a bracket with probability softmax(number of rungs). The same shares are dealt out
        # here in a fixed order, so that a sweep with a seed repeats.
        self._credit = [credit + share for credit, share in zip(self._credit, self._shares, strict=True)]
        chosen = max(range(len(self.brackets)), key=lambda index: self._credit[index])
        self._credit[chosen] -= 1.0
        self._bracket_of[trial_id] = self.brackets[chosen]

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> str:
        if not has_metric(result, self._time_attr):
            return CONTINUE
        time = lookup(result, self._time_attr)
        value = self._score(result)
        if time >= self._max_t and self._stop_last_trials:
            return COMPLETE
        if value is None:
            return CONTINUE
        verdict = self._bracket_of[trial_id].verdict(trial_id, time, value, self._stop_last_trials)
        self._stopped += verdict == STOP
        return verdict

    def complete_trial(self, trial_id: str, result: Mapping[str, Any]) -> None:
        # A trial that ended at a rung by its own stop condition still sets the bar there.
        bracket = self._bracket_of.pop(trial_id, None)
        value = self._score(result)
        if bracket is not None and value is not None and has_metric(result, self._time_attr):
            bracket.verdict(trial_id, lookup(result, self._time_attr), value, self._stop_last_trials)

    def fail_trial(self, trial_id: str) -> None:
        self._bracket_of.pop(trial_id, None)

    def remove_trial(self, trial_id: str) -> None:
        self._bracket_of.pop(trial_id, None)

    def debug_string(self) -> str:
        """Return how many trials were stopped, and the rungs with their cut-offs (higher is better), a line a bracket."""
        lines = [f"Using AsyncHyperBand: num_stopped={self._stopped}"]
        for bracket in self.brackets:
            rungs = (f"Iter {rung.milestone:.3f}: {rung.cutoff(bracket.reduction_factor)}" for rung in bracket.rungs)
            lines.append("Bracket: " + " | ".join(rungs))
        return "\n".join(lines)


ASHAScheduler = AsyncHyperBandScheduler


def _softmax(sizes: list[int]) -> list[float]:
    largest = max(sizes)
    weights = [math.exp(size - largest) for size in sizes]
    return [weight / sum(weights) for weight in weights]
