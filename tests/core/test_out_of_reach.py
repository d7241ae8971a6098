"""Processes that cannot be reached any more: what died with them, and what waits for a network that may heal."""

from __future__ import annotations

import pytest

from raybook.base.config import Config
from raybook.base.facts import ACTOR_ALIVE
from raybook.base.specs import Endpoint, Location, RefInfo, Value
from raybook.core.owner.actor_queue import ActorQueue
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import FromPeer, FromRaylet, FunctionStats, HoldRef, PeerGone, PushTo, Put, TaskRecord
from raybook.protocol.messages.raylet import ActorUpdate, LeaseLost, NodeGone
from raybook.protocol.messages.worker import AddBorrows, ObjectReady, TaskSpec
from raybook.testing.owner_world import World

ME, OTHER, ACTOR_PROCESS = b"owner...", b"other...", b"actor-pr"
ACTOR = b"actor-id" + bytes(8)
GRACE_MS = 30_000


def put(owner: Owner) -> bytes:
    key = ME + bytes(12)
    owner.handle([Put(key, Value(inline=b"value"))], 0)
    return key


def call(number: int, retries: int) -> TaskRecord:
    spec = TaskSpec(ME + number.to_bytes(8, "big"), b"", "method", b"")
    return TaskRecord(spec, FunctionStats("method"), actor_id=ACTOR, retries_left=retries)


def alive(incarnation: int = 0) -> ActorUpdate:
    return ActorUpdate(
        ACTOR, ACTOR_ALIVE, Endpoint(ACTOR_PROCESS, b"node-b..", "unix:/b/x.s"), incarnation, 0, "", b"", 77
    )


def test_the_owner_of_a_borrowed_object_is_said_to_have_died_with_its_node():
    owner = Owner(ME, Config())
    key = OTHER + bytes(12)
    owner.handle([HoldRef(RefInfo(key, "unix:/other"))], 0)

    owner.handle([PeerGone(OTHER, "its node b0b0 died: it has not answered for 10.0 s.")], 0)

    error = owner.objects.values[key].error
    assert error is not None and error.code == "OwnerDiedError"
    assert "has died (its node b0b0 died: it has not answered for 10.0 s.)" in error.text


def borrowing() -> tuple[Owner, bytes]:
    owner = Owner(ME, Config())
    key = OTHER + bytes(12)
    owner.handle([HoldRef(RefInfo(key, "unix:/other"))], 0)
    return owner, key


def test_a_process_of_another_node_that_closed_is_said_to_be_dead_when_it_is_known_whether_its_node_died():
    owner, key = borrowing()
    owner.handle([PeerGone(OTHER, home="/b|10.0.0.2")], 0)
    assert key not in owner.objects.values

    owner.handle([FromRaylet(NodeGone(b"node-b..", "it burnt.", "/b|10.0.0.2"))], 50)

    error = owner.objects.values[key].error
    assert error is not None and f"its node {b'node-b..'.hex()} died: it burnt." in error.text


def test_a_process_of_another_node_that_closed_is_dead_soon_even_if_its_node_lives():
    owner, key = borrowing()
    owner.handle([PeerGone(OTHER, home="/b|10.0.0.2")], 0)
    owner.handle([FromRaylet(NodeGone(b"node-c..", "it burnt.", "/c|10.0.0.3"))], 50)
    assert key not in owner.objects.values

    owner.tick(owner.next_deadline_ms() or 0)

    assert owner.objects.is_failed(key) and owner.next_deadline_ms() is None


def test_an_owner_that_is_cut_off_is_not_said_to_be_dead():
    owner = Owner(ME, Config())
    key = OTHER + bytes(12)
    owner.handle([HoldRef(RefInfo(key, "unix:/other"))], 0)
    owner.handle([FromPeer(OTHER, ObjectReady(key, Value(location=Location(b"node", 4096, 10))))], 0)

    owner.handle([PeerGone(OTHER, "Connection timed out", is_cut_off=True)], 0)

    error = owner.objects.values[key].error
    assert error is not None and "is out of reach from here (Connection timed out)" in error.text


def test_what_a_dead_process_had_borrowed_is_free_at_once():
    owner = Owner(ME, Config())
    key = put(owner)
    owner.handle([FromPeer(OTHER, AddBorrows([key], 0)), key], 0)
    assert owner.references.is_alive(key)

    owner.handle([PeerGone(OTHER)], 0)

    assert not owner.references.is_alive(key)


