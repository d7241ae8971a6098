"""Borrows: who must know what before who may let go. Two owner machines, and the messages between them."""

from __future__ import annotations

from raybook.base.config import Config
from raybook.base.ids import FIRST_RETURN
from raybook.base.specs import RefInfo, SchedulingClass, Value
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import FromPeer, FunctionStats, HoldRef, SealReply, TaskRecord, ToPeer
from raybook.protocol.messages.worker import (
    AddBorrows,
    BorrowsAdded,
    DropBorrows,
    ReturnsTaken,
    TaskReplies,
    TaskReply,
    TaskSpec,
)

ME = b"driver.."
WORKER = b"worker.."
THIRD = b"third..."
INNER = WORKER + b"\0" * 7 + b"\1" + FIRST_RETURN
FOREIGN = THIRD + b"\0" * 7 + b"\1" + FIRST_RETURN


def said(effects: list) -> list[tuple[bytes, type]]:
    return [(effect.client_id, type(effect.message)) for effect in effects if isinstance(effect, ToPeer)]


def driver_with_a_task() -> tuple[Owner, bytes]:
    owner = Owner(ME, Config())
    task_id = ME + b"\0" * 7 + b"\1"
    record = TaskRecord(TaskSpec(task_id, b"key", "f", b""), FunctionStats("f"), SchedulingClass(()))
    owner.handle([record], 0)
    return owner, task_id


def reply_holding(task_id: bytes, key: bytes) -> FromPeer:
    value = Value(inline=b"", contained=[RefInfo(key, "unix:/owner")])
    return FromPeer(WORKER, TaskReplies([TaskReply(task_id, 0, [value])]))


def test_a_worker_hears_of_the_borrow_before_it_may_let_go() -> None:
    owner, task_id = driver_with_a_task()

    effects = owner.handle([reply_holding(task_id, INNER)], 1)

    assert said(effects) == [(WORKER, AddBorrows), (WORKER, ReturnsTaken)]


def test_a_worker_keeps_what_a_third_process_owns_until_that_one_knows() -> None:
    owner, task_id = driver_with_a_task()

    effects = owner.handle([reply_holding(task_id, FOREIGN)], 1)
    assert said(effects) == [(THIRD, AddBorrows)]
    (announcement,) = (effect.message for effect in effects if isinstance(effect, ToPeer))
    effects = owner.handle([FromPeer(THIRD, BorrowsAdded(announcement.ack_id))], 2)

    assert said(effects) == [(WORKER, ReturnsTaken)]


def test_a_reply_waits_until_a_third_owner_knows_of_what_the_worker_keeps() -> None:
    worker = Owner(WORKER, Config())
    worker.handle([HoldRef(RefInfo(FOREIGN, "unix:/third"))], 0)
    seal = SealReply(ME, TaskReply(ME + b"\0" * 8, 0, [Value(inline=b"")]))

    effects = worker.handle([seal], 1)
    assert (ME, TaskReplies) not in said(effects)
    effects = worker.handle([FromPeer(THIRD, BorrowsAdded(1))], 2)

    assert said(effects) == [(ME, TaskReplies)]


def test_a_reference_that_comes_and_goes_in_one_batch_is_never_mentioned() -> None:
    worker = Owner(WORKER, Config())

    effects = worker.handle([HoldRef(RefInfo(FOREIGN, "unix:/third")), FOREIGN], 0)

    assert said(effects) == []


def test_nothing_is_given_back_while_a_borrow_is_unacknowledged() -> None:
    worker = Owner(WORKER, Config())
    worker.handle([HoldRef(RefInfo(FOREIGN, "unix:/third"))], 0)

    effects = worker.handle([FOREIGN], 1)
    assert said(effects) == []
    effects = worker.handle([FromPeer(THIRD, BorrowsAdded(1))], 2)

    assert said(effects) == [(THIRD, DropBorrows)]


def test_the_references_of_one_container_are_announced_to_their_owner_in_one_message() -> None:
    owner = Owner(ME, Config())
    keys = [THIRD + index.to_bytes(8, "big") + FIRST_RETURN for index in range(100)]
    effects = owner.handle([HoldRef(RefInfo(key, "unix:/third")) for key in keys], 0)

    (effect,) = effects
    assert (effect.client_id, effect.message.object_ids) == (THIRD, keys)

    # And given back in one, when the owner has answered.
    owner.handle([FromPeer(THIRD, BorrowsAdded(effect.message.ack_id))], 0)
    (effect,) = owner.handle(keys, 0)
    assert type(effect.message) is DropBorrows
    assert effect.message.object_ids == keys
    owner.check_invariants()


def test_a_reference_held_again_in_the_batch_that_drops_it_is_not_given_back() -> None:
    owner = Owner(ME, Config())
    ref = RefInfo(FOREIGN, "unix:/third")
    (effect,) = owner.handle([HoldRef(ref)], 0)
    owner.handle([FromPeer(THIRD, BorrowsAdded(effect.message.ack_id))], 0)
    assert owner.handle([FOREIGN, HoldRef(ref)], 0) == []
    assert said(owner.handle([FOREIGN], 0)) == [(THIRD, DropBorrows)]
