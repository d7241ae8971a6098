"""Intake and farewell: what a worker takes in, what it gives back, and when it may end."""

from __future__ import annotations

from typing import Any

from raybook.base.config import Config
from raybook.base.specs import Assignment, Job, Location, RefInfo, SchedulingClass, Value
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import FromPeer, FunctionStats, HoldRef, Put, SealReply, TaskRecord
from raybook.core.worker.farewell import LAST_REPLIES_MS, Farewell
from raybook.core.worker.intake import Intake
from raybook.core.worker.recent_results import RecentResults, needs_seal
from raybook.protocol.messages.raylet import Blocked, RevokeAnswer, RevokeLease
from raybook.protocol.messages.worker import (
    AddBorrows,
    ArgRef,
    BindLease,
    DropBorrows,
    PushTasks,
    ReturnsTaken,
    TaskReply,
    TasksBounced,
    TaskSpec,
)

ME, OTHER, THIRD = b"worker..", b"driver..", b"third..."
JOB = Job()


class Peer:
    def __init__(self, client_id: bytes = OTHER) -> None:
        self.client_id = client_id


class Desk:
    """An intake, and what it says."""

    def __init__(self) -> None:
        self.bounced: list[TasksBounced] = []
        self.told: list[Any] = []
        self.is_actor = False
        self.intake = Intake(
            lambda client_id, message: self.bounced.append(message), self.told.append, lambda: self.is_actor
        )
        self.peer = Peer()

    def push(self, epoch: int, *numbers: int) -> None:
        self.intake.take(self.peer, PushTasks(epoch, [spec_of(number) for number in numbers]))

    def run_one(self) -> None:
        self.intake.work.popleft()
        self.intake.settled += 1


def spec_of(number: int, **fields: Any) -> TaskSpec:
    return TaskSpec(OTHER + number.to_bytes(8, "big"), b"f", "f", b"", **fields)


def bound(epoch: int = 1) -> Desk:
    desk = Desk()
    assert desk.intake.bind(BindLease(epoch, Assignment({}), JOB))
    return desk


def test_a_push_of_another_lease_goes_back() -> None:
    desk = bound(2)

    desk.push(1, 7)

    assert desk.bounced == [TasksBounced([spec_of(7).task_id], 1, "revoked")] and not desk.intake.work


def test_an_idle_worker_agrees_to_a_revocation_and_takes_nothing_of_that_lease_afterwards() -> None:
    desk = bound()

    desk.intake.on_revoke(RevokeLease(1))
    desk.push(1, 7)

    assert desk.told == [RevokeAnswer(1, True)]
    assert [message.reason for message in desk.bounced] == ["revoked"]


def test_a_worker_that_is_about_to_end_does_not_offer_itself_to_the_next() -> None:
    desk = bound()
    desk.push(1, 1)
    desk.intake.is_retiring = True
    desk.run_one()

    desk.intake.on_revoke(RevokeLease(1))

    assert desk.told == [RevokeAnswer(1, False)]


def test_a_lease_whose_owner_has_not_been_heard_of_is_kept_once() -> None:
    desk = Desk()

    desk.intake.on_revoke(RevokeLease(1))
    desk.intake.on_revoke(RevokeLease(1))

    assert desk.told == [RevokeAnswer(1, False), RevokeAnswer(1, True)]
    assert not desk.intake.bind(BindLease(1, Assignment({}), JOB))


def test_a_lease_to_be_drained_is_given_up_when_the_running_task_has_ended() -> None:
    desk = bound()
    desk.push(1, 1, 2, 3)
    desk.intake.work.popleft()

    desk.intake.on_revoke(RevokeLease(1, drain=True))
    assert desk.bounced[0].task_ids == [spec_of(2).task_id, spec_of(3).task_id] and not desk.told
    desk.intake.settled += 1
    desk.intake.answer_drain()

    assert desk.told == [RevokeAnswer(1, True)]


def test_a_blocked_worker_gives_everything_back_and_lends_its_cpu() -> None:
    desk = bound()
    desk.push(1, 1, 2)
    desk.intake.work.popleft()

    desk.intake.lend()
    desk.push(1, 3)

    assert desk.told == [Blocked()]
    assert [message.reason for message in desk.bounced] == ["blocked", "blocked"]


