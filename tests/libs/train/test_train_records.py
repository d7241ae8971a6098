"""Configuration, results, storage and the other records of Train, without a cluster."""

from __future__ import annotations

import os
import pickle

import numpy
import pytest

import raybook as ray
from raybook import train
from raybook.train.callback import TrainRunContext
from raybook.train.core.checkpoint_book import CheckpointBook
from raybook.train.facts import RunFacts
from raybook.train.storage import StorageContext
from raybook.train.train_function import as_train_function


@pytest.mark.parametrize("size", ["2", 1.5, (1, 2, 3), (1, "2"), None])
def test_a_number_of_workers_is_an_int_or_a_pair(size):
    with pytest.raises(ValueError, match="must be an int or a tuple of two ints"):
        train.ScalingConfig(num_workers=size)


@pytest.mark.parametrize("size", [-1, (-1, 2), (3, 2)])
def test_impossible_numbers_of_workers_are_refused(size):
    with pytest.raises(ValueError, match="Invalid ScalingConfig"):
        train.ScalingConfig(num_workers=size)


def test_scaling_knows_its_bounds_and_resources():
    elastic = train.ScalingConfig(num_workers=(1, 4), use_gpu=True)
    assert (elastic.min_workers, elastic.max_workers, elastic.elasticity_enabled) == (1, 4, True)
    assert elastic._resources_per_worker_not_none == {"GPU": 1}
    assert elastic.total_resources == {"GPU": 4}
    fixed = train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 2, "special": 1}, accelerator_type="A100")
    assert fixed.num_cpus_per_worker == 2 and fixed.num_gpus_per_worker == 0
    assert fixed.additional_resources_per_worker == {"special": 1, "accelerator_type:A100": 0.001}
    assert repr(train.ScalingConfig(num_workers=2)) == "ScalingConfig(num_workers=2)"


def test_gpus_in_resources_and_use_gpu_must_agree():
    with pytest.raises(ValueError, match="`use_gpu` is False but `GPU` was found"):
        train.ScalingConfig(resources_per_worker={"GPU": 1})
    with pytest.raises(ValueError, match="`use_gpu` is True but `GPU` is set to 0"):
        train.ScalingConfig(use_gpu=True, resources_per_worker={"GPU": 0})


def test_a_list_of_selectors_is_as_long_as_the_most_workers():
    with pytest.raises(ValueError, match="same length"):
        train.ScalingConfig(num_workers=3, label_selector=[{"zone": "a"}])
    assert train.ScalingConfig(num_workers=2, label_selector={"zone": "a"}).selectors_for(2) == [{"zone": "a"}] * 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: train.ScalingConfig(trainer_resources={"CPU": 1}),
        lambda: train.FailureConfig(fail_fast=True),
        lambda: train.CheckpointConfig(checkpoint_frequency=1),
        lambda: train.CheckpointConfig(checkpoint_at_end=True),
        lambda: train.RunConfig(stop={"loss": 1}),
        lambda: train.RunConfig(verbose=2),
        lambda: train.RunConfig(sync_config=train.SyncConfig()),
        lambda: train.DataParallelTrainer.restore("x"),
        lambda: train.DataParallelTrainer.can_restore("x"),
        lambda: train.DataParallelTrainer(lambda: None, metadata={}),
        lambda: train.DataParallelTrainer(lambda: None, resume_from_checkpoint=train.Checkpoint("x")),
        lambda: train.TrainContext("x").get_metadata(),
        lambda: train.TrainContext("x").get_trial_id(),
        lambda: train.Result(None, None, None, None).config,
    ],
)
def test_what_version_two_gave_up_says_so(make):
    with pytest.raises(DeprecationWarning):
        make()


def test_run_configuration_fills_its_defaults_and_checks_its_parts():
    config = train.RunConfig()
    assert config.name.startswith("ray_train_run-") and os.path.isabs(config.storage_path)
    assert config.failure_config.max_failures == 0 and config.failure_config.controller_failure_limit == -1
    assert config.checkpoint_config.num_to_keep is None and config.callbacks == []
    with pytest.raises(ValueError, match="UserCallback"):
        train.RunConfig(callbacks=[object()])
    with pytest.raises(ValueError, match="Invalid `CheckpointConfig` type"):
        train.RunConfig(checkpoint_config={"num_to_keep": 1})
    with pytest.raises(ValueError, match="num_to_keep"):
        train.CheckpointConfig(num_to_keep=0)
    with pytest.raises(ValueError, match="checkpoint_score_order"):
        train.CheckpointConfig(checkpoint_score_order="best")
    with pytest.raises(ValueError, match="log_level"):
        train.LoggingConfig(log_level="LOUD")


def test_a_training_function_takes_the_configuration_or_nothing():
    assert as_train_function(lambda: "none", {"a": 1}, "f").call() == "none"
    assert as_train_function(lambda config: config, {"a": 1}, "f").call() == {"a": 1}
    assert as_train_function(lambda config: config, None, "f").call() == {}
    with pytest.raises(ValueError, match="0 or 1 required arguments, but it accepts 2"):
        as_train_function(lambda a, b: None, None, "train_loop_per_worker")
    with pytest.raises(TypeError, match="must be a function"):
        train.DataParallelTrainer("train")


