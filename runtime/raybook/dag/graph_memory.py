"""Graph memory: where in a compiled graph's shared memory each thing lies, and the mappings of it.

Two anonymous segments. `control`, mapped for writing by everybody: a byte that says the graph has ended, a flag for each
participant that sleeps, and for each channel its counters, slots, small messages and the marks of its large ones. `heap`:
the large messages, an `Arena`, so that readers cannot write what others read. Both are sparse: what is not used costs
address space. They end with the last process that maps them.

Participant 0 is the driver, the actors follow. Knows no values.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import msgspec

from raybook.io.shm_arena import Arena

LINE_BYTES = 64
PAGE_BYTES = 4096
SLOT_BYTES = 32
"""Kind, bytes, offset in the heap, block: a number of 8 bytes each."""
SMALL_BYTES_MAX = 8192
"""Messages up to this size, if no array in them should be read in place, lie in the slot's own room."""
BLOCKS_MAX = 1 << 16
HEAP_BYTES = 64 << 30
"""Address space of one channel's heap."""


class ChannelPlan(msgspec.Struct, frozen=True):
    """One channel: who writes, who reads, by participant. slots: messages that may be under way."""

    writer: int
    readers: tuple[int, ...]
    slots: int

    @property
    def slots_at(self) -> int:
        """Offset of the slots; before them lie the writer's counter and the readers', a line each."""
        return LINE_BYTES * (1 + len(self.readers))

    @property
    def small_at(self) -> int:
        """Offset of the small messages."""
        return _up(self.slots_at + SLOT_BYTES * self.slots, LINE_BYTES)

    @property
    def marks_at(self) -> int:
        """Offset of the marks by which readers let go of blocks: a byte for each block and reader."""
        return _up(self.small_at + SMALL_BYTES_MAX * self.slots, PAGE_BYTES)

    @property
    def total_bytes(self) -> int:
        """Of the control segment."""
        return _up(self.marks_at + BLOCKS_MAX * len(self.readers), PAGE_BYTES)


class GraphMemory:
    """Both segments, mapped. control_fd, heap_fd: become this object's."""

    def __init__(self, control_fd: int, heap_fd: int, participants: int, channels: Sequence[ChannelPlan]) -> None:
        self.control_fd = control_fd
        self.participants = participants
        self.channels = list(channels)
        self._mapping = mmap.mmap(control_fd, os.fstat(control_fd).st_size)
        self.control = memoryview(self._mapping)
        self.flags = self.control[::LINE_BYTES][1 : participants + 1]
        self.heap = Arena(heap_fd)
        self.starts: list[int] = []
        at = _header_bytes(participants)
        for channel in self.channels:
            self.starts.append(at)
            at += channel.total_bytes

    @classmethod
    def create(cls, participants: int, channels: Sequence[ChannelPlan]) -> GraphMemory:
        """New memory. OSError when the machine refuses."""
        control_fd = os.memfd_create("raybook-graph", os.MFD_CLOEXEC)
        heap_fd = os.memfd_create("raybook-graph", os.MFD_CLOEXEC)
        try:
            os.ftruncate(control_fd, _header_bytes(participants) + sum(channel.total_bytes for channel in channels))
            os.ftruncate(heap_fd, HEAP_BYTES * max(len(channels), 1))
            return cls(control_fd, heap_fd, participants, channels)
        except OSError:
            os.close(control_fd)
            os.close(heap_fd)
            raise

    @property
    def heap_fd(self) -> int:
        """To be sent to participants."""
        return self.heap.fd

    @property
    def has_ended(self) -> bool:
        """Whether the graph was torn down."""
        return self.control[0] != 0

    def end(self) -> None:
        """Tell everybody who looks."""
        self.control[0] = 1

    def close(self) -> None:
        """Let go. Arrays that are still looked at keep their pages mapped. Idempotent."""
        self.heap.close()
        if self.control_fd >= 0:
            os.close(self.control_fd)
            self.control_fd = -1


def _header_bytes(participants: int) -> int:
    return _up(LINE_BYTES * (participants + 1), PAGE_BYTES)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
