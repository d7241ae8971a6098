"""Hosted transfers: large values between a thin client and the store of its session's node, in parts.

The host's side of ``engines/session_transfers``. Parts that arrive go to a thread that writes them into the arena and then
lets more come; values that leave are read by a thread that waits until the client has room. Methods run on the I/O thread
unless they say otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from raybook.base.specs import RefInfo, Value
from raybook.engines.hosted_values import HostedValues
from raybook.engines.session_transfers import PART_BYTES, WINDOW_BYTES
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
from raybook.worker.core_process import CoreProcess

THREADS_MAX = 8
"""Each way. Transfers beyond wait; they have sent a window of bytes by then at most."""


class TransferDropped(Exception):
    """The client has given it up, or is another process by now."""


class _Incoming:
    def __init__(self) -> None:
        self.parts: SimpleQueue[bytes | None] = SimpleQueue()
        self.stored: tuple[Value, Any] | None = None
        self.is_dropped = False


class _Outgoing:
    def __init__(self) -> None:
        self.credit = threading.Semaphore(WINDOW_BYTES // PART_BYTES)
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True
        self.credit.release()


class HostedTransfers:
    """answer: says something to the client, from any thread."""

    def __init__(self, core: CoreProcess, values: HostedValues, answer: Callable[[Any], None]) -> None:
        self._core = core
        self._values = values
        self._answer = answer
        self._incoming: dict[int, _Incoming] = {}
        self._outgoing: dict[int, _Outgoing] = {}
        self._writers = ThreadPoolExecutor(THREADS_MAX, "raybook-store")
        self._readers = ThreadPoolExecutor(THREADS_MAX, "raybook-read")

    # In

    def on_upload(self, order: Upload) -> None:
        incoming = self._incoming[order.transfer] = _Incoming()
        self._writers.submit(self._write, order, incoming)

    def on_part(self, order: Part) -> None:
        incoming = self._incoming.get(order.transfer)
        if incoming is not None:
            incoming.parts.put(order.data)

    def on_drop_upload(self, order: DropUpload) -> None:
        self._drop(self._incoming.pop(order.transfer, None))

    def take(self, transfer: int) -> tuple[Value, Any]:
        """What was stored, and its room, which is the caller's from now on. KeyError when there is none."""
        incoming = self._incoming.pop(transfer)
        if incoming.stored is None:
            raise KeyError(f"Transfer {transfer} is not over.")
        return incoming.stored

    def _write(self, order: Upload, incoming: _Incoming) -> None:
        """Writer's thread."""
        number = order.transfer
        try:
            stored = self._values.receive(order.size, order.contained, self._parts(order, incoming))
        except TransferDropped:
            return
        except BaseException as error:  # noqa: BLE001 - it is the client's to hear; this thread serves others.
            self._core.submit(lambda: self._incoming.pop(number, None))
            self._answer(Uploaded(number, type(error).__name__, str(error)))
            return
        self._core.submit(lambda: self._is_stored(number, incoming, stored))

    def _is_stored(self, number: int, incoming: _Incoming, stored: tuple[Value, Any]) -> None:
        if incoming.is_dropped:
            self._abandon(stored)
            return
        incoming.stored = stored
        self._answer(Uploaded(number))

    def _parts(self, order: Upload, incoming: _Incoming) -> Iterator[bytes]:
        missing = order.size
        while missing > 0:
            part = incoming.parts.get()
            if part is None:
                raise TransferDropped
            missing -= len(part)
            if missing < 0:
                raise ValueError(f"{-missing} bytes more than announced came for a value of {order.size}.")
            yield part
            self._answer(Credit(order.transfer, len(part)))

    def _drop(self, incoming: _Incoming | None) -> None:
        if incoming is None:
            return
        incoming.is_dropped = True
        incoming.parts.put(None)
        if incoming.stored is not None:
            self._abandon(incoming.stored)

    def _abandon(self, stored: tuple[Value, Any]) -> None:
        if stored[1] is not None:
            self._core.tickets.abandon(stored[1])

    # Out

    def on_download(self, order: Download) -> None:
        outgoing = self._outgoing[order.transfer] = _Outgoing()
        self._readers.submit(self._read, order.transfer, order.ref, outgoing)

    def on_credit(self, order: Credit) -> None:
        outgoing = self._outgoing.get(order.transfer)
        if outgoing is not None:
            outgoing.credit.release()

    def on_drop_download(self, order: DropDownload) -> None:
        outgoing = self._outgoing.pop(order.transfer, None)
        if outgoing is not None:
            outgoing.drop()

    def _read(self, number: int, ref: RefInfo, outgoing: _Outgoing) -> None:
        """Reader's thread."""
        try:
            view = self._values.read(ref)
            self._answer(Sending(number, len(view)))
            for begin in range(0, len(view), PART_BYTES):
                outgoing.credit.acquire()
                if outgoing.is_dropped:
                    return
                self._answer(Part(number, view[begin : begin + PART_BYTES]))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - it is the client's to hear; this thread serves others.
            self._answer(Sending(number, 0, type(error).__name__, str(error)))
        finally:
            self._core.submit(lambda: self._outgoing.pop(number, None))

    # Another process, and the end

    def reset(self) -> None:
        """What a former process of the client was in the middle of is nobody's."""
        incoming, self._incoming = self._incoming, {}
        for each in incoming.values():
            self._drop(each)
        outgoing, self._outgoing = self._outgoing, {}
        for other in outgoing.values():
            other.drop()

    def close(self) -> None:
        """Threads that wait end."""
        self.reset()
        self._writers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)
