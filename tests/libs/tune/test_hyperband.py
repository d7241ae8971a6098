"""HyperBand: published brackets, who waits, who goes on, and whole sweeps in virtual time."""

from __future__ import annotations

import pytest

from raybook import tune
from raybook.testing.fake_trial_executor import Step
from raybook.testing.virtual_sweep import VirtualSweep
from raybook.tune.core.orders import StopTrial
from raybook.tune.core.trial_events import COMPLETE, CONTINUE, PAUSE, STOP
from raybook.tune.schedulers import HyperBandForBOHB, HyperBandScheduler


def make(**arguments):
    scheduler = HyperBandScheduler(**arguments)
    assert scheduler.set_search_properties("acc", "max")
    return scheduler


def report(scheduler, trial_id, time, acc):
    return scheduler.judge(trial_id, {"training_iteration": time, "acc": acc})


def test_the_published_brackets_of_81_and_3():
    scheduler = make(max_t=81, reduction_factor=3)
    brackets = [(scheduler.bracket_size(s), scheduler.first_milestone(s)) for s in range(5)]
    assert brackets == [(5, 81), (8, 27), (15, 9), (34, 3), (81, 1)]


def test_trials_fill_one_bracket_after_the_other_and_then_the_next_round():
    scheduler = make(max_t=9, reduction_factor=3)
    for number in range(3 + 5 + 9 + 1):
        scheduler.add_trial(f"t{number}", {})
    assert [[bracket.added for bracket in brackets] for brackets in scheduler.rounds] == [[3, 5, 9], [1]]
    assert scheduler.state() == {"num_brackets": 4, "num_stopped": 0}


def test_the_largest_bracket_comes_first_for_bohb():
    scheduler = HyperBandForBOHB(max_t=9, reduction_factor=3)
    scheduler.add_trial("a", {})
    assert scheduler.rounds[0][0].milestone == 1 and scheduler.rounds[0][0].size == 9


def full_bracket(count=5):
    """Three trials in the bracket (3, 9), then five in (5, 3)."""
    scheduler = make(max_t=9, reduction_factor=3)
    for number in range(3 + count):
        scheduler.add_trial(f"t{number}", {})
    return scheduler, [f"t{number}" for number in range(3, 3 + count)]


def test_a_trial_waits_at_the_milestone_until_all_of_its_bracket_are_there():
    scheduler, trials = full_bracket()
    assert report(scheduler, trials[0], 1, 0.9) == CONTINUE
    assert [report(scheduler, trial, 3, number / 10) for number, trial in enumerate(trials[:4])] == [PAUSE] * 4
    assert scheduler.choose(trials[:4]) is None
    # The last one is the best: with ceil(5 / 3) = 2 that go on, it need not wait.
    assert report(scheduler, trials[4], 3, 0.8) == CONTINUE
    assert {order.trial_id for order in scheduler.take_orders()} == {"t3", "t4", "t5"}
    assert scheduler.take_orders() == []
    assert scheduler.choose(["t6"]) == "t6"
    assert report(scheduler, "t6", 9, 0.9) == COMPLETE


def test_the_last_one_to_come_is_stopped_if_it_is_among_the_worst():
    scheduler, trials = full_bracket()
    for trial in trials[:4]:
        report(scheduler, trial, 3, 0.5)
    assert report(scheduler, trials[4], 3, 0.1) == STOP
    assert scheduler.state()["num_stopped"] == 3


def test_a_bracket_that_is_not_full_waits_while_more_trials_may_come():
    scheduler, trials = full_bracket(count=2)
    assert [report(scheduler, trial, 3, 0.5) for trial in trials] == [PAUSE, PAUSE]
    scheduler.on_search_end()
    # Two of a bracket for five: both are among the best two.
    assert scheduler.choose(trials) == "t3" and scheduler.take_orders() == []


def test_a_stall_lets_a_bracket_go_on_that_is_not_full():
    scheduler, trials = full_bracket(count=2)
    for trial in trials:
        report(scheduler, trial, 3, 0.5)
    scheduler.on_stall()
    assert scheduler.choose(trials) == "t3"


def test_a_failed_trial_is_not_waited_for():
    scheduler, trials = full_bracket()
    for number, trial in enumerate(trials[:4]):
        report(scheduler, trial, 3, number / 10)
    scheduler.fail_trial(trials[4])
    assert scheduler.take_orders() == [
        StopTrial("t3", "HyperBand: among the worst of its bracket"),
        StopTrial("t4", "HyperBand: among the worst of its bracket"),
    ]


def test_survivors_run_past_max_t_when_asked():
    scheduler = make(max_t=9, reduction_factor=3, stop_last_trials=False)
    scheduler.add_trial("a", {})
    scheduler.on_search_end()
    assert [report(scheduler, "a", time, 0.5) for time in (9, 10, 20)] == [CONTINUE] * 3


@pytest.mark.parametrize("wrong", [{"max_t": 0}, {"reduction_factor": 1}, {"mode": "best"}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError):
        HyperBandScheduler(**wrong)


def script(launch):
    for epoch in range(launch.iteration + 1, 30):
        yield Step({"acc": launch.config["quality"] * (1 - 0.9**epoch)})


@pytest.mark.parametrize("cpus", [1, 4, 64])
@pytest.mark.parametrize("scheduler", [HyperBandScheduler, HyperBandForBOHB])
def test_a_sweep_ends_with_the_best_trial_complete_whatever_room_there_is(cpus, scheduler):
    space = {"quality": tune.grid_search([round(0.1 + 0.02 * number, 2) for number in range(30)])}
    sweep = VirtualSweep(
        script, space, cpus=cpus, saves=True, scheduler=scheduler(max_t=9, reduction_factor=3), metric="acc"
    ).run()
    assert set(sweep.states()) <= {"TERMINATED", "STOPPED"}
    complete = [trial for trial in sweep.table if trial.iteration == 9]
    assert complete and all(trial.state == "TERMINATED" for trial in complete)
    assert sum(trial.iteration for trial in sweep.table) < 30 * 9 * 0.8
    # Nobody runs a step twice: a paused trial goes on from its checkpoint.
    assert all(trial.reports == trial.iteration for trial in sweep.table)


def test_endless_samples_run_until_the_time_budget():
    sweep = VirtualSweep(
        lambda launch: (Step({"acc": epoch}) for epoch in range(launch.iteration, 9)),
        {"x": tune.uniform(0, 1)},
        num_samples=-1,
        saves=True,
        scheduler=HyperBandScheduler(max_t=9),
        time_budget_ms=60_000,
    ).run()
    assert len(sweep.table) > 10 and "time budget" in sweep.controller.halt_reason
