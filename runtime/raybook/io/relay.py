"""Relay: bytes between two sockets of one loop, both ways, until either end closes.

For a connection that cannot be handed to another process as it is, because its encryption lives in this one. Both sockets
are non-blocking, and say BlockingIOError when there is nothing to do now (a TLS one of ``io/tls`` does, too). Knows nothing
of what the bytes say. A slow reader holds its writer up: at most ``BUFFER_BYTES`` wait here each way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

BUFFER_BYTES = 1 << 18


class Relay:
    """Runs from the moment it is made, on the running loop. It closes both sockets at the end."""

    def __init__(self, one: socket.socket, other: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed = False
        self._sockets = (one, other)
        self._ways = (_Way(one, other), _Way(other, one))
        self._writing: set[int] = set()
        for way in self._ways:
            self._loop.add_reader(way.source.fileno(), self._turn)
        self._turn()

    def close(self) -> None:
        """Idempotent."""
        if self.closed:
            return
        self.closed = True
        for each in self._sockets:
            self._loop.remove_reader(each.fileno())
            self._loop.remove_writer(each.fileno())
            each.close()

    def _turn(self) -> None:
        if self.closed:
            return
        try:
            for way in self._ways:
                way.carry()
        except OSError:
            self.close()
            return
        if any(way.is_over for way in self._ways):
            self.close()
            return
        for way in self._ways:
            self._watch(way)

    def _watch(self, way: _Way) -> None:
        """A full buffer is not read into, an empty one not written from."""
        source, sink = way.source.fileno(), way.sink.fileno()
        if len(way.buffer) >= BUFFER_BYTES:
            self._loop.remove_reader(source)
        else:
            self._loop.add_reader(source, self._turn)
        if way.buffer and sink not in self._writing:
            self._writing.add(sink)
            self._loop.add_writer(sink, self._turn)
        elif not way.buffer and sink in self._writing:
            self._writing.discard(sink)
            self._loop.remove_writer(sink)


class _Way:
    """One direction."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.buffer = bytearray()
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        """The writer has closed, and all that it wrote is out."""
        return self._has_ended and not self.buffer

    def carry(self) -> None:
        """Until one side has nothing to do. A TLS socket may hold bytes that the kernel no longer has: it is read until it
        says that there are none."""
        while not self._has_ended and len(self.buffer) < BUFFER_BYTES:
            try:
                data = self.source.recv(BUFFER_BYTES)
            except BlockingIOError:
                break
            self._has_ended = not data
            self.buffer += data
            self._write()
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.buffer:
                sent = self.sink.send(self.buffer)
                del self.buffer[:sent]
