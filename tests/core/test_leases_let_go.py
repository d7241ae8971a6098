"""What the owner does not keep: cancelled tasks of a worker that died, and scheduling classes nobody uses any more."""

from __future__ import annotations

from raybook.base.config import Config
from raybook.base.specs import Assignment, Endpoint, SchedulingClass
from raybook.core.owner.records import CancelCommand, FromRaylet, FunctionStats, ToRaylet
from raybook.protocol.messages.raylet import DemandRefused, LeaseGranted, ReturnLease
from raybook.testing.owner_world import NODE, World


def quick() -> FunctionStats:
    stats = FunctionStats("quick")
    stats.average_us = 5.0
    return stats


def classes_of(world: World) -> int:
    return len(world.owner.leases._groups)


def test_cancelled_tasks_that_a_dead_worker_never_started_are_not_run_elsewhere() -> None:
    world = World(workers=2)
    keys = [world.task(quick()) for _ in range(3)]
    world.grant()

    world.feed(*(CancelCommand(key[:16], True, True) for key in keys))
    world.kill(1)
    world.settle()

    assert [world.value(key).error.code for key in keys] == ["TaskCancelledError"] * 3  # type: ignore[union-attr]
    assert world.runs == []


def test_a_scheduling_class_is_forgotten_with_its_last_lease_and_works_again_later() -> None:
    world = World(workers=1, config=Config(lease_idle_ms=100))
    for index in range(20):
        world.task(quick(), scheduling_class=SchedulingClass((("CPU", 10_000 + index),)))
        world.settle()
        world.tick(101)

    assert classes_of(world) == 0
    key = world.task(quick())
    world.settle()
    assert world.value(key) is not None


def test_a_class_whose_tasks_are_refused_is_forgotten() -> None:
    world = World(workers=0)
    key = world.task(quick())

    world.feed(FromRaylet(DemandRefused(0, "TaskPlacementGroupRemoved", "the group was removed")))

    assert world.value(key).error.code == "TaskPlacementGroupRemoved"  # type: ignore[union-attr]
    assert classes_of(world) == 0


def test_a_lease_for_a_class_that_was_forgotten_is_given_back() -> None:
    world = World(workers=1)
    key = world.task(quick())
    world.feed(CancelCommand(key[:16], False, True))
    assert classes_of(world) == 0

    world.leases[7] = (b"worker-0", 0)
    world.queues[b"worker-0"] = type(world.free_workers)()
    world.feed(FromRaylet(LeaseGranted(0, 7, 7, Endpoint(b"worker-0", NODE, "unix:/w"), Assignment({}), 1)))

    returned = [effect.message for effect in world.effects if isinstance(effect, ToRaylet)]
    assert ReturnLease(7) in returned
