"""Tasks pushed behind the task that makes their argument: when, and what becomes of them when that goes wrong."""

from __future__ import annotations

import pytest

from raybook.base.config import Config
from raybook.base.specs import ErrorValue, SchedulingClass, Value
from raybook.core.owner.records import CancelCommand, FunctionStats, ToPeer
from raybook.core.owner.task_manager import RETRYABLE
from raybook.protocol.messages.worker import CancelTask
from raybook.testing.owner_world import World

MADE = Value(inline=b"value")


def quick() -> FunctionStats:
    stats = FunctionStats("quick")
    stats.average_us = 5.0
    return stats


def chain(world: World, length: int, stats: FunctionStats | None = None, retries: int = 3) -> list[bytes]:
    stats = stats or quick()
    keys = [world.task(stats, retries=retries)]
    while len(keys) < length:
        keys.append(world.task(stats, args=[keys[-1]], retries=retries))
    return keys


def test_a_chain_is_pushed_in_one_message_before_any_of_its_values_exist() -> None:
    world = World(workers=2)
    keys = chain(world, 5)

    world.grant()

    assert world.pushes == [[key[:16] for key in keys]]


def test_a_task_submitted_while_its_argument_is_made_is_pushed_behind_it() -> None:
    world = World(workers=2)
    (first,) = chain(world, 1)
    world.grant()

    second = world.task(quick(), args=[first])

    assert world.pushes == [[first[:16]], [second[:16]]]
    assert len(world.queues) == 1


def test_a_chain_longer_than_the_pipeline_goes_on_where_it_is() -> None:
    world = World(workers=1, config=Config(pipeline_depth_max=4))
    keys = chain(world, 50)
    world.grant()
    (queue,) = world.queues.values()
    assert len(queue) == 4

    world.settle()

    assert [task_id for task_id, _ in world.runs] == [key[:16] for key in keys]
    assert not any(world.owner.leases.statistics().queued for _ in keys)


def test_each_of_two_chains_stays_on_its_worker() -> None:
    world = World(workers=2)
    stats = quick()
    heads = [world.task(stats), world.task(stats)]
    world.grant()
    world.grant()

    chains = [[head, world.task(stats, args=[head])] for head in heads]

    places = [{name for name, queue in world.queues.items() for spec in queue if spec.task_id == key[:16]}
              for keys in chains for key in keys]  # fmt: skip
    assert all(len(place) == 1 for place in places)


def test_a_task_that_was_never_measured_does_not_follow() -> None:
    world = World(workers=1)
    first = world.task(quick())
    world.task(FunctionStats("new"), args=[first])

    world.grant()

    assert world.pushes == [[first[:16]]]


def test_a_long_task_is_not_followed_before_it_ends() -> None:
    world = World(workers=1)
    stats = FunctionStats("long")
    stats.average_us = 50_000.0
    keys = chain(world, 2, stats)

    world.grant()

    assert world.pushes == [[keys[0][:16]]]


def test_a_task_of_another_scheduling_class_does_not_follow() -> None:
    world = World(workers=2)
    first = world.task(quick())
    world.grant()

    second = world.task(quick(), args=[first], scheduling_class=SchedulingClass((("CPU", 20_000),)))
    world.settle()

    assert [len(push) for push in world.pushes] == [1, 1]
    assert world.value(second) == MADE


def test_a_task_with_two_arguments_in_the_making_waits_for_one_of_them() -> None:
    world = World(workers=1)
    stats = quick()
    first, second = world.task(stats), world.task(stats)
    third = world.task(stats, args=[first, second])
    world.grant()
    assert world.pushes == [[first[:16], second[:16]]]

    world.settle()

    assert world.value(third) == MADE


def test_a_task_that_takes_one_pending_object_twice_runs_once() -> None:
    world = World(workers=2)
    stats = FunctionStats("new")
    first = world.task(stats)
    second = world.task(stats, args=[first, first])
    world.grant()

    world.settle()

    assert [task_id for task_id, _ in world.runs] == [first[:16], second[:16]]


