"""Framed sockets on an asyncio loop: what the raylet and GCS use to serve their clients.

A ``Connection`` reads as data arrives and hands each message to a callback in order; ``send`` writes at once and falls
back to the loop's writer when the kernel's buffer is full. Callbacks run on the loop; an exception in one is logged
with the message's type and closes that connection only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from raybook.io.transport import FramedSocket, accept, listen
from raybook.protocol.frames import ProtocolError

logger = logging.getLogger(__name__)


class Connection:
    """One framed connection driven by the running loop."""

    def __init__(
        self,
        framed: FramedSocket,
        on_message: Callable[[Connection, Any], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self.framed = framed
        self.context: Any = None
        """Free for the owner of the connection: who the peer is."""
        self._on_message = on_message
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._writing = False
        self._loop.add_reader(framed.fd, self._readable)

    @property
    def closed(self) -> bool:
        return self.framed.closed

    def send(self, message: Any) -> None:
        """Send now, or as soon as the peer reads. A closed connection swallows it: its death is reported once, through
        ``on_close``."""
        if self.framed.closed:
            return
        self.framed.queue(message)
        if not self._writing:
            self._flush()

    def send_with_fd(self, message: Any, fd: int) -> None:
        """Send a message with a descriptor; see FramedSocket."""
        try:
            self.framed.send_with_fd(message, fd)
        except OSError:
            self.close()

    def detach(self) -> socket.socket:
        """Let go of the socket, for somebody else to use and to close."""
        duplicate = self.framed.sock.dup()
        self.close()
        return duplicate

    def close(self) -> None:
        """Close and call ``on_close`` (once)."""
        if self.framed.closed:
            return
        self._loop.remove_reader(self.framed.fd)
        if self._writing:
            self._loop.remove_writer(self.framed.fd)
        self.framed.close()
        self._on_close(self)

    def _flush(self) -> None:
        try:
            done = self.framed.flush()
        except ConnectionError:
            self.close()
            return
        if done and self._writing:
            self._writing = False
            self._loop.remove_writer(self.framed.fd)
        elif not done and not self._writing:
            self._writing = True
            self._loop.add_writer(self.framed.fd, self._flush)

    def _readable(self) -> None:
        try:
            messages = self.framed.receive()
        except ProtocolError as error:
            logger.warning("Closing a connection: %s", error)
            self.close()
            return
        except ConnectionError:
            self.close()
            return
        if self.framed.unsent_bytes and not self._writing:
            # What was queued before the peer's challenge came may go out now.
            self._flush()
        for message in messages:
            if self.framed.closed:
                return
            try:
                self._on_message(self, message)
            except Exception:
                logger.exception("Handling a %s failed; its connection is closed.", type(message).__name__)
                self.close()


class FrameServer:
    """Listens at ``address`` and makes a ``Connection`` of every peer that proves the token."""

    def __init__(
        self,
        address: str,
        token: bytes,
        union: Any,
        on_message: Callable[[Connection, Any], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self.address = address
        self.connections: set[Connection] = set()
        self._token = token
        self._union = union
        self._on_message = on_message
        self._on_close = on_close
        self._listener = listen(address)
        if address.startswith("tcp:"):
            # Port 0 was any free one.
            host, port = self._listener.getsockname()[:2]
            self.address = f"tcp:{host}:{port}"
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener.fileno(), self._acceptable)

    def adopt(self, framed: FramedSocket) -> Connection:
        """Serve a connection that was made some other way (an inherited socket pair)."""
        connection = Connection(framed, self._on_message, self._closed)
        self.connections.add(connection)
        return connection

    def _acceptable(self) -> None:
        while (framed := accept(self._listener, self._token, self._union)) is not None:
            self.adopt(framed)

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._on_close(connection)

    def close(self) -> None:
        """Stop listening, close every connection, remove a Unix socket's file."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        if self.address.startswith("unix:"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address[5:])
        for connection in list(self.connections):
            connection.close()
