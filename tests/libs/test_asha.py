"""ASHA: the published rung arithmetic, and agreement with a dumb reference."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybook.tune.core.asha import AsyncHyperBandScheduler
from raybook.tune.core.trial_events import COMPLETE, CONTINUE, STOP


def scheduler(**options):
    return AsyncHyperBandScheduler(**{"metric": "acc", "mode": "max", **options})


def result(iteration, acc):
    return {"training_iteration": iteration, "acc": acc}


@pytest.mark.parametrize(
    ("grace", "max_t", "factor", "brackets", "rungs"),
    [
        (1, 81, 3, 1, [[81, 27, 9, 3, 1]]),
        (1, 100, 4, 1, [[64, 16, 4, 1]]),
        (1, 81, 3, 3, [[81, 27, 9, 3, 1], [81, 27, 9, 3], [81, 27, 9]]),
        (5, 50, 2, 2, [[40, 20, 10, 5], [40, 20, 10]]),
        (10, 10, 4, 1, [[10]]),
    ],
)
def test_rungs_lie_at_powers_of_the_reduction_factor(grace, max_t, factor, brackets, rungs):
    asha = scheduler(grace_period=grace, max_t=max_t, reduction_factor=factor, brackets=brackets)
    assert [[rung.milestone for rung in bracket.rungs] for bracket in asha.brackets] == rungs


def test_a_trial_below_the_upper_quantile_of_its_rung_stops():
    asha = scheduler(max_t=100, grace_period=1, reduction_factor=2)
    for trial_id in "abcd":
        asha.add_trial(trial_id, {})
    assert asha.judge("a", result(1, 0.5)) == CONTINUE  # First at the rung.
    assert asha.judge("b", result(1, 0.4)) == STOP  # Below the median of {0.5}.
    assert asha.judge("c", result(1, 0.45)) == CONTINUE  # At the median of {0.5, 0.4}.
    assert asha.judge("d", result(1, 0.449)) == STOP  # Below the median of {0.5, 0.4, 0.45}.


def test_mode_min_is_the_mirror_image():
    asha = scheduler(mode="min", max_t=100, reduction_factor=2)
    for trial_id in "ab":
        asha.add_trial(trial_id, {})
    assert asha.judge("a", result(1, 0.5)) == CONTINUE
    assert asha.judge("b", result(1, 0.6)) == STOP


def test_a_trial_is_judged_once_a_rung_and_left_alone_in_between():
    asha = scheduler(max_t=100, grace_period=4, reduction_factor=4)
    asha.add_trial("good", {})
    asha.add_trial("bad", {})
    assert asha.judge("good", result(4, 0.9)) == CONTINUE
    assert [asha.judge("bad", result(t, 0.1)) for t in (1, 2, 3)] == [CONTINUE] * 3
    assert asha.judge("bad", result(4, 0.95)) == CONTINUE
    assert asha.judge("bad", result(5, 0.0)) == CONTINUE
    assert asha.judge("good", result(16, 0.9)) == CONTINUE
    assert asha.judge("bad", result(16, 0.2)) == STOP


def test_max_t_completes_a_trial_however_good_or_bad():
    asha = scheduler(max_t=10)
    asha.add_trial("a", {})
    assert asha.judge("a", result(10, 0.0)) == COMPLETE


def test_nan_stops_where_there_is_something_to_compare_with_and_never_lowers_the_bar():
    asha = scheduler(max_t=100, reduction_factor=2)
    for trial_id in "abcd":
        asha.add_trial(trial_id, {})
    assert asha.judge("a", result(1, math.nan)) == CONTINUE
    assert asha.judge("b", result(1, 0.5)) == CONTINUE
    assert asha.judge("c", result(1, math.nan)) == STOP
    assert asha.judge("d", result(1, 0.4)) == STOP


def test_a_result_without_the_metric_or_the_time_is_no_reason_to_stop():
    asha = scheduler(max_t=10)
    asha.add_trial("a", {})
    assert asha.judge("a", {"training_iteration": 1}) == CONTINUE
    assert asha.judge("a", {"acc": 0.1}) == CONTINUE


def test_brackets_are_dealt_out_in_the_published_shares():
    asha = scheduler(max_t=81, reduction_factor=3, brackets=3)
    for number in range(1000):
        asha.add_trial(str(number), {})
    dealt = [sum(b is bracket for b in asha._bracket_of.values()) / 1000 for bracket in asha.brackets]
    weights = [math.exp(len(bracket.rungs)) for bracket in asha.brackets]
    assert dealt == pytest.approx([weight / sum(weights) for weight in weights], abs=0.002)


class DumbAsha:
    """ASHA as one would write it on a board: full histories, quantile by numpy, one bracket."""

    def __init__(self, max_t, grace, factor):
        self.max_t, self.factor = max_t, factor
        self.milestones = []
        milestone = grace
        while milestone <= max_t:
            self.milestones.append(milestone)
            milestone *= factor
        self.seen = {milestone: [] for milestone in self.milestones}

    def verdict(self, trial, time, value):
        import numpy

        if time >= self.max_t:
            return COMPLETE
        known = [milestone for milestone in self.milestones if trial in [name for name, _ in self.seen[milestone]]]
        reached = [milestone for milestone in self.milestones if milestone <= time and milestone not in known]
        if not reached:
            return CONTINUE
        earlier = [v for _, v in self.seen[reached[-1]]]
        self.seen[reached[-1]].append((trial, value))
        return STOP if earlier and value < numpy.percentile(earlier, (1 - 1 / self.factor) * 100) else CONTINUE


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4]), st.sampled_from([1, 2, 5]))
def test_verdicts_agree_with_the_dumb_reference(seed, factor, grace):
    rng = random.Random(seed)
    asha, dumb = scheduler(max_t=30, grace_period=grace, reduction_factor=factor), DumbAsha(30, grace, factor)
    live = {f"t{number}": 0 for number in range(12)}
    for trial in live:
        asha.add_trial(trial, {})
    while live:
        trial = rng.choice(sorted(live))
        live[trial] += rng.choice([1, 1, 1, 5])
        # Sixteenths: the quantile is then exact in both ways of computing it.
        value = rng.randrange(256) / 16
        verdict = asha.judge(trial, result(live[trial], value))
        assert verdict == dumb.verdict(trial, live[trial], value)
        if verdict != CONTINUE:
            asha.complete_trial(trial, {})
            del live[trial]


@pytest.mark.parametrize(
    "options",
    [
        {"max_t": 0},
        {"grace_period": 0},
        {"grace_period": 200},
        {"reduction_factor": 1},
        {"brackets": 0},
        {"mode": "up"},
    ],
)
def test_arguments_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError):
        scheduler(**options)
