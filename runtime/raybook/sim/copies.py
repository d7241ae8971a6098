"""Copies: how a simulated process reads objects of other nodes: it asks its raylet, once an object. As ``worker/copies``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.specs import Location
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.protocol.messages.raylet import FetchObject, ObjectFetched


class CopyTicket:
    """One read of a distant object. ``copy`` or ``reason`` is set when ``done`` is called."""

    __slots__ = ("copy", "done", "key", "location", "reason")

    def __init__(self, key: bytes, location: Location, done: Callable[..., None]) -> None:
        self.key = key
        self.location = location
        self.done = done
        self.copy: Location | None = None
        self.reason = ""


class Copies:
    """send: to the raylet."""

    def __init__(self, send: Callable[[Any], None], objects: ObjectDirectory, node_id: bytes) -> None:
        self._send = send
        self._objects = objects
        self._node_id = node_id
        self._waiting: dict[int, CopyTicket] = {}
        self._next_request = 1

    def ask(self, ticket: CopyTicket) -> None:
        """Serve a ticket from a copy that is ours already, or have one made."""
        ticket.copy = self._objects.copies.get(ticket.key)
        if ticket.copy is not None:
            ticket.done()
            return
        number = self._next_request
        self._next_request += 1
        self._waiting[number] = ticket
        self._send(FetchObject(number, ticket.key, ticket.location))

    def answered(self, message: ObjectFetched) -> None:
        """The raylet has one, or says why not."""
        ticket = self._waiting.pop(message.request_id)
        if message.offset < 0:
            ticket.reason = message.reason
        else:
            ticket.copy = Location(self._node_id, message.offset, ticket.location.size)
            self._objects.copies[ticket.key] = ticket.copy
        ticket.done()
