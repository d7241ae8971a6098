"""Regions: room in the node's arena for values of this process.

User threads ask by a ticket and wait on its lock; the I/O thread allocates, and asks the raylet for an extent when its
own are full. Writing the bytes is the user thread's work, outside of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.core.node.arena_allocator import Extent, LocalAllocator
from raybook.protocol.messages.store import (
    ExtentGranted,
    ExtentRefused,
    RecallAnswered,
    RecallIdle,
    ReclaimAck,
    ReclaimQuery,
    RegionsFreed,
    RequestExtent,
    ReturnExtent,
)

IDLE_MS = 250
"""After so long without a new region, room that is not used goes back to the raylet: what was freed shows within a
second, and a loop that puts keeps its warm pages."""
IDLE_BYTES_MIN = 1 << 20
"""Smaller gaps between regions stay with this process while nobody asks for them."""
RECALL_BYTES_MIN = 64 << 10
"""What a recall asks for comes back in ranges of at least this size; below it, a message costs more than it frees."""
EVERYTHING = 1 << 62


class Ticket:
    """One request for room. ``offset`` or ``refusal`` is set when it is done; with a refusal, ``spill_dir`` is
    where the value may be written instead."""

    __slots__ = ("done", "is_abandoned", "is_adopted", "lock", "offset", "refusal", "size", "spill_dir", "warm")

    def __init__(self, size: int, lock: Any = None) -> None:
        self.size = size
        self.offset = -1
        self.refusal = ""
        self.spill_dir = ""
        self.warm = False
        self.is_abandoned = False
        self.is_adopted = False
        self.done = False
        self.lock = lock

    def finish(self) -> None:
        """Whoever waits may go on."""
        self.done = True
        if self.lock is not None:
            self.lock.release()


class Regions:
    """The I/O thread's side. ``send``: to the raylet."""

    def __init__(self, send: Callable[[Any], None], is_looked_at: Callable[[list[tuple[int, int]]], bool]) -> None:
        self._send = send
        self._is_looked_at = is_looked_at
        self._reclaims: list[ReclaimQuery] = []
        self.allocator = LocalAllocator()
        self._waiting: dict[int, Ticket] = {}
        self._next_request = 1
        self._recalls: list[RecallIdle] = []
        self._is_quiet = True
        self._has_freed = False
        self._looked_ms = 0

    def allocate(self, ticket: Ticket) -> None:
        """Serve a ticket from our extents, or ask for one."""
        self._is_quiet = False
        offset = self.allocator.allocate(ticket.size)
        if offset is None:
            request = self._next_request
            self._next_request += 1
            self._waiting[request] = ticket
            self._send(RequestExtent(request, ticket.size))
            return
        self._serve(ticket, offset)

    def _serve(self, ticket: Ticket, offset: int) -> None:
        ticket.warm = self.allocator.is_warm(offset, ticket.size)
        self.allocator.mark_written(offset, ticket.size)
        ticket.offset = offset
        ticket.finish()
        if ticket.is_abandoned:
            self.free(offset)

    def granted(self, message: ExtentGranted) -> None:
        """An extent arrived; it may be larger than what its ticket takes."""
        self._has_freed = True
        self.allocator.add_extent(Extent(message.offset, message.size, message.warm_bytes))
        ticket = self._waiting.pop(message.request_id, None)
        if ticket is not None:
            self.allocate(ticket)

    def refused(self, message: ExtentRefused) -> None:
        """There is no room."""
        ticket = self._waiting.pop(message.request_id, None)
        if ticket is not None:
            ticket.refusal = message.text
            ticket.spill_dir = message.spill_dir
            ticket.finish()

    def abandon(self, ticket: Ticket) -> None:
        """Whoever asked for room was interrupted, and writes nothing there: it is free, now or when it is granted. Too
        late for one in which an object lies: then the interrupt came after all was done."""
        if ticket.is_adopted:
            return
        ticket.is_abandoned = True
        if ticket.offset >= 0:
            self.free(ticket.offset)

    def free(self, offset: int) -> None:
        """A region is garbage; its bytes serve the next ticket, or go back when this process is quiet."""
        self.allocator.free(offset)
        self._has_freed = True

    def freed(self, message: RegionsFreed) -> None:
        """Regions that we wrote for others are garbage."""
        for offset in message.offsets:
            self.free(offset)

    def reclaim_asked(self, message: ReclaimQuery) -> None:
        """A process died; its ranges may be reused once no view of ours looks into them. Answered by ``look``."""
        self._reclaims.append(message)

    def _answer_reclaims(self) -> None:
        waiting = []
        for query in self._reclaims:
            if self._is_looked_at(query.ranges):
                waiting.append(query)
            else:
                self._send(ReclaimAck(query.query_id))
        self._reclaims = waiting

    def recalled(self, message: RecallIdle) -> None:
        """Somebody waits for room. Answered by ``look``, after what is garbage by now has been freed."""
        self._recalls.append(message)

    def look(self, now_ms: int) -> None:
        """Once in each step of the I/O thread: answer recalls, and return what has long been idle. Cost: 0.1 µs."""
        if self._reclaims:
            self._answer_reclaims()
        if self._recalls:
            recalls, self._recalls = self._recalls, []
            for recall in recalls:
                self.give_back_all()
                self._send(RecallAnswered(recall.query_id))
        if self._waiting and self._has_freed:
            # Through the raylet, whose queue is first come, first served.
            self.give_back_idle(EVERYTHING, RECALL_BYTES_MIN)
            self._has_freed = False
        if now_ms - self._looked_ms >= IDLE_MS:
            if self._is_quiet and self._has_freed:
                self.give_back_idle(EVERYTHING, IDLE_BYTES_MIN)
                self._has_freed = False
            self._is_quiet = True
            self._looked_ms = now_ms

    def give_back_all(self) -> None:
        """Return everything that is idle."""
        self.give_back_idle(EVERYTHING, RECALL_BYTES_MIN)

    def give_back_idle(self, bytes_wanted: int, bytes_min: int) -> int:
        """Return whole pages in which nothing lies; how many bytes."""
        given = self.allocator.give_up_idle(bytes_wanted, bytes_min)
        for extent in given:
            self._send(ReturnExtent(extent.offset, extent.size, extent.warm_bytes))
        return sum(extent.size for extent in given)

    def fail_all(self, text: str) -> None:
        """The raylet is gone."""
        for ticket in self._waiting.values():
            ticket.refusal = text
            ticket.finish()
        self._waiting.clear()
