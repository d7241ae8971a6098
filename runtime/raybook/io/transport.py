"""Framed sockets: non-blocking byte pipes that prove the token, then carry messages. Loop-agnostic.

The same class serves the I/O thread of a driver or worker (epoll) and the asyncio loops of the daemons
(``io/loop_transport``). It never blocks once handed over and knows nothing of what the messages mean. Not thread-safe:
one thread at a time may use one side (see worker/reply_channel for the one place where two threads send).
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
from typing import Any

import msgspec

from raybook.protocol.auth import CHALLENGE_BYTES, PROOF_BYTES, is_proof, new_challenge, prove
from raybook.protocol.frames import Codec, ProtocolError, unpack_length

RECEIVE_BYTES_MIN = 1 << 12
RECEIVE_BYTES_MAX = 1 << 18
"""One recv: large enough for a batch of some thousand replies, small enough to stay in the cache. The buffer is kept
and grows with use: a fresh one of this size costs a system call to get, page faults to fill, one more to give back."""

SOCKET_BUFFER_BYTES = 1 << 20
"""Asked of the kernel for Unix sockets, so that a batch of pushes rarely needs a second write."""


class ConnectionClosed(ConnectionError):
    """The peer closed or broke the connection."""


class AuthenticationFailed(ConnectionError):
    """The peer could not prove that it knows the cluster's token."""


