"""Descriptors: file descriptors over a Unix socket, many in one message."""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence


def send(connection: socket.socket, fds: Sequence[int]) -> None:
    """The receiver gets copies; ours stay open. OSError when the peer is gone."""
    socket.send_fds(connection, [b"F"], list(fds))


def receive(connection: socket.socket, count: int) -> list[int]:
    """``count`` descriptors, closed on exec. ConnectionError when the peer sent something else or closed."""
    room = socket.CMSG_SPACE(count * array.array("i").itemsize)
    _data, ancillary, _flags, _address = connection.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if len(fds) != count:
        raise ConnectionError(f"The driver of the compiled graph sent {len(fds)} of {count} descriptors; it has ended.")
    return list(fds)