def test_a_follower_of_a_failed_task_fails_with_its_error_and_never_runs() -> None:
    world = World(workers=1)
    keys = chain(world, 4)
    world.grant()

    world.run_one(error=ErrorValue("task", "boom"))
    world.settle()

    errors = [value.error for key in keys if (value := world.value(key))]
    assert len(errors) == 4 and all(error is not None and "boom" in error.text for error in errors)
    assert len(world.runs) == 1


def test_a_follower_of_a_retried_task_waits_for_the_attempt_that_succeeds() -> None:
    world = World(workers=1)
    first = world.task(quick(), retries=1)
    second = world.task(quick(), args=[first])
    world.grant()

    world.run_one(error=ErrorValue(RETRYABLE + "task", "once"))
    world.settle()

    assert world.value(second) == MADE
    assert world.runs == [(first[:16], 0), (first[:16], 1), (second[:16], 0)]


def test_followers_of_a_lost_worker_run_elsewhere_and_are_charged_as_they_may_have_begun() -> None:
    world = World(workers=2)
    keys = chain(world, 4, retries=1)
    world.grant()

    world.kill(1)
    world.settle()

    assert all(world.value(key) == MADE for key in keys)
    assert world.runs == [(key[:16], 1) for key in keys]


@pytest.mark.parametrize("reason", ["blocked", "stolen", "revoked"])
def test_followers_that_bounce_wait_for_their_argument_as_others_do(reason: str) -> None:
    world = World(workers=1)
    keys = chain(world, 3)
    world.grant()
    (worker,) = world.queues

    world.bounce(worker, 3, reason, keep=1)
    assert world.owner.leases.statistics().queued == 0
    world.settle()

    assert all(world.value(key) == MADE for key in keys)


def test_a_cancelled_follower_ends_when_its_worker_says_so() -> None:
    world = World(workers=1)
    keys = chain(world, 2)
    world.grant()
    (worker,) = world.queues

    world.feed(CancelCommand(keys[1][:16], False, True))
    told = [effect for effect in world.effects if isinstance(effect, ToPeer) and isinstance(effect.message, CancelTask)]
    world.bounce(worker, 1, "argument", keep=1)
    world.settle()

    value = world.value(keys[1])
    assert len(told) == 1
    assert value is not None and value.error is not None and value.error.code == "TaskCancelledError"
    assert world.value(keys[0]) == MADE


def test_a_follower_cancelled_before_it_was_pushed_never_is() -> None:
    world = World(workers=1)
    keys = chain(world, 3)

    world.feed(CancelCommand(keys[1][:16], False, True))
    world.grant()
    world.settle()

    assert [task_id for task_id, _ in world.runs] == [keys[0][:16]]
    assert all((value := world.value(key)) and value.error for key in keys[1:])


def test_an_idle_worker_does_not_take_followers_from_a_busy_one() -> None:
    world = World(workers=2)
    stats = FunctionStats("middling")
    world.task(stats)
    world.task(stats)
    world.grant()
    world.grant()
    world.settle()
    stats.average_us = 100.0

    chain(world, 10, stats)

    assert sorted(len(queue) for queue in world.queues.values()) == [0, 10]


@pytest.mark.parametrize("seed", range(20))
def test_chains_end_under_random_faults_with_every_reference_gone(seed: int) -> None:
    world = World(seed, workers=3)
    stats = FunctionStats("short")
    keys: list[bytes] = []
    for _ in range(300):
        choice = world.rng.random()
        if choice < 0.5:
            args = [world.rng.choice(keys)] if keys and world.rng.random() < 0.8 else None
            keys.append(world.task(stats, args=args, retries=3))
        elif choice < 0.8:
            world.run_one(error=ErrorValue("task", "boom") if world.rng.random() < 0.05 else None)
        elif choice < 0.9:
            world.grant()
        elif choice < 0.95 and any(world.queues.values()):
            world.bounce(world.rng.choice(list(world.queues)), 2, "stolen", keep=1)
        elif world.leases:
            world.kill(world.rng.choice(list(world.leases)), died=world.rng.random() < 0.5)

    world.settle()

    assert all(world.value(key) is not None for key in keys)
    world.feed(*keys)
    assert not world.owner.references.counts and not world.owner.objects.values
