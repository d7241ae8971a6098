"""The owner machine: tasks, leases, pipelining, retries and references, in a scripted world without I/O."""

from __future__ import annotations

import pytest

from raybook.base.config import Config
from raybook.base.specs import ErrorValue, Location, RefInfo, Value
from raybook.core.owner.lease_requester import LAST_WORDS_MS
from raybook.core.owner.records import (
    CancelCommand,
    FreeOwn,
    FromPeer,
    FromRaylet,
    FunctionStats,
    PeerGone,
    Put,
    ToPeer,
    ToRaylet,
    Wait,
)
from raybook.core.owner.task_manager import RETRYABLE
from raybook.protocol.messages.raylet import LeaseLost, ReturnLease
from raybook.protocol.messages.worker import AddBorrows, BorrowsAdded, ReturnsTaken, TaskReplies, TaskReply
from raybook.testing.owner_world import ME, World


def quick() -> FunctionStats:
    stats = FunctionStats("quick")
    stats.average_us = 5.0
    return stats


def test_an_unmeasured_function_is_pushed_one_at_a_time() -> None:
    world = World(workers=1)
    stats = FunctionStats("new")
    for _ in range(3):
        world.task(stats)

    world.grant()

    assert [len(push) for push in world.pushes] == [1]


def test_a_short_function_is_pipelined_once_it_has_been_measured() -> None:
    world = World(workers=1)
    stats = FunctionStats("short")
    for _ in range(20):
        world.task(stats)
    world.grant()

    world.run_one(run_us=5)

    assert [len(push) for push in world.pushes] == [1, 19]


def test_a_long_function_is_never_pipelined() -> None:
    world = World(workers=1)
    stats = FunctionStats("long")
    for _ in range(3):
        world.task(stats)
    world.grant()

    world.run_one(run_us=1_000_000)

    assert [len(push) for push in world.pushes] == [1, 1]


def test_a_function_of_ten_milliseconds_has_one_task_waiting_at_its_worker() -> None:
    world = World(workers=1)
    stats = FunctionStats("middling")
    for _ in range(5):
        world.task(stats)
    world.grant()

    world.run_one(run_us=10_000)
    world.run_one(run_us=10_000)

    assert [len(push) for push in world.pushes] == [1, 2, 1]


def test_a_task_waiting_at_a_busy_worker_is_taken_back_for_an_idle_one() -> None:
    world = World(workers=2)
    stats = FunctionStats("middling")
    stats.average_us = 10_000.0
    keys = [world.task(stats) for _ in range(2)]
    world.grant()
    assert [len(push) for push in world.pushes] == [2]

    world.now_ms += 1
    idle = world.task(FunctionStats("other"))
    world.grant()
    world.run_one(next(name for name, queue in world.queues.items() if queue and queue[0].task_id == idle[:16]))

    assert sorted(len(queue) for queue in world.queues.values()) == [1, 1]
    assert not any(world.value(key) for key in keys)


def test_a_backlog_is_shared_evenly_by_the_leases() -> None:
    world = World(workers=2)
    stats = FunctionStats("short")
    for _ in range(2):
        world.task(stats)
    world.grant()
    world.grant()
    world.settle()

    for _ in range(10):
        world.task(stats)

    assert sorted(len(queue) for queue in world.queues.values()) == [5, 5]


def test_a_stalled_worker_gives_its_unstarted_tasks_to_another() -> None:
    world = World(workers=2)
    stats = quick()
    keys = [world.task(stats) for _ in range(8)]
    world.grant()
    stuck = next(iter(world.queues))

    world.tick(25)
    world.grant()
    other = next(name for name in world.queues if name != stuck)
    while world.run_one(other):
        pass

    assert len(world.queues[stuck]) == 1
    assert sum(world.value(key) is not None for key in keys) == 7


def test_a_worker_blocked_in_get_takes_no_more_until_it_answers() -> None:
    world = World(workers=1)
    stats = quick()
    for _ in range(4):
        world.task(stats)
    world.grant()
    (worker,) = world.queues

    world.bounce(worker, 3, "blocked", keep=1)
    pushed_while_blocked = len(world.queues[worker])
    world.run_one(worker)

    assert pushed_while_blocked == 1
    assert len(world.queues[worker]) == 3


def test_a_task_waits_for_its_arguments_and_then_runs_with_their_values() -> None:
    world = World(workers=2)
    stats = quick()
    first = world.task(stats)
    second = world.task(stats, args=[first])
    world.grant()
    assert world.owner.tasks.tasks[second[:16]].unresolved == 1

    world.settle()

    assert world.value(second) == Value(inline=b"value")
    assert [task_id for task_id, _ in world.runs] == [first[:16], second[:16]]


def test_a_task_whose_argument_failed_fails_without_running() -> None:
    world = World(workers=1)
    stats = quick()
    first = world.task(stats)
    second = world.task(stats, args=[first])
    third = world.task(stats, args=[second])
    world.grant()

    world.run_one(error=ErrorValue("task", "boom"))
    world.settle()

    for key in (first, second, third):
        value = world.value(key)
        assert value is not None and value.error is not None and "boom" in value.error.text
    assert len(world.runs) == 1


