"""Dependencies: which submitted tasks wait for which values among their arguments.

A value that is there goes into its slot at once, so a task is pushed with its arguments resolved and never blocks a
worker for them. Knows nothing of queues or of how tasks end. Invariant: ``unresolved`` of a task equals the number of
its slots without a value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from raybook.base.error_values import failed_argument
from raybook.base.ids import task_of
from raybook.base.specs import ErrorValue, Value
from raybook.core.owner.exchange import Exchange
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import TaskRecord
from raybook.protocol.messages.worker import ArgRef


class Dependencies:
    def __init__(self, objects: ObjectDirectory, exchange: Exchange) -> None:
        self._objects = objects
        self._exchange = exchange
        self.waiting: dict[bytes, list[TaskRecord]] = {}
        """Object → the tasks that lack it."""
        self._coming: deque[tuple[bytes, Value]] = deque()

    def add(self, record: TaskRecord) -> ErrorValue | None:
        """Resolve what can be resolved, and wait for the rest. Returns the error of an argument that failed; the task
        fails with it."""
        for slot in slots_of(record):
            if slot.value is not None:
                # The task runs again, and this argument came with it.
                continue
            key = slot.ref.object_id
            value = self._objects.values.get(key)
            if value is None:
                record.unresolved += 1
                waiting = self.waiting.setdefault(key, [])
                if not waiting or waiting[-1] is not record:
                    waiting.append(record)
                self._exchange.need(slot.ref)
            elif value.error is not None:
                value.error.seen = True
                return failed_argument(value.error, record.spec.name)
            else:
                slot.value = value
        return None

    def settle(self, key: bytes, value: Value, resolved: Callable[[TaskRecord, ErrorValue | None], None]) -> None:
        """A value is there: hand on each task that has all arguments now, or fails because of it. Values that come by that
        wait for their turn: a chain of tasks that fail together may be longer than the stack."""
        coming = self._coming
        coming.append((key, value))
        if len(coming) > 1:
            return
        try:
            while coming:
                for record, error in self.ready(*coming[0]):
                    resolved(record, error)
                coming.popleft()
        finally:
            coming.clear()

    def ready(self, key: bytes, value: Value) -> list[tuple[TaskRecord, ErrorValue | None]]:
        """A value is there: the tasks that have all arguments now, and those that fail because of it."""
        ended: list[tuple[TaskRecord, ErrorValue | None]] = []
        for record in self.waiting.pop(key, ()):
            if value.error is not None:
                value.error.seen = True
                ended.append((record, failed_argument(value.error, record.spec.name)))
                continue
            for slot in slots_of(record):
                if slot.ref.object_id == key and slot.value is None:
                    slot.value = value
                    record.unresolved -= 1
            if not record.unresolved:
                ended.append((record, None))
        return ended

    def only_producer(self, record: TaskRecord) -> bytes:
        """Id of the task whose results are all that is missing; b"" when more than one task or something else is."""
        producers = {task_of(slot.ref.object_id) for slot in slots_of(record) if slot.value is None}
        return producers.pop() if len(producers) == 1 else b""

    def error_of(self, record: TaskRecord) -> ErrorValue | None:
        """Of a task that was pushed ahead of its arguments and came back: the error of one that has failed meanwhile."""
        for slot in slots_of(record):
            value = self._objects.values.get(slot.ref.object_id)
            if slot.value is None and value is not None and value.error is not None:
                return failed_argument(value.error, record.spec.name)
        return None


def slots_of(record: TaskRecord) -> list[ArgRef]:
    """The places of a task's arguments that are objects."""
    spec = record.spec
    return [*(spec.slots or ()), *((spec.args_value,) if spec.args_value else ())]
