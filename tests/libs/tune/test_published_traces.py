"""Traces of ASHA, median stopping, HyperBand and PBT that others have published, through the hooks that Ray's tests call."""

from __future__ import annotations

import math

import pytest

from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.testing.fake_trial_executor import Step
from raybook.testing.virtual_sweep import VirtualSweep as Sweep
from raybook.tune.core.mutation import explore
from raybook.tune.experiment import Trial
from raybook.tune.schedulers import ASHAScheduler, HyperBandScheduler, MedianStoppingRule, TrialScheduler

CONTINUE, PAUSE, STOP = TrialScheduler.CONTINUE, TrialScheduler.PAUSE, TrialScheduler.STOP


def result(time, reward):
    return {"time_total_s": time, "training_iteration": int(time), "reward": reward}


def new_trial(scheduler, name="t3"):
    trial = Trial(name, 0, name, {}, {"CPU": 1.0}, CheckpointLedger())
    scheduler.on_trial_add(None, trial)
    return trial


def two_trials(scheduler):
    """One whose rewards go 0, 100, … 900 and one that has 450 five times: the set-up of Ray's suites."""
    first, second = new_trial(scheduler, "t1"), new_trial(scheduler, "t2")
    for number in range(10):
        assert scheduler.on_trial_result(None, first, result(number, number * 100)) == CONTINUE
    for number in range(5):
        assert scheduler.on_trial_result(None, second, result(number, 450)) == CONTINUE
    return first, second


def asha(**options):
    return ASHAScheduler(**{"metric": "reward", "mode": "max", **options})


def median(**options):
    return MedianStoppingRule(
        **{"metric": "reward", "mode": "max", "grace_period": 0, "min_samples_required": 1, **options}
    )


def test_asha_ends_a_trial_that_comes_past_max_t():
    scheduler = asha(max_t=10)
    _, second = two_trials(scheduler)
    scheduler.on_trial_complete(None, new_trial(scheduler), result(10, 1000))
    assert scheduler.on_trial_result(None, second, result(101, 0)) == STOP


def test_asha_leaves_every_trial_its_grace_period():
    scheduler = asha(grace_period=2.5, reduction_factor=3)
    for trial in two_trials(scheduler):
        scheduler.on_trial_complete(None, trial, result(10, 1000))
    third = new_trial(scheduler)
    assert [scheduler.on_trial_result(None, third, result(time, 10)) for time in (1, 2, 3)] == [
        CONTINUE,
        CONTINUE,
        STOP,
    ]


def test_asha_with_more_brackets_than_there_are_rungs_ends_all_at_max_t():
    scheduler = asha(max_t=10, brackets=10)
    for number in range(10):
        assert scheduler.on_trial_result(None, new_trial(scheduler, f"t{number}"), result(10, -2)) == STOP


def test_asha_compares_with_the_percentile_of_a_rung():
    scheduler = asha(max_t=10, reduction_factor=2)
    for trial in two_trials(scheduler):
        scheduler.on_trial_complete(None, trial, result(10, 1000))
    third = new_trial(scheduler)
    assert [scheduler.on_trial_result(None, third, result(time, 280)) for time in (1, 2)] == [CONTINUE, STOP]


def test_asha_lets_trials_run_past_max_t_when_asked_and_judges_them_once_a_rung():
    scheduler = asha(max_t=4, reduction_factor=2, stop_last_trials=False)
    good, bad = new_trial(scheduler, "good"), new_trial(scheduler, "bad")
    for time in (1, 2, 4, 9):
        assert scheduler.on_trial_result(None, good, result(time, 10)) == CONTINUE
    assert scheduler.on_trial_result(None, good, result(20, 0)) == CONTINUE
    assert scheduler.on_trial_result(None, bad, result(5, 1)) == STOP


def test_asha_judges_a_trial_that_skipped_rungs_at_those_below_with_its_next_results():
    scheduler = asha(max_t=100, reduction_factor=2)
    for number, value in enumerate((10, 20)):
        assert scheduler.on_trial_result(None, new_trial(scheduler, f"t{number}"), result(1, value)) == CONTINUE
    late = new_trial(scheduler, "late")
    assert scheduler.on_trial_result(None, late, result(4, 1)) == CONTINUE  # The first at the rung of 4.
    assert scheduler.on_trial_result(None, late, result(5, 1)) == CONTINUE  # The first at the rung of 2.
    assert scheduler.on_trial_result(None, late, result(6, 1)) == STOP  # At the rung of 1: below 15.


def test_median_stopping_compares_with_running_means_of_those_that_came_as_far():
    scheduler = median()
    first, second = two_trials(scheduler)
    scheduler.on_trial_complete(None, first, result(10, 1000))
    assert scheduler.on_trial_result(None, second, result(5, 450)) == CONTINUE
    assert scheduler.on_trial_result(None, second, result(6, 0)) == CONTINUE
    assert scheduler.on_trial_result(None, second, result(10, 450)) == STOP


