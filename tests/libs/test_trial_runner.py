"""One attempt of a trial in this process: the function on its thread, reports, verdicts, checkpoints, endings."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from raybook import train, tune
from raybook.tune.core.trial_events import (
    CONTINUE,
    PAUSE,
    STOP,
    TrialFailed,
    TrialFinished,
    TrialReleased,
    TrialReported,
)
from raybook.tune.error import TrialError
from raybook.tune.executor import TrialLaunch
from raybook.tune.trainable_spec import as_spec
from raybook.tune.trial_runner import TrialRunner


def runner_of(trainable, tmp_path, config=None, **launch):
    launched = TrialLaunch(
        trial_id="t0",
        attempt=1,
        name="trial",
        experiment_name="sweep",
        config=config or {},
        resources={"CPU": 1.0},
        folder=str(tmp_path),
        storage_path=str(tmp_path.parent),
        **launch,
    )
    runner = TrialRunner(launched, as_spec(trainable))
    runner.start()
    return runner


@pytest.fixture(autouse=True)
def no_trial_thread_is_left():
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("trial-"):
            thread.join(timeout=5)
            assert not thread.is_alive(), f"{thread.name} is left"


def test_a_function_reports_waits_and_finishes(tmp_path):
    seen = []

    def trainable(config):
        for step in range(2):
            tune.report({"acc": config["x"] + step})
            seen.append(step)

    runner = runner_of(trainable, tmp_path, {"x": 1})
    first = runner.next_event(None)
    assert isinstance(first, TrialReported) and first.metrics["acc"] == 1 and seen == []
    assert first.metrics["training_iteration"] == 1 and first.metrics["pid"] == os.getpid()
    second = runner.next_event(CONTINUE)
    assert second.metrics["acc"] == 2 and seen == [0] and second.metrics["training_iteration"] == 2
    assert runner.next_event(CONTINUE) == TrialFinished("t0", 1)
    assert seen == [0, 1]


def test_a_stop_ends_the_function_inside_its_report(tmp_path):
    seen = []

    def trainable(config):
        try:
            for step in range(10):
                try:
                    tune.report({"acc": step})
                except Exception:  # noqa: BLE001 - what users write.
                    seen.append("swallowed")
        finally:
            seen.append("cleaned up")

    runner = runner_of(trainable, tmp_path)
    runner.next_event(None)
    assert runner.next_event(STOP) == TrialReleased("t0", 1)
    assert seen == ["cleaned up"]


def test_a_function_that_swallows_the_stop_meets_it_again_at_its_next_report(tmp_path):
    def trainable(config):
        for step in range(3):
            try:
                tune.report({"acc": step})
            except BaseException:
                if step == 2:
                    raise

    runner = runner_of(trainable, tmp_path)
    runner.next_event(None)
    assert runner.next_event(STOP) == TrialReleased("t0", 1)


def test_what_a_function_raises_becomes_an_event_that_starts_at_its_own_frame(tmp_path):
    def trainable(config):
        return 1 / 0

    event = runner_of(trainable, tmp_path).next_event(None)
    assert isinstance(event, TrialFailed) and isinstance(event.error, ZeroDivisionError)
    assert "return 1 / 0" in event.details and "raybook/tune" not in event.details


def test_sys_exit_in_a_function_is_a_failure_too(tmp_path):
    def trainable(config):
        raise SystemExit(3)

    assert isinstance(runner_of(trainable, tmp_path).next_event(None), TrialFailed)


def test_an_error_that_cannot_be_pickled_keeps_its_text(tmp_path):
    def trainable(config):
        class Odd(Exception):
            def __init__(self, one, two):
                super().__init__(f"{one} and {two}")

        raise Odd("this", "that")

    event = runner_of(trainable, tmp_path).next_event(None)
    assert isinstance(event.error, TrialError) and "Odd: this and that" in str(event.error)


@pytest.mark.parametrize("returned", [{"acc": 0.5}, 0.5])
def test_a_returned_value_is_the_last_report(tmp_path, returned):
    runner = runner_of(lambda config: returned, tmp_path)
    event = runner.next_event(None)
    assert event.metrics["acc" if isinstance(returned, dict) else "_metric"] == 0.5
    assert isinstance(runner.next_event(CONTINUE), TrialFinished)


@pytest.mark.parametrize(
    ("metrics", "text"),
    [(0.5, "takes a dict of metrics"), ({1: 0.5}, "names are strings"), ([("a", 1)], "takes a dict")],
)
def test_a_wrong_report_fails_at_the_users_line(tmp_path, metrics, text):
    event = runner_of(lambda config: tune.report(metrics), tmp_path).next_event(None)
    assert isinstance(event.error, TypeError) and text in str(event.error)


def test_scalars_of_numpy_and_torch_arrive_as_numbers(tmp_path):
    import numpy
    import torch

    def trainable(config):
        tune.report({"a": numpy.float32(0.5), "b": {"c": torch.tensor(2)}, "d": numpy.int64(3)})

    runner = runner_of(trainable, tmp_path)
    metrics = runner.next_event(None).metrics
    assert (metrics["a"], metrics["b"]["c"], metrics["d"]) == (0.5, 2, 3)
    assert [type(metrics[name]) for name in "ad"] == [float, int]
    runner.next_event(CONTINUE)


def test_a_checkpoint_is_whole_before_its_report_leaves(tmp_path):
    def trainable(config):
        for step in range(2):
            source = tmp_path / f"source{step}"
            source.mkdir()
            (source / "weights").write_text(str(step))
            train.report({"acc": step}, checkpoint=tune.Checkpoint.from_directory(source))
            assert tune.get_checkpoint().path.endswith(f"checkpoint_00000{step + 4}")

    runner = runner_of(trainable, tmp_path, next_checkpoint=4)
    event = runner.next_event(None)
    assert event.checkpoint == event.metrics["checkpoint_dir_name"] == "checkpoint_000004"
    assert (tmp_path / "checkpoint_000004" / "weights").read_text() == "0"
    assert runner.next_event(CONTINUE).checkpoint == "checkpoint_000005"
    assert isinstance(runner.next_event(CONTINUE), TrialFinished)
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith(("checkpoint", "."))) == [
        "checkpoint_000004",
        "checkpoint_000005",
    ]


def test_an_attempt_goes_on_where_its_checkpoint_was(tmp_path):
    (tmp_path / "checkpoint_000000").mkdir()
    (tmp_path / "checkpoint_000000" / "epoch").write_text("5")

    def trainable(config):
        with tune.get_checkpoint().as_directory() as folder:
            epoch = int((Path(folder) / "epoch").read_text())
        tune.report({"epoch": epoch + 1})

    runner = runner_of(
        trainable, tmp_path, checkpoint=str(tmp_path / "checkpoint_000000"), iteration=5, time_total_s=60.0
    )
    metrics = runner.next_event(None).metrics
    assert metrics["epoch"] == 6 and metrics["training_iteration"] == 6
    assert metrics["time_total_s"] > 60 > metrics["time_since_restore"]
    runner.next_event(CONTINUE)


def test_the_context_names_the_trial(tmp_path):
    def trainable(config):
        context = tune.get_context()
        tune.report(
            {
                "id": context.get_trial_id(),
                "name": context.get_trial_name(),
                "dir": context.get_trial_dir(),
                "experiment": context.get_experiment_name(),
                "resources": context.get_trial_resources().required_resources,
                "fresh": tune.get_checkpoint() is None,
            }
        )

    runner = runner_of(trainable, tmp_path)
    metrics = runner.next_event(None).metrics
    assert (metrics["id"], metrics["name"], metrics["experiment"]) == ("t0", "trial", "sweep")
    assert metrics["dir"] == str(tmp_path) and metrics["resources"] == {"CPU": 1.0} and metrics["fresh"]
    runner.next_event(CONTINUE)


def test_a_thread_that_the_function_starts_reports_to_the_same_trial(tmp_path):
    def trainable(config):
        thread = threading.Thread(target=lambda: tune.report({"acc": 1}))
        thread.start()
        thread.join()
        tune.report({"acc": 2})

    runner = runner_of(trainable, tmp_path)
    assert runner.next_event(None).metrics["acc"] == 1
    assert runner.next_event(CONTINUE).metrics["acc"] == 2
    runner.next_event(CONTINUE)


@pytest.mark.parametrize("verb", [lambda: tune.report({"a": 1}), tune.get_checkpoint])
def test_the_verbs_of_a_trial_warn_and_do_nothing_elsewhere(verb):
    with pytest.warns(UserWarning, match="only be called inside a function that is executed by a Tuner"):
        assert verb() is None


class Counter(tune.Trainable):
    """Counts from config['start']; its state is one number."""

    cleaned: list[int] = []

    def setup(self, config):
        self.count = config.get("start", 0)

    def step(self):
        self.count += 1
        return {"count": self.count, "done": self.count == self.config.get("last")}

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = checkpoint["count"]

    def cleanup(self):
        self.cleaned.append(self.count)


class FileCounter(Counter):
    """The same with a file instead of a dict."""

    def save_checkpoint(self, checkpoint_dir):
        (Path(checkpoint_dir) / "count").write_text(str(self.count))

    def load_checkpoint(self, checkpoint):
        self.count = int((Path(checkpoint) / "count").read_text())


@pytest.mark.parametrize("trainable", [Counter, FileCounter])
def test_a_class_steps_pauses_with_a_checkpoint_and_goes_on(tmp_path, trainable):
    runner = runner_of(trainable, tmp_path)
    assert runner.next_event(None).metrics["count"] == 1
    assert runner.next_event(CONTINUE).metrics["count"] == 2
    released = runner.next_event(PAUSE)
    assert released == TrialReleased("t0", 1, "checkpoint_000000")
    path = str(tmp_path / "checkpoint_000000")
    again = runner_of(trainable, tmp_path, checkpoint=path, iteration=2, next_checkpoint=1)
    event = again.next_event(None)
    assert event.metrics["count"] == 3 and event.metrics["training_iteration"] == 3
    again.next_event(STOP)
    assert trainable.cleaned[-1] == 3


def test_a_class_saves_every_n_steps_and_at_its_end(tmp_path):
    runner = runner_of(Counter, tmp_path, checkpoint_frequency=2, checkpoint_at_end=True)
    names = [runner.next_event(None).checkpoint] + [runner.next_event(CONTINUE).checkpoint for _ in range(4)]
    assert names == [None, "checkpoint_000000", None, "checkpoint_000001", None]
    assert runner.next_event(STOP).checkpoint == "checkpoint_000002"


def test_a_class_whose_step_returns_no_dict_or_that_has_none_fails_with_its_name(tmp_path):
    class NoStep(tune.Trainable):
        pass

    class WrongStep(tune.Trainable):
        def step(self):
            return 3

    assert "NoStep must have a method step()" in str(runner_of(NoStep, tmp_path).next_event(None).error)
    assert "WrongStep.step() must return a dict" in str(runner_of(WrongStep, tmp_path).next_event(None).error)


def test_what_cannot_be_a_trainable_is_refused_where_it_is_given():
    class Plain:
        pass

    for wrong in (Plain, 3, "PPO", lambda: None, lambda config, other: None):
        with pytest.raises(TypeError):
            tune.Tuner(wrong)
    with pytest.raises(TypeError, match="resources|Resources"):
        tune.with_resources(lambda config: None, 3)
