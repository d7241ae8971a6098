"""Whole sweeps on a real cluster: processes, files, facts. Small, so that they take a second or two each."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from raybook import train, tune
from raybook.exceptions import RayError
from raybook.tune.schedulers import ASHAScheduler
from raybook.tune.search.optuna import OptunaSearch

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def fit(tmp_path):
    """Run a sweep with its files in a folder of the test's own."""

    def run(trainable, space=None, *, run=None, **config):
        config = {"metric": "acc", "mode": "max", **config}
        return tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(**config),
            run_config=tune.RunConfig(name="sweep", storage_path=tmp_path, verbose=0, **(run or {})),
        ).fit()

    return run


def test_a_grid_runs_in_processes_of_its_own_and_leaves_its_files(fit, tmp_path):
    def trainable(config):
        for step in range(3):
            tune.report({"acc": config["x"] * (step + 1)})

    grid = fit(trainable, {"x": tune.grid_search([1, 2, 3])})
    assert [result.config["x"] for result in grid] == [1, 2, 3]
    assert [result.metrics["acc"] for result in grid] == [3, 6, 9]
    assert all(result.metrics["done"] and result.metrics["training_iteration"] == 3 for result in grid)
    pids = {result.metrics["pid"] for result in grid}
    assert len(pids) == 3 and os.getpid() not in pids
    best = grid.get_best_result()
    assert best.config == {"x": 3} and list(best.metrics_dataframe["acc"]) == [3, 6, 9]
    assert Path(best.path).parent == tmp_path / "sweep" and json.loads(Path(best.path, "params.json").read_text()) == {
        "x": 3
    }
    [state_file] = (tmp_path / "sweep").glob("experiment_state-*.json")
    state = json.loads(state_file.read_text())
    assert [trial["state"] for trial in state["trials"]] == ["TERMINATED"] * 3


def test_asha_stops_bad_trials_and_keeps_the_good_one(fit):
    def trainable(config):
        for epoch in range(1, 10):
            tune.report({"acc": config["quality"] * epoch})

    space = {"quality": tune.grid_search([1.0, 0.9, 0.2, 0.1, 0.3, 0.05])}
    grid = fit(trainable, space, scheduler=ASHAScheduler(max_t=9, grace_period=1, reduction_factor=3))
    iterations = {result.config["quality"]: result.metrics["training_iteration"] for result in grid}
    assert iterations[1.0] == 9 and grid.get_best_result().config["quality"] == 1.0
    assert max(iterations[quality] for quality in (0.2, 0.1, 0.3, 0.05)) == 1


def test_a_failing_trial_keeps_its_traceback_and_the_others_go_on(fit):
    def trainable(config):
        tune.report({"acc": config["x"]})
        tune.report({"acc": 10 / config["x"]})

    grid = fit(trainable, {"x": tune.grid_search([1, 0, 2])})
    assert [type(result.error) for result in grid] == [type(None), ZeroDivisionError, type(None)]
    assert grid.num_errors == 1 and grid[1].metrics["acc"] == 0
    assert "10 / config" in str(grid.errors[0].__cause__)
    assert "ZeroDivisionError" in Path(grid[1].path, "error.txt").read_text()


def test_a_process_that_dies_goes_on_from_the_last_checkpoint(fit):
    def trainable(config):
        epoch, checkpoint = 0, tune.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                epoch = int(Path(folder, "epoch").read_text())
        while epoch < 4:
            epoch += 1
            with TemporaryDirectory() as folder:
                Path(folder, "epoch").write_text(str(epoch))
                train.report({"acc": epoch, "fresh": checkpoint is None}, train.Checkpoint.from_directory(folder))
            if epoch == 2 and checkpoint is None:
                os._exit(1)

    run = {
        "failure_config": tune.FailureConfig(max_failures=1),
        "checkpoint_config": tune.CheckpointConfig(num_to_keep=2),
    }
    [result] = fit(trainable, run=run)
    assert result.error is None and result.metrics["acc"] == 4 and result.metrics["fresh"] is False
    assert result.metrics["training_iteration"] == 4
    assert list(result.metrics_dataframe["acc"]) == [1, 2, 3, 4]
    assert Path(result.checkpoint.path, "epoch").read_text() == "4"
    left = sorted(name for name in os.listdir(result.path) if "checkpoint" in name)
    assert left == ["checkpoint_000002", "checkpoint_000003"]


def test_a_process_that_dies_without_retries_is_an_error_of_its_trial(fit):
    def trainable(config):
        if config["x"] == 0:
            os._exit(1)
        tune.report({"acc": 1})

    grid = fit(trainable, {"x": tune.grid_search([0, 1])})
    assert isinstance(grid[0].error, RayError) and grid[1].metrics["acc"] == 1


