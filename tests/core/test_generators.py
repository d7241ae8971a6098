"""Streams of generator items at their owner: order, duplicates, backpressure, retries, ends, in a scripted world."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybook.base.ids import FIRST_RETURN, return_id, stream_id
from raybook.base.specs import END_OF_STREAM, ErrorValue, Location, RefInfo, Value
from raybook.core.owner.generators import DROPPED, ENDED, OPEN, STOP
from raybook.core.owner.records import (
    CancelCommand,
    FromPeer,
    FunctionStats,
    TakeItem,
    ToPeer,
    ToRaylet,
    UnhandledError,
    Wait,
)
from raybook.protocol.messages.store import FreeRegions
from raybook.protocol.messages.worker import (
    CancelTask,
    ReturnsTaken,
    StreamCredit,
    StreamItems,
    TaskReplies,
    TaskReply,
    TaskSpec,
)
from raybook.testing.owner_world import World

RAISED = ErrorValue("task", "ValueError: no more", b"pickled")


def item(number: int) -> Value:
    return Value(inline=str(number).encode())


def running(window: int = -1, retries: int = 0, collect: str = "", workers: int = 1) -> tuple[World, bytes, bytes]:
    """A world in which a generator runs: (world, task id, worker)."""
    world = World(workers=workers)
    task_id = world.stream(FunctionStats("numbers"), window=window, retries=retries, collect=collect)
    world.grant()
    (worker,) = world.queues
    return world, task_id, worker


def spec_on(world: World, worker: bytes) -> TaskSpec:
    return world.queues[worker][0]


def items_of(world: World, task_id: bytes) -> list[bytes | str]:
    """What a reader finds: the items, errors by their code, END_OF_STREAM if it is over."""
    found: list[bytes | str] = []
    index = 1
    while (value := world.value(return_id(task_id, index))) is not None:
        found.append(value.error.code if value.error is not None else value.inline or b"")
        index += 1
    return found


def credits(world: World) -> list[int]:
    messages = [effect.message for effect in world.effects if isinstance(effect, ToPeer)]
    return [message.consumed for message in messages if isinstance(message, StreamCredit)]


def freed(world: World) -> list[int]:
    messages = [effect.message for effect in world.effects if isinstance(effect, ToRaylet)]
    return [offset for message in messages if isinstance(message, FreeRegions) for offset in message.offsets]


def is_empty(world: World) -> bool:
    owner = world.owner
    return not (owner.references.counts or owner.objects.values or owner.generators.streams or owner.tasks.tasks)


def test_items_are_there_before_the_task_has_ended():
    world, task_id, worker = running()

    world.yield_items(worker, spec_on(world, worker), 1, [item(1), item(2)])

    assert items_of(world, task_id) == [b"1", b"2"]
    assert world.value(task_id + FIRST_RETURN) is None


def test_after_the_last_item_stands_the_end_and_the_task_has_a_value():
    world, task_id, worker = running()
    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])

    world.end_stream(worker)

    assert items_of(world, task_id) == [b"1", END_OF_STREAM]
    assert world.value(task_id + FIRST_RETURN).error is None
    assert world.owner.generators.streams[task_id].state == ENDED


def test_a_reader_that_waits_is_woken_by_the_next_item():
    world, task_id, worker = running()
    wait = Wait([return_id(task_id, 1)], 1, False, None)
    world.feed(wait)

    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])

    assert world.woken == [wait]


def test_a_reader_that_waits_is_woken_by_the_end():
    world, task_id, worker = running()
    wait = Wait([return_id(task_id, 1)], 1, False, None)
    world.feed(wait)

    world.end_stream(worker)

    assert world.woken == [wait]
    assert items_of(world, task_id) == [END_OF_STREAM]


def test_an_error_of_the_generator_is_its_last_item_and_not_an_error_of_the_task():
    world, task_id, worker = running()
    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])

    world.end_stream(worker, error=RAISED)

    assert items_of(world, task_id) == [b"1", "task", END_OF_STREAM]
    assert world.value(task_id + FIRST_RETURN).error is None


def test_the_loss_of_the_worker_is_the_last_item_and_an_error_of_the_task():
    world, task_id, worker = running()
    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])

    world.kill(1)

    assert items_of(world, task_id) == [b"1", "WorkerCrashedError", END_OF_STREAM]
    assert world.value(task_id + FIRST_RETURN).error.code == "WorkerCrashedError"


def test_a_retry_begins_at_the_first_item_that_never_came():
    world, task_id, worker = running(retries=1)
    world.yield_items(worker, spec_on(world, worker), 1, [item(1), item(2)])

    world.kill(1)
    world.grant()
    again = spec_on(world, worker)
    assert (again.attempt, again.stream.received) == (1, 2)
    world.yield_items(worker, again, 3, [item(3)])
    world.end_stream(worker)

    assert items_of(world, task_id) == [b"1", b"2", b"3", END_OF_STREAM]


def test_late_items_of_an_old_attempt_are_freed():
    world, task_id, worker = running(retries=1)
    old = spec_on(world, worker).attempt
    world.kill(1)

    late = Value(location=Location(b"node....", 4096, 200_000))
    world.feed(FromPeer(worker, StreamItems(task_id, old, 1, [late])))

    assert items_of(world, task_id) == []
    assert freed(world) == [4096]


def test_an_item_that_comes_twice_is_kept_once():
    world, task_id, worker = running()
    spec = spec_on(world, worker)
    world.yield_items(worker, spec, 1, [item(1), item(2)])

    world.yield_items(worker, spec, 2, [Value(location=Location(b"node....", 8192, 200_000)), item(3)])

    assert items_of(world, task_id) == [b"1", b"2", b"3"]
    assert freed(world) == [8192]


def test_taking_an_item_gives_credit_only_to_a_producer_with_a_window():
    for window, expected in ((2, [1, 2]), (-1, [])):
        world, task_id, worker = running(window=window)
        world.yield_items(worker, spec_on(world, worker), 1, [item(1), item(2)])

        world.feed(TakeItem(task_id, 1))
        world.feed(TakeItem(task_id, 2))

        assert credits(world) == expected


def test_a_retried_producer_hears_what_was_taken_while_it_was_not_running():
    world, task_id, worker = running(window=1, retries=1)
    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])
    world.kill(1)
    world.grant()
    world.feed(TakeItem(task_id, 1))
    world.effects.clear()

    world.yield_items(worker, spec_on(world, worker), 2, [item(2)])

    assert credits(world) == [1]


def test_a_taken_item_lives_as_long_as_its_reference():
    world, task_id, worker = running()
    world.yield_items(worker, spec_on(world, worker), 1, [item(1), item(2)])
    world.feed(TakeItem(task_id, 1))

    world.feed(stream_id(task_id))

    assert world.value(return_id(task_id, 1)) is not None
    assert world.value(return_id(task_id, 2)) is None
    world.feed(return_id(task_id, 1))
    assert world.value(return_id(task_id, 1)) is None


def test_two_readers_that_got_one_item_each_keep_it_alive():
    world, task_id, worker = running()
    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])
    world.feed(TakeItem(task_id, 1), TakeItem(task_id, 1))

    world.feed(return_id(task_id, 1))

    assert world.value(return_id(task_id, 1)) is not None


def test_dropping_the_generator_stops_its_producer_and_frees_what_still_comes():
    world, task_id, worker = running()
    spec = spec_on(world, worker)
    world.feed(stream_id(task_id))
    assert credits(world) == [STOP]
    assert world.owner.generators.streams[task_id].state == DROPPED

    world.yield_items(worker, spec, 1, [Value(location=Location(b"node....", 4096, 200_000))])
    world.end_stream(worker)
    world.feed(task_id + FIRST_RETURN)

    assert freed(world) == [4096]
    assert is_empty(world)


def test_dropping_the_generator_before_it_started_stops_it_at_its_first_item():
    world = World(workers=1)
    task_id = world.stream(FunctionStats("numbers"))
    world.feed(stream_id(task_id))
    world.grant()
    (worker,) = world.queues

    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])

    assert credits(world) == [STOP]


def test_dropping_an_ended_generator_leaves_nothing():
    world, task_id, worker = running()
    world.yield_items(worker, spec_on(world, worker), 1, [item(1), item(2)])
    world.end_stream(worker)

    world.feed(stream_id(task_id), task_id + FIRST_RETURN)

    assert is_empty(world)


def test_cancelling_a_running_generator_asks_its_worker_and_ends_the_stream_with_that():
    world, task_id, worker = running()
    world.yield_items(worker, spec_on(world, worker), 1, [item(1)])

    world.feed(CancelCommand(task_id, False, True))
    assert any(isinstance(effect, ToPeer) and isinstance(effect.message, CancelTask) for effect in world.effects)
    world.end_stream(worker, error=ErrorValue("TaskCancelledError", "cancelled"))

    assert items_of(world, task_id) == [b"1", "TaskCancelledError", END_OF_STREAM]
    assert world.value(task_id + FIRST_RETURN).error.code == "TaskCancelledError"


def test_cancelling_a_queued_generator_ends_its_stream():
    world = World(workers=0)
    task_id = world.stream(FunctionStats("numbers"))

    world.feed(CancelCommand(task_id, False, True))

    assert items_of(world, task_id) == ["TaskCancelledError", END_OF_STREAM]


def raised() -> ErrorValue:
    return ErrorValue("task", "ValueError: no more", b"pickled")


def reports(world: World) -> list[UnhandledError]:
    return [effect for effect in world.effects if isinstance(effect, UnhandledError)]


@pytest.mark.parametrize("is_cancelled", [True, False])
@pytest.mark.parametrize("has_ended", [True, False])
def test_error_of_a_generator_is_reported_when_it_is_let_go_unless_it_was_cancelled(is_cancelled, has_ended):
    world, task_id, worker = running()
    cancel = [CancelCommand(task_id, False, True)] if is_cancelled else []
    if has_ended:
        world.end_stream(worker, error=raised())
        world.feed(*cancel)
    else:
        world.feed(*cancel)
        world.end_stream(worker, error=raised())

    world.feed(stream_id(task_id), task_id + FIRST_RETURN)

    assert len(reports(world)) == (0 if is_cancelled else 1)
    assert is_empty(world)


def test_references_inside_an_item_are_borrowed_before_the_worker_lets_go():
    world, task_id, worker = running()
    other = b"other-01" + bytes(8) + FIRST_RETURN

    world.yield_items(worker, spec_on(world, worker), 1, [Value(b"x", contained=[RefInfo(other, "unix:/other")])])

    assert world.owner.references.is_held(other)
    addressees = [effect.client_id for effect in world.effects if isinstance(effect, ToPeer)]
    assert b"other-01" in addressees
    taken = [effect.message for effect in world.effects if isinstance(effect, ToPeer) and effect.client_id == worker]
    assert ReturnsTaken(return_id(task_id, 1)) not in taken  # Not before the owner has answered.


def test_collected_items_live_in_the_value_of_the_task():
    world, task_id, worker = running(collect="unix:/me")
    spec = spec_on(world, worker)
    world.yield_items(worker, spec, 1, [item(1)])
    world.queues[worker].popleft()
    all_items = Value(b"list", contained=[RefInfo(return_id(task_id, 1), "unix:/me")])
    world.feed(FromPeer(worker, TaskReplies([TaskReply(task_id, spec.attempt, [all_items])])))
    assert world.value(return_id(task_id, 1)) is not None
    assert not world.owner.generators.streams

    world.feed(task_id + FIRST_RETURN)

    assert is_empty(world)


# What the generator makes is 1, 2, 3, … whatever happens on the way.


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["yield", "again", "take", "crash", "late", "grant"]), max_size=40),
    length=st.integers(0, 8),
    drops=st.booleans(),
)
def test_the_reader_finds_every_item_once_in_order_whatever_is_lost_or_repeated(
    steps: list[str], length: int, drops: bool
) -> None:
    world = World(workers=1)
    task_id = world.stream(FunctionStats("numbers"), window=3, retries=-1)
    sent = 0
    taken = 0
    lease = 1
    attempts: list[int] = []

    def worker_and_spec() -> tuple[bytes, TaskSpec] | None:
        for worker, queue in world.queues.items():
            if queue:
                return worker, queue[0]
        return None

    def step(name: str) -> None:
        nonlocal sent, taken, lease
        running_now = worker_and_spec()
        if name == "grant":
            if world.grant():
                lease = max(world.leases)
                sent = worker_and_spec()[1].stream.received if worker_and_spec() else sent
        elif name == "take":
            if world.value(return_id(task_id, taken + 1)) is not None:
                taken += 1
                world.feed(TakeItem(task_id, taken))
        elif running_now is None:
            return
        elif name == "yield" and sent < length:
            sent += 1
            attempts.append(running_now[1].attempt)
            world.yield_items(*running_now, sent, [item(sent)])
        elif name == "again" and sent:
            world.yield_items(*running_now, sent, [item(sent)])
        elif name == "late" and running_now[1].attempt:
            world.feed(FromPeer(running_now[0], StreamItems(task_id, running_now[1].attempt - 1, sent + 1, [item(99)])))
        elif name == "crash":
            world.kill(lease)

    for name in steps:
        step(name)
    step("grant")
    while sent < length:
        step("yield")
    worker, _ = worker_and_spec()
    world.end_stream(worker)
    left = items_of(world, task_id)[: length + 1]
    assert left == [str(number).encode() for number in range(1, length + 1)] + [END_OF_STREAM]

    world.feed(stream_id(task_id), task_id + FIRST_RETURN)
    for number in range(1, taken + 1):
        world.feed(return_id(task_id, number))
    assert is_empty(world)


def test_a_stream_starts_open():
    world, task_id, _ = running()

    assert world.owner.generators.streams[task_id].state == OPEN
    assert world.owner.generators.statistics() == {"open": 1, "ended": 0, "dropped": 0}
