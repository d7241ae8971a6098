"""Range streams: the bytes of one object, from an arena or file through a socket into another arena. For threads.

Out, the kernel sends the very pages of the arena (``sendfile``): no copy on this side, and a core is left to the receiver.
So these bytes may not change before the other side has taken them out of its socket; it closes the connection then, and
``wait_for_close`` waits for that. In, ``recv`` copies straight into the arena, whose pages are put in place a window ahead
(``Arena.writable``); with MSG_WAITALL, a system call a window instead of one for whatever has come.

Through TLS there are no pages to hand over and no MSG_WAITALL: bytes are read, encrypted and written in pieces.

An ``Inflow`` counts what has come of an object, for those who pass it on while it comes. Decides nothing.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
import zlib

from raybook.io.shm_arena import Arena

WINDOW_BYTES = 1 << 20
"""Received at a time: small enough for pages to stay in the cache between being put in place and being filled, large enough
that two system calls cost nothing beside it (benchmarks/transfer.py --windows)."""
SEND_BYTES_MAX = 1 << 30
"""Linux sends at most 2 GiB in one call."""
TLS_BYTES = 256 << 10
"""Read and encrypted at a time."""
LOOK_S = 1.0
"""How long a thread that waits for another node does not look whether it is to end."""


class Inflow:
    """How much of an object has come. Made where the transfer begins; ended once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.position = 0
        self._is_broken = False
        self._has_readers = False
        self._changed = threading.Condition()

    def advance(self, position: int) -> None:
        """All before ``position`` has come. By the one thread that receives."""
        self.position = position
        if self._has_readers:
            with self._changed:
                self._changed.notify_all()

    def fail(self) -> None:
        """The rest will not come. From any thread."""
        with self._changed:
            self._is_broken = True
            self._changed.notify_all()

    def wait_beyond(self, position: int) -> int:
        """Until more than ``position`` bytes have come; how many. ConnectionError when the rest will not come."""
        if self.position > position:
            return self.position
        with self._changed:
            self._has_readers = True
            while self.position <= position and not self._is_broken:
                # Not for ever: the flag above and the receiver's look at it are not one step.
                self._changed.wait(LOOK_S)
        if self.position <= position:
            raise ConnectionError("what this node was to pass on did not come")
        return self.position


def set_timeouts(sock: socket.socket, timeout_s: float) -> None:
    """Let a blocking socket that moves nothing for so long raise BlockingIOError. Not ``settimeout``: that asks the kernel
    before each call whether it would block, and takes what has come instead of what was asked for."""
    sock.setblocking(True)
    value = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def receive(sock: socket.socket, arena: Arena, offset: int, inflow: Inflow) -> None:
    """The rest of an object, into its place at ``offset``. ConnectionError or OSError when it breaks off; what has come by
    then stays counted. Cost: one copy of the bytes, and what the kernel needs for pages that hold no memory yet."""
    position, size = inflow.position, inflow.size
    flags = 0 if isinstance(sock, ssl.SSLSocket) else socket.MSG_WAITALL
    while position < size:
        window = min(WINDOW_BYTES, size - position)
        target = arena.writable(offset + position, window)
        filled = 0
        while filled < window:
            count = sock.recv_into(target[filled:], 0, flags)
            if not count:
                raise ConnectionError("the other side closed the connection")
            filled += count
        position += window
        inflow.advance(position)


def checksum(arena: Arena, offset: int, size: int) -> int:
    """CRC-32 of a range. Cost: 2 GB/s."""
    return zlib.crc32(arena.view(offset, size))


def send(sock: socket.socket, fd: int, offset: int, size: int) -> None:
    """A range of an arena or file. ConnectionError when it ends early, OSError when the connection breaks."""
    is_safe = isinstance(sock, ssl.SSLSocket)
    end = offset + size
    while offset < end:
        try:
            if is_safe:
                sent = sock.send(os.pread(fd, min(end - offset, TLS_BYTES), offset))
            else:
                sent = os.sendfile(sock.fileno(), fd, offset, min(end - offset, SEND_BYTES_MAX))
        except BlockingIOError:
            # The reader takes nothing for a while. Whether its node lives, others find out; then the socket is shut.
            continue
        if not sent:
            raise ConnectionError("the file is shorter than the object")
        offset += sent


def send_inflow(sock: socket.socket, fd: int, offset: int, begin: int, inflow: Inflow) -> None:
    """An object that is still on its way here, from ``begin`` on, as it comes. ConnectionError when it does not."""
    position = begin
    while position < inflow.size:
        there = inflow.wait_beyond(position)
        send(sock, fd, offset + position, there - position)
        position = there


def wait_for_close(sock: socket.socket) -> bool:
    """Until the other side has closed, which it does when it has taken everything out. False: it broke off."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLRDHUP)
    while True:
        if poll.poll(LOOK_S * 1000):
            try:
                return sock.recv(1) == b""
            except BlockingIOError:
                continue  # TLS had something to say to TLS.
            except OSError:
                return False


def shut(sock: socket.socket) -> None:
    """End whatever a thread does with it. From any thread: also of a TLS socket, whose own ``shutdown`` may not be called
    beside a reader."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return
