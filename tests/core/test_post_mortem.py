"""Failed tasks that are kept for whoever wants to run them again."""

from __future__ import annotations

from raybook.base.errors import TASK_CODE
from raybook.base.specs import RefInfo
from raybook.core.owner.post_mortem import PostMortem
from raybook.core.owner.records import FunctionStats, TaskRecord
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.protocol.messages.worker import TaskSpec

OWNER = b"o" * 8


def failed(number: int, actor_id: bytes = b"") -> TaskRecord:
    """A task that took one object, whose id is its own."""
    key = bytes([number]) * 16
    record = TaskRecord(TaskSpec(key, b"f", "f", b""), FunctionStats("f"), actor_id=actor_id)
    record.held = [RefInfo(key, "")]
    return record


def keeping(count: int) -> tuple[PostMortem, ReferenceCounter]:
    references = ReferenceCounter(OWNER)
    kept = PostMortem(references)
    kept.kept_max = count
    return kept, references


def test_nothing_is_kept_unless_somebody_looks():
    kept, _ = keeping(0)
    assert not kept.wants(failed(1), TASK_CODE)


def test_only_tasks_whose_own_code_raised_are_kept():
    kept, _ = keeping(2)
    assert kept.wants(failed(1), TASK_CODE)
    assert not kept.wants(failed(1), "WorkerCrashedError")
    assert not kept.wants(failed(1, actor_id=b"a" * 12), TASK_CODE)


def test_the_oldest_goes_and_lets_its_arguments_go():
    kept, references = keeping(2)
    records = [failed(number) for number in range(1, 4)]
    for record in records:
        references.counts[record.held[0].object_id] = 2
        kept.keep(record)
    assert list(kept.records) == records[1:]
    assert [references.counts[record.held[0].object_id] for record in records] == [1, 2, 2]