def test_a_task_without_retries_goes_alone_so_a_crash_fails_no_other() -> None:
    world = World(workers=1)
    stats = quick()
    keys = [world.task(stats, retries=0) for _ in range(4)]
    world.grant()
    assert world.pushes == [[keys[0][:16]]]

    world.kill(1)
    world.settle()

    failed = [key for key in keys if (value := world.value(key)) and value.error]
    assert failed == keys[:1]
    error = world.value(keys[0]).error  # type: ignore[union-attr]
    assert error is not None and error.code == "WorkerCrashedError" and "SIGKILL" in error.text


def test_a_crash_charges_every_task_in_flight_once_and_then_each_goes_alone() -> None:
    world = World(workers=1)
    stats = quick()
    keys = [world.task(stats, retries=1) for _ in range(3)]
    world.grant()
    assert world.pushes == [[key[:16] for key in keys]]

    world.kill(1)
    world.grant()
    assert world.pushes[1:] == [[keys[0][:16]]]
    world.kill(2)
    world.settle()

    # The first crashed twice; the others, which were charged with it once, ran.
    assert [world.value(key).error is not None for key in keys] == [True, False, False]  # type: ignore[union-attr]
    assert world.pushes[2:] == [[key[:16]] for key in keys[1:]]


def test_a_crashed_task_is_retried_as_often_as_it_may() -> None:
    world = World(workers=1)
    key = world.task(quick(), retries=2)
    for _ in range(2):
        world.grant()
        world.kill(max(world.leases))
    world.grant()

    world.settle()

    assert world.value(key) == Value(inline=b"value")
    assert world.runs[-1][1] == 2


def test_a_late_reply_of_an_old_attempt_is_ignored() -> None:
    world = World(workers=1)
    key = world.task(quick(), retries=1)
    world.grant()
    (worker,) = world.queues
    stale = world.queues[worker][0]
    old_attempt = stale.attempt
    world.kill(1)

    world.feed(FromPeer(worker, TaskReplies([TaskReply(stale.task_id, old_attempt, [Value(inline=b"old")], 1)])))

    assert world.value(key) is None


def test_a_reply_that_the_end_of_its_lease_overtook_still_counts() -> None:
    world = World(workers=1)
    key = world.task(quick())
    world.grant()
    (worker,) = world.queues

    world.feed(FromRaylet(LeaseLost(1, died=False)))
    world.run_one(worker)

    assert world.value(key) == Value(inline=b"value")
    assert len(world.pushes) == 1


def test_a_reply_that_the_news_of_the_workers_death_overtook_still_counts() -> None:
    world = World(workers=1)
    first, second = world.task(quick()), world.task(quick())
    world.grant()
    (worker,) = world.queues

    world.feed(FromRaylet(LeaseLost(1, True, "it was killed by SIGKILL.")))
    world.run_one(worker)
    world.feed(PeerGone(worker))

    assert world.value(first) == Value(inline=b"value")
    assert world.owner.tasks.tasks[second[:16]].spec.attempt == 1


def test_tasks_that_a_leaving_worker_never_started_come_back_when_it_is_out_of_reach() -> None:
    world = World(workers=1)
    keys = [world.task(quick()) for _ in range(3)]
    world.grant()
    (worker,) = world.queues

    world.run_one(worker)
    world.feed(FromRaylet(LeaseLost(1, died=False)))
    assert world.demand.get(0) == 0
    world.queues.pop(worker)
    world.feed(PeerGone(worker))
    world.free_workers.append(worker)
    world.settle()

    assert [world.value(key) for key in keys] == [Value(inline=b"value")] * 3


def test_the_socket_of_a_dead_worker_is_not_waited_for_for_ever() -> None:
    world = World(workers=1)
    key = world.task(quick(), retries=0)
    world.grant()

    world.feed(FromRaylet(LeaseLost(1, True, "it was killed by SIGKILL.")))
    assert world.value(key) is None
    world.tick(LAST_WORDS_MS)

    assert world.value(key).error.code == "WorkerCrashedError"  # type: ignore[union-attr]


def test_an_application_error_is_retried_only_when_the_worker_says_it_may() -> None:
    world = World(workers=1)
    asked = world.task(quick(), retries=1)
    plain = world.task(quick(), retries=1)
    world.grant()
    world.run_one(error=ErrorValue(RETRYABLE + "task", "flaky"))
    while (value := world.value(plain)) is None:
        world.run_one(
            error=ErrorValue("task", "broken") if world.queues[b"worker-0"][0].task_id == plain[:16] else None
        )

    world.settle()

    assert world.value(asked) == Value(inline=b"value")
    assert value.error is not None and value.error.code == "task"


def test_a_cancelled_pending_task_never_runs() -> None:
    world = World(workers=1)
    key = world.task(quick())

    world.feed(CancelCommand(key[:16], False, True))
    world.settle()

    value = world.value(key)
    assert value is not None and value.error is not None and value.error.code == "TaskCancelledError"
    assert world.runs == []


