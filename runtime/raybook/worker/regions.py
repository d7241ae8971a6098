"""Regions: room in the node's arena for values of this process.

User threads ask by a ticket and wait on its lock; the I/O thread allocates, and asks the raylet for an extent when its
own are full. Writing the bytes is the user thread's work, outside of everything.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import Any

from raybook.core.node.arena_allocator import Extent, LocalAllocator
from raybook.protocol.messages.store import ExtentGranted, ExtentRefused, RequestExtent, ReturnExtent


class Ticket:
    """One request for room. ``offset`` or ``refusal`` is set when the lock opens."""

    __slots__ = ("lock", "offset", "refusal", "size", "warm")

    def __init__(self, size: int) -> None:
        self.size = size
        self.offset = -1
        self.refusal = ""
        self.warm = False
        self.lock = _thread.allocate_lock()
        self.lock.acquire()


class Regions:
    """The I/O thread's side. ``send``: to the raylet."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self.allocator = LocalAllocator()
        self._waiting: dict[int, Ticket] = {}
        self._next_request = 1

    def allocate(self, ticket: Ticket) -> None:
        """Serve a ticket from our extents, or ask for one."""
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
        ticket.lock.release()

    def granted(self, message: ExtentGranted) -> None:
        """An extent arrived."""
        self.allocator.add_extent(Extent(message.offset, message.size, message.warm_bytes))
        ticket = self._waiting.pop(message.request_id, None)
        if ticket is not None:
            self.allocate(ticket)

    def refused(self, message: ExtentRefused) -> None:
        """There is no room."""
        ticket = self._waiting.pop(message.request_id, None)
        if ticket is not None:
            ticket.refusal = message.text
            ticket.lock.release()

    def free(self, offset: int) -> None:
        """A region is garbage; extents beyond the first that are empty go back."""
        self.allocator.free(offset)

    def give_back_idle(self) -> None:
        """Return extents with nothing in them."""
        for extent in self.allocator.idle_extents():
            self.allocator.remove_extent(extent.offset)
            self._send(ReturnExtent(extent.offset, extent.size))

    def fail_all(self, text: str) -> None:
        """The raylet is gone."""
        for ticket in self._waiting.values():
            ticket.refusal = text
            ticket.lock.release()
        self._waiting.clear()
