"""Copy room: extents of the arena that this node holds as a client of its own store, for copies of other nodes' objects.

Which copies there are, the pull manager knows; here their places are cut out of extents, which are asked for and given back
as any client does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from raybook.core.node import pull_events as pe
from raybook.core.node.arena_allocator import Extent, LocalAllocator
from raybook.protocol.messages import store as sm

GIVE_BACK_BYTES_MIN = 64 << 10


class CopyRoom:
    """decide: tells the pull manager. to_store: hands the store a message from this node."""

    def __init__(self, decide: Callable[[Any], None], to_store: Callable[[Any], None]) -> None:
        self._decide = decide
        self._to_store = to_store
        self._allocator = LocalAllocator()
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, tuple[bytes, int]] = {}
        self._next_request = 1
        self._recalls: dict[int, Any] = {}
        """RoomWanted that are not answered yet → what to tell the store then."""
        self._next_recall = 1

    def allocate(self, object_id: bytes, size: int) -> None:
        """Room for a copy; RoomGranted follows. Later: the pull manager is in the middle of a decision."""
        offset = self._allocator.allocate(size)
        if offset is not None:
            self._loop.call_soon(self._decide, pe.RoomGranted(object_id, offset))
            return
        number = self._next_request
        self._next_request += 1
        self._requests[number] = (object_id, size)
        self._loop.call_soon(self._to_store, sm.RequestExtent(number, size))

    def begin_write(self, offset: int, size: int) -> bool:
        """A copy is about to be written; whether its pages hold memory already."""
        is_warm = self._allocator.is_warm(offset, size)
        self._allocator.mark_written(offset, size)
        return is_warm

    def free(self, offset: int) -> None:
        """The room of a copy is free again."""
        self._allocator.free(offset)

    def hand_over(self, message: sm.Sealed) -> None:
        """A copy has become its owner's object, and its room is the owner's to free."""
        self._to_store(message)

    def heard(self, message: Any) -> None:
        """What the store says to this node as one of its clients."""
        if isinstance(message, sm.ExtentGranted):
            self._allocator.add_extent(Extent(message.offset, message.size, message.warm_bytes))
            self.allocate(*self._requests.pop(message.request_id))
        elif isinstance(message, sm.ExtentRefused):
            object_id, _ = self._requests.pop(message.request_id)
            self._decide(pe.RoomGranted(object_id, -1, message.text))
        elif isinstance(message, sm.RegionsFreed):
            for offset in message.offsets:
                self._allocator.free(offset)
        elif isinstance(message, sm.RecallIdle):
            self._ask_for_room(message.bytes_wanted, sm.RecallAnswered(message.query_id))
        elif isinstance(message, sm.SpillWanted):
            # Copies need no file: the original is on another node.
            self._ask_for_room(message.bytes_wanted, sm.SpillObjects(message.query_id, []))

    def _ask_for_room(self, bytes_wanted: int, answer: Any) -> None:
        number = self._next_recall
        self._next_recall += 1
        self._recalls[number] = answer
        self._decide(pe.RoomWanted(bytes_wanted - self._give_back(), number))
        self._give_back()

    def answered(self, recall_id: int) -> None:
        """No more copies can go for a RoomWanted: what is free goes back to the store, and it is told so."""
        self._give_back()
        self._to_store(self._recalls.pop(recall_id))

    def _give_back(self) -> int:
        """Return what nothing lies in; how many bytes."""
        given = self._allocator.give_up_idle(1 << 62, GIVE_BACK_BYTES_MIN)
        for extent in given:
            self._to_store(sm.ReturnExtent(extent.offset, extent.size, extent.warm_bytes))
        return sum(extent.size for extent in given)
