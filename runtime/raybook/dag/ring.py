"""Ring: one channel of a compiled graph: one writer, some readers, every reader reads every message, in order.

A message is a serialized value or an error. The writer fills a slot and then counts it; a reader reads and then counts
what it has read. Each counter has one writing process, so nothing is locked. Small messages lie in the slot's room and
are copied out; large ones lie in blocks of the heap and are read in place: a block belongs to its readers until the last
array over it is gone (`pinned_buffer`), however many messages later.

Invariants: ``written - read ≤ slots`` for each reader; a slot is not touched between its count by the writer and its
count by the last reader. Stores become visible in order: x86 does that by itself, elsewhere a fence stands before counts.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

from raybook.dag.block_list import BlockList
from raybook.dag.doorbell import Doorbell, fence, wake
from raybook.dag.graph_memory import BLOCKS_MAX, HEAP_BYTES, LINE_BYTES, SLOT_BYTES, SMALL_BYTES_MAX, GraphMemory
from raybook.io.shm_arena import pinned_buffer
from raybook.protocol.serialization import Serialized, deserialize

VALUE = 0
ERROR = 1
LARGE = 2
"""Added to the kind of a message that lies in the heap."""

WARM_BYTES_MAX = 64 << 20
"""So much of a heap that no message needs stays warm; the rest goes back to the machine."""
IN_ORDER = platform.machine() in ("x86_64", "AMD64", "i686")
WORD = 8


class Ended(Exception):
    """The graph was torn down."""


class RingWriter:
    """The writing end. doorbells: eventfds by participant."""

    def __init__(self, memory: GraphMemory, channel: int, own: Doorbell, doorbells: Sequence[int]) -> None:
        plan = memory.channels[channel]
        start = memory.starts[channel]
        self._memory = memory
        self._own = own
        self._slots = plan.slots
        area = memory.control[start : start + plan.total_bytes]
        self._words = area[: plan.small_at].cast("Q")
        self._small = area[plan.small_at : plan.marks_at]
        readers = len(plan.readers)
        self._marks = area[plan.marks_at : plan.marks_at + BLOCKS_MAX * readers]
        self._readers = readers
        self._all_marks = b"\x01" * readers
        self._no_marks = bytes(readers)
        self._read_at = [LINE_BYTES // WORD * (1 + index) for index in range(readers)]
        self._slots_at = plan.slots_at // WORD
        self._sleepers = [(participant, doorbells[participant]) for participant in plan.readers]
        self._flags = memory.flags
        self._heap_start = HEAP_BYTES * channel
        self._blocks = BlockList(HEAP_BYTES, BLOCKS_MAX)
        self.written = self._words[0]
        self._read = self.written
        """What the slowest reader had read when we last looked."""

    def has_room(self) -> bool:
        """Whether a message can be written without waiting."""
        if self.written - self._read < self._slots:
            return True
        words = self._words
        self._read = min(words[at] for at in self._read_at)
        return self.written - self._read < self._slots

    def write(self, message: Serialized, kind: int = VALUE, timeout_s: float = -1) -> bool:
        """Write one message; False when there was no room for it in time. Ended, or ValueError when the heap is full."""
        if not self.has_room() and not self._own.wait(self._has_room_or_ended, timeout_s):
            return False
        if self._memory.has_ended:
            raise Ended
        words = self._words
        slot = self.written % self._slots
        at = self._slots_at + slot * (SLOT_BYTES // WORD)
        size = message.total_bytes
        if size <= SMALL_BYTES_MAX:
            place = slot * SMALL_BYTES_MAX
            small = self._small
            for part in message.parts():
                small[place : place + len(part)] = part
                place += len(part)
            words[at] = kind
        else:
            block, offset, is_warm = self._blocks.allocate(size, self._is_released)
            self._marks[block * self._readers : (block + 1) * self._readers] = self._no_marks
            self._memory.heap.write(self._heap_start + offset, message.parts(), warm=is_warm)
            words[at] = kind + LARGE
            words[at + 2] = offset
            words[at + 3] = block
        words[at + 1] = size
        if not IN_ORDER:
            fence()
        self.written += 1
        words[0] = self.written
        fence()
        flags = self._flags
        for participant, eventfd in self._sleepers:
            if flags[participant]:
                wake(flags, participant, eventfd)
        if self._blocks.free:
            self._give_back()
        return True

    def publish(self) -> None:
        """Count once more what was counted here, in case an interrupt came before others could see it."""
        self._words[0] = self.written

    def _has_room_or_ended(self) -> bool:
        return self.has_room() or self._memory.has_ended

    def _is_released(self, block: int) -> bool:
        return self._marks[block * self._readers : (block + 1) * self._readers] == self._all_marks

    def _give_back(self) -> None:
        for offset, size in self._blocks.drop_free(WARM_BYTES_MAX):
            self._memory.heap.punch(self._heap_start + offset, size)


class RingReader:
    """A reading end. participant: whose. writer_doorbell: eventfd of who writes."""

    def __init__(
        self, memory: GraphMemory, channel: int, participant: int, own: Doorbell, doorbells: Sequence[int]
    ) -> None:
        plan = memory.channels[channel]
        start = memory.starts[channel]
        self._memory = memory
        self._own = own
        self._slots = plan.slots
        area = memory.control[start : start + plan.total_bytes]
        self._words = area[: plan.small_at].cast("Q")
        self._small = area[plan.small_at : plan.marks_at]
        self._index = plan.readers.index(participant)
        self._readers = len(plan.readers)
        self._marks = area[plan.marks_at : plan.marks_at + BLOCKS_MAX * self._readers]
        self._count_at = LINE_BYTES // WORD * (1 + self._index)
        self._slots_at = plan.slots_at // WORD
        self._writer = plan.writer
        self._writer_doorbell = doorbells[plan.writer]
        self._heap_start = HEAP_BYTES * channel
        self.read = self._words[self._count_at]

    def is_there(self) -> bool:
        """Whether the next message was written."""
        return self._words[0] > self.read

    def is_there_or_ended(self) -> bool:
        """For a wait."""
        return self._words[0] > self.read or self._memory.has_ended

    def wait(self, timeout_s: float = -1) -> bool:
        """Until there is a message; False when time is up. Ended when the graph ends first."""
        if self._words[0] > self.read:
            return True
        if not self._own.wait(self.is_there_or_ended, timeout_s, self.is_there):
            return False
        if not self.is_there():
            raise Ended
        return True

    def take(self, load: Callable[[int, Any, Any], Any]) -> Any:
        """What ``load(kind, bytes, pin)`` makes of the next message, which must be there. pin: None, or to be handed to
        ``deserialize`` as ``wrap_buffer``; without one, the bytes are the reader's own or valid during the call."""
        words = self._words
        if not IN_ORDER:
            fence()
        slot = self.read % self._slots
        at = self._slots_at + slot * (SLOT_BYTES // WORD)
        kind, size = words[at], words[at + 1]
        try:
            if kind < LARGE:
                place = slot * SMALL_BYTES_MAX
                return load(kind, self._small[place : place + size], None)
            return self._take_large(kind - LARGE, size, words[at + 2], words[at + 3], load)
        finally:
            self._count()

    def skip(self) -> None:
        """Pass over the next message, which must be there."""
        self.take(_load_nothing)

    def _take_large(self, kind: int, size: int, offset: int, block: int, load: Callable[[int, Any, Any], Any]) -> Any:
        marks, mark = self._marks, block * self._readers + self._index
        is_pinned = False

        def release() -> None:
            marks[mark] = 1

        def pin(view: memoryview) -> memoryview:
            nonlocal is_pinned
            is_pinned = True
            return pinned_buffer(view, release)

        try:
            return load(kind, self._memory.heap.view(self._heap_start + offset, size), pin)
        finally:
            if not is_pinned:
                release()

    def publish(self) -> None:
        """As the writer's."""
        self._words[self._count_at] = self.read

    def _count(self) -> None:
        self.read += 1
        if not IN_ORDER:
            fence()
        self._words[self._count_at] = self.read
        fence()
        if self._memory.flags[self._writer]:
            wake(self._memory.flags, self._writer, self._writer_doorbell)


def load_value(data: Any, pin: Any) -> Any:
    """The value of a message. What is small and not a bare pickle is copied: its arrays would look at the slot."""
    if pin is None and data[0] != 0x80:
        data = bytes(data)
    return deserialize(data, wrap_buffer=pin)


def _load_nothing(kind: int, data: Any, pin: Any) -> None:
    return None
