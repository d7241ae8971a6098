"""Schedulers and searchers written to Ray's interface run as they are: in virtual time, with a real controller."""

from __future__ import annotations

import pytest

from raybook import tune
from raybook.testing.fake_trial_executor import Step
from raybook.testing.virtual_sweep import VirtualSweep as Sweep
from raybook.tune.error import TuneError
from raybook.tune.experiment import Trial
from raybook.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    TrialScheduler,
)


def curve(values, **step):
    return lambda launch: (Step({"acc": value}, **step) for value in values[launch.iteration :])


class Logbook(TrialScheduler):
    """A scheduler that implements every hook of Ray's and calls none of the base class's."""

    def __init__(self):
        self.heard = []
        self._metric = None

    def set_search_properties(self, metric, mode, **spec):
        self._metric = metric
        return True

    def on_trial_add(self, tune_controller, trial):
        self.heard.append(("add", trial.trial_id))

    def on_trial_error(self, tune_controller, trial):
        self.heard.append(("error", trial.trial_id))

    def on_trial_result(self, tune_controller, trial, result):
        assert tune_controller.get_trial(trial.trial_id) is trial and result["acc"] == trial.last_result["acc"]
        self.heard.append(("result", trial.trial_id))
        return TrialScheduler.STOP if result["acc"] < 0.2 else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller, trial, result):
        self.heard.append(("complete", trial.trial_id))

    def on_trial_remove(self, tune_controller, trial):
        self.heard.append(("remove", trial.trial_id))

    def choose_trial_to_run(self, tune_controller):
        waiting = [trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING]
        return max(waiting, key=lambda trial: trial.config["x"], default=None)

    def debug_string(self):
        return "Logbook"


def test_a_scheduler_of_rays_interface_hears_everything_and_decides():
    def script(launch):
        if launch.config["x"] == 2:
            yield Step(error=ValueError("x"))
        for epoch in range(3):
            yield Step({"acc": 0.1 if launch.config["x"] == 1 else 0.5 + epoch})

    scheduler = Logbook()
    sweep = Sweep(script, {"x": tune.grid_search([0, 1, 2])}, cpus=3, scheduler=scheduler).run()
    assert sweep.states() == ["TERMINATED", "STOPPED", "ERROR"]
    assert [trial for hook, trial in scheduler.heard if hook == "add"] == ["t_00000", "t_00001", "t_00002"]
    assert ("error", "t_00002") in scheduler.heard and ("complete", "t_00001") in scheduler.heard
    assert scheduler.heard.count(("result", "t_00000")) == 3


def test_a_chosen_trial_may_be_picked_from_get_trials_by_its_status_while_others_start():
    # Ray's own FIFO, word for word: it must not be stuck on the trial that is being started.
    class First(FIFOScheduler):
        def choose_trial_to_run(self, tune_controller):
            for trial in tune_controller.get_trials():
                if trial.status == Trial.PENDING:
                    return trial
            for trial in tune_controller.get_trials():
                if trial.status == Trial.PAUSED:
                    return trial
            return None

    sweep = Sweep(curve([0.1, 0.2]), num_samples=6, cpus=3, scheduler=First()).run()
    assert sweep.states() == ["TERMINATED"] * 6 and sweep.executor.live_max == 3


