"""Requests to a running sweep: stop, pause, resume and clone a trial, in virtual time and on a real cluster."""

from __future__ import annotations

import itertools
import threading

import pytest

from raybook import tune
from raybook.testing.fake_trial_executor import Step
from raybook.testing.virtual_sweep import VirtualSweep
from raybook.tune.steering import CLONE_TRIAL, PAUSE_TRIAL, RESUME_TRIAL, STOP_SWEEP, STOP_TRIAL, TrialRequest


def endless(launch):
    return (Step({"acc": step}) for step in itertools.count())


def ten(launch):
    return (Step({"acc": step}) for step in range(launch.iteration, 10))


def after(sweep, rounds):
    for _ in range(rounds):
        sweep.controller.step()
    return sweep.controller


def test_a_stopped_trial_ends_at_its_next_report_and_the_others_go_on():
    sweep = VirtualSweep(ten, {"x": tune.grid_search([0, 1])})
    after(sweep, 8).request(TrialRequest(STOP_TRIAL, "t_00000"))
    sweep.run()
    assert sweep.states() == ["STOPPED", "TERMINATED"] and sweep.table.get("t_00000").iteration < 9


def test_a_trial_that_does_not_report_is_ended_with_its_process():
    sweep = VirtualSweep(lambda launch: iter([Step({"acc": 1}, duration_ms=60_000)]))
    after(sweep, 3).request(TrialRequest(STOP_TRIAL, "t_00000"))
    sweep.run()
    assert sweep.states() == ["STOPPED"] and sweep.clock.ms < 10_000


def test_a_paused_trial_waits_for_its_resume_and_goes_on_where_it_was():
    sweep = VirtualSweep(ten, {"x": tune.grid_search([0, 1])}, saves=True)
    controller = after(sweep, 8)
    controller.request(TrialRequest(PAUSE_TRIAL, "t_00000"))
    while sweep.table.get("t_00001").state != "TERMINATED":
        controller.step()
    after(sweep, 20)
    paused = sweep.table.get("t_00000")
    assert paused.state == "PAUSED" and paused.iteration < 9
    controller.request(TrialRequest(RESUME_TRIAL, "t_00000"))
    sweep.run()
    assert sweep.states() == ["TERMINATED"] * 2 and paused.iteration == paused.reports == 10


def test_a_clone_runs_with_changed_values_and_the_searcher_does_not_hear_of_it():
    sweep = VirtualSweep(ten, {"x": tune.grid_search([1]), "net": {"width": 8}})
    after(sweep, 4).request(TrialRequest(CLONE_TRIAL, "t_00000", {"x": 7, "net/width": 16}))
    sweep.run()
    assert [trial.config for trial in sweep.table] == [{"x": 1, "net": {"width": 8}}, {"x": 7, "net": {"width": 16}}]
    assert sweep.states() == ["TERMINATED"] * 2


def test_a_stopped_sweep_keeps_what_was_reported():
    sweep = VirtualSweep(endless, num_samples=3)
    after(sweep, 9).request(TrialRequest(STOP_SWEEP))
    sweep.run()
    assert set(sweep.states()) == {"STOPPED"} and sweep.controller.halt_reason == "stopped on request"


def test_requests_for_unknown_or_ended_trials_change_nothing_and_wrong_ones_are_refused():
    sweep = VirtualSweep(ten, {"x": tune.grid_search([0, 1])}, cpus=1)
    controller = after(sweep, 2)
    while not sweep.table.get("t_00000").is_terminal:
        controller.step()
    for request in (TrialRequest(STOP_TRIAL, "nobody"), TrialRequest(PAUSE_TRIAL, "t_00000")):
        controller.request(request)
    sweep.run()
    assert sweep.states() == ["TERMINATED"] * 2
    with pytest.raises(ValueError, match="not to 'explode'"):
        controller.request(TrialRequest("explode", "t_00000"))


@pytest.mark.slow
def test_trials_of_a_running_sweep_are_stopped_and_cloned_from_another_thread(tmp_path, cluster):
    asked = threading.Event()

    class Steer(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            if not asked.is_set():
                asked.set()
                helper = threading.Thread(target=steer, args=(trial.trial_id,))
                helper.start()
                helper.join()

    def steer(trial_id):
        assert tune.clone_trial(trial_id, {"steps": 2}) and tune.stop_trial(trial_id)
        assert not tune.stop_trial("nobody")

    def trainable(config):
        step = 0
        while step != config["steps"]:
            step += 1
            tune.report({"acc": step})

    grid = tune.Tuner(
        trainable,
        param_space={"steps": tune.grid_search([-1])},
        tune_config=tune.TuneConfig(metric="acc", mode="max"),
        run_config=tune.RunConfig(name="run", storage_path=tmp_path, verbose=0, callbacks=[Steer()]),
    ).fit()
    assert [result.config["steps"] for result in grid] == [-1, 2] and grid[1].metrics["acc"] == 2
    assert not tune.stop_trial("nobody")
