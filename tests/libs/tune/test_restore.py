"""A run that was cut off is taken up again: state on disk, resumed trials, a driver that was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raybook import tune
from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.tune.core.trial_table import Trial
from raybook.tune.saved_sweep import catch_up
from raybook.tune.schedulers import ASHAScheduler
from raybook.tune.search.optuna import OptunaSearch

DRIVER = """
import sys
from pathlib import Path
import raybook
from raybook import tune

def climb(config):
    checkpoint = tune.get_checkpoint()
    level = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            level = int(Path(folder, "level").read_text())
    import tempfile, time
    while level < 6:
        level += 1
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "level").write_text(str(level))
            tune.report({"acc": config["x"] * level}, checkpoint=tune.Checkpoint(folder))
        if config["waits"]:
            time.sleep(config["waits"])

if __name__ == "__main__":
    raybook.init(num_cpus=2)
    tune.Tuner(
        climb,
        param_space={"x": tune.grid_search([1, 2, 3]), "waits": 0.3},
        tune_config=tune.TuneConfig(metric="acc", mode="max"),
        run_config=tune.RunConfig(
            name="run", storage_path=sys.argv[1], verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
        ),
    ).fit()
"""


def climb(config):
    """The driver's own function, for the run that goes on."""
    scope: dict = {"__name__": "driver"}
    exec(DRIVER, scope)
    scope["climb"](config)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_sweep_goes_on_after_its_driver_was_killed(tmp_path, cluster, eventually):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    driver = subprocess.Popen([sys.executable, str(script), str(tmp_path)], start_new_session=True, env=environment)
    try:
        reports = lambda: sum(len(f.read_text().splitlines()) for f in tmp_path.glob("run/*/result.json"))  # noqa: E731
        while reports() < 5:
            assert driver.poll() is None, "the driver ended by itself"
            try:
                driver.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    assert tune.Tuner.can_restore(tmp_path / "run") and not tune.Tuner.can_restore(tmp_path)
    tuner = tune.Tuner.restore(str(tmp_path / "run"), climb)
    before = tuner.get_results()
    assert 1 <= len(before) <= 3
    grid = tuner.fit()
    assert [result.config["x"] for result in grid] == [1, 2, 3]
    assert [result.metrics["acc"] for result in grid] == [6, 12, 18] and grid.num_errors == 0
    assert [result.metrics["training_iteration"] for result in grid] == [6, 6, 6]
    # The first trial did not begin anew: it had at most its last report to repeat.
    rows = [json.loads(line) for line in Path(grid[0].path, "result.json").read_text().splitlines()]
    assert 6 <= len(rows) <= 7
    for result in grid:
        kept = sorted(Path(result.path).glob("checkpoint_*"))
        assert len(kept) == 2 and all((folder / "level").exists() for folder in kept)


def make_tuner(tmp_path, trainable, space, **config):
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(**{"metric": "acc", "mode": "max", **config}),
        run_config=tune.RunConfig(name="run", storage_path=tmp_path, verbose=0),
    )


def fails_at_first(config):
    checkpoint = tune.get_checkpoint()
    if config["x"] == 2 and not Path(config["flag"]).exists():
        tune.report({"acc": 1})
        raise ValueError("the first time")
    tune.report({"acc": config["x"], "resumed": checkpoint is not None})


@pytest.fixture
def failed_run(tmp_path, cluster):
    space = {"x": tune.grid_search([1, 2]), "flag": str(tmp_path / "flag")}
    grid = make_tuner(tmp_path, fails_at_first, space).fit()
    assert grid.num_errors == 1
    return tmp_path / "run"


def test_failed_trials_stay_failed_unless_asked_for(failed_run, tmp_path):
    (tmp_path / "flag").touch()
    again = tune.Tuner.restore(str(failed_run), fails_at_first).fit()
    assert again.num_errors == 1 and isinstance(again.errors[0], ValueError)
    restarted = tune.Tuner.restore(str(failed_run), fails_at_first, restart_errored=True).fit()
    assert restarted.num_errors == 0 and [result.metrics["acc"] for result in restarted] == [1, 2]


