"""Tasks whose worker was ended for want of memory: tried again later, by a count of their own, and never against the
user's word."""

from __future__ import annotations

import pytest

from raybook.base.config import Config
from raybook.base.specs import SchedulingClass
from raybook.core.owner.oom_retries import DELAY_MS_MAX
from raybook.core.owner.records import CancelCommand, FromRaylet, FunctionStats, LogLine, PeerGone
from raybook.protocol.messages.raylet import LeaseLost
from raybook.testing.owner_world import ONE_CPU, World

ONCE = SchedulingClass((("CPU", 10_000),), is_retriable=False)


@pytest.fixture
def world() -> World:
    return World(0, workers=1)


def lose(world: World, *, code: str = "") -> None:
    """The worker that holds the one lease is ended, because memory ran short."""
    ((lease, (worker, _)),) = world.leases.items()
    world.leases.pop(lease)
    world.queues.pop(worker)
    world.free_workers.append(worker)
    lost = LeaseLost(lease, True, "memory ran short.", -9, True, code)
    world.feed(FromRaylet(lost), PeerGone(worker))


def start(world: World, *, retries: int = 3, scheduling_class: SchedulingClass = ONE_CPU) -> bytes:
    key = world.task(FunctionStats("hog"), retries=retries, scheduling_class=scheduling_class)
    assert world.grant()
    return key


def test_task_waits_before_it_is_tried_again_and_spends_no_retry(world: World):
    key = start(world, retries=1)
    (record,) = world.owner.tasks.tasks.values()

    lose(world)
    assert not world.grant(), "It asked for a worker at once."
    world.tick(999)
    assert not world.grant()
    world.tick(1)

    assert world.grant()
    world.settle()
    assert world.value(key).inline == b"value"
    assert (record.retries_left, record.spec.attempt, record.oom_tries) == (1, 1, 1)


def test_pause_doubles_each_time_up_to_a_minute(world: World):
    start(world)
    pauses = []
    for _ in range(9):
        lose(world)
        pauses.append(world.owner.next_deadline_ms() - world.now_ms)
        world.tick(pauses[-1])
        assert world.grant()

    assert pauses == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, DELAY_MS_MAX, DELAY_MS_MAX, DELAY_MS_MAX]


def test_people_are_told_the_first_time_then_less_and_less_often(world: World):
    start(world)
    for _ in range(9):
        lose(world)
        world.tick(DELAY_MS_MAX)
        world.grant()

    lines = [effect.text for effect in world.effects if isinstance(effect, LogLine)]
    assert ["time 1" in lines[0], len(lines)] == [True, 4]
    assert "memory ran short." in lines[0]


def test_task_that_must_not_run_twice_fails_at_once(world: World):
    key = start(world, retries=0, scheduling_class=ONCE)

    lose(world)

    error = world.value(key).error
    assert error.code == "OutOfMemoryError"
    assert "`hog`" in error.text and "memory ran short." in error.text and "not retried" in error.text


def test_victim_without_company_fails_at_once(world: World):
    key = start(world)

    lose(world, code="OutOfMemoryError")

    assert world.value(key).error.code == "OutOfMemoryError"


def test_number_of_tries_can_be_bounded():
    world = World(0, workers=1, config=Config(task_oom_retries=2))
    key = start(world)
    for _ in range(2):
        lose(world)
        assert world.value(key) is None
        world.tick(DELAY_MS_MAX)
        assert world.grant()

    lose(world)

    assert "tried 3 times" in world.value(key).error.text


def test_task_that_is_cancelled_while_it_waits_never_runs(world: World):
    key = start(world)
    (task_id,) = world.owner.tasks.tasks
    lose(world)

    world.feed(CancelCommand(task_id, False, True))
    world.tick(DELAY_MS_MAX)

    assert world.value(key).error.code == "TaskCancelledError"
    assert not world.grant() and world.runs == []


def test_waiting_task_says_why_it_is_not_ready(world: World):
    key = start(world)
    lose(world)

    assert "memory ran short" in world.owner.explain(key)
