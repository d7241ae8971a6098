"""Tickets: how a user thread asks the I/O loop for room in the arena, or for a copy from another node, and waits.

An interrupt while it waits, or while it writes what it got room for, leaves nothing taken: the room is given back,
also when it is granted only later.
"""

from __future__ import annotations

from collections.abc import Callable

from raybook.base.specs import Location
from raybook.core.owner.regions import Regions, Ticket
from raybook.worker.copies import CopyTicket
from raybook.worker.leading import Leading


class Tickets:
    """on_loop: runs a function on the I/O thread."""

    def __init__(self, leading: Leading, regions: Regions, on_loop: Callable[[Callable[[], None]], None]) -> None:
        self._leading = leading
        self._regions = regions
        self._on_loop = on_loop

    def allocate(self, size: int) -> Ticket:
        """Room for ``size`` bytes in the arena; blocks until there is some. ``refusal`` is set when there is none."""
        ticket = Ticket(size)
        try:
            self._leading.wait_for(ticket)
        except BaseException:
            self.abandon(ticket)
            raise
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """Give back the room of a ticket, if no object lies in it."""
        self._on_loop(lambda: self._regions.abandon(ticket))

    def fetch_copy(self, key: bytes, location: Location, timeout_s: float | None = None) -> CopyTicket:
        """A copy of another node's object; blocks until it is there, or ``reason`` says why not. Hold a reference. Not
        ``done`` when the time was not enough; it comes all the same."""
        ticket = CopyTicket(key, location)
        self._leading.wait_for(ticket, timeout_s)
        return ticket
