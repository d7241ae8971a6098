"""Garbage: what is done about objects and actors that nobody refers to any more.

Decides where the bytes go back to: our own extents, the raylet (regions that another process wrote), or a file on disk.
Invariant: after ``collect`` the reference counter has no released ids left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.ids import ACTOR_ID_BYTES, is_stream, return_id, task_of
from raybook.base.specs import ErrorValue, Value
from raybook.core.owner.actor_calls import ActorCalls
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import FreeOwn, ToRaylet, UnhandledError
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.relocations import Relocations
from raybook.protocol.messages.store import DeleteSpilled, FreeRegions
from raybook.protocol.messages.worker import TaskReply

UNHANDLED_CODES = frozenset({"task", "WorkerCrashedError"})
"""User code raised, or took its process along. Who cancels or kills knows of it, and a dead actor is told about once."""


class Garbage:
    def __init__(
        self,
        references: ReferenceCounter,
        objects: ObjectDirectory,
        actors: ActorCalls,
        relocations: Relocations,
        effects: list[Any],
    ) -> None:
        self._references = references
        self._objects = objects
        self._actors = actors
        self._relocations = relocations
        self._effects = effects
        self.on_stream_released: Callable[[bytes], None] = _nothing
        """Told the task's id when its generator is released."""
        self.on_forgotten: Callable[[bytes], None] = _nothing
        """Told of each object of ours that may have lain in an arena or on disk, when it is garbage."""

    def collect(self) -> None:
        """Free what has been released; what that releases in turn, too."""
        references = self._references
        if not references.released:
            return
        freed: dict[bytes, tuple[list[int], list[bytes]]] = {}
        values = self._objects.values
        while references.released:
            released = references.released.copy()
            references.released.clear()
            for key in released:
                if key in references.counts or key in references.borrowers:
                    continue
                known = values.get(key)
                if known is not None and known.inline is not None:
                    del values[key]
                    continue
                if len(key) == ACTOR_ID_BYTES:
                    self._actors.out_of_scope(key)
                    continue
                value, own_offset = self._objects.remove(key)
                if value is None:
                    if is_stream(key):
                        self.on_stream_released(task_of(key))
                    else:
                        self.on_forgotten(key)
                    continue
                self.on_forgotten(key)
                if value.location is None:
                    if value.error is not None:
                        self._lost_error(value.error)
                    continue
                if self._relocations.is_moving(key) and not value.location.spill_path:
                    self._relocations.forgotten(key)
                    own_offset = None  # The place that it was leaving; where it lies now is another node's.
                if key in self._objects.adopted:
                    # It lay in a copy, which the raylet hears about as of any other.
                    self._objects.adopted.discard(key)
                elif value.location.spill_path:
                    self._relocations.removed(key, value.location)
                elif own_offset is not None:
                    self._effects.append(FreeOwn(own_offset))
                else:
                    offsets, keys = freed.setdefault(value.location.node_id, ([], []))
                    offsets.append(value.location.offset)
                    keys.append(key)
        for node_id, (offsets, keys) in freed.items():
            self._effects.append(ToRaylet(FreeRegions(offsets, node_id, keys)))

    def discard(self, key: bytes, value: Value, own_offset: int | None) -> None:
        """A value arrived that nobody wants any more."""
        if value.error is not None:
            self._lost_error(value.error)
        elif own_offset is not None:
            self._effects.append(FreeOwn(own_offset))
        elif value.location is not None and value.location.spill_path:
            path, node_id = value.location.spill_path, value.location.node_id
            self._effects.append(ToRaylet(DeleteSpilled([path], node_id=node_id)))
        elif value.location is not None:
            location = value.location
            self._effects.append(ToRaylet(FreeRegions([location.offset], location.node_id, [key])))

    def discard_reply(self, reply: TaskReply) -> bool:
        """A reply came too late: its task is over, or tried again. Whether its worker holds references for it."""
        for index, value in enumerate(reply.returns):
            self.discard(return_id(reply.task_id, index), value, None)
        return any(value.contained for value in reply.returns)

    def _lost_error(self, error: ErrorValue) -> None:
        """The last reference to a failed result is gone."""
        if not error.seen and error.code in UNHANDLED_CODES:
            error.seen = True
            self._effects.append(UnhandledError(error.text))


def _nothing(task_id: bytes) -> None:
    pass