def test_a_class_trainable_with_parameters_and_checkpoints(fit):
    class Countdown(tune.Trainable):
        def setup(self, config, step_size=1):
            self.value, self.step_size = config["start"], step_size

        def step(self):
            self.value -= self.step_size
            return {"acc": self.value, "done": self.value <= 0}

        def save_checkpoint(self, checkpoint_dir):
            return {"value": self.value}

        def load_checkpoint(self, checkpoint):
            self.value = checkpoint["value"]

    run = {"checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=True)}
    grid = fit(tune.with_parameters(Countdown, step_size=2), {"start": tune.grid_search([6, 7])}, run=run)
    assert [result.metrics["acc"] for result in grid] == [0, -1]
    assert [result.metrics["training_iteration"] for result in grid] == [3, 4]
    assert [Path(result.checkpoint.path).name for result in grid] == ["checkpoint_000001", "checkpoint_000001"]


def test_big_values_reach_every_trial_through_the_object_store(fit):
    import numpy

    def trainable(config, data):
        tune.report({"acc": float(data.sum()), "read_only": not data.flags.writeable})

    grid = fit(tune.with_parameters(trainable, data=numpy.ones(200_000)), num_samples=2)
    assert [result.metrics["acc"] for result in grid] == [200_000.0] * 2
    assert all(result.metrics["read_only"] for result in grid)


def test_fractions_of_a_cpu_let_more_trials_run_at_once(fit, tmp_path):
    def trainable(config):
        # Each waits until all four are there: that needs four at once.
        (tmp_path / f"here-{config['x']}").write_text("")
        while len(list(tmp_path.glob("here-*"))) < 4:
            tune.report({"acc": 0})
        tune.report({"acc": 1})

    grid = fit(tune.with_resources(trainable, {"cpu": 0.5}), {"x": tune.grid_search([0, 1, 2, 3])})
    assert [result.metrics["acc"] for result in grid] == [1] * 4


def test_more_than_the_cluster_has_is_an_error_that_names_both(fit):
    with pytest.raises(tune.TuneError, match=r"asks for 5 CPU \(the cluster has 2\)"):
        fit(tune.with_resources(lambda config: None, {"cpu": 5}))


def test_actors_are_reused_where_that_is_asked_for(fit):
    grid = fit(lambda config: {"acc": 1}, num_samples=6, reuse_actors=True)
    assert len({result.metrics["pid"] for result in grid}) <= 2 and len(grid) == 6


def test_an_unknown_metric_is_named_and_finished_trials_are_kept(tmp_path):
    def trainable(config):
        tune.report({"acc": 1} if config["x"] == 0 else {"accuracy": 1})

    tuner = tune.Tuner(
        trainable,
        param_space={"x": tune.grid_search([0, 1])},
        tune_config=tune.TuneConfig(metric="acc", mode="max", max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=tmp_path, verbose=0),
    )
    with pytest.raises(tune.TuneError, match="It reported: accuracy"):
        tuner.fit()
    assert tuner.get_results()[0].metrics["acc"] == 1


def test_an_interrupt_ends_the_sweep_and_returns_what_there_is(fit):
    class InterruptAfterThree(tune.Callback):
        reports = 0

        def on_trial_result(self, iteration, trials, trial, result, **info):
            self.reports += 1
            if self.reports == 3:
                signal.raise_signal(signal.SIGINT)

    def trainable(config):
        while True:
            tune.report({"acc": 1})

    before = signal.getsignal(signal.SIGINT)
    grid = fit(trainable, num_samples=2, run={"callbacks": [InterruptAfterThree()]})
    assert 1 <= len(grid) <= 2 and grid.num_errors == 0
    # The three reports may all be one trial's.
    assert 1 in [result.metrics.get("acc") for result in grid]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_time_budget_ends_trials_that_never_end(fit):
    def trainable(config):
        tune.report({"acc": 1})
        while True:
            pass

    grid = fit(trainable, num_samples=2, time_budget_s=1.0)
    assert len(grid) >= 1 and grid.num_errors == 0


def test_tune_run_is_the_same_sweep_in_one_call(tmp_path):
    analysis = tune.run(
        lambda config: {"score": config["x"] ** 2},
        config={"x": tune.grid_search([-1, 3])},
        metric="score",
        mode="max",
        storage_path=str(tmp_path),
        verbose=0,
    )
    assert analysis.best_config == {"x": 3} and analysis.best_result["score"] == 9 and len(analysis) == 2


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_optuna_and_asha_find_a_good_network_for_the_digits(fit):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    split = train_test_split((images / 16).astype("float32"), labels, test_size=0.25, random_state=0, stratify=labels)

    def trainable(config, data):
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        x, x_val, y, y_val = (torch.tensor(part) for part in data)
        network = torch.nn.Sequential(
            torch.nn.Linear(64, config["hidden"]), torch.nn.ReLU(), torch.nn.Linear(config["hidden"], 10)
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=config["lr"])
        for _ in range(12):
            for batch in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                tune.report({"acc": (network(x_val).argmax(1) == y_val).float().mean()})

    grid = fit(
        tune.with_parameters(trainable, data=split),
        {"lr": tune.loguniform(1e-4, 1e-1), "hidden": tune.choice([32, 64])},
        num_samples=8,
        search_alg=OptunaSearch(seed=0),
        scheduler=ASHAScheduler(max_t=12, grace_period=2, reduction_factor=2),
        reuse_actors=True,
    )
    assert grid.num_errors == 0 and len(grid) == 8
    assert grid.get_best_result().metrics["acc"] > 0.95
    assert sum(result.metrics["training_iteration"] for result in grid) < 8 * 12