def test_the_newest_of_a_callers_tasks_are_stolen() -> None:
    desk = bound()
    desk.push(1, 1, 2, 3)

    desk.intake.steal(desk.peer, 2)

    assert desk.bounced[0].task_ids == [spec_of(3).task_id, spec_of(2).task_id]
    assert len(desk.intake.work) == 1


def test_an_actors_calls_are_not_stolen_by_who_did_not_push_them() -> None:
    desk = bound()
    desk.push(1, 1)

    desk.intake.steal(Peer(THIRD), 5)

    assert desk.bounced[0].task_ids == [] and len(desk.intake.work) == 1


def test_a_worker_that_ends_gives_back_what_has_not_begun_and_what_still_comes() -> None:
    desk = bound()
    desk.push(1, 1)

    desk.intake.close()
    desk.push(1, 2)

    assert [message.task_ids for message in desk.bounced] == [[spec_of(1).task_id], [spec_of(2).task_id]]
    assert desk.intake.is_idle()


def test_a_result_is_found_by_the_task_that_follows_unless_it_holds_references() -> None:
    made = RecentResults(4)
    made.keep(TaskReply(spec_of(1).task_id, 0, [Value(inline=b"one")]))
    made.keep(TaskReply(spec_of(2).task_id, 0, [Value(inline=b"two", contained=[RefInfo(b"x" * 20)])]))
    follows = spec_of(3, slots=[ArgRef(RefInfo(spec_of(1).task_id + bytes(4)))])
    holds = spec_of(4, slots=[ArgRef(RefInfo(spec_of(2).task_id + bytes(4)))])

    assert made.resolve(follows) and follows.slots[0].value == Value(inline=b"one")  # type: ignore[index]
    assert not made.resolve(holds)


def test_a_value_in_the_arena_is_not_answered_before_it_is_sealed() -> None:
    inline = TaskReply(spec_of(1).task_id, 0, [Value(inline=b"one")])
    located = TaskReply(spec_of(1).task_id, 0, [Value(location=Location(b"node", 0, 4096))])

    assert not needs_seal(spec_of(1), inline)
    assert needs_seal(spec_of(1), located)


# Farewell


def owner_with_object() -> tuple[Owner, bytes]:
    owner = Owner(ME, Config())
    key = ME + bytes(12)
    owner.handle([Put(key, Value(inline=b"mine"))], 0)
    return owner, key


def test_a_worker_whose_objects_nobody_needs_ends_at_once() -> None:
    owner, _ = owner_with_object()

    assert Farewell(owner, False, 0).is_over(0)


def test_a_worker_stays_while_others_need_its_objects() -> None:
    owner, key = owner_with_object()
    owner.handle([FromPeer(OTHER, AddBorrows([key], 1))], 0)
    farewell = Farewell(owner, False, 0)

    assert not farewell.is_over(1 << 40)
    owner.handle([FromPeer(OTHER, DropBorrows([key]))], 0)
    assert farewell.is_over(0)


def test_an_actors_objects_go_with_it() -> None:
    owner, key = owner_with_object()
    owner.handle([FromPeer(OTHER, AddBorrows([key], 1))], 0)

    assert Farewell(owner, True, 0).is_over(0)


def test_a_worker_stays_until_the_tasks_it_submitted_are_over() -> None:
    owner, _ = owner_with_object()
    spec = TaskSpec(ME + bytes(7) + b"1", b"f", "f", b"")
    owner.handle([TaskRecord(spec, FunctionStats("f"), SchedulingClass(()))], 0)

    assert not Farewell(owner, False, 0).is_over(0)


def test_a_reply_that_waits_for_a_third_owner_holds_up_the_end_for_a_while() -> None:
    owner = Owner(ME, Config())
    theirs = THIRD + bytes(12)
    reply = TaskReply(spec_of(1).task_id, 0, [Value(inline=b"ref", contained=[RefInfo(theirs, "unix:/third")])])
    owner.handle([HoldRef(RefInfo(theirs, "unix:/third")), SealReply(OTHER, reply)], 0)
    farewell = Farewell(owner, True, 0)

    assert not farewell.is_over(LAST_REPLIES_MS - 1)
    assert farewell.is_over(LAST_REPLIES_MS)
    owner.handle([FromPeer(OTHER, ReturnsTaken(reply.task_id))], 0)
    assert not farewell.is_over(0), "the reply itself still waits"
