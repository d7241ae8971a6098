"""Recovery: objects that were lost with a node, and the record of how to make them again.

A finished task whose results lie in some arena is kept (*lineage*) as long as one of these results lives, or a kept task
takes one of them. When a node dies, results that lay there are made again by running their tasks again, and before them
those that make arguments that are gone, too. What cannot be made again (a put, a result of an actor, a task whose retries
are spent or whose record was dropped for lack of room) becomes an error that says why. A borrower forgets what it knew of
the place and asks the owner.

Knows nothing of sockets or leases. Invariants: a task runs again once at a time; every lost object of ours is on its way
again, or an error. Source: Ray's lineage reconstruction; retries are shared with those for crashes, as there.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raybook.base.ids import is_actor_call, return_id, task_of
from raybook.base.specs import ErrorValue, Location, RefInfo, Value
from raybook.core.owner.borrows import Borrows
from raybook.core.owner.dependencies import Dependencies, slots_of
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import TaskRecord
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.task_manager import TaskManager
from raybook.protocol.messages.worker import TaskReply

RECORD_BYTES = 600
"""What a kept task costs beside its arguments."""


class _Kept(msgspec.Struct):
    """A finished task. results: those of its results that live in an arena. dependents: kept tasks that take a result of
    it."""

    record: TaskRecord
    size: int
    results: dict[bytes, bool]
    dependents: int = 0


class Recovery:
    """One per owner machine. ready(key, value): an object of ours has a value. run(record): to the queue, its arguments
    are there. bytes_max: of all records together; the oldest go first (Ray: 1 GiB)."""

    def __init__(
        self,
        references: ReferenceCounter,
        objects: ObjectDirectory,
        tasks: TaskManager,
        dependencies: Dependencies,
        borrows: Borrows,
        ready: Callable[[bytes, Value, bool], None],
        run: Callable[[TaskRecord], None],
        bytes_max: int,
    ) -> None:
        self._references = references
        self._objects = objects
        self._tasks = tasks
        self._dependencies = dependencies
        self._borrows = borrows
        self._ready = ready
        self._run = run
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: dict[bytes, _Kept] = {}
        self._dead_nodes: dict[bytes, str] = {}
        self.is_on = False
        """There are other nodes: objects may be lost."""
        self.rebuilt_count = 0
        """How often a task ran again, in all."""
        self.rebuilt: dict[bytes, int] = {}
        """Tasks that ran again, and how often: what they make anew may be there still."""

    # --- keeping ------------------------------------------------------------------------------------------------------

    def keep(self, record: TaskRecord, reply: TaskReply) -> None:
        """A task has ended well."""
        task_id = record.spec.task_id
        located = [return_id(task_id, at) for at, value in enumerate(reply.returns) if value.location is not None]
        results = {key: True for key in located if self._references.is_alive(key)}
        if not results or record.actor_id or record.spec.num_returns < 0 or task_id in self._kept:
            return
        slots = slots_of(record)
        size = RECORD_BYTES + len(record.spec.args)
        size += sum(
            len(slot.value.inline) for slot in slots if slot.value is not None and slot.value.inline is not None
        )
        self._kept[task_id] = _Kept(record, size, results)
        self._bytes += size
        for producer in self._producers(record):
            producer.dependents += 1
        while self._bytes > self._bytes_max and self._kept:
            self._drop(next(iter(self._kept)))

    def forget(self, key: bytes) -> None:
        """An object of ours is garbage."""
        kept = self._kept.get(task_of(key))
        if kept is not None and kept.results.pop(key, False):
            self._look(kept)

    def _look(self, kept: _Kept) -> None:
        if not kept.results and not kept.dependents:
            self._drop(kept.record.spec.task_id)

    def _drop(self, task_id: bytes) -> None:
        kept = self._kept.pop(task_id)
        self._bytes -= kept.size
        self.rebuilt.pop(task_id, None)
        for producer in self._producers(kept.record):
            producer.dependents -= 1
            self._look(producer)

    def _producers(self, record: TaskRecord) -> list[_Kept]:
        tasks = dict.fromkeys(task_of(ref.object_id) for ref in record.held or ())
        return [self._kept[task_id] for task_id in tasks if task_id in self._kept]

    # --- losing -------------------------------------------------------------------------------------------------------

    def node_gone(self, node_id: bytes, reason: str) -> None:
        """A node is dead. Cost: a look at each object."""
        self._dead_nodes[node_id] = reason
        values = self._objects.values
        for key in [key for key, value in values.items() if value.location and value.location.node_id == node_id]:
            if key in values:
                self._lose(key)

    def source_lost(self, key: bytes, location: Location, damage: str = "") -> None:
        """An object could not be read where it should be, for its node is dead; damage: for what is wrong with its file."""
        value = self._objects.values.get(key)
        if value is None or value.location is None:
            return
        if damage:
            if value.location == location:
                self._file_lost(key, location, damage)
        elif value.location.node_id == location.node_id:
            self._dead_nodes.setdefault(location.node_id, "it cannot be reached")
            self._lose(key)

    def can_make_again(self, key: bytes) -> bool:
        """Whether the task that made an object may run again. From any thread: an answer that is late does no harm."""
        kept = self._kept.get(task_of(key))
        return kept is not None and bool(kept.record.retries_left) and not kept.record.cancelled

    def _file_lost(self, key: bytes, location: Location, damage: str) -> None:
        self._objects.lose(key)
        if self._make_again(key, location.node_id) is not None:
            self._ready(key, Value(error=ErrorValue("ObjectLostError", damage)), False)

    def _lose(self, key: bytes) -> None:
        value = self._objects.values[key]
        if key in self._objects.copies and not self._references.is_owned(key):
            # A copy of it is here, and stays as long as we refer to it. An owner is asked by others, too, where it is.
            return
        self._objects.lose(key)
        if not self._references.is_owned(key):
            return
        assert value.location is not None
        error = self._make_again(key, value.location.node_id)
        if error is not None:
            self._ready(key, Value(error=error), False)

    def _make_again(self, key: bytes, node_id: bytes) -> ErrorValue | None:
        """Have an object of ours made anew; the error, if that is not possible."""
        task_id = task_of(key)
        if task_id in self._tasks.tasks:
            return None
        kept = self._kept.get(task_id)
        if kept is None or not kept.record.retries_left or kept.record.cancelled:
            return self._why_not(key, kept, node_id)
        return self._rerun(kept, node_id)

    def _rerun(self, kept: _Kept, node_id: bytes) -> ErrorValue | None:
        record = kept.record
        spec = record.spec
        if record.retries_left > 0:
            record.retries_left -= 1
        spec.attempt += 1
        self.rebuilt_count += 1
        self.rebuilt[spec.task_id] = self.rebuilt.get(spec.task_id, 0) + 1
        self._tasks.tasks[spec.task_id] = record
        for ref in record.held or ():
            self._borrows.hold(ref)
        record.unresolved = 0
        record.lease = None
        for slot in slots_of(record):
            if slot.value is not None and slot.value.inline is None:
                slot.value = None
            if slot.value is None and (error := self._need_argument(slot.ref, node_id)) is not None:
                return self._give_up(record, error)
        failed = self._dependencies.add(record)
        if failed is not None:
            return self._give_up(record, failed)
        if not record.unresolved:
            self._run(record)
        return None

    def _need_argument(self, ref: RefInfo, node_id: bytes) -> ErrorValue | None:
        key = ref.object_id
        value = self._objects.values.get(key)
        if value is not None:
            location = value.location
            if location is None or location.node_id not in self._dead_nodes:
                return None
            self._objects.lose(key)
        return self._make_again(key, node_id) if self._references.is_owned(key) else None

    def _give_up(self, record: TaskRecord, error: ErrorValue) -> ErrorValue:
        self._tasks.tasks.pop(record.spec.task_id, None)
        for ref in record.held or ():
            self._references.drop(ref.object_id)
        return error

    def _why_not(self, key: bytes, kept: _Kept | None, node_id: bytes) -> ErrorValue:
        why = self._dead_nodes.get(node_id, "why is not known")
        lost = f"The object {key.hex()} was lost when node {node_id.hex()} died ({why})"
        if kept is not None:
            name = kept.record.spec.name
            times = self.rebuilt.get(kept.record.spec.task_id, 0)
            text = (
                f"{lost}. `{name}`, which made it, was run again {times} times already and has no retries left. Raise "
                f"max_retries on `{name}`, or write its result to storage."
            )
            return ErrorValue("ObjectReconstructionFailedMaxAttemptsExceededError", text)
        if is_actor_call(key):
            why = (
                "It was made by an actor's method, which is not called again, because the actor may have changed since"
            )
        else:
            why = (
                "It was put, or the record of the task that made it was dropped to bound memory, so there is no way to "
                "make it again"
            )
        return ErrorValue(
            "ObjectLostError", f"{lost}. {why}. Keep what must survive a node in storage, or make it by a task."
        )

    # --- looking ------------------------------------------------------------------------------------------------------

    def is_dead(self, node_id: bytes) -> bool:
        return node_id in self._dead_nodes

    def statistics(self) -> dict[str, int]:
        return {"kept_tasks": len(self._kept), "kept_bytes": self._bytes, "rebuilt": self.rebuilt_count}

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        assert self._bytes == sum(kept.size for kept in self._kept.values()), "The bytes of lineage are miscounted."
        for kept in self._kept.values():
            assert kept.results or kept.dependents, "A task is kept for nothing."
