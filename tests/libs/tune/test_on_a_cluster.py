"""What trials may be and ask for, on a real cluster of two CPUs: classes that are kept, bundles, files, population."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import raybook as ray
from raybook import tune
from raybook.tune.logger import JsonLoggerCallback, TBXLoggerCallback
from raybook.tune.schedulers import PopulationBasedTraining, ResourceChangingScheduler

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def fit(tmp_path):
    def run(trainable, space=None, *, run=None, **config):
        return tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(**{"metric": "acc", "mode": "max", **config}),
            run_config=tune.RunConfig(name="sweep", storage_path=str(tmp_path), verbose=0, **(run or {})),
        ).fit()

    return run


class Walker(tune.Trainable):
    """Walks by its rate; tells its process and how often it was set up."""

    def setup(self, config):
        self.rate, self.level, self.setups = config["rate"], 0.0, 1

    def step(self):
        self.level += self.rate
        return {"acc": self.level, "setups": self.setups, "rate": self.rate}

    def save_checkpoint(self, checkpoint_dir):
        return {"level": self.level}

    def load_checkpoint(self, checkpoint):
        self.level = checkpoint["level"]

    def reset_config(self, new_config):
        self.rate, self.level, self.setups = new_config["rate"], 0.0, self.setups + 1
        return True

    def cleanup(self):
        Path(self.logdir, "cleaned").touch()


def test_a_class_is_kept_for_the_next_trial_and_cleans_up_at_the_end(fit):
    whole = tune.with_resources(Walker, {"cpu": 2})
    grid = fit(whole, {"rate": tune.grid_search([1, 2, 3])}, run={"stop": {"training_iteration": 2}}, reuse_actors=True)
    assert [result.metrics["acc"] for result in grid] == [2, 4, 6]
    assert [result.metrics["setups"] for result in grid] == [1, 2, 3]
    assert len({result.metrics["pid"] for result in grid}) == 1
    assert [Path(result.path, "cleaned").exists() for result in grid] == [False, False, True]


def test_a_population_moves_to_what_works_and_keeps_its_log(fit, tmp_path):
    pbt = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        hyperparam_mutations={"rate": tune.uniform(0, 1)},
        synch=True,
    )
    grid = fit(Walker, {"rate": tune.grid_search([0.01, 0.9])}, scheduler=pbt, reuse_actors=True,
               run={"stop": {"training_iteration": 12}})  # fmt: skip
    assert grid.num_errors == 0 and all(result.metrics["training_iteration"] == 12 for result in grid)
    # Left alone, the first trial would have come to 0.12.
    assert grid[0].metrics["acc"] > 1 and (tmp_path / "sweep" / "pbt_global.txt").exists()


def test_a_trial_that_starts_workers_holds_bundles_for_them(fit):
    @ray.remote(num_cpus=1)
    def helper():
        return ray.get_runtime_context().get_placement_group_id()

    def trainable(config):
        own = ray.get_runtime_context().get_placement_group_id()
        asked = tune.get_context().get_trial_resources()
        tune.report({"acc": 1, "same": own == ray.get(helper.remote()) and own is not None, "cpus": asked.head_cpus,
                     "sum": asked.required_resources})  # fmt: skip

    bundles = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}])
    (result,) = fit(tune.with_resources(trainable, bundles))
    assert result.error is None and result.metrics["same"] and result.metrics["cpus"] == 1
    assert result.metrics["sum"] == {"CPU": 2}


def test_a_trial_gets_what_an_allocation_function_gives_it(fit):
    def double(sweep, trial, result, scheduler):
        return tune.PlacementGroupFactory([{"CPU": 2}]) if result["training_iteration"] >= 2 else None

    grid = fit(Walker, {"rate": 1}, scheduler=ResourceChangingScheduler(None, double),
               run={"stop": {"training_iteration": 4}})  # fmt: skip
    assert grid[0].error is None and grid[0].metrics["acc"] == 4
    with pytest.raises(ValueError, match="reuse_actors=False"):
        fit(Walker, {"rate": 1}, scheduler=ResourceChangingScheduler(None, double), reuse_actors=True)


def test_trials_work_in_their_folders_and_keep_what_they_print(fit):
    def trainable(config):
        print("a line of the trial")
        Path("own file").write_text("x")
        tune.report({"acc": 1, "cwd": os.getcwd()})

    (result,) = fit(trainable, run={"log_to_file": True, "callbacks": [TBXLoggerCallback(), JsonLoggerCallback()]})
    folder = Path(result.path)
    assert result.metrics["cwd"] == result.path and (folder / "own file").exists()
    assert "a line of the trial" in (folder / "stdout").read_text()
    assert list(folder.glob("events.out.tfevents*"))


def test_a_generator_reports_what_it_yields_and_a_name_stands_for_it(tmp_path):
    def counting(config):
        for number in range(3):
            yield {"acc": number}

    tune.register_trainable("counting", counting)
    analysis = tune.run("counting", metric="acc", mode="max", storage_path=str(tmp_path), verbose=0, name="by name")
    assert analysis.best_result["acc"] == 2 and analysis.best_result["training_iteration"] == 3
    with pytest.raises(tune.TuneError, match="Registered are: .*counting"):
        tune.run("unknown")
    trials = tune.run_experiments({"one": {"run": "counting", "storage_path": str(tmp_path)}}, verbose=0)
    assert [trial.status for trial in trials] == ["TERMINATED"]


def test_a_failed_trial_of_tune_run_is_an_error_unless_it_may_fail(tmp_path):
    def fails(config):
        raise KeyError("always")

    options = {"storage_path": str(tmp_path), "verbose": 0, "metric": "acc", "mode": "max"}
    with pytest.raises(tune.TuneError, match="Trials did not complete"):
        tune.run(fails, **options)
    analysis = tune.run(fails, raise_on_failed_trial=False, **options)
    assert analysis.trials[0].status == "ERROR" and analysis.get_best_trial() is None


def test_options_that_a_function_cannot_follow_are_refused_at_once(fit):
    keep = tune.CheckpointConfig(checkpoint_frequency=2)
    with pytest.raises(ValueError, match="checkpoint_frequency.*cannot be used with a function"):
        fit(lambda config: None, run={"checkpoint_config": keep})
