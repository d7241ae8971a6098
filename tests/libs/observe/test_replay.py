"""What if: the replay of recorded runs with another number of tasks at once."""

from __future__ import annotations

import random

import pytest

from raybook.observe.replay import Run, forecast_text, runs_of, what_if


def recorded(took_ms: list[float], workers: int, created_ms: float = 0.0, **same: str) -> list[Run]:
    """What a cluster of so many workers would have recorded: all submitted at once, begun in order."""
    free = [created_ms] * workers
    runs = []
    for number, took in enumerate(took_ms):
        worker = min(range(workers), key=lambda index: free[index])
        start = free[worker]
        free[worker] = start + took
        runs.append(Run(f"{created_ms}-{number}", "f", created_ms, start, start + took, **same))
    return runs


def test_twice_the_workers_halve_tasks_of_one_length():
    forecast = what_if(recorded([100.0] * 40, 4), 8)
    assert (forecast.at_once, forecast.recorded_ms, forecast.same_ms, forecast.then_ms) == (4, 1000, 1000, 500)
    assert forecast.speedup == 2.0
    assert forecast.least_ms == 100


def test_fewer_workers_take_longer():
    forecast = what_if(recorded([100.0] * 40, 4), 1)
    assert forecast.then_ms == 4000
    assert "about 4.0 times as long" in forecast_text(forecast)


def test_the_replay_of_what_was_gives_what_was():
    chance = random.Random(7)
    for _ in range(50):
        workers = chance.randint(1, 6)
        took = [chance.uniform(1, 200) for _ in range(chance.randint(workers, 60))]
        forecast = what_if(recorded(took, workers), workers)
        assert forecast.same_ms == pytest.approx(forecast.recorded_ms)
        assert forecast.then_ms == pytest.approx(forecast.recorded_ms)


def test_more_workers_are_never_slower_for_independent_tasks_submitted_at_once_of_one_length():
    for count in range(1, 30):
        times = [what_if(recorded([10.0] * count, 2), workers).then_ms for workers in range(1, 12)]
        assert times == sorted(times, reverse=True)


def test_one_long_task_bounds_what_workers_can_do():
    forecast = what_if(recorded([1000.0, *[100.0] * 10], 2), 64)
    assert forecast.then_ms == forecast.least_ms == 1000


def test_pauses_between_runs_count_for_nothing():
    runs = recorded([100.0] * 8, 2) + recorded([100.0] * 8, 2, created_ms=3_600_000.0)
    forecast = what_if(runs, 4)
    assert (forecast.recorded_ms, forecast.then_ms) == (800, 400)


def test_calls_of_an_actor_stay_one_at_a_time():
    runs = recorded([50.0] * 10, 1, actor="a1")
    assert what_if(runs, 8).then_ms == 500
    mixed = runs + recorded([100.0] * 4, 2, created_ms=0.0)
    assert what_if([*mixed], 4).then_ms == 500


def test_a_chain_of_arguments_is_no_faster_with_more_workers():
    chain = [Run(f"t{n}", "f", 0.0, 200.0 * n, 200.0 * n + 200, "") for n in range(5)]
    # Two ran at once somewhere, so there was room for the chain's next link, which waited all the same.
    beside = Run("other", "g", 0.0, 0.0, 100.0)
    assert what_if([*chain, beside], 16).then_ms == pytest.approx(1000)


def test_children_follow_their_parent():
    parent = Run("p", "f", 0.0, 100.0, 400.0)
    blocker = Run("b", "f", 0.0, 0.0, 100.0)
    children = [Run(f"c{n}", "g", 150.0, 400.0 + 50 * n, 450.0 + 50 * n, "p") for n in range(3)]
    forecast = what_if([parent, blocker, *children], 8)
    assert forecast.at_once == 1
    # The parent begins at once, its children 50 ms later beside it.
    assert forecast.then_ms == 300


def test_rows_of_a_survey_become_runs_and_unfinished_ones_are_left_out():
    ended = {"task_id": "a", "name": "f", "parent": "", "actor_id": "", "created_ms": 900, "started_ms": 1000,
             "ended_ms": 1200, "run_us": 200_000}  # fmt: skip
    running = {"task_id": "b", "name": "f", "parent": "", "actor_id": "", "created_ms": 900}
    assert runs_of([ended, running]) == [Run("a", "f", 900, 1000.0, 1200)]
    assert runs_of([{**ended, "created_ms": 0}])[0].created_ms == 1000.0


@pytest.mark.parametrize(
    ("runs", "workers", "text"), [([], 2, "nothing to replay"), (recorded([1.0], 1), 0, "workers is 0")]
)
def test_what_cannot_be_replayed_says_so(runs, workers, text):
    with pytest.raises(ValueError, match=text):
        what_if(runs, workers)


def test_ten_thousand_tasks_are_replayed_in_a_moment():
    forecast = what_if(recorded([10.0] * 10_000, 8), 16)
    assert forecast.then_ms == 6250