def test_median_stopping_counts_a_trial_only_up_to_where_it_came():
    scheduler = median()
    first, _ = two_trials(scheduler)
    third = new_trial(scheduler)
    assert scheduler.on_trial_result(None, third, result(100, 0)) == CONTINUE
    scheduler.on_trial_complete(None, first, result(101, 1000))
    assert scheduler.on_trial_result(None, third, result(101, 0)) == STOP


def test_median_stopping_leaves_every_trial_its_grace_period():
    scheduler = median(grace_period=2.5)
    for trial in two_trials(scheduler):
        scheduler.on_trial_complete(None, trial, result(10, 1000))
    third = new_trial(scheduler)
    assert [scheduler.on_trial_result(None, third, result(time, 10)) for time in (1, 2, 3)] == [
        CONTINUE,
        CONTINUE,
        STOP,
    ]


def test_median_stopping_waits_for_enough_samples():
    scheduler = median(min_samples_required=2)
    first, second = two_trials(scheduler)
    scheduler.on_trial_complete(None, first, result(10, 1000))
    third = new_trial(scheduler)
    assert scheduler.on_trial_result(None, third, result(5, 10)) == CONTINUE
    scheduler.on_trial_complete(None, second, result(5, 1000))
    assert scheduler.on_trial_result(None, third, result(5, 10)) == STOP


@pytest.mark.parametrize(("hard_stop", "verdict"), [(True, STOP), (False, PAUSE)])
def test_median_stopping_uses_the_median_and_pauses_once_where_it_is_soft(hard_stop, verdict):
    scheduler = median(hard_stop=hard_stop)
    for trial in two_trials(scheduler):
        scheduler.on_trial_complete(None, trial, result(10, 1000))
    third = new_trial(scheduler)
    assert scheduler.on_trial_result(None, third, result(1, 260)) == CONTINUE
    assert scheduler.on_trial_result(None, third, result(2, 260)) == verdict
    assert scheduler.on_trial_result(None, third, result(3, 260)) == CONTINUE


def test_median_stopping_yields_to_those_who_wait_while_it_cannot_judge():
    scheduler = median(min_samples_required=3, min_time_slice=2)
    first = new_trial(scheduler, "t1")
    assert scheduler.on_trial_result(None, first, result(1, 1)) == CONTINUE
    scheduler.on_trial_state("t2", "PENDING")
    assert scheduler.on_trial_result(None, first, result(2, 1)) == CONTINUE  # It has no checkpoint to go on from.
    scheduler.on_checkpoint("t1")
    assert [scheduler.on_trial_result(None, first, result(time, 1)) for time in (3, 4, 6)] == [PAUSE, CONTINUE, PAUSE]


def test_hyperband_gives_each_rung_of_the_papers_table_its_trials_and_its_budget():
    # Li et al. (2018), table 1, for R = 81 and eta = 3; brackets of the size that Ray gives them.
    table = {4: [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]}
    script = lambda launch: (Step({"acc": launch.config["x"], "n": n}, has_checkpoint=True) for n in range(1, 82))  # noqa: E731
    scheduler = HyperBandScheduler(max_t=81, reduction_factor=3)
    # The brackets come in the order s = 0, 1, …: 5 + 8 + 15 + 34 trials, and then the 81 of the table.
    sizes = [scheduler.bracket_size(s) for s in range(5)]
    assert sizes == [5, 8, 15, 34, 81]
    trials = [{"x": 1.0 - number / 1000} for number in range(sum(sizes))]
    from raybook.tune.search.basic_variant import BasicVariantGenerator

    searcher = BasicVariantGenerator(points_to_evaluate=trials, random_state=0)
    sweep = Sweep(script, {"x": 0.0}, num_samples=len(trials), cpus=300, searcher=searcher, scheduler=scheduler).run()
    reached = [trial.iteration for trial in sweep.table][-81:]
    for count, budget in table[4]:
        assert sum(iteration >= budget for iteration in reached) == count


@pytest.mark.parametrize(("draw", "expected"), [(0.9, 1.2), (0.1, 0.8)])
def test_pbt_scales_by_one_of_the_two_factors(draw, expected):
    class Fixed:
        def random(self):
            return draw

        def choice(self, options):
            return options[0] if draw > 0.5 else options[-1]

        def randrange(self, start, stop):
            return start

    config, _ = explore({"lr": 1.0}, {"lr": lambda: 7.0}, 0.0, (1.2, 0.8), None, Fixed())
    assert math.isclose(config["lr"], expected)