def test_a_checkpoint_that_is_gone_fails_its_trial_by_name_and_the_finished_one_is_kept(tmp_path, cluster):
    def trainable(config):
        checkpoint = tune.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory():
                pass
        saved = tmp_path / f"state-{config['x']}"
        saved.mkdir(exist_ok=True)
        tune.report({"acc": config["x"]}, checkpoint=tune.Checkpoint(saved))
        if config["x"] == 2:
            raise ValueError("the first time")

    first = make_tuner(tmp_path, trainable, {"x": tune.grid_search([1, 2])}).fit()
    shutil.rmtree(first[1].checkpoint.path)
    again = tune.Tuner.restore(str(tmp_path / "run"), trainable, resume_errored=True).fit()
    assert again[0].error is None and again[0].metrics["acc"] == 1
    assert isinstance(again[1].error, FileNotFoundError)
    assert (
        str(again[1].error)
        == f"Checkpoint {first[1].checkpoint.path!r} is gone: its folder was deleted or never written."
    )


def test_another_trainable_or_search_space_is_refused(failed_run, tmp_path):
    def other(config):
        pass

    with pytest.raises(ValueError, match="was made with 'fails_at_first', and 'other' was given"):
        tune.Tuner.restore(str(failed_run), other)
    with pytest.raises(ValueError, match=r"Missing: \['flag'\]; new: \['lr'\]"):
        tune.Tuner.restore(str(failed_run), fails_at_first, param_space={"x": tune.grid_search([1]), "lr": 1})
    with pytest.raises(RuntimeError, match="Could not find Tuner state"):
        tune.Tuner.restore(str(tmp_path), fails_at_first)


def test_results_on_disk_answer_like_those_in_memory(failed_run):
    analysis = tune.ExperimentAnalysis(str(failed_run))
    assert (analysis.default_metric, analysis.default_mode) == ("acc", "max")
    assert analysis.best_config["x"] == 1 and analysis.best_result["acc"] == 1 and len(analysis) == 2
    assert analysis.get_best_trial("acc", "min", scope="all").config["x"] in (1, 2)
    assert set(analysis.get_all_configs(prefix=True)[analysis.trials[0].trial_id]) == {"config/x", "config/flag"}
    assert list(analysis.results_df["acc"]) == [1, 1] and len(analysis.dataframe()) == 2
    assert analysis.best_dataframe["acc"].tolist() == [1]
    with pytest.raises(ValueError, match="No experiment snapshot"):
        tune.ExperimentAnalysis(str(failed_run.parent))


def test_an_interrupted_sweep_goes_on_with_searcher_and_scheduler_as_they_were(tmp_path, cluster):
    class InterruptOnce(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            if trial.trial_id.endswith("00002") and not (tmp_path / "done").exists():
                (tmp_path / "done").touch()
                os.kill(os.getpid(), signal.SIGINT)

    def trainable(config):
        for step in range(4):
            tune.report({"acc": config["x"] * (step + 1)})

    tuner = tune.Tuner(
        trainable,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            metric="acc", mode="max", num_samples=6,
            search_alg=OptunaSearch(seed=1), scheduler=ASHAScheduler(max_t=4, reduction_factor=2),
        ),
        run_config=tune.RunConfig(name="run", storage_path=tmp_path, verbose=0, callbacks=[InterruptOnce()]),
    )  # fmt: skip
    first = tuner.fit()
    assert 3 <= len(first) < 6
    grid = tune.Tuner.restore(str(tmp_path / "run"), trainable).fit()
    assert len(grid) == 6 and grid.num_errors == 0
    assert [result.config for result in grid][: len(first)] == [result.config for result in first]
    assert len({result.config["x"] for result in grid}) == 6


def test_a_checkpoint_that_was_deleted_as_one_too_many_keeps_its_number(tmp_path):
    """Its report is in the file, its folder is not there any more: what comes next is numbered behind all of them."""
    trial = Trial("t", 0, "t", {}, {}, CheckpointLedger(), folder=str(tmp_path))
    rows = [{"acc": n, "training_iteration": n + 1, "checkpoint_dir_name": f"checkpoint_{n:06d}"} for n in range(3)]
    (tmp_path / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "checkpoint_000002").mkdir()
    catch_up(trial)
    assert [entry.name for entry in trial.checkpoints.entries()] == ["checkpoint_000002"]
    assert trial.next_checkpoint == 3
