"""Transfers of a thin client: large values on their way to the session and back, in parts.

A sender may be ``WINDOW_BYTES`` ahead of what the receiver has taken; so one transfer never fills the line, and a small
call finds its place between two parts. User threads make tickets and wait; whoever turns the link does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from raybook.base.specs import RefInfo
from raybook.protocol.messages.session import (
    Credit,
    Download,
    DropDownload,
    DropUpload,
    Part,
    Sending,
    Upload,
    Uploaded,
)
from raybook.protocol.serialization import Serialized
from raybook.worker.leading import shut_lock

WINDOW_BYTES = 8 << 20
PART_BYTES = 512 << 10


class UploadTicket:
    """One upload, from the user's thread. ``error_code`` is set when it failed."""

    __slots__ = ("_allowed", "_gate", "_sent", "done", "error_code", "error_text", "lock", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.error_code = ""
        self.error_text = ""
        self.done = False
        self.lock = shut_lock()
        """Opened when it is over."""
        self._allowed = WINDOW_BYTES
        """Written by whoever turns the link, as ``_sent`` is by the user's: neither needs a lock."""
        self._sent = 0
        self._gate: Any = None

    def wait_for_credit(self, count: int) -> bool:
        """Until so much may be sent. False: it is over."""
        self._sent += count
        while self._sent > self._allowed and not self.done:
            self._gate = gate = shut_lock()
            # Looked at once more: a turn may have raised it before it saw the gate.
            if self._sent <= self._allowed or self.done:
                break
            gate.acquire()
        return not self.done

    def give_credit(self, count: int) -> None:
        """In a turn."""
        self._allowed += count
        self._open_gate()

    def finish(self, error_code: str = "", error_text: str = "") -> None:
        """In a turn: it is stored, or never will be. The second time nothing happens."""
        if not self.done:
            self.error_code, self.error_text = error_code, error_text
            self.done = True
            self.lock.release()
            self._open_gate()

    def _open_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()


class DownloadTicket:
    """One download. ``data`` or ``error_code`` is set when it is over."""

    __slots__ = ("_position", "data", "done", "error_code", "error_text", "lock", "number", "ref")

    def __init__(self, number: int, ref: RefInfo) -> None:
        self.number = number
        self.ref = ref
        self.data = bytearray()
        self.error_code = ""
        self.error_text = ""
        self.done = False
        self.lock = shut_lock()
        self._position = 0

    def begin(self, size: int) -> None:
        self.data = bytearray(size)

    def take(self, data: bytes) -> bool:
        """A part came; whether it was the last."""
        end = self._position + len(data)
        self.data[self._position : end] = data
        self._position = end
        return end >= len(self.data)

    def finish(self, error_code: str = "", error_text: str = "") -> None:
        if not self.done:
            self.error_code, self.error_text = error_code, error_text
            self.done = True
            self.lock.release()


class Transfers:
    """The link's side, and the making of tickets. order: hands an order to the link (any thread)."""

    def __init__(self, order: Callable[[Any], None]) -> None:
        self._order = order
        self._numbers = iter(range(1, 1 << 62)).__next__
        self._uploads: dict[int, UploadTicket] = {}
        self._downloads: dict[int, DownloadTicket] = {}
        self.lost = ("", "")
        """Why nothing can be transferred any more: (error code, text)."""

    # User threads

    def upload(self, serialized: Serialized) -> UploadTicket:
        """Send a value in parts and wait until the session has stored it. An interrupt gives its room back. The ticket
        says whether it failed."""
        ticket = UploadTicket(self._numbers())
        self._uploads[ticket.number] = ticket
        try:
            if self.lost[0]:
                ticket.finish(*self.lost)
                return ticket
            self._order(Upload(ticket.number, serialized.total_bytes, list(serialized.contained) or None))
            for data in in_parts(serialized.parts()):
                if not ticket.wait_for_credit(len(data)):
                    break
                self._order(Part(ticket.number, data))
            ticket.lock.acquire()
        except BaseException:
            self._order(DropUpload(ticket.number))
            raise
        finally:
            self._uploads.pop(ticket.number, None)
        return ticket

    def download(self, ref: RefInfo) -> DownloadTicket:
        """Bring a value here; blocks until it is, or the ticket says why not."""
        ticket = DownloadTicket(self._numbers(), ref)
        self._downloads[ticket.number] = ticket
        try:
            if self.lost[0]:
                ticket.finish(*self.lost)
                return ticket
            self._order(Download(ticket.number, ref))
            ticket.lock.acquire()
        except BaseException:
            self._order(DropDownload(ticket.number))
            raise
        finally:
            self._downloads.pop(ticket.number, None)
        return ticket

    # In turns

    def on_credit(self, message: Credit) -> None:
        ticket = self._uploads.get(message.transfer)
        if ticket is not None:
            ticket.give_credit(message.count)

    def on_uploaded(self, message: Uploaded) -> None:
        ticket = self._uploads.get(message.transfer)
        if ticket is not None:
            ticket.finish(message.error_code, message.error_text)

    def on_sending(self, message: Sending) -> None:
        ticket = self._downloads.get(message.transfer)
        if ticket is None:
            return
        if message.error_code:
            ticket.finish(message.error_code, message.error_text)
        else:
            ticket.begin(message.size)
            if not message.size:
                ticket.finish()

    def on_part(self, message: Part) -> None:
        ticket = self._downloads.get(message.transfer)
        if ticket is None:
            return
        if ticket.take(message.data):
            ticket.finish()
        else:
            self._order(Credit(message.transfer, len(message.data)))

    def fail_all(self, error_code: str, error_text: str) -> None:
        """Nothing will come any more."""
        self.lost = (error_code, error_text)
        tickets: list[UploadTicket | DownloadTicket] = [*self._uploads.values(), *self._downloads.values()]
        for ticket in tickets:
            ticket.finish(error_code, error_text)


def in_parts(pieces: Iterable[Any]) -> Iterator[bytes]:
    """The same bytes in parts of ``PART_BYTES`` at most: small pieces together, large ones cut. Each part is a copy, so
    that the caller's memory is his again when the last one is out."""
    gathered = bytearray()
    for piece in pieces:
        view = memoryview(piece).cast("B")
        begin = 0
        while begin < len(view):
            room = PART_BYTES - len(gathered)
            if not gathered and len(view) - begin >= PART_BYTES:
                yield bytes(view[begin : begin + PART_BYTES])
                begin += PART_BYTES
                continue
            gathered += view[begin : begin + room]
            begin += room
            if len(gathered) >= PART_BYTES:
                yield bytes(gathered)
                gathered.clear()
    if gathered:
        yield bytes(gathered)
