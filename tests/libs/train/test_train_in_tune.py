"""Train inside Tune: a Tuner over a trainer, and a trial's function that fits one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from raybook import train, tune
from raybook.tune.integration.ray_train import TuneReportCallback

pytestmark = [pytest.mark.usefixtures("four_cpus"), pytest.mark.slow, pytest.mark.timeout(120)]


def loop(config):
    """Report a score that grows by `rate`, with a checkpoint each time; go on from one."""
    start = 0
    checkpoint = train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            start = json.loads(Path(folder, "step").read_text())
    for step in range(start + 1, config["steps"] + 1):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "step").write_text(str(step))
            is_first = train.get_context().get_world_rank() == 0
            train.report(
                {"score": config["rate"] * step, "size": train.get_context().get_world_size()},
                checkpoint=train.Checkpoint.from_directory(folder) if is_first else None,
            )


def test_a_tuner_over_a_trainer_gives_each_trial_a_group_of_its_own(tmp_path):
    trainer = train.DataParallelTrainer(
        loop, train_loop_config={"steps": 3, "rate": 0}, scaling_config=train.ScalingConfig(num_workers=2)
    )
    results = tune.Tuner(
        trainer,
        param_space={"train_loop_config": {"rate": tune.grid_search([1, 5, 2])}},
        tune_config=tune.TuneConfig(metric="score", mode="max"),
        run_config=tune.RunConfig(name="sweep", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert results.errors == []
    best = results.get_best_result()
    assert best.config == {"train_loop_config": {"rate": 5}}
    assert (best.metrics["score"], best.metrics["size"], best.metrics["training_iteration"]) == (15, 2, 3)
    assert Path(best.checkpoint.path, "step").read_text() == "3"
    with pytest.raises(ValueError, match="train_loop_config"):
        trainer._for_trial({"rate": 1})


def test_a_trial_that_is_stopped_ends_its_workers(tmp_path):
    def trial(config):
        train.DataParallelTrainer(
            loop,
            train_loop_config={"steps": 100_000, **config},
            scaling_config=train.ScalingConfig(num_workers=2),
            run_config=train.RunConfig(
                name="inner", storage_path=tune.get_context().get_trial_dir(), callbacks=[TuneReportCallback()]
            ),
        ).fit()

    results = tune.Tuner(
        tune.with_resources(trial, {"cpu": 0}),
        param_space={"rate": tune.grid_search([1, 2])},
        tune_config=tune.TuneConfig(metric="score", mode="max"),
        run_config=tune.RunConfig(
            name="stopped", storage_path=str(tmp_path), verbose=0, stop={"training_iteration": 2}
        ),
    ).fit()
    assert results.errors == []
    assert all(Path(result.metrics["checkpoint_path"]).parent.name == "inner" for result in results)
    assert sorted((result.metrics["score"], result.metrics["training_iteration"]) for result in results) == [
        (2, 2),
        (4, 2),
    ]


def test_the_callback_belongs_into_a_trial():
    with pytest.raises(RuntimeError, match="must be used in a Tune session"):
        TuneReportCallback()
