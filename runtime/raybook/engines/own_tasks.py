"""Own tasks: what this process has submitted and is not over, to be listed, explained and cancelled by people.

Reads the owner machine between two batches, from any thread; decides nothing.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Iterable
from typing import Any

import msgspec

from raybook.base.ids import FIRST_RETURN, is_actor_call, task_of
from raybook.core.owner.records import CancelCommand, TaskRecord
from raybook.engines.function_table import FunctionTable
from raybook.protocol import functions
from raybook.worker.argument_reader import ArgumentReader
from raybook.worker.core_process import CoreProcess
from raybook.worker.values import Values

SETTLE_S_MAX = 2.0
"""A loop that takes longer is in trouble; what is known then is told."""


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
    function_key: bytes = b""
    """Of the version that it runs, as exported; empty for calls."""


class FailedTask(msgspec.Struct):
    """One task whose code raised. submitted_s as in ``UnfinishedTask``."""

    task_id: bytes
    name: str
    call_site: str
    submitted_s: float


class OwnTasks:
    """One per engine. values: where arguments of failed tasks are read; None where nobody will ask for them."""

    def __init__(self, core: CoreProcess, values: Values | None = None) -> None:
        self._core = core
        self.functions: FunctionTable | None = None
        """What this process has exported; set by its engine."""
        self._arguments = ArgumentReader(values, 0) if values is not None else None

    def unfinished(self) -> list[UnfinishedTask]:
        """In the order of their submission. Cost: 2 µs each."""
        return [self._told(record) for record in list(self._core.unfinished.values())]

    def unfinished_of(self, object_id: bytes) -> UnfinishedTask | None:
        """The task that is to make this object; None when it is over, or another process's."""
        record = self._core.unfinished.get(task_of(object_id))
        return self._told(record) if record is not None else None

    def settle(self) -> None:
        """Until the owner has taken what was submitted before now: submissions lie in a queue until the loop turns. Not on
        the I/O thread, and not in a signal's handler, which may interrupt whoever turns it."""
        taken = allocate_lock()
        taken.acquire()
        # Two turns: within one, calls come before what the machine is told. The loop knows calls by Python's own type.
        self._core.submit_call(lambda: self._core.submit_call(lambda: taken.release()))
        taken.acquire(True, SETTLE_S_MAX)

    def explain(self, object_id: bytes) -> str:
        """Why an object is not ready, in a line."""
        return self._core.owner.explain(object_id)

    def cancel(self, task_ids: Iterable[bytes], force: bool, recursive: bool) -> None:
        """Cancel these; force: not for calls, which would end an actor for everybody. Returns at once."""
        for task_id in task_ids:
            self._core.submit(CancelCommand(task_id, force and not is_actor_call(task_id), recursive))

    def submitted(self, function_key: bytes) -> int:
        """How many tasks of a version were submitted; 0 when it is forgotten, or counted elsewhere."""
        stats = self.functions.known.get(function_key) if self.functions is not None else None
        return stats.submitted if stats is not None else 0

    def keep_failed(self, count_max: int) -> None:
        """From now on keep so many of the last tasks whose code raised; their arguments stay alive as long."""
        self._core.owner.post_mortem.kept_max = count_max

    def failed(self) -> list[FailedTask]:
        """Tasks that are kept, the newest first."""
        return [
            FailedTask(record.spec.task_id, record.spec.name, record.call_site, record.submitted_s)
            for record in reversed(list(self._core.owner.post_mortem.records))
        ]

    def bring_here(self, task_id: bytes) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The function and the arguments of a kept task, as its worker had them. KeyError when it is not kept. Blocks
        until arguments of other nodes are here."""
        kept = list(self._core.owner.post_mortem.records)
        record = next((each for each in kept if each.spec.task_id == task_id), None)
        if record is None or self._arguments is None:
            raise KeyError(task_id)
        args, kwargs = self._arguments.read(record.spec)
        return functions.load(record.stats.payload), args, kwargs

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
            spec.function_key,
        )  # fmt: skip


class NothingUnfinished:
    """Of an engine that runs everything at once, in the caller's thread."""

    def unfinished(self) -> list[UnfinishedTask]:
        return []

    def unfinished_of(self, object_id: bytes) -> UnfinishedTask | None:
        return None

    def submitted(self, function_key: bytes) -> int:
        return 0

    def settle(self) -> None:
        return

    def explain(self, object_id: bytes) -> str:
        return "it is ready, or was never made: local mode runs tasks where they are submitted"

    def cancel(self, task_ids: Iterable[bytes], force: bool, recursive: bool) -> None:
        return

    def keep_failed(self, count_max: int) -> None:
        return

    def failed(self) -> list[FailedTask]:
        return []

    def bring_here(self, task_id: bytes) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        raise KeyError(task_id)
