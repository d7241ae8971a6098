"""Endings that came from a seed of the simulator: several at once, late ones, and values that become errors."""

from __future__ import annotations

from raybook.base.config import Config
from raybook.base.facts import ACTOR_DEAD
from raybook.base.ids import FIRST_RETURN
from raybook.base.specs import Location, RefInfo, SchedulingClass, Value
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import (
    CreateActorCommand,
    FromPeer,
    FromRaylet,
    FunctionStats,
    HoldRef,
    PeerGone,
    TaskRecord,
    ToPeer,
    ToRaylet,
)
from raybook.protocol.messages.raylet import ActorUpdate
from raybook.protocol.messages.store import FreeRegions
from raybook.protocol.messages.worker import (
    ArgRef,
    ObjectReady,
    ReturnsTaken,
    TaskReplies,
    TaskReply,
    TaskSpec,
)

ME, WORKER, OTHER = b"driver..", b"worker..", b"other..."
ACTOR = ME + b"actor..1"


def call(number: int, args: list[bytes] | None = None) -> TaskRecord:
    spec = TaskSpec(ME + (1 << 63 | number).to_bytes(8, "big"), b"", "A.m", b"")
    record = TaskRecord(spec, FunctionStats("A.m"), None, ACTOR)
    if args:
        spec.slots = [ArgRef(RefInfo(key, "unix:/me")) for key in args]
        record.held = [slot.ref for slot in spec.slots]
    return record


def test_a_call_that_fails_with_the_one_before_it_is_over_once() -> None:
    # Both are told of the actor's death at once, and the second takes the result of the first.
    owner = Owner(ME, Config())
    first, put = call(1), ME + b"put....1" + FIRST_RETURN
    second = call(2, [first.spec.task_id + FIRST_RETURN, put])
    owner.handle([CreateActorCommand(ACTOR, [], False), HoldRef(RefInfo(put)), first, second], 0)

    owner.handle([FromRaylet(ActorUpdate(ACTOR, ACTOR_DEAD, death="it was killed"))], 0)

    assert owner.references.counts[ACTOR] == 1, "the handle that the user has"
    assert owner.references.counts[put] == 1
    assert second.stats.failed == 1


def test_a_result_that_comes_after_its_task_was_tried_again_is_freed_and_its_references_let_go() -> None:
    owner = Owner(ME, Config())
    spec = TaskSpec(ME + b"task...1", b"f", "f", b"", attempt=1)
    owner.handle([TaskRecord(spec, FunctionStats("f"), SchedulingClass(()))], 0)
    inside = [RefInfo(OTHER + bytes(12), "unix:/other")]
    late = TaskReply(spec.task_id, 0, [Value(location=Location(b"node", 4096, 10), contained=inside)])

    effects = owner.handle([FromPeer(WORKER, TaskReplies([late]))], 0)

    freed = [effect.message for effect in effects if isinstance(effect, ToRaylet)]
    assert FreeRegions([4096], b"node", [spec.task_id + FIRST_RETURN]) in freed
    assert ToPeer(WORKER, "", ReturnsTaken(spec.task_id)) in effects
    assert spec.task_id in owner.tasks.tasks


def test_a_borrowed_place_is_forgotten_when_its_owner_dies() -> None:
    owner = Owner(ME, Config())
    key = OTHER + bytes(12)
    owner.handle([HoldRef(RefInfo(key, "unix:/other"))], 0)
    owner.handle([FromPeer(OTHER, ObjectReady(key, Value(location=Location(b"node", 4096, 10))))], 0)

    owner.handle([PeerGone(OTHER)], 0)
    assert owner.objects.is_failed(key) and not owner.objects.elsewhere
    owner.handle([key], 0)

    owner.check_invariants()
