"""Handover: a connection and what was said on it so far, passed to another process of this machine.

One packet a connection, so that neither a border nor a descriptor is ever lost. Knows nothing of what the bytes say.
"""

from __future__ import annotations

import os
import socket

PACKET_BYTES_MAX = 1 << 17


def handover_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends; the second one is for the other process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * PACKET_BYTES_MAX)
        end.setblocking(False)
    return ours, theirs


def hand_over(end: socket.socket, words: bytes, connection: socket.socket | None = None) -> bool:
    """Pass words, and a connection with them, which this process then no longer needs. False when the other process does
    not read; OSError when it is gone. ValueError for words of more than 128 KiB."""
    if len(words) > PACKET_BYTES_MAX:
        raise ValueError(f"{len(words)} bytes are too many for a handover; the limit is {PACKET_BYTES_MAX}.")
    try:
        socket.send_fds(end, [words], [] if connection is None else [connection.fileno()])
    except BlockingIOError:
        return False
    return True


def take_over(end: socket.socket) -> tuple[bytes, socket.socket | None] | None:
    """The next packet and its connection; None when there is none now. EOFError when the other process is gone."""
    try:
        words, fds, _flags, _address = socket.recv_fds(end, PACKET_BYTES_MAX, 4)
    except BlockingIOError:
        return None
    except OSError as error:
        raise EOFError(str(error)) from error
    if not words and not fds:
        raise EOFError("The other end was closed.")
    for surplus in fds[1:]:
        os.close(surplus)
    return words, socket.socket(fileno=fds[0]) if fds else None
