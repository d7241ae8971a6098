"""Training runs on a real cluster, without a framework: reports, checkpoints, failures, callbacks, validation."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

import raybook as ray
from raybook import train
from raybook.train.collective import barrier, broadcast_from_rank_zero

pytestmark = [pytest.mark.usefixtures("four_cpus"), pytest.mark.slow]


@pytest.fixture
def fit(tmp_path):
    """Fit a function; keywords of RunConfig and of the trainer are sorted out by name."""

    def run(function, workers=2, name="run", trainer=None, **options):
        of_run = {key: options.pop(key) for key in list(options) if key in train.RunConfig.__dataclass_fields__}
        of_run = {"name": name, "storage_path": str(tmp_path), **of_run}
        made = (trainer or train.DataParallelTrainer)(
            function,
            scaling_config=options.pop("scaling_config", None) or train.ScalingConfig(num_workers=workers),
            run_config=train.RunConfig(**of_run),
            **options,
        )
        return made.fit()

    return run


def save(**metrics) -> None:
    """In a worker: report with a checkpoint of one file named after the rank."""
    with tempfile.TemporaryDirectory() as folder:
        rank = train.get_context().get_world_rank()
        Path(folder, f"rank{rank}.json").write_text(json.dumps(metrics))
        train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def test_every_worker_knows_its_place(fit):
    def function():
        context = train.get_context()
        train.report(
            {
                "world": (context.get_world_rank(), context.get_world_size()),
                "local": (context.get_local_rank(), context.get_local_world_size()),
                "node": context.get_node_rank(),
                "name": context.get_experiment_name(),
                "folder": context.get_storage().experiment_fs_path,
            }
        )
        return context.get_world_size()

    seen = []

    class Watch(train.UserCallback):
        def __init__(self, sink):
            self.sink = sink

        def after_report(self, run_context, metrics, checkpoint):
            assert checkpoint is None and run_context.get_run_config().name == "places"
            ray.get(self.sink.put.remote(metrics))

    @ray.remote(num_cpus=0)
    class Sink:
        def __init__(self):
            self.items = []

        def put(self, item):
            self.items.append(item)

        def get(self):
            return self.items

    sink = Sink.remote()
    result = fit(function, workers=3, name="places", callbacks=[Watch(sink)])
    [seen] = ray.get(sink.get.remote())
    assert [row["world"] for row in seen] == [(0, 3), (1, 3), (2, 3)]
    assert [row["local"] for row in seen] == [(0, 3), (1, 3), (2, 3)]
    assert {row["node"] for row in seen} == {0} and {row["name"] for row in seen} == {"places"}
    assert result.return_value == 3 and result.metrics["world"] == (0, 3)
    assert result.path == seen[0]["folder"] and os.path.basename(result.path) == "places"


def test_a_lambda_without_arguments_trains(fit):
    result = fit(lambda: None, workers=1)
    assert result.error is None and result.metrics is None and result.checkpoint is None


def test_files_of_all_ranks_become_one_checkpoint_and_only_the_best_stay(fit):
    def function(config):
        for step in range(config["steps"]):
            save(loss=abs(step - 1.5), step=step)

    result = fit(
        function,
        train_loop_config={"steps": 4},
        checkpoint_config=train.CheckpointConfig(
            num_to_keep=2, checkpoint_score_attribute="loss", checkpoint_score_order="min"
        ),
    )
    assert result.metrics == {"loss": 1.5, "step": 3}
    assert [metrics["step"] for _, metrics in result.best_checkpoints] == [3, 1, 2]
    assert sorted(os.listdir(result.checkpoint.path)) == ["rank0.json", "rank1.json"]
    on_disk = {name for name in os.listdir(result.path) if name.startswith("checkpoint_2")}
    assert on_disk == {os.path.basename(checkpoint.path) for checkpoint, _ in result.best_checkpoints}
    assert not [name for name in os.listdir(result.path) if name.startswith(".partial")]
    best = result.get_best_checkpoint("loss", "min")
    assert json.loads(Path(best.path, "rank0.json").read_text())["loss"] == 0.5
    assert list(result.metrics_dataframe["step"]) == [3, 1, 2]
    read = train.Result.from_path(result.path)
    assert read.metrics == result.metrics and read.best_checkpoints == result.best_checkpoints
    with pytest.raises(RuntimeError, match="Invalid metric name accuracy"):
        result.get_best_checkpoint("accuracy", "max")


@pytest.mark.parametrize("ranks", [(0,), (1,)])
def test_a_checkpoint_of_some_ranks_only_is_enough(fit, ranks):
    def function():
        rank = train.get_context().get_world_rank()
        if rank in ranks:
            save(rank=rank)
        else:
            train.report({"rank": rank})

    result = fit(function)
    assert result.metrics == {"rank": 0}
    assert os.listdir(result.checkpoint.path) == [f"rank{rank}.json" for rank in ranks]


def test_checkpoints_can_be_named_and_uploaded_in_the_background(fit):
    def function():
        for step in range(3):
            folder = tempfile.mkdtemp()
            Path(folder, "step").write_text(str(step))
            train.report(
                {"step": step},
                checkpoint=train.Checkpoint.from_directory(folder)
                if train.get_context().get_world_rank() == 0
                else None,
                checkpoint_dir_name=f"epoch-{step}",
                checkpoint_upload_mode=train.CheckpointUploadMode.ASYNC,
            )
            folders.append(folder)
        kept = train.get_all_reported_checkpoints()
        return [(os.path.basename(each.checkpoint.path), each.metrics, each.status.value) for each in kept], [
            os.path.exists(folder) for folder in folders
        ]

    folders: list[str] = []
    result = fit(function)
    kept, are_left = result.return_value
    assert kept == [(f"epoch-{step}", {"step": step}, "COMMITTED") for step in range(3)]
    assert are_left == [False] * 3, "a copy that was uploaded in the background is deleted"
    assert Path(result.checkpoint.path, "step").read_text() == "2"


def test_a_function_of_the_users_can_upload(fit):
    def upload(checkpoint, name):
        target = Path(train.get_context().get_storage().experiment_fs_path, "mine", name)
        checkpoint.to_directory(target)
        return train.Checkpoint(target)

    def function():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "x").write_text("1")
            mine = train.Checkpoint.from_directory(folder)
            train.report({"step": 1}, checkpoint=mine, checkpoint_upload_fn=upload, checkpoint_dir_name="first")
            try:
                train.report({"step": 2}, checkpoint=mine, checkpoint_upload_fn=lambda c, name: c)
            except ValueError as error:
                return str(error)

    result = fit(function, workers=1)
    assert result.checkpoint.path == os.path.join(result.path, "mine", "first")
    assert "outside the experiment directory" in result.return_value


def test_wrong_reports_are_refused_where_they_are_made(fit):
    def function():
        texts = []
        for wrong in (
            lambda: train.report([1]),
            lambda: train.report({}, checkpoint="folder"),
            lambda: train.report({}, validation=True),
            lambda: train.report(
                {}, checkpoint=train.Checkpoint("/x"), checkpoint_upload_mode=train.CheckpointUploadMode.NO_UPLOAD
            ),
        ):
            try:
                wrong()
            except (TypeError, ValueError) as error:
                texts.append(f"{type(error).__name__}: {error}")
        return texts

    texts = fit(function, workers=1).return_value
    assert [text.split(":")[0] for text in texts] == ["TypeError", "TypeError", "ValueError", "ValueError"]
    assert "outside the experiment directory" in texts[3]


def test_workers_wait_for_each_other_and_hear_rank_zero(fit):
    def function():
        barrier()
        rank = train.get_context().get_world_rank()
        heard = broadcast_from_rank_zero({"from": rank})
        train.report({"heard": heard["from"], "notice": train.get_preemption_info()})

    assert fit(function, workers=3).metrics == {"heard": 0, "notice": None}


def test_a_rank_that_reports_alone_gets_an_error_instead_of_waiting_for_ever(fit):
    def function():
        if train.get_context().get_world_rank() == 0:
            train.report({"a": 1})

    with pytest.raises(train.WorkerGroupError, match="ranks .1. will never come"):
        fit(function)


def test_an_error_of_one_rank_names_it_and_shows_the_users_line(fit):
    heard = []

    class Watch(train.UserCallback):
        def after_exception(self, run_context, worker_exceptions):
            path = Path(run_context.run_config.storage_path, "heard")
            path.write_text(",".join(str(rank) for rank in worker_exceptions))

    def function():
        if train.get_context().get_world_rank() == 1:
            raise ValueError("user error")

    with pytest.raises(train.WorkerGroupError) as caught:
        fit(function, callbacks=[Watch()])
    failures = caught.value.worker_failures
    assert list(failures) == [1] and "user error" in str(failures[1]) and "raise ValueError" in str(failures[1])
    assert isinstance(failures[1].cause, ValueError) and "raybook/train/worker.py" not in str(failures[1])
    assert isinstance(caught.value, train.TrainingFailedError)
    del heard


def test_a_function_that_cannot_be_loaded_fails_its_workers(fit):
    class Broken:
        def __reduce__(self):
            return (_refuse_to_load, ())

    broken = Broken()
    with pytest.raises(train.WorkerGroupError, match="refuses to load"):
        fit(lambda: broken, workers=1)


def _refuse_to_load():
    raise RuntimeError("this refuses to load")


def test_after_an_error_the_run_goes_on_from_the_latest_checkpoint(fit, tmp_path):
    def function():
        start = 0
        checkpoint = train.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                start = json.loads(Path(folder, "rank0.json").read_text())["step"] + 1
        rank = train.get_context().get_world_rank()
        for step in range(start, 5):
            if rank == 1 and step == 3 and start == 0:
                raise RuntimeError("once")
            save(step=step, start=start)

    result = fit(function, failure_config=train.FailureConfig(max_failures=1))
    assert result.metrics == {"step": 4, "start": 3}
    assert [metrics["step"] for _, metrics in result.best_checkpoints] == [0, 1, 2, 3, 4]
    with pytest.raises(train.WorkerGroupError):
        fit(function, name="no-retries")
    # The same name goes on where that one ended.
    assert fit(function, name="no-retries").metrics == {"step": 4, "start": 3}


def test_a_record_whose_checkpoint_is_gone_is_refused(fit):
    result = fit(lambda: save(a=1), workers=1)
    os.rename(result.checkpoint.path, result.checkpoint.path + "-moved")
    with pytest.raises(train.ControllerError, match="is not in"):
        fit(lambda: save(a=1), workers=1)


def test_checkpoints_are_validated_while_training_goes_on(fit):
    def validate(checkpoint, factor=1):
        step = json.loads(Path(checkpoint.path, "rank0.json").read_text())["step"]
        if step == 2:
            raise ValueError("bad checkpoint")
        return {"validated": step * factor}

    def function():
        for step in range(3):
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "rank0.json").write_text(json.dumps({"step": step}))
                wish = step > 0 and train.ValidationTaskConfig(fn_kwargs={"factor": 10})
                train.report({"step": step}, checkpoint=train.Checkpoint.from_directory(folder), validation=wish)
        committed = train.get_all_reported_checkpoints(train.CheckpointConsistencyMode.COMMITTED)
        validated = train.get_all_reported_checkpoints()
        return len(committed), [(each.status.value, each.metrics) for each in validated]

    result = fit(function, workers=1, validation_config=train.ValidationConfig(fn=validate))
    assert result.return_value == (
        3,
        [
            ("COMMITTED", {"step": 0}),
            ("VALIDATED", {"step": 1, "validated": 10}),
            ("VALIDATION_FAILED", {"step": 2}),
        ],
    )


class Numbers:
    """A dataset as Train sees one."""

    name = None

    def __init__(self, values):
        self.values = values

    def streaming_split(self, n, *, equal=False, locality_hints=None):
        assert equal and len(locality_hints) == n
        return [self.values[index::n] for index in range(n)]

    def iterator(self):
        return self.values


def test_datasets_are_split_over_the_workers_or_whole(fit):
    def function():
        rank = train.get_context().get_world_rank()
        shard, whole = train.get_dataset_shard("train"), train.get_dataset_shard("whole")
        assert train.get_dataset_shard("train") is shard
        try:
            train.get_dataset_shard("unknown")
        except KeyError as error:
            text = str(error)
        seen = broadcast_from_rank_zero(shard) + (shard if rank else [])
        train.report({})
        return seen, whole, text

    seen, whole, text = fit(
        function,
        datasets={"train": Numbers(list(range(6))), "whole": lambda: Numbers([7])},
        dataset_config=train.DataConfig(datasets_to_split=["train"]),
    ).return_value
    assert seen == [0, 2, 4] and whole == [7] and "Datasets of this run: train, whole" in text


def test_without_workers_the_function_runs_right_here(fit):
    here = []

    def function(config):
        here.append(os.getpid())
        train.report({"loss": config["loss"]})
        assert train.get_context().get_world_size() == 1
        return broadcast_from_rank_zero("mine")

    result = fit(function, workers=0, train_loop_config={"loss": 2.0})
    assert here == [os.getpid()] and result.metrics == {"loss": 2.0} and result.return_value == "mine"
    with pytest.raises(RuntimeError, match="cannot be used outside"):
        train.get_context()


def test_more_than_the_cluster_has_is_a_clear_error(fit, monkeypatch):
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "0.5")
    with pytest.raises(train.ControllerError, match=r"asks for 9 CPU \(the cluster has 4\)"):
        fit(lambda: None, workers=9)


def test_an_error_in_a_callback_ends_the_run(fit):
    class Broken(train.UserCallback):
        def after_report(self, run_context, metrics, checkpoint):
            raise ValueError("callback broke")

    def function():
        for _ in range(1000):
            train.report({"a": 1})

    with pytest.raises(train.ControllerError, match="callback broke"):
        fit(function, callbacks=[Broken()])


def test_a_dataset_of_data_feeds_every_epoch_of_every_worker(fit):
    data = ray.data

    def function():
        shard, seen = train.get_dataset_shard("train"), []
        for _ in range(2):
            ids = [int(value) for batch in shard.iter_batches(batch_size=10) for value in batch["id"]]
            seen.append((len(ids), len(set(ids))))
        return seen

    options = {"train": data.ExecutionOptions(preserve_order=True)}
    result = fit(
        function, datasets={"train": data.range(100)}, dataset_config=train.DataConfig(execution_options=options)
    )
    assert result.return_value == [(50, 50), (50, 50)]
