"""Handover: connections given from one process to another on this machine, with their descriptors.

A proxy accepts; where one replica answers everything that a connection asks for, it gets the connection itself, and requests
on it have no proxy in their way. A replica that ends gives back those that are idle: no byte is read on the way, so none
is lost. Messages are packets of a Unix socket: a letter, a pickled value, at most one descriptor.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Callable
from typing import Any

CONNECTION, ROUTES = b"C", b"R"
PACKET_BYTES = 1 << 20
LEAVING, NOTED = "leaving", "noted"
"""A replica that ends, and the proxy's answer: nothing was given after it, and packets keep their order."""
DONE, BYE = "done", "bye"
"""A replica that has given everything back, and the proxy's answer: it has taken it. Only then may the replica's end of the
link go: with it would go what was not taken yet."""


class HandoverLink:
    """One end. on_connection(socket) and on_message(value) are called on the loop; on_lost() once, at its end."""

    def __init__(
        self,
        link: socket.socket,
        on_connection: Callable[[socket.socket], None],
        on_message: Callable[[Any], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._on_connection = on_connection
        self._on_message = on_message
        self._on_lost = on_lost
        self.is_lost = False
        link.setblocking(False)
        self._loop.add_reader(link.fileno(), self._read)

    def give(self, connection: socket.socket) -> bool:
        """Give a connection away, and close this process's end of it. False when the other end does not take it: it is
        still ours then."""
        if self.is_lost:
            return False
        try:
            socket.send_fds(self._link, [CONNECTION], [connection.fileno()])
        except OSError:
            return False
        connection.close()
        return True

    def tell(self, value: Any) -> None:
        """Send a value; lost with the link."""
        if not self.is_lost:
            try:
                self._link.send(ROUTES + pickle.dumps(value))
            except OSError:
                self.close()

    def close(self) -> None:
        """The end of it."""
        if not self.is_lost:
            self.is_lost = True
            self._loop.remove_reader(self._link.fileno())
            self._link.close()
            self._on_lost()

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._link, PACKET_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            # The other end has gone without reading everything; what it sent before is there all the same.
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self.close()
        elif data[:1] == CONNECTION:
            for descriptor in descriptors:
                self._on_connection(socket.socket(fileno=descriptor))
        else:
            self._on_message(pickle.loads(data[1:]))


def listen(path: str) -> socket.socket:
    """A socket at which links begin; only this user may."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.exists(path):
        os.unlink(path)
    listening.bind(path)
    os.chmod(path, 0o600)
    listening.listen(8)
    listening.setblocking(False)
    return listening


def connect(path: str) -> socket.socket:
    """The other end's. OSError when nobody is there."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        link.connect(path)
    except OSError:
        link.close()
        raise
    return link
