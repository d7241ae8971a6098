"""Copies: objects of other nodes, read through a copy in this node's arena.

User threads ask by a ticket and wait on its lock; the I/O thread asks the raylet, once an object. A copy is this process's
to read as long as it refers to the object; that it does no longer, the owner machine tells the raylet. When room is short,
the raylet asks for the copies back that nothing here looks at; they are fetched again if somebody wants to read them.

A thread that reads a copy pins it first and looks then whether it is still ours (``values``). So a copy is taken off the
list, and given back two rounds of the loop later, when the pin of whoever found it on the list has been counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.specs import Location
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.pins import Pins
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.protocol.messages.raylet import (
    CopiesRecalled,
    DropCopies,
    FetchDelayed,
    FetchObject,
    ObjectFetched,
    RecallCopies,
)


class CopyTicket:
    """One read of a distant object. When it is done, ``copy`` is set, or ``reason`` and perhaps ``code``; before that,
    ``reason`` may say what it waits for. on_end: called by the I/O thread then, where nobody waits for it."""

    __slots__ = ("code", "copy", "done", "key", "location", "lock", "on_end", "reason")

    def __init__(self, key: bytes, location: Location, on_end: Callable[[], None] | None = None) -> None:
        self.key = key
        self.location = location
        self.on_end = on_end
        self.copy: Location | None = None
        self.reason = ""
        self.code = ""
        self.done = False
        self.lock: Any = None

    def finish(self) -> None:
        """Whoever waits may go on."""
        self.done = True
        if self.lock is not None:
            self.lock.release()
        if self.on_end is not None:
            self.on_end()

    def end(self, copy: Location | None, reason: str, code: str = "") -> None:
        self.copy = copy
        self.reason = reason
        self.code = code
        self.finish()


class Copies:
    """The I/O thread's side. send: to the raylet. later: runs a function in the next round of the loop."""

    def __init__(
        self,
        send: Callable[[Any], None],
        later: Callable[[Callable[[], None]], None],
        objects: ObjectDirectory,
        references: ReferenceCounter,
        pins: Pins,
        node_id: bytes,
    ) -> None:
        self._send = send
        self._later = later
        self._objects = objects
        self._references = references
        self._pins = pins
        self._node_id = node_id
        self._waiting: dict[int, list[CopyTicket]] = {}
        self._asked: dict[bytes, int] = {}
        """Object → the request for it that is not answered yet."""
        self._next_request = 1
        self.handlers: dict[type, Callable[[Any], None]] = {
            ObjectFetched: self.answered,
            FetchDelayed: self.delayed,
            RecallCopies: self.recalled,
        }
        """What to do with the raylet's messages about copies."""

    def ask(self, ticket: CopyTicket) -> None:
        """Serve a ticket from a copy that is ours already, or have one made."""
        copy = self._objects.copies.get(ticket.key)
        if copy is not None:
            ticket.end(copy, "")
            return
        number = self._asked.get(ticket.key)
        if number is not None:
            self._waiting[number].append(ticket)
            return
        number = self._asked[ticket.key] = self._next_request
        self._next_request += 1
        self._waiting[number] = [ticket]
        self._send(FetchObject(number, ticket.key, ticket.location))

    def answered(self, message: ObjectFetched) -> None:
        """There is a copy, or none."""
        tickets = self._waiting.pop(message.request_id, None)
        if tickets is None:
            return
        key = tickets[0].key
        del self._asked[key]
        copy = None
        if message.offset >= 0:
            copy = Location(self._node_id, message.offset, tickets[0].location.size)
            if self._references.is_held(key):
                self._objects.copies[key] = copy
            else:
                # Whoever asked was interrupted, and has let go.
                copy = None
                self._send(DropCopies([key]))
        for ticket in tickets:
            ticket.end(copy, message.reason, message.code)

    def delayed(self, message: FetchDelayed) -> None:
        """Why one waits, should somebody lose patience."""
        for ticket in self._waiting.get(message.request_id, ()):
            ticket.reason = message.reason

    def recalled(self, message: RecallCopies) -> None:
        """Room is short: give back what nothing looks at. Views that are gone but not counted yet are ahead in the queue."""
        self._later(lambda: self._take_off_the_list(message.recall_id))

    def _take_off_the_list(self, recall_id: int) -> None:
        copies, adopted = self._objects.copies, self._objects.adopted
        leaving = {
            key: copy for key, copy in copies.items() if key not in adopted and not self._pins.is_pinned(copy.offset)
        }
        for key in leaving:
            del copies[key]
        self._later(lambda: self._later(lambda: self._give_back(recall_id, leaving)))

    def _give_back(self, recall_id: int, leaving: dict[bytes, Location]) -> None:
        copies = self._objects.copies
        dropped = []
        for key, copy in leaving.items():
            if key in copies or key in self._asked:
                continue  # Somebody has asked for it anew.
            if self._pins.is_pinned(copy.offset):
                copies[key] = copy
            else:
                dropped.append(key)
        if dropped:
            self._send(DropCopies(dropped))
        self._send(CopiesRecalled(recall_id))

    def fail_all(self, reason: str) -> None:
        """The raylet is gone."""
        waiting, self._waiting = self._waiting, {}
        self._asked.clear()
        for tickets in waiting.values():
            for ticket in tickets:
                ticket.end(None, reason)
