"""Copies: objects of other nodes, read through a copy in this node's arena.

User threads ask by a ticket and wait on its lock; the I/O thread asks the raylet, once an object. A copy is this process's
to read as long as it refers to the object; that it does no longer, the owner machine tells the raylet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.specs import Location
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.protocol.messages.raylet import FetchObject, ObjectFetched


class CopyTicket:
    """One read of a distant object. ``copy`` or ``reason`` is set when it is done."""

    __slots__ = ("copy", "done", "key", "location", "lock", "reason")

    def __init__(self, key: bytes, location: Location) -> None:
        self.key = key
        self.location = location
        self.copy: Location | None = None
        self.reason = ""
        self.done = False
        self.lock: Any = None

    def finish(self) -> None:
        """Whoever waits may go on."""
        self.done = True
        if self.lock is not None:
            self.lock.release()

    def end(self, copy: Location | None, reason: str) -> None:
        self.copy = copy
        self.reason = reason
        self.finish()


class Copies:
    """The I/O thread's side. send: to the raylet."""

    def __init__(self, send: Callable[[Any], None], objects: ObjectDirectory, node_id: bytes) -> None:
        self._send = send
        self._objects = objects
        self._node_id = node_id
        self._waiting: dict[int, CopyTicket] = {}
        self._next_request = 1

    def ask(self, ticket: CopyTicket) -> None:
        """Serve a ticket from a copy that is ours already, or have one made."""
        copy = self._objects.copies.get(ticket.key)
        if copy is not None:
            ticket.end(copy, "")
            return
        number = self._next_request
        self._next_request += 1
        self._waiting[number] = ticket
        self._send(FetchObject(number, ticket.key, ticket.location))

    def answered(self, message: ObjectFetched) -> None:
        ticket = self._waiting.pop(message.request_id, None)
        if ticket is None:
            return
        if message.offset < 0:
            ticket.end(None, message.reason)
            return
        copy = Location(self._node_id, message.offset, ticket.location.size)
        self._objects.copies[ticket.key] = copy
        ticket.end(copy, "")

    def fail_all(self, reason: str) -> None:
        """The raylet is gone."""
        waiting, self._waiting = self._waiting, {}
        for ticket in waiting.values():
            ticket.end(None, reason)
