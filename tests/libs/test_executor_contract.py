"""What every trial executor must keep: the actors of a real cluster, and the fake in virtual time, alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raybook import tune
from raybook.testing.fake_trial_executor import FakeTrialExecutor, Step, VirtualClock
from raybook.tune.actor_executor import ActorTrialExecutor
from raybook.tune.core.trial_events import (
    CONTINUE,
    STOP,
    TrialFailed,
    TrialFinished,
    TrialReleased,
    TrialReported,
    TrialStarted,
)
from raybook.tune.error import TuneError
from raybook.tune.executor import TrialLaunch
from raybook.tune.trainable_spec import as_spec


def make_trainable():
    """A local function, so that it travels whole: the trial's process need not find this module."""

    def trainable(config):
        for step in range(config["steps"]):
            tune.report({"acc": step})
        if config.get("fails"):
            raise ValueError("asked to fail")

    return trainable


def script(launch: TrialLaunch) -> Iterator[Step]:
    """The same trial for the fake."""
    for step in range(launch.config["steps"]):
        yield Step({"acc": step})
    if launch.config.get("fails"):
        yield Step(error=ValueError("asked to fail"))


@pytest.fixture(params=["fake", "actors", "reused_actors"])
def executor(request):
    if request.param == "fake":
        made = FakeTrialExecutor(script, VirtualClock(), {"CPU": 2.0})
    else:
        request.getfixturevalue("cluster")
        made = ActorTrialExecutor(as_spec(make_trainable()), reuse_actors=request.param == "reused_actors")
    yield made
    made.shutdown()


@pytest.fixture
def launch(executor, tmp_path):
    def start(trial_id="t0", attempt=1, **config):
        folder = tmp_path / trial_id
        folder.mkdir(exist_ok=True)
        executor.launch(
            TrialLaunch(
                trial_id, attempt, trial_id, "sweep", {"steps": 2, **config}, {"CPU": 1.0}, str(folder), str(tmp_path)
            )
        )

    return start


def next_event(executor, trial_id="t0"):
    """Wait for the next event; it must be of that trial."""
    while executor.is_busy():
        events = executor.events(timeout_ms=1_000)
        if events:
            assert [event.trial_id for event in events] == [trial_id]
            return events[0]
    raise AssertionError("no event came")


def test_an_attempt_starts_reports_waits_and_finishes(executor, launch):
    launch()
    assert isinstance(next_event(executor), TrialStarted) and executor.is_busy()
    for step in range(2):
        event = next_event(executor)
        assert isinstance(event, TrialReported) and event.metrics["acc"] == step and event.attempt == 1
        assert event.metrics["training_iteration"] == step + 1
        executor.answer("t0", CONTINUE)
    assert next_event(executor) == TrialFinished("t0", 1)
    assert not executor.is_busy() and executor.events(timeout_ms=1) == []


def test_a_trial_that_is_not_answered_says_nothing_more(executor, launch):
    launch()
    next_event(executor), next_event(executor)
    assert executor.events(timeout_ms=50) == [] and executor.is_busy()


def test_a_verdict_to_end_is_followed_by_a_release(executor, launch):
    launch()
    next_event(executor), next_event(executor)
    executor.answer("t0", STOP)
    assert next_event(executor) == TrialReleased("t0", 1)
    assert not executor.is_busy()


def test_what_a_trial_raises_arrives_with_its_type_and_text(executor, launch):
    launch(steps=0, fails=True)
    next_event(executor)
    event = next_event(executor)
    assert isinstance(event, TrialFailed) and isinstance(event.error, ValueError) and not event.is_lost
    assert "asked to fail" in event.details and not executor.is_busy()


def test_a_killed_attempt_is_silent_and_its_room_is_free(executor, launch):
    launch("t0"), launch("t1")
    assert not executor.has_room({"CPU": 1.0})
    executor.kill("t0")
    executor.kill("t0")
    assert executor.has_room({"CPU": 1.0}) and not executor.has_room({"CPU": 2.0})
    assert isinstance(next_event(executor, "t1"), TrialStarted)
    launch("t0", attempt=2)
    events = [event for _ in range(400) for event in run_on(executor)]
    assert not executor.is_busy()
    assert [event.attempt for event in events if event.trial_id == "t0"] == [2] * 4
    assert [type(event) for event in events if event.trial_id == "t0"] == [
        TrialStarted,
        TrialReported,
        TrialReported,
        TrialFinished,
    ]


def run_on(executor):
    """One round: take what has happened and let every trial go on."""
    events = executor.events(timeout_ms=100) if executor.is_busy() else []
    for event in events:
        if isinstance(event, TrialReported):
            executor.answer(event.trial_id, CONTINUE)
    return events


def test_one_trial_after_the_other_in_the_same_room(executor, launch):
    for number in range(3):
        launch(f"t{number}", steps=1)
        assert isinstance(next_event(executor, f"t{number}"), TrialStarted)
        next_event(executor, f"t{number}")
        executor.answer(f"t{number}", STOP if number == 1 else CONTINUE)
        assert isinstance(next_event(executor, f"t{number}"), (TrialFinished, TrialReleased))


def test_what_no_cluster_node_could_hold_is_refused_with_both_amounts(executor):
    executor.check_feasible({"CPU": 2.0})
    with pytest.raises(TuneError, match="3"):
        executor.check_feasible({"CPU": 3.0})
    with pytest.raises(TuneError, match="unobtainium"):
        executor.check_feasible({"unobtainium": 1.0})


def test_shutdown_ends_everything_and_may_come_twice(executor, launch):
    launch()
    executor.shutdown()
    executor.shutdown()
    assert not executor.is_busy()


def test_a_lost_process_is_a_failure_that_says_so(cluster, tmp_path):
    def dies(config):
        import os

        os._exit(7)

    executor = ActorTrialExecutor(as_spec(dies))
    executor.launch(TrialLaunch("t0", 1, "t0", "sweep", {}, {"CPU": 1.0}, str(tmp_path), str(tmp_path)))
    event = next_event(executor)
    while isinstance(event, TrialStarted):
        event = next_event(executor)
    assert isinstance(event, TrialFailed) and event.is_lost
    assert not executor.is_busy() and executor.has_room({"CPU": 2.0})
    executor.shutdown()


def test_a_trainable_that_cannot_be_loaded_is_a_failure(cluster, tmp_path):
    class Unloadable:
        def __call__(self, config):
            return None

        def __reduce__(self):
            return (int, ("no number",))

    executor = ActorTrialExecutor(as_spec(Unloadable()))
    executor.launch(TrialLaunch("t0", 1, "t0", "sweep", {}, {"CPU": 1.0}, str(tmp_path), str(tmp_path)))
    event = next_event(executor)
    assert isinstance(event, TrialFailed) and event.is_lost and "no number" in event.details
    executor.shutdown()
