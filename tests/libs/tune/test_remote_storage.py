"""Sweeps whose folder lies on other storage than this machine's files. The storage here is a pyarrow filesystem over a
temporary folder: not `LocalFileSystem`, so nothing may take its paths for local ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest

from raybook import tune
from raybook.tune.run_place import RunPlace

fs = pytest.importorskip("pyarrow.fs")
pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def bucket(tmp_path):
    """A filesystem, and where its content really is."""
    return fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), tmp_path


def climb(config):
    level, checkpoint = 0, tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            level = int(Path(folder, "level").read_text())
    if checkpoint is None and config.get("fails_at") == 0:
        raise ValueError("at once")
    while level < 3:
        level += 1
        with TemporaryDirectory() as folder:
            Path(folder, "level").write_text(str(level))
            tune.report({"acc": config["x"] * level}, checkpoint=tune.Checkpoint(folder))
        if checkpoint is None and config.get("fails_at") == level:
            raise ValueError("as asked")


def tuner(filesystem, space, **run):
    return tune.Tuner(
        climb,
        param_space=space,
        tune_config=tune.TuneConfig(metric="acc", mode="max"),
        run_config=tune.RunConfig(name="sweep", storage_path="runs", storage_filesystem=filesystem, verbose=0, **run),
    )


def test_a_sweep_on_other_storage_leaves_everything_there_and_nothing_here(bucket):
    filesystem, root = bucket
    left_before = set(Path(gettempdir()).glob("raybook_sweep_*"))
    run = {"checkpoint_config": tune.CheckpointConfig(num_to_keep=1)}
    grid = tuner(filesystem, {"x": tune.grid_search([1, 2])}, **run).fit()
    assert [result.metrics["acc"] for result in grid] == [3, 6] and not grid.errors
    assert grid.experiment_path == "runs/sweep" and grid.filesystem.equals(filesystem)
    best = grid.get_best_result()
    assert best.path.startswith("runs/sweep/climb_") and best.filesystem.equals(filesystem)
    assert list(best.metrics_dataframe["acc"]) == [2, 4, 6]
    with best.checkpoint.as_directory() as folder:
        assert Path(folder, "level").read_text() == "3"
    there = root / best.path
    assert [path.name for path in there.glob("*checkpoint*")] == ["checkpoint_000002"]
    assert json.loads((there / "params.json").read_text()) == {"x": 2}
    assert set(Path(gettempdir()).glob("raybook_sweep_*")) == left_before


def test_a_sweep_on_other_storage_is_restored_and_its_failed_trial_goes_on(bucket):
    filesystem, _ = bucket
    first = tuner(filesystem, {"x": tune.grid_search([1, 2]), "fails_at": tune.sample_from(lambda s: s.config.x)}).fit()
    assert first.num_errors == 2
    assert tune.Tuner.can_restore("runs/sweep", storage_filesystem=filesystem)
    assert not tune.Tuner.can_restore("runs/other", storage_filesystem=filesystem)
    again = tune.Tuner.restore("runs/sweep", climb, resume_errored=True, storage_filesystem=filesystem)
    assert again.get_results().num_errors == 2
    grid = again.fit()
    assert [result.metrics["acc"] for result in grid] == [3, 6] and not grid.errors
    # They went on from their checkpoints: three reports each, none twice.
    assert [list(result.metrics_dataframe["acc"]) for result in grid] == [[1, 2, 3], [2, 4, 6]]


def test_results_are_read_from_other_storage_by_a_process_that_did_not_run_the_sweep(bucket):
    filesystem, _ = bucket
    ended = tuner(filesystem, {"x": tune.grid_search([1, 2]), "fails_at": 2}).fit()
    analysis = tune.ExperimentAnalysis(
        "runs/sweep", storage_filesystem=filesystem, default_metric="acc", default_mode="max"
    )
    assert analysis.best_config == {"x": 2, "fails_at": 2} and analysis.best_checkpoint.path.endswith(
        "checkpoint_000001"
    )
    assert len(analysis.trial_dataframes[analysis.best_trial.trial_id]) == 2
    result = tune.Result.from_path(ended[0].path, storage_filesystem=filesystem)
    assert result.metrics["acc"] == 2 and result.config == {"x": 1, "fails_at": 2}
    assert isinstance(result.error, ValueError) and "as asked" in str(result.error)
    assert [Path(checkpoint.path).name for checkpoint, _ in result.best_checkpoints] == [
        "checkpoint_000000", "checkpoint_000001",
    ]  # fmt: skip
    assert result.get_best_checkpoint("acc", "min").path.endswith("checkpoint_000000")
    with pytest.raises(RuntimeError, match=r"there is no file 'result.json'"):
        tune.Result.from_path("runs/nowhere", storage_filesystem=filesystem)


def test_the_keys_of_a_filesystem_are_not_written_into_the_run(bucket):
    filesystem, root = bucket
    tuner(filesystem, {"x": 1}).fit()
    stored = pickle.loads((root / "runs/sweep/tuner.pkl").read_bytes())
    assert stored["run_config"].storage_filesystem is None
    assert b"SubTreeFileSystem" not in (root / "runs/sweep/sweep_state.pkl").read_bytes()


def test_storage_that_cannot_be_written_is_refused_before_anything_runs(bucket):
    filesystem, root = bucket
    (root / "runs").write_text("a file")
    with pytest.raises(OSError, match="cannot be stored under 'runs'.*Nothing was started"):
        tuner(filesystem, {"x": 1}).fit()
    with pytest.raises(ValueError, match="neither pyarrow .* nor fsspec"):
        tune.Tuner(climb, run_config=tune.RunConfig(storage_path="nosuch://bucket")).fit()


def test_a_place_copies_only_what_has_changed(bucket):
    filesystem, root = bucket
    place = RunPlace.at("runs/a", filesystem)
    place.prepare()
    (place.folder / "t").mkdir()
    (place.folder / "t" / "result.json").write_text("{}")
    (place.folder / "state.pkl").write_text("1")
    place.push()
    (root / "runs/a/state.pkl").write_text("untouched")
    (place.folder / "t" / "result.json").write_text("{}\n{}")
    place.push()
    assert (root / "runs/a/state.pkl").read_text() == "untouched"
    assert (root / "runs/a/t/result.json").read_text() == "{}\n{}"
    (root / "runs/a/t/checkpoint_000000").mkdir()
    (root / "runs/a/t/checkpoint_000000/large").write_text("")
    other = RunPlace.at("runs/a", filesystem)
    other.pull()
    assert (other.folder / "t" / "result.json").read_text() == "{}\n{}"
    assert not (other.folder / "t" / "checkpoint_000000").exists()
    for each in (place, other):
        each.discard()
        assert not each.folder.exists()
