"""Own tasks: what this process has submitted and is not over, to be listed, explained and cancelled by people.

Reads the owner machine between two batches, from any thread; decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from raybook.base.ids import FIRST_RETURN, is_actor_call, task_of
from raybook.core.owner.records import CancelCommand, TaskRecord
from raybook.worker.core_process import CoreProcess


class UnfinishedTask(msgspec.Struct):
    """One task or call that has no result yet. submitted_s: seconds since the epoch, 0 where lines of code are not
    recorded (outside IPython). resources: fixed-point, empty for calls. why: what it waits for, or where it runs."""

    task_id: bytes
    name: str
    is_call: bool
    is_running: bool
    parent: bytes
    submitted_s: float
    call_site: str
    resources: dict[str, int]
    why: str


class OwnTasks:
    """One per engine."""

    def __init__(self, core: CoreProcess) -> None:
        self._core = core

    def unfinished(self) -> list[UnfinishedTask]:
        """In the order of their submission. Cost: 2 µs each."""
        return [self._told(record) for record in list(self._core.unfinished.values())]

    def unfinished_of(self, object_id: bytes) -> UnfinishedTask | None:
        """The task that is to make this object; None when it is over, or another process's."""
        record = self._core.unfinished.get(task_of(object_id))
        return self._told(record) if record is not None else None

    def explain(self, object_id: bytes) -> str:
        """Why an object is not ready, in a line."""
        return self._core.owner.explain(object_id)

    def cancel(self, task_ids: Iterable[bytes], force: bool, recursive: bool) -> None:
        """Cancel these; force: not for calls, which would end an actor for everybody. Returns at once."""
        for task_id in task_ids:
            self._core.submit(CancelCommand(task_id, force and not is_actor_call(task_id), recursive))

    def _told(self, record: TaskRecord) -> UnfinishedTask:
        spec = record.spec
        what: Any = record.scheduling_class
        queue = self._core.owner.actors.queues.get(record.actor_id) if record.actor_id else None
        return UnfinishedTask(
            spec.task_id, spec.name, bool(record.actor_id),
            record.lease is not None or (queue is not None and spec.task_id in queue.in_flight),
            spec.parent, record.submitted_s, record.call_site,
            dict(what.resources) if what is not None else {},
            self._core.owner.explain(spec.task_id + FIRST_RETURN),
        )  # fmt: skip


class NothingUnfinished:
    """Of an engine that runs everything at once, in the caller's thread."""

    def unfinished(self) -> list[UnfinishedTask]:
        return []

    def unfinished_of(self, object_id: bytes) -> UnfinishedTask | None:
        return None

    def explain(self, object_id: bytes) -> str:
        return "it is ready, or was never made: local mode runs tasks where they are submitted"

    def cancel(self, task_ids: Iterable[bytes], force: bool, recursive: bool) -> None:
        return