def test_what_a_process_had_borrowed_that_is_cut_off_stays_until_it_must_have_given_it_up():
    owner = Owner(ME, Config())
    key = put(owner)
    owner.handle([FromPeer(OTHER, AddBorrows([key], 0)), key], 0)

    owner.handle([PeerGone(OTHER, "Connection timed out", is_cut_off=True)], 100)

    assert owner.next_deadline_ms() == 100 + GRACE_MS
    owner.tick(100 + GRACE_MS - 1)
    assert owner.references.is_alive(key)
    owner.tick(100 + GRACE_MS)
    assert not owner.references.is_alive(key)
    owner.check_invariants()


def test_what_it_borrows_again_when_the_network_is_whole_is_its_own():
    owner = Owner(ME, Config())
    key = put(owner)
    owner.handle([FromPeer(OTHER, AddBorrows([key], 0)), key], 0)
    owner.handle([PeerGone(OTHER, "Connection timed out", is_cut_off=True)], 0)

    owner.handle([FromPeer(OTHER, AddBorrows([key], 0))], 50)
    owner.tick(GRACE_MS)

    assert owner.references.is_alive(key)


def test_calls_of_an_actor_that_is_cut_off_fail_or_go_out_again():
    owner = Owner(ME, Config())
    once, again = call(1, retries=0), call(2, retries=1)
    owner.handle([once, again, FromRaylet(alive())], 0)

    effects = owner.handle([PeerGone(ACTOR_PROCESS, "Connection timed out", is_cut_off=True)], 0)

    error = owner.objects.values[once.spec.task_id + bytes(4)].error
    assert error is not None and error.code == "ActorUnavailableError"
    assert "cannot be reached from here (Connection timed out)" in error.text
    (push,) = [effect for effect in effects if isinstance(effect, PushTo)]
    assert [(spec.task_id, spec.attempt) for spec in push.message.calls] == [(again.spec.task_id, 1)]
    owner.check_invariants()


def test_calls_of_an_actor_whose_process_closed_wait_for_the_gcs():
    queue = ActorQueue(ACTOR)
    owner = Owner(ME, Config())
    record = call(1, retries=0)
    owner.handle([record, FromRaylet(alive())], 0)

    owner.handle([PeerGone(ACTOR_PROCESS)], 0)

    assert record.spec.task_id in owner.tasks.tasks
    assert not queue.cut_off("there is nothing in flight")


# Leases


@pytest.mark.parametrize("order", ["the lease ends first", "the connection breaks first"])
def test_a_task_that_may_not_run_twice_fails_when_its_answer_may_have_been_lost_on_a_broken_connection(order: str):
    """Its worker lives, has run it, and is leased to somebody else: only the answer did not come."""
    world = World(workers=1)
    key = world.task(FunctionStats("once"), retries=0)
    world.grant()
    (worker,) = world.queues
    events = [FromRaylet(LeaseLost(1, died=False)), PeerGone(worker, "Connection timed out", is_cut_off=True)]

    world.feed(*(events if order == "the lease ends first" else reversed(events)))

    value = world.value(key)
    assert value is not None and value.error is not None and value.error.code == "WorkerCrashedError"
    assert "broke before its result came. It may have run" in value.error.text
    assert "not retried (max_retries=0)" in value.error.text


def test_a_task_with_a_retry_spends_it_when_its_answer_may_have_been_lost():
    world = World(workers=1)
    key = world.task(FunctionStats("again"), retries=1)
    world.grant()
    (worker,) = world.queues
    world.feed(PeerGone(worker, "Connection timed out", is_cut_off=True), FromRaylet(LeaseLost(1, died=False)))

    record = world.owner.tasks.tasks[key[:16]]
    assert (record.spec.attempt, record.retries_left) == (1, 0)


def test_a_worker_that_closed_has_answered_all_it_began():
    """What is left never started, and is free to run once more without a retry."""
    world = World(workers=1)
    key = world.task(FunctionStats("once"), retries=0)
    world.grant()
    (worker,) = world.queues
    world.feed(PeerGone(worker), FromRaylet(LeaseLost(1, died=False)))

    assert world.owner.tasks.tasks[key[:16]].spec.attempt == 0 and world.value(key) is None