def test_errors_survive_a_trip_between_processes():
    info = train.PreemptionInfo(None, {"node": [1, 0]})
    for error in (
        train.WorkerGroupError("text", {0: ValueError("x")}),
        train.ControllerError(RuntimeError("boom")),
        train.PreemptionError(info, drain_timed_out=True),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and str(copy) == str(error) and isinstance(copy, train.TrainingFailedError)
    assert info.preempted_ranks == [0, 1] and info.preempted_node_ids == ["node"]


def test_verbs_outside_of_a_run_say_where_they_belong():
    for verb in (train.get_context, train.get_checkpoint, train.get_dataset_shard, lambda: train.report({})):
        with pytest.raises(RuntimeError, match="cannot be used outside of a Ray Train training function"):
            verb()


def test_storage_that_cannot_be_written_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Nothing was started"):
        StorageContext(tmp_path / "file", "run").prepare()
    with pytest.raises(ValueError, match="nowhere"):
        StorageContext("nowhere://bucket/path", "run")


def test_a_checkpoint_of_several_ranks_appears_whole(tmp_path):
    storage = StorageContext(tmp_path, "run")
    storage.prepare()
    for rank in range(2):
        part = tmp_path / f"part{rank}"
        part.mkdir()
        (part / f"rank{rank}").write_text("x")
        storage.write_aside(train.Checkpoint(part), "checkpoint_1")
        assert not storage.has_checkpoint("checkpoint_1")
    storage.publish("checkpoint_1")
    assert sorted(os.listdir(tmp_path / "run" / "checkpoint_1")) == ["rank0", "rank1"]
    storage.write_aside(train.Checkpoint(tmp_path / "part0"), "checkpoint_2")
    storage.delete_leftovers()
    assert sorted(os.listdir(tmp_path / "run")) == [".validate_storage_marker", "checkpoint_1"]


@pytest.mark.parametrize("kind", ["pyarrow", "fsspec"])
def test_storage_works_on_other_filesystems(tmp_path, kind):
    import pyarrow.fs

    if kind == "pyarrow":
        filesystem = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    else:
        import fsspec

        filesystem = fsspec.filesystem("memory")
    storage = StorageContext("bucket", f"run-{kind}", filesystem)
    storage.prepare()
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights").write_bytes(b"123")
    saved = storage.persist_current_checkpoint(train.Checkpoint(source), "checkpoint_1")
    assert not saved.is_local and saved.path == f"bucket/run-{kind}/checkpoint_1"
    with saved.as_directory() as folder:
        assert os.listdir(folder) == ["weights"]
    assert not os.path.exists(folder)
    saved.set_metadata({"epoch": 1})
    assert pickle.loads(pickle.dumps(saved)).get_metadata() == {"epoch": 1}
    storage.write_record(b"first")
    storage.write_record(b"second")
    assert storage.read_record() == b"second"
    storage.delete_checkpoint("checkpoint_1")
    assert not storage.has_checkpoint("checkpoint_1")


def test_a_result_is_not_read_from_a_folder_that_is_none(tmp_path):
    with pytest.raises(RuntimeError, match="doesn't exist"):
        train.Result.from_path(tmp_path / "nothing")
    with pytest.raises(RuntimeError, match="Failed to restore the Result object"):
        train.Result.from_path(tmp_path)


def test_importing_train_imports_no_heavy_library():
    import subprocess
    import sys

    program = (
        "import sys; import raybook.train as t; t.RunConfig(); t.ScalingConfig(); import raybook.train.torch as tt; "
        "tt.TorchTrainer; assert not {'torch', 'pandas', 'pyarrow'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_fact_that_no_message_carries_is_refused_where_it_is_published():
    with pytest.raises(TypeError, match="train_run fact 'x' was not published: .*numpy.float64"):
        ray.publish_fact("train_run", "x", {"loss": numpy.float64(1.0)})
    ray.publish_fact("train_run", "x", {"loss": 1.0, "nested": {"a": [None, True]}})


def test_facts_of_a_run_hold_plain_values_and_are_not_sent_too_often():
    sent = []
    scaling = train.ScalingConfig(num_workers=2)
    context = TrainRunContext(train.RunConfig(name="run"), None, scaling, train.BackendConfig(), train.DataConfig())
    facts = RunFacts(lambda kind, key, row: sent.append((kind, row)), "id", "run", context)
    facts.state_changed("RUNNING")
    book = CheckpointBook()
    for step in range(3):
        metrics = {"loss": numpy.float64(step), "nan": float("nan"), "name": "text", "step": step}
        book.reported(metrics)
        facts.reported(metrics, None, book)
    facts.state_changed("FINISHED")
    assert [row["state"] for _, row in sent] == ["RUNNING", "FINISHED"], "three reports within a moment wait"
    kind, last = sent[-1]
    assert kind == "train_run" and last["metrics"] == {"loss": 2.0, "step": 2} and last["history"] == [0.0, 1.0, 2.0]
    assert type(last["metrics"]["loss"]) is float and last["metric_name"] == "loss" and last["reports"] == 3
    assert last["ended_unix_ms"] >= last["started_unix_ms"]
