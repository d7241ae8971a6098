"""Post mortem: the last tasks whose code raised, with their arguments, for whoever wants to run one again here.

Off (``kept_max`` 0) except where a person looks: what is kept keeps its arguments alive. Calls of actors are not kept, their
arguments mean little without the actor. Invariant: at most ``kept_max`` records, each holding its references once.
"""

from __future__ import annotations

from collections import deque

from raybook.base.errors import TASK_CODE
from raybook.core.owner.records import TaskRecord
from raybook.core.owner.reference_counter import ReferenceCounter


class PostMortem:
    """One per owner machine. records: the oldest first."""

    __slots__ = ("_references", "kept_max", "records")

    def __init__(self, references: ReferenceCounter) -> None:
        self._references = references
        self.kept_max = 0
        self.records: deque[TaskRecord] = deque()

    def wants(self, record: TaskRecord, code: str) -> bool:
        """Whether a task that ended with this error is kept: one whose own code raised, not one whose worker died."""
        return self.kept_max > 0 and code == TASK_CODE and not record.actor_id

    def keep(self, record: TaskRecord) -> None:
        """Take over a failed task and what it holds; the oldest one goes."""
        self.records.append(record)
        while len(self.records) > self.kept_max:
            self.release(self.records.popleft())

    def release(self, record: TaskRecord) -> None:
        """Let a task's arguments go."""
        for ref in record.held or ():
            self._references.drop(ref.object_id)