class FramedSocket:
    """One connection of one conversation (``union``: its message types)."""

    __slots__ = (
        "_challenge",
        "_codec",
        "_handshake",
        "_out",
        "_prove",
        "_recv_into",
        "_send",
        "_token",
        "_view",
        "closed",
        "context",
        "fd",
        "is_connected",
        "queue",
        "sock",
    )

    def __init__(
        self, sock: socket.socket, union: Any, *, accept_token: bytes | None = None, prove_token: bytes | None = None
    ) -> None:
        """``accept_token`` given: this is the listening side; the challenge goes out now and nothing is decoded before
        the proof has arrived. ``prove_token`` given: the connecting side that has not seen the challenge yet; nothing
        is sent before it has."""
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.closed = False
        self.context: Any = None
        self._codec = Codec(union)
        self.queue = self._codec.queue
        """Encodes a message behind what is still unsent. Nothing is written before ``flush``."""
        self._send = sock.send
        self._recv_into = sock.recv_into
        self._out = self._codec.out
        self._view = memoryview(bytearray(RECEIVE_BYTES_MIN))
        self._token = accept_token
        self._prove = prove_token
        self._handshake = bytearray()
        self.is_connected = accept_token is None and prove_token is None
        """Whether the handshake is over on this side."""
        self._challenge = b""
        if accept_token is not None:
            self._challenge = new_challenge()
            self._out += self._challenge
            self.flush()

    @property
    def unsent_bytes(self) -> int:
        return len(self._out)

    def flush(self) -> bool:
        """Write what the kernel takes. True: everything is out. False: call again when writable.
        Raises ConnectionClosed."""
        out = self._out
        if not out or self._prove is not None:
            return True
        try:
            sent = self._send(out)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ConnectionClosed(f"The connection broke while sending: {error}") from error
        if sent == len(out):
            out.clear()
            return True
        del out[:sent]
        return False

    def drop_unsent(self) -> None:
        """Nobody reads any more at the other end; what it had sent can still be received."""
        self._out.clear()

    def send_with_fd(self, message: Any, fd: int) -> None:
        """Send one message with a file descriptor riding on its first byte (Unix sockets only, blocking until out)."""
        frame = self._codec.encode(message)
        self.sock.setblocking(True)
        try:
            if self._out:
                self.sock.sendall(self._out)
                self._out.clear()
            sent = socket.send_fds(self.sock, [frame], [fd])
            self.sock.sendall(memoryview(frame)[sent:])
        finally:
            self.sock.setblocking(False)

    def receive(self) -> list[Any]:
        """Messages that have arrived, possibly none. Raises ConnectionClosed, AuthenticationFailed, ProtocolError."""
        view = self._view
        try:
            size = self._recv_into(view)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ConnectionClosed(f"The connection broke while receiving: {error}") from error
        if not size:
            raise ConnectionClosed("The peer closed the connection.")
        if size > 4 and unpack_length(view)[0] == size - 4 and self.is_connected and not self._codec.tail:
            # One whole message, as always when nobody is in a hurry.
            try:
                return [self._codec.decode(view[4:size])]
            except msgspec.MsgspecError as error:
                raise ProtocolError(f"A frame of {size} bytes is no message of this protocol: {error}") from error
        data: bytes | memoryview = view[:size]
        if size >= RECEIVE_BYTES_MIN and size == len(view) and size < RECEIVE_BYTES_MAX:
            # The old one lives until its messages are decoded below.
            self._view = memoryview(bytearray(size * 4))
        if self._token is not None or self._prove is not None:
            data = bytes(data)
            data = self._check_proof(data) if self._token is not None else self._answer_challenge(data)
            if not data:
                return []
        return self._codec.feed(data)

    def _check_proof(self, data: bytes) -> bytes:
        self._handshake += data
        if len(self._handshake) < PROOF_BYTES:
            return b""
        proof = bytes(self._handshake[:PROOF_BYTES])
        rest = bytes(self._handshake[PROOF_BYTES:])
        if not is_proof(self._token or b"", self._challenge, proof):
            raise AuthenticationFailed("A peer does not know this cluster's token; it was disconnected.")
        self._token = None
        self.is_connected = True
        self._handshake.clear()
        return rest

    def _answer_challenge(self, data: bytes) -> bytes:
        self._handshake += data
        if len(self._handshake) < CHALLENGE_BYTES:
            return b""
        challenge = bytes(self._handshake[:CHALLENGE_BYTES])
        rest = bytes(self._handshake[CHALLENGE_BYTES:])
        self._out[:0] = prove(self._prove or b"", challenge)
        self._prove = None
        self.is_connected = True
        self._handshake.clear()
        return rest

    def receive_first_with_fd(self, timeout_s: float) -> tuple[list[Any], int | None]:
        """Block for the first messages and a descriptor that came with them. For the registration only."""
        self.sock.settimeout(timeout_s)
        fd: int | None = None
        messages: list[Any] = []
        try:
            while not messages:
                data, ancillary, _flags, _address = self.sock.recvmsg(RECEIVE_BYTES_MAX, socket.CMSG_SPACE(4))
                for level, kind, payload in ancillary:
                    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                        fd = array.array("i", payload[:4])[0]
                        os.set_inheritable(fd, False)
                if not data:
                    raise ConnectionClosed("The peer closed the connection during registration.")
                messages = self._codec.feed(data)
        finally:
            self.sock.setblocking(False)
        return messages, fd

    def close(self) -> None:
        """Close at once; unsent bytes are dropped. Idempotent."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                self.sock.close()


def _tune(sock: socket.socket) -> None:
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def parse_address(address: str) -> tuple[int, Any]:
    """(family, socket address) of ``unix:/path`` or ``tcp:host:port``. Raises ValueError naming the address."""
    if address.startswith("unix:"):
        return socket.AF_UNIX, address[5:]
    if address.startswith("tcp:"):
        host, _, port = address[4:].rpartition(":")
        if host and port.isdigit():
            return socket.AF_INET, (host, int(port))
    raise ValueError(f"{address!r} is no framed-socket address; expected unix:/path or tcp:host:port.")


def connect(address: str, token: bytes, union: Any, timeout_s: float = 10.0) -> FramedSocket:
    """Connect and prove the token. Blocks for one round trip (about 60 µs on a Unix socket).
    Raises ConnectionError or OSError when nobody listens there."""
    family, target = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(target)
        _tune(sock)
        challenge = b""
        while len(challenge) < CHALLENGE_BYTES:
            part = sock.recv(CHALLENGE_BYTES - len(challenge))
            if not part:
                raise ConnectionClosed(f"The process at {address} closed the connection before saying anything.")
            challenge += part
        sock.sendall(prove(token, challenge))
        return FramedSocket(sock, union)
    except BaseException:
        sock.close()
        raise


def connect_nowait(address: str, token: bytes, union: Any) -> FramedSocket:
    """Connect without waiting for the peer to accept: what is queued goes out once its challenge has arrived. For I/O
    threads, which must not hang because a peer's interpreter is busy or its machine is gone. Unix sockets connect at once
    or raise OSError; that a TCP port cannot be reached shows when the socket is read."""
    family, target = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        error = sock.connect_ex(target)
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error), address)
        _tune(sock)
        return FramedSocket(sock, union, prove_token=token)
    except BaseException:
        sock.close()
        raise


def listen(address: str, backlog: int = 4096) -> socket.socket:
    """A non-blocking listening socket; a Unix one is made with mode 0600."""
    family, target = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        if family == socket.AF_UNIX:
            os.chmod(target, 0o600)
        sock.listen(backlog)
        sock.setblocking(False)
        return sock
    except BaseException:
        sock.close()
        raise


def accept(listener: socket.socket, token: bytes, union: Any) -> FramedSocket | None:
    """The next waiting connection with its challenge sent, or None."""
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return None
    _tune(sock)
    return FramedSocket(sock, union, accept_token=token)
