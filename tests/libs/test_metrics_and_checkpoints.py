"""Metrics, the checkpoint ledger, checkpoints and storage: the ground that Tune and Train share."""

from __future__ import annotations

import json
import math
import os
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.ml.core.metrics import WORST, MetricSummary, flatten, is_better, lookup, percentile, score
from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
from raybook.ml.storage import (
    StorageNotWritableError,
    persist_folder,
    prepare_run_folder,
    resolve_storage_root,
    to_json,
    write_text_atomically,
)

FINITE = st.floats(-1e9, 1e9)


def test_nested_metrics_are_read_by_their_joined_name():
    result = {"val": {"acc": 0.5, "by_class": {"a": 1}}, "loss": 2.0, "empty": {}}
    assert flatten(result) == {"val/acc": 0.5, "val/by_class/a": 1, "loss": 2.0, "empty": {}}
    assert lookup(result, "val/acc") == 0.5
    assert lookup({"val/acc": 0.7}, "val/acc") == 0.7
    with pytest.raises(KeyError):
        lookup(result, "val/acc/deeper")


@pytest.mark.parametrize("bad", [math.nan, None, "0.5", True])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_no_number_ranks_worst_in_both_modes(bad, mode):
    assert score(bad, mode) == WORST
    assert is_better(1e300 if mode == "min" else -1e300, bad, mode)
    assert not is_better(bad, bad, mode)


@given(st.lists(FINITE, min_size=1, max_size=30), st.sampled_from([2, 3, 4]))
def test_percentile_agrees_with_the_linear_one_of_numpy(values, factor):
    import numpy

    expected = numpy.percentile(values, (1 - 1 / factor) * 100)
    assert math.isclose(percentile(values, 1 - 1 / factor), expected, rel_tol=1e-9, abs_tol=1e-3)


@given(st.lists(FINITE, min_size=1, max_size=30))
def test_a_summary_equals_the_figures_of_the_full_list(values):
    summary = MetricSummary()
    for value in values:
        summary.add(value)
    assert summary.value("last", "max") == values[-1]
    assert summary.value("all", "max") == max(values)
    assert summary.value("all", "min") == min(values)
    assert math.isclose(summary.value("avg", "max"), statistics.fmean(values), rel_tol=1e-9, abs_tol=1e-3)
    assert math.isclose(summary.value("last-5-avg", "max"), statistics.fmean(values[-5:]), rel_tol=1e-9, abs_tol=1e-3)
    assert math.isclose(summary.value("last-10-avg", "max"), statistics.fmean(values[-10:]), rel_tol=1e-9, abs_tol=1e-3)


def test_nan_does_not_hide_the_best_value_before_it():
    summary = MetricSummary()
    summary.add(0.8)
    summary.add(math.nan)
    assert summary.value("all", "max") == 0.8
    assert math.isnan(summary.value("last", "max"))


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(1, 5), st.sampled_from(["min", "max"]))
def test_the_ledger_keeps_the_best_and_always_the_latest(values, keep, mode):
    ledger = CheckpointLedger(keep, "acc", mode)
    alive: set[str] = set()
    for number, value in enumerate(values):
        alive.add(f"c{number}")
        alive -= set(ledger.register(f"c{number}", {"acc": value}))
    kept = {entry.name for entry in ledger.entries()}
    assert alive == kept
    assert f"c{len(values) - 1}" in kept
    assert len(kept) <= keep + 1
    best = max(values) if mode == "max" else min(values)
    assert any(entry.metrics["acc"] == best for entry in ledger.entries())


def test_without_a_score_the_ledger_keeps_the_newest():
    ledger = CheckpointLedger(2)
    dropped = [ledger.register(name, {}) for name in ("a", "b", "c", "d")]
    assert dropped == [[], [], ["a"], ["b"]]
    with pytest.raises(ValueError, match="registered before"):
        ledger.register("d", {})


def test_a_checkpoint_gives_its_files_back(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights.bin").write_bytes(b"123")
    checkpoint = Checkpoint.from_directory(source)
    copied = checkpoint.to_directory(tmp_path / "copy")
    assert (tmp_path / "copy" / "weights.bin").read_bytes() == b"123" and copied == str(tmp_path / "copy")
    with checkpoint.as_directory() as folder:
        assert os.listdir(folder) == ["weights.bin"]
    checkpoint.set_metadata({"epoch": 3})
    checkpoint.update_metadata({"loss": 0.1})
    assert checkpoint.get_metadata() == {"epoch": 3, "loss": 0.1}
    assert repr(checkpoint) == f"Checkpoint(filesystem=local, path={source})"
    assert checkpoint == Checkpoint(f"file://{source}")


def test_a_checkpoint_of_nothing_or_of_a_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        Checkpoint.from_directory(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        Checkpoint.from_directory(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="is gone"), Checkpoint(tmp_path / "nothing").as_directory():
        pass


def test_a_folder_is_never_seen_half_copied(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    (source / "b").symlink_to(tmp_path / "dangling")  # The copy fails at this one.
    with pytest.raises(OSError):
        persist_folder(source, tmp_path / "run" / "checkpoint_000000")
    assert os.listdir(tmp_path / "run") == []


def test_persisting_again_replaces_the_folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "old").write_text("1")
    target = tmp_path / "run" / "checkpoint_000000"
    persist_folder(source, target)
    (source / "old").unlink()
    (source / "new").write_text("2")
    persist_folder(source, target)
    assert os.listdir(target) == ["new"] and os.listdir(tmp_path / "run") == ["checkpoint_000000"]


def test_json_is_strict_and_leaves_nothing_aside(tmp_path):
    text = to_json({"nan": math.nan, "inf": [math.inf], "object": Checkpoint("x"), 3: (1, 2)})
    assert json.loads(text) == {
        "nan": None,
        "inf": [None],
        "object": "Checkpoint(filesystem=local, path=x)",
        "3": [1, 2],
    }
    write_text_atomically(tmp_path / "file.json", text)
    write_text_atomically(tmp_path / "file.json", "{}")
    assert os.listdir(tmp_path) == ["file.json"] and (tmp_path / "file.json").read_text() == "{}"


def test_storage_that_cannot_be_written_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageNotWritableError, match=r"'sweep' cannot be stored under .*storage_path"):
        prepare_run_folder(tmp_path / "file" / "below", "sweep")
    with pytest.raises(ValueError, match="'s3' storage"):
        resolve_storage_root("s3://bucket/runs")
    assert resolve_storage_root("file:///runs") == resolve_storage_root("/runs")


@pytest.mark.parametrize(
    "make",
    [
        lambda: FailureConfig(max_failures=-2),
        lambda: FailureConfig(fail_fast="now"),
        lambda: FailureConfig(max_failures=1, fail_fast=True),
        lambda: CheckpointConfig(num_to_keep=0),
        lambda: CheckpointConfig(checkpoint_score_order="up"),
        lambda: CheckpointConfig(checkpoint_frequency=-1),
        lambda: RunConfig(name="a/b"),
        lambda: RunConfig(name=""),
    ],
)
def test_a_wrong_run_configuration_is_refused_where_it_is_made(make):
    with pytest.raises(ValueError):
        make()