def test_demand_is_withdrawn_when_the_queue_runs_dry() -> None:
    world = World(workers=1)
    for _ in range(5):
        world.task(quick())
    world.grant()

    world.settle()

    assert world.demand == {0: 0}


def test_an_idle_lease_is_given_back_after_a_while() -> None:
    world = World(workers=1, config=Config(lease_idle_ms=100))
    world.task(quick())
    world.grant()
    world.settle()

    world.tick(99)
    assert len(world.leases) == 1
    world.tick(2)

    assert any(isinstance(effect, ToRaylet) and isinstance(effect.message, ReturnLease) for effect in world.effects)
    assert world.owner.next_deadline_ms() is None


def test_a_wait_ends_when_enough_of_its_objects_are_ready() -> None:
    world = World(workers=1)
    keys = [world.task(quick()) for _ in range(3)]
    wait = Wait(keys, 2, False, None)
    world.feed(wait)
    world.grant()

    world.run_one()
    assert world.woken == []
    world.run_one()

    assert world.woken == [wait]


def test_a_get_ends_at_once_when_one_of_its_objects_failed() -> None:
    world = World(workers=1)
    keys = [world.task(quick()) for _ in range(3)]
    wait = Wait(keys, 3, True, None)
    world.feed(wait)
    world.grant()

    world.run_one(error=ErrorValue("task", "boom"))

    assert world.woken == [wait]


def test_a_result_nobody_wants_is_discarded_on_arrival() -> None:
    world = World(workers=1)
    key = world.task(quick())
    world.feed(key)
    world.grant()

    world.settle()

    assert world.value(key) is None
    assert world.owner.references.counts == {}


def test_the_region_of_a_dropped_put_is_freed() -> None:
    world = World()
    key = ME + b"\0" * 12
    world.feed(Put(key, Value(location=Location(b"node....", 4096, 100)), own_region=True))

    world.feed(key)

    assert any(isinstance(effect, FreeOwn) and effect.offset == 4096 for effect in world.effects)


@pytest.mark.parametrize("seed", range(25))
def test_every_task_ends_under_random_faults(seed: int) -> None:
    world = World(seed, workers=3)
    rng = world.rng
    functions = [FunctionStats("a"), FunctionStats("b"), quick()]
    keys: list[bytes] = []
    for _ in range(400):
        choice = rng.random()
        if choice < 0.4:
            args = rng.sample(keys, min(len(keys), rng.randrange(3))) if rng.random() < 0.4 else None
            keys.append(world.task(rng.choice(functions), args=args, retries=-1))
        elif choice < 0.6:
            world.grant()
        elif choice < 0.85:
            world.run_one(run_us=rng.choice((3, 50, 5_000)))
        elif choice < 0.9 and world.leases:
            world.kill(rng.choice(list(world.leases)), died=rng.random() < 0.5)
        elif choice < 0.95 and world.queues:
            world.bounce(rng.choice(list(world.queues)), rng.randrange(4), "stolen", keep=1)
        else:
            world.tick(rng.randrange(40))
    world.settle()

    assert all(world.value(key) is not None for key in keys)
    assert len(world.runs) == len(set(world.runs)), "an attempt ran twice"
    world.feed(*keys)
    assert world.owner.references.counts == {}
    assert world.owner.objects.values == {}


def test_caller_confirms_references_in_a_result_only_when_their_owner_knows_of_it() -> None:
    world = World()
    stats = FunctionStats("f")
    task = world.task(stats)
    world.grant()
    worker = next(iter(world.queues))
    spec = world.queues[worker].popleft()
    inner = b"third..." + bytes(12)
    value = Value(inline=b"list", contained=[RefInfo(inner, "unix:/third")])
    world.effects.clear()

    world.feed(FromPeer(worker, TaskReplies([TaskReply(spec.task_id, spec.attempt, [value], 5)])))
    sent = [effect.message for effect in world.effects if isinstance(effect, ToPeer)]
    world.feed(FromPeer(b"third...", BorrowsAdded(sent[0].ack_id)))
    confirmed = [effect.message for effect in world.effects if isinstance(effect, ToPeer)][1:]

    assert [type(message) for message in sent] == [AddBorrows]
    assert confirmed == [ReturnsTaken(spec.task_id)]
    assert world.owner.references.is_held(inner) and world.value(task) is not None


def test_a_chain_of_a_thousand_tasks_fails_with_its_first() -> None:
    """One loop, not a thousand calls inside each other."""
    world = World(workers=1)
    stats = quick()
    key = first = world.task(stats)
    for _ in range(1_000):
        key = world.task(stats, args=[key])
    world.grant()
    world.run_one(error=ErrorValue("task", "ValueError: no", b""))
    world.settle()
    last = world.value(key)
    assert last is not None and last.error is not None and "ValueError: no" in last.error.text
    assert world.value(first) is not None and not world.owner.tasks.tasks
