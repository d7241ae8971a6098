"""Framed sockets on an asyncio loop: what the raylet and GCS use to serve their clients.

A ``Connection`` reads as data arrives and hands each message to a callback in order; ``send`` writes at once and falls
back to the loop's writer when the kernel's buffer is full. Callbacks run on the loop; an exception in one is logged
with the message's type and closes that connection only. Peers that have not proved the token sit in a waiting room
(``protocol/waiting_room``), so that they cost little and not for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from raybook.io.transport import FramedSocket, NoMoreFiles, Security, accept, listen
from raybook.protocol.auth import AuthenticationFailed
from raybook.protocol.frames import ProtocolError
from raybook.protocol.waiting_room import WaitingRoom

logger = logging.getLogger(__name__)

AGAIN_S = 0.2
"""Pause before the next look at who knocks, when no more files may be open."""
COMPLAINTS_S = 1.0
"""Refusals are logged once in this time, with their number: whoever reaches a port must not be able to fill a disk."""


class Connection:
    """One framed connection driven by the running loop."""

    def __init__(
        self,
        framed: FramedSocket,
        on_message: Callable[[Connection, Any], None],
        on_close: Callable[[Connection], None],
        on_refused: Callable[[str], None] = logger.warning,
    ) -> None:
        """on_refused: told why a peer is sent away that is no peer of ours, or speaks nonsense."""
        self.framed = framed
        self.peer_name = _name_of(framed.sock)
        self.context: Any = None
        """Free for the owner of the connection: who the peer is."""
        self._on_message = on_message
        self._on_close = on_close
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._writing = False
        self._held: list[Any] | None = None
        self._loop.add_reader(framed.fd, self._readable)

    @property
    def closed(self) -> bool:
        return self.framed.closed

    def send(self, message: Any) -> None:
        """Send now, or as soon as the peer reads. A closed connection swallows it: its death is reported once, through
        ``on_close``."""
        if self.framed.closed:
            return
        if self._held is not None:
            self._held.append(message)
            return
        self.framed.queue(message)
        if not self._writing:
            self._flush()

    def hold(self) -> None:
        """Keep what is sent from now on until ``send_with_fd``: nothing may reach the peer before that message does."""
        self._held = []

    def send_with_fd(self, message: Any, fd: int) -> None:
        """Send a message with a descriptor (see FramedSocket), and after it what was held."""
        try:
            self.framed.send_with_fd(message, fd)
        except OSError:
            self.close()
        held, self._held = self._held or [], None
        for later in held:
            self.send(later)

    def refuse(self, message: Any) -> None:
        """Say this as the last word, and as the only one of those that are held."""
        self._held = None
        self.send(message)
        self.close()

    def detach(self) -> socket.socket:
        """Let go of the socket, for somebody else to use and to close. Unsent bytes are dropped."""
        sock = self.framed.sock
        self._unhook()
        self.framed.release()
        self._on_close(self)
        return sock

    def close(self) -> None:
        """Close and call ``on_close`` (once)."""
        if self.framed.closed:
            return
        self._unhook()
        self.framed.close()
        self._on_close(self)

    def _unhook(self) -> None:
        self._loop.remove_reader(self.framed.fd)
        if self._writing:
            self._loop.remove_writer(self.framed.fd)

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
        except (ProtocolError, AuthenticationFailed) as error:
            self._on_refused(f"The connection with {self.peer_name} was closed: {error}")
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


def _name_of(sock: socket.socket) -> str:
    """Whose connection it is, for logs."""
    try:
        peer = sock.getpeername()
    except OSError:
        return "a peer that is not there yet"
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a process of this machine"


class FrameServer:
    """Listens at ``address`` and makes a ``Connection`` of every peer that proves the token. security: TLS, for a TCP
    address."""

    def __init__(
        self,
        address: str,
        token: bytes,
        union: Any,
        on_message: Callable[[Connection, Any], None],
        on_close: Callable[[Connection], None],
        security: Security | None = None,
        waiting: WaitingRoom[Connection] | None = None,
    ) -> None:
        self.address = address
        self.connections: set[Connection] = set()
        self._token = token
        self._union = union
        self._on_message = on_message
        self._on_close = on_close
        self._security = security
        self._waiting: WaitingRoom[Connection] = WaitingRoom() if waiting is None else waiting
        self._look: asyncio.TimerHandle | None = None
        self._complained_s = -COMPLAINTS_S
        self._refused = 0
        self._closed_for_good = False
        self._listener = listen(address)
        if address.startswith("tcp:"):
            # Port 0 was any free one.
            host, port = self._listener.getsockname()[:2]
            self.address = f"tcp:{host}:{port}"
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener.fileno(), self._acceptable)

    def adopt(self, framed: FramedSocket) -> Connection:
        """Serve a connection that was made some other way (an inherited socket pair, or by us)."""
        connection = Connection(framed, self._on_message, self._closed, self._complain)
        self.connections.add(connection)
        return connection

    def _acceptable(self) -> None:
        try:
            while (framed := accept(self._listener, self._token, self._union, self._security)) is not None:
                connection = self.adopt(framed)
                evicted = self._waiting.arrive(connection, self._now_ms())
                if evicted is not None:
                    self._send_away(evicted, "others wait, too, and it has not proved the token")
                self._look_later()
        except NoMoreFiles as error:
            # Who knocks stays in the kernel's queue; asking again at once would only burn the processor.
            self._complain(f"No more connections at {self.address} for now: {error}. Raise the limit (ulimit -n).")
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(AGAIN_S, self._listen_again)

    def _listen_again(self) -> None:
        if not self._closed_for_good:
            self._loop.add_reader(self._listener.fileno(), self._acceptable)

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def _look_later(self) -> None:
        """A look at who waits, when the first one's time is up. One timer: it is cheaper than one for each."""
        deadline_ms = self._waiting.next_deadline_ms()
        if self._look is None and deadline_ms is not None and not self._closed_for_good:
            self._look = self._loop.call_at(deadline_ms / 1000 + 0.001, self._look_around)

    def _look_around(self) -> None:
        self._look = None
        for connection in self._waiting.overdue(self._now_ms()):
            # Those that have proved the token meanwhile were not struck off: that would be a call for each connection.
            if not connection.framed.is_connected:
                self._send_away(connection, "it has not proved the token in time")
        self._look_later()

    def _send_away(self, connection: Connection, why: str) -> None:
        if not connection.framed.is_connected:
            self._complain(f"The connection with {connection.peer_name} was closed: {why}.")
            connection.close()

    def _complain(self, text: str) -> None:
        self._refused += 1
        now_s = self._loop.time()
        if now_s - self._complained_s >= COMPLAINTS_S:
            more = f" ({self._refused - 1} others were refused since the last such line.)" if self._refused > 1 else ""
            logger.warning("%s%s", text, more)
            self._complained_s = now_s
            self._refused = 0

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._waiting.leave(connection)
        self._on_close(connection)

    def close(self) -> None:
        """Stop listening, close every connection, remove a Unix socket's file."""
        self._closed_for_good = True
        if self._look is not None:
            self._look.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        if self.address.startswith("unix:"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address[5:])
        for connection in list(self.connections):
            connection.close()