def test_a_subclass_of_asha_decides_first_and_asks_its_base_otherwise():
    class Strict(ASHAScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            if trial.config["x"] == 9:
                return TrialScheduler.STOP
            return super().on_trial_result(tune_controller, trial, result)

    def script(launch):
        for epoch in range(1, 9):
            yield Step({"acc": launch.config["x"] * epoch})

    scheduler = Strict(max_t=8, reduction_factor=2)
    sweep = Sweep(script, {"x": tune.grid_search([5, 9, 1])}, cpus=3, scheduler=scheduler).run()
    assert {trial.config["x"]: trial.iteration for trial in sweep.table} == {5: 8, 9: 1, 1: 1}


def test_a_scheduler_pauses_and_trials_take_turns():
    class Turns(FIFOScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            return TrialScheduler.PAUSE

        def choose_trial_to_run(self, tune_controller):
            waiting = [t for t in tune_controller.get_trials() if t.status in (Trial.PENDING, Trial.PAUSED)]
            return min(waiting, key=lambda trial: trial.iteration, default=None)

    sweep = Sweep(curve([0.1, 0.2, 0.3], has_checkpoint=True), num_samples=2, cpus=1, scheduler=Turns()).run()
    assert sweep.states() == ["TERMINATED"] * 2
    # A paused trial is only chosen once everything was offered: both are made first, then they alternate.
    assert [launch.trial_id[-1] for launch in sweep.executor.launches][:4] == ["0", "1", "0", "1"]
    assert all(trial.has_checkpoint() and trial.checkpoint.path.endswith("checkpoint_000002") for trial in sweep.table)


def test_a_scheduler_stops_and_pauses_other_trials_through_the_controller():
    class King(FIFOScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            for other in tune_controller.get_live_trials():
                if other.config["x"] < trial.config["x"]:
                    tune_controller.stop_trial(other)
            return TrialScheduler.NOOP

    sweep = Sweep(curve([0.1] * 9), {"x": tune.grid_search([3, 1, 2])}, cpus=2, scheduler=King()).run()
    assert {trial.config["x"]: trial.state for trial in sweep.table} == {3: "TERMINATED", 1: "STOPPED", 2: "STOPPED"}


def test_noop_after_a_stop_of_the_very_trial_ends_it():
    class Itself(FIFOScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            tune_controller.stop_trial(trial)
            return TrialScheduler.NOOP

    sweep = Sweep(curve([0.1] * 9), scheduler=Itself()).run()
    assert sweep.states() == ["STOPPED"] and next(iter(sweep.table)).iteration == 1


def test_a_waiting_trial_that_is_stopped_is_removed():
    class Purge(Logbook):
        def on_trial_result(self, tune_controller, trial, result):
            for other in tune_controller.get_trials():
                if other.status == Trial.PAUSED:
                    tune_controller.stop_trial(other)
            return TrialScheduler.PAUSE if trial.trial_id == "t_00000" else TrialScheduler.CONTINUE

    scheduler = Purge()
    sweep = Sweep(curve([0.5, 0.6], has_checkpoint=True), {"x": tune.grid_search([1, 0])}, cpus=1, scheduler=scheduler)
    assert sweep.run().states() == ["STOPPED", "TERMINATED"]
    assert ("remove", "t_00000") in scheduler.heard and ("complete", "t_00000") not in scheduler.heard


def test_a_configuration_set_when_the_trial_is_added_is_what_it_runs_with():
    class Halved(FIFOScheduler):
        def on_trial_add(self, tune_controller, trial):
            trial.set_config({**trial.config, "x": trial.config["x"] / 2})

    seen = []

    def script(launch):
        seen.append(launch.config["x"])
        yield Step({"acc": 0.1})

    resources = lambda config: {"cpu": config["x"]}  # noqa: E731
    sweep = Sweep(script, {"x": tune.grid_search([2])}, scheduler=Halved(), resources=resources).run()
    assert seen == [1.0]
    [trial] = sweep.table
    assert trial.resources == {"CPU": 1.0} and trial.evaluated_params == {"x": 1.0}


def test_an_ended_trial_cannot_be_chosen():
    class Necromancer(FIFOScheduler):
        def choose_trial_to_run(self, tune_controller):
            ended = [trial for trial in tune_controller.get_trials() if trial.is_finished()]
            return ended[0] if ended else super().choose_trial_to_run(tune_controller)

    with pytest.raises(
        TuneError, match=r"Necromancer.choose_trial_to_run\(\) returned .*, which is no trial that waits"
    ):
        Sweep(curve([0.1]), num_samples=2, cpus=1, scheduler=Necromancer()).run()


def test_what_the_controller_does_not_show_is_named():
    class Curious(FIFOScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            return tune_controller.executor

    with pytest.raises(AttributeError, match="shows schedulers no 'executor'; it has get_trials"):
        Sweep(curve([0.1]), scheduler=Curious()).run()


def test_a_scheduler_of_rays_interface_may_be_wrapped_for_resources():
    inner = Logbook()
    Sweep(curve([0.5]), {"x": tune.grid_search([0, 1])}, scheduler=ResourceChangingScheduler(inner, None)).run()
    assert {hook for hook, _ in inner.heard} == {"add", "result", "complete"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ASHAScheduler(max_t=9, reduction_factor=3),
        lambda: HyperBandScheduler(max_t=9, reduction_factor=3),
        lambda: PopulationBasedTraining(hyperparam_mutations={"x": [1, 2]}, perturbation_interval=2),
        FIFOScheduler,
    ],
)
def test_every_scheduler_answers_rays_hooks_without_a_controller(make):
    from raybook.ml.core.checkpoint_ledger import CheckpointLedger

    class Listed:
        def __init__(self, trials):
            self.trials = trials

        def get_trials(self):
            return self.trials

    scheduler = make()
    scheduler.set_search_properties("acc", "max")
    trials = [Trial(f"t{n}", n, f"t{n}", {"x": 1}, {"CPU": 1.0}, CheckpointLedger()) for n in range(3)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    assert scheduler.choose_trial_to_run(Listed(trials)) in trials
    result = {"training_iteration": 1, "time_total_s": 1, "acc": 0.5}
    assert scheduler.on_trial_result(None, trials[0], result) == TrialScheduler.CONTINUE
    scheduler.on_trial_complete(None, trials[0], result)
    scheduler.on_trial_error(None, trials[1])
    scheduler.on_trial_remove(None, trials[2])
    assert isinstance(scheduler.debug_string(), str)


def test_resources_change_only_while_a_trial_does_not_run():
    class Grower(FIFOScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            with pytest.raises(ValueError, match="while it is running"):
                trial.update_resources({"cpu": 2})
            return TrialScheduler.PAUSE if result["training_iteration"] == 1 else TrialScheduler.CONTINUE

        def choose_trial_to_run(self, tune_controller):
            chosen = super().choose_trial_to_run(tune_controller)
            if chosen is not None and chosen.status == Trial.PAUSED:
                chosen.update_resources({"cpu": 2})
            return chosen

    sweep = Sweep(curve([0.1, 0.2], has_checkpoint=True), scheduler=Grower()).run()
    assert [launch.resources for launch in sweep.executor.launches] == [{"CPU": 1.0}, {"CPU": 2.0}]
