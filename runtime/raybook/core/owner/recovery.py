"""Recovery: objects that were lost with a node, and how they are made again.

    lost object                                   becomes
    a copy of it is in this node's arena          that copy
    made by a task, or by a call with retries     made again: the task runs again, and before it those that make arguments
                                                  that are gone, too
    item of a generator                           made again: the generator runs again, and sends what is missing
    put · of a call without retries, or whose actor has ended · its task's retries are spent · its record was dropped to
    bound memory                                  an error that says which of these it is

A borrower forgets what it knew of the place and asks the owner, and tells it what it has found. Knows nothing of sockets or
leases. Invariants: a task runs again once at a time; every lost object of ours is on its way again, or an error. Source:
Ray's lineage reconstruction; retries are shared with those for crashes, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.facts import ACTOR_DEAD
from raybook.base.ids import index_of, is_actor_call, return_id, task_of
from raybook.base.specs import ErrorValue, Location, RefInfo, Value
from raybook.core.owner.actor_calls import ActorCalls
from raybook.core.owner.borrows import Borrows
from raybook.core.owner.dependencies import Dependencies, slots_of
from raybook.core.owner.exchange import Exchange
from raybook.core.owner.generators import Generators
from raybook.core.owner.lineage import Kept, Lineage
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import TaskRecord
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.relocations import Relocations
from raybook.core.owner.task_manager import TaskManager
from raybook.protocol.messages.worker import TaskReply


class Recovery:
    """One per owner machine. ready(key, value): an object of ours has a value. run(record): to the queue, its arguments
    are there. fail(record, error): it ends without running. bytes_max: of lineage."""

    def __init__(
        self,
        references: ReferenceCounter,
        objects: ObjectDirectory,
        tasks: TaskManager,
        dependencies: Dependencies,
        exchange: Exchange,
        borrows: Borrows,
        actors: ActorCalls,
        generators: Generators,
        relocations: Relocations,
        ready: Callable[[bytes, Value, bool], None],
        run: Callable[[TaskRecord], None],
        fail: Callable[[TaskRecord, ErrorValue], None],
        bytes_max: int,
    ) -> None:
        self._references = references
        self._objects = objects
        self._tasks = tasks
        self._dependencies = dependencies
        self._exchange = exchange
        self._borrows = borrows
        self._actors = actors
        self._generators = generators
        self._relocations = relocations
        self._ready = ready
        self._run = run
        self._fail = fail
        self.lineage = Lineage(bytes_max)
        self._dead_nodes: dict[bytes, str] = {}
        self.is_on = False
        """There are other nodes: objects may be lost."""
        self.rebuilt_count = 0
        """How often a task ran again, in all."""
        self.rebuilt: dict[bytes, int] = {}
        """Tasks that ran again, and how often: what they make anew may be there still."""
        generators.on_missing = self.make_again
        exchange.on_lost = self.source_lost

    # --- keeping ------------------------------------------------------------------------------------------------------

    def keep(self, record: TaskRecord, reply: TaskReply) -> None:
        """A task has ended well."""
        task_id = record.spec.task_id
        located = [return_id(task_id, at) for at, value in enumerate(reply.returns) if value.location is not None]
        if record.spec.num_returns < 0:
            located += self._generators.located_items(record)
        results = {key: True for key in located if self._references.is_alive(key)}
        if results or self.lineage.find(task_id) is not None:
            self.lineage.keep(record, results)

    def forget(self, key: bytes) -> None:
        """An object of ours is garbage."""
        self.lineage.forget(key)
        if self.rebuilt and self.lineage.find(key) is None:
            self.rebuilt.pop(task_of(key), None)

    # --- losing -------------------------------------------------------------------------------------------------------

    def node_gone(self, node_id: bytes, reason: str) -> None:
        """A node is dead. Cost: a look at each object."""
        self._dead_nodes[node_id] = reason
        self._relocations.node_gone(node_id)
        values = self._objects.values
        for key in [key for key, value in values.items() if value.location and value.location.node_id == node_id]:
            if key in values:
                self._lose(key)

    def source_lost(self, key: bytes, location: Location, damage: str = "") -> None:
        """An object could not be read where it should be, for its node is dead; damage: for what is wrong with its file."""
        value = self._objects.values.get(key)
        if value is None and not damage and not self._references.is_owned(key):
            self._exchange.lost_with[key] = location.node_id  # An argument, which was told with its task.
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
        return not any(self._why_not_again(key, self.lineage.find(key)))

    def _file_lost(self, key: bytes, location: Location, damage: str) -> None:
        self._objects.lose(key)
        self._relocations.removed(key, location)
        if self.can_make_again(key):
            self.make_again(key, location.node_id)
        else:
            self._ready(key, Value(error=ErrorValue("ObjectLostError", damage)), False)

    def _lose(self, key: bytes) -> None:
        value = self._objects.values[key]
        location = value.location
        assert location is not None, "an object was lost that had no place"
        is_owned = self._references.is_owned(key)
        if key in self._objects.copies and not is_owned:
            # A copy of it is here, and stays as long as somebody looks at it; after that the owner is asked.
            return
        self._relocations.lost(key, location)
        if is_owned and self._objects.adopt_copy(key):
            return
        self._objects.lose(key)
        if is_owned:
            self.make_again(key, location.node_id)
        else:
            self._exchange.lost_with[key] = location.node_id

    # --- making again -------------------------------------------------------------------------------------------------

    def make_again(self, key: bytes, node_id: bytes = b"") -> None:
        """Have a lost object of ours made anew, and before it what it is made of; what cannot be becomes an error. A loop,
        not a recursion: a chain of tasks may be long. node_id: with which it was lost."""
        wanted = [key]
        while wanted:
            key = wanted.pop()
            record = self._tasks.tasks.get(task_of(key))
            if record is not None:
                if record.spec.num_returns < 0 and not self._generators.lost(record, key):
                    self._ready(key, Value(error=self._lost_error(key, node_id, self._spent(record))), False)
                continue
            kept = self.lineage.find(key)
            why = self._why_not_again(key, kept)
            if any(why):
                self._ready(key, Value(error=self._lost_error(key, node_id, why)), False)
            elif kept is not None:
                self._rerun(kept, key, node_id, wanted)

    def _rerun(self, kept: Kept, key: bytes, node_id: bytes, wanted: list[bytes]) -> None:
        record = kept.record
        spec = record.spec
        if record.retries_left > 0:
            record.retries_left -= 1
        spec.attempt += 1
        self.rebuilt_count += 1
        self.rebuilt[spec.task_id] = self.rebuilt.get(spec.task_id, 0) + 1
        self._tasks.tasks[spec.task_id] = record
        record.unresolved = 0
        record.lease = None
        if spec.num_returns < 0:
            self._generators.again(record, key)
        if record.actor_id:
            self._references.hold_again(record.actor_id)
        for ref in record.held or ():
            self._borrows.hold(ref)
        for slot in slots_of(record):
            if slot.value is not None and slot.value.inline is None:
                slot.value = None
            if slot.value is None and self._is_gone(slot.ref):
                wanted.append(slot.ref.object_id)
        error = self._dependencies.add(record)
        if error is not None:
            self._fail(record, error)
        elif record.actor_id:
            self._call_again(record)
        elif not record.unresolved:
            self._run(record)

    def _call_again(self, record: TaskRecord) -> None:
        queue = self._actors.queue(record.actor_id)
        queue.ended -= 1  # It counts as pending once more.
        if queue.endpoint is not None and queue.endpoint.node_id in self._dead_nodes:
            # The GCS will say how it goes on with the actor; what is sent before that would be lost, and a retry with it.
            queue.hold_back()
        error = queue.submit(record)
        if error is not None:
            self._fail(record, error)

    def _is_gone(self, ref: RefInfo) -> bool:
        """Whether an argument of ours has no value any more; one on a dead node has lost it now."""
        key = ref.object_id
        value = self._objects.values.get(key)
        if value is not None and (value.location is None or value.location.node_id not in self._dead_nodes):
            return False
        if value is not None and value.location is not None:
            if self._references.is_owned(key) and self._objects.adopt_copy(key):
                return False
            self._relocations.lost(key, value.location)
            self._objects.lose(key)
        return self._references.is_owned(key)

    def _why_not_again(self, key: bytes, kept: Kept | None) -> tuple[str, str]:
        """(class of the error, why it cannot be made again); empty when it can."""
        if kept is None:
            if self.lineage.was_dropped(key):
                return (
                    "ObjectReconstructionFailedLineageEvictedError",
                    f"The record of the task that made it was dropped, because such records may take "
                    f"{self.lineage.bytes_max:,} bytes in all (lineage_bytes_max). Raise that",
                )
            if is_actor_call(key):
                return (
                    "ObjectLostError",
                    "It was made by an actor's method, of which no record is kept. Make it by a task",
                )
            if index_of(key):
                return (
                    "ObjectLostError",
                    "It is an item of a generator that failed later, which does not run again. Submit it anew",
                )
            return "ObjectLostError", "It was put, so there is no way to make it again. Make it by a task"
        record = kept.record
        name = record.spec.name
        if record.cancelled:
            return "ObjectLostError", f"`{name}`, which made it, was cancelled and does not run again. Submit it anew"
        if record.actor_id:
            queue = self._actors.queues.get(record.actor_id)
            if queue is None or queue.state == ACTOR_DEAD:
                return (
                    "ObjectLostError",
                    f"`{name}`, which made it, is a method of the actor {record.actor_id.hex()}, which has ended. Keep a "
                    f"handle of the actor, give it max_restarts",
                )
            if not record.retries_left and record.spec.task_id not in self.rebuilt:
                return (
                    "ObjectLostError",
                    f"`{name}`, which made it, is a method of an actor, and is not called again, because the actor may have "
                    f"changed since. If it may be called again, set max_task_retries",
                )
        return ("", "") if record.retries_left else self._spent(record)

    def _spent(self, record: TaskRecord) -> tuple[str, str]:
        name, times = record.spec.name, self.rebuilt.get(record.spec.task_id, 0)
        setting = "max_task_retries" if record.actor_id else "max_retries"
        return (
            "ObjectReconstructionFailedMaxAttemptsExceededError",
            f"`{name}`, which made it, was run again {times} times already and has no retries left. Raise {setting} on "
            f"`{name}`",
        )

    def _lost_error(self, key: bytes, node_id: bytes, why: tuple[str, str]) -> ErrorValue:
        reason = self._dead_nodes.get(node_id, "why is not known")
        when = f"when node {node_id.hex()} died ({reason})" if node_id else "with the node where it lay"
        text = f"The object {key.hex()} was lost {when}. {why[1]}, or write what must survive a node to storage."
        return ErrorValue(why[0], text)

    # --- looking ------------------------------------------------------------------------------------------------------

    def is_dead(self, node_id: bytes) -> bool:
        return node_id in self._dead_nodes

    def statistics(self) -> dict[str, Any]:
        return {**self.lineage.statistics(), "rebuilt": self.rebuilt_count}

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        self.lineage.check_invariants()
