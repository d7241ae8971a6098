"""Median stopping against the definition, written out in full."""

from __future__ import annotations

import random
import statistics

from hypothesis import given, settings
from hypothesis import strategies as st

from raybook.tune.core.median_stopping import MedianStoppingRule
from raybook.tune.core.trial_events import CONTINUE, PAUSE, STOP


def rule(**options):
    return MedianStoppingRule(
        **{"time_attr": "training_iteration", "metric": "acc", "mode": "max", "grace_period": 2, **options}
    )


def result(iteration, acc):
    return {"training_iteration": iteration, "acc": acc}


def feed(scheduler, trial, values):
    return [scheduler.judge(trial, result(number + 1, value)) for number, value in enumerate(values)]


def test_a_trial_below_the_median_of_the_others_stops_after_grace():
    scheduler = rule(min_samples_required=3)
    for trial, value in zip("abc", (0.4, 0.6, 0.8), strict=True):
        assert feed(scheduler, trial, [value] * 4) == [CONTINUE] * 4
    assert feed(scheduler, "low", [0.5] * 2) == [CONTINUE, STOP]
    assert feed(scheduler, "high", [0.7] * 3) == [CONTINUE] * 3


def test_too_few_others_stop_nobody():
    scheduler = rule(min_samples_required=3)
    feed(scheduler, "a", [0.9] * 4)
    feed(scheduler, "b", [0.9] * 4)
    assert feed(scheduler, "low", [0.1] * 4) == [CONTINUE] * 4


def test_soft_stop_pauses():
    scheduler = rule(min_samples_required=1, hard_stop=False)
    feed(scheduler, "a", [0.9] * 4)
    assert feed(scheduler, "low", [0.1] * 2)[-1] == PAUSE


def test_a_failed_trial_does_not_set_the_bar():
    scheduler = rule(min_samples_required=1)
    feed(scheduler, "a", [0.9] * 4)
    scheduler.fail_trial("a")
    assert feed(scheduler, "low", [0.1] * 4) == [CONTINUE] * 4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_verdicts_agree_with_the_definition(seed):
    rng = random.Random(seed)
    scheduler = rule(min_samples_required=2)
    histories: dict[str, list[tuple[int, float]]] = {f"t{number}": [] for number in range(6)}
    live = sorted(histories)
    for _ in range(120):
        if not live:
            break
        trial = rng.choice(live)
        time, value = len(histories[trial]) + 1, rng.randrange(64) / 64
        histories[trial].append((time, value))
        verdict = scheduler.judge(trial, result(time, value))
        means = [
            statistics.fmean([v for t, v in history if 2 <= t <= time])
            for other, history in histories.items()
            if other != trial and history and history[-1][0] >= time and time >= 2
        ]
        best = max(v for _, v in histories[trial])
        expected = STOP if time >= 2 and len(means) >= 2 and best < statistics.median(means) else CONTINUE
        assert verdict == expected
        if verdict == STOP:
            live.remove(trial)
