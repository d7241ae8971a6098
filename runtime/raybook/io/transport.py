"""Framed sockets: non-blocking byte pipes that prove the token, then carry messages. Loop-agnostic.

The same class serves the I/O thread of a driver or worker (epoll) and the asyncio loops of the daemons
(``io/loop_transport``). It never blocks once handed over and knows nothing of what the messages mean. Not thread-safe:
one thread at a time may use one side (see worker/reply_channel for the one place where two threads send).

Between nodes TLS may lie below (``io/tls``): whoever connects or accepts over TCP is given a ``Security`` then.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
from typing import Any, Protocol

from raybook.protocol.auth import AuthenticationFailed, Calling, Listening
from raybook.protocol.frames import UNDECODABLE, Codec, ProtocolError, unpack_length

RECEIVE_BYTES_MIN = 1 << 12
RECEIVE_BYTES_MAX = 1 << 18
"""One recv: large enough for a batch of some thousand replies, small enough to stay in the cache. The buffer is kept
and grows with use: a fresh one of this size costs a system call to get, page faults to fill, one more to give back."""

SOCKET_BUFFER_BYTES = 1 << 20
"""Asked of the kernel for Unix sockets, so that a batch of pushes rarely needs a second write."""


class ConnectionClosed(ConnectionError):
    """The peer closed or broke the connection."""


class Security(Protocol):
    """What lies between a TCP socket and its frames, for both sides (``io/tls`` has the one there is)."""

    def accepted(self, sock: socket.socket, union: Any, token: bytes) -> FramedSocket:
        """The listening side of a connection that was just made."""

    def connecting(self, sock: socket.socket, union: Any, token: bytes, host: str) -> FramedSocket:
        """The other side, non-blocking, perhaps not connected yet."""

    def connected(self, sock: socket.socket, host: str) -> socket.socket:
        """The other side, blocking until it is safe. ConnectionError saying why it is not."""

    def framed(self, sock: socket.socket, union: Any) -> FramedSocket:
        """Messages over what ``connected`` has returned, once the token has been proved there."""


class FramedSocket:
    """One connection of one conversation (``union``: its message types)."""

    __slots__ = (
        "_codec",
        "_handshake",
        "_holds_back",
        "_out",
        "_recv_into",
        "_send",
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
        """``accept_token`` given: this is the listening side; the greeting goes out now and nothing is decoded before
        the proof has arrived. ``prove_token`` given: the connecting side that has not been greeted yet. It decodes nothing
        before the other side's proof either, and over TCP sends no message before that: an address of another machine may
        be somebody else's by now, a socket in our session folder may not."""
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
        self._handshake: Listening | Calling | None = None
        self._holds_back = prove_token is not None
        """What is queued has to wait for the other side."""
        self.is_connected = accept_token is None and prove_token is None
        """Whether the handshake is over on this side."""
        if accept_token is not None:
            self._handshake = Listening(accept_token)
            self._out += self._handshake.greeting
            self.flush()
        elif prove_token is not None:
            self._handshake = Calling(prove_token)

    @property
    def unsent_bytes(self) -> int:
        return len(self._out)

    def flush(self) -> bool:
        """Write what the kernel takes. True: everything is out. False: call again when writable.
        Raises ConnectionClosed."""
        out = self._out
        if not out or self._holds_back:
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
        except AuthenticationFailed:
            raise
        except OSError as error:
            raise ConnectionClosed(f"The connection broke while receiving: {error}") from error
        if not size:
            raise ConnectionClosed("The peer closed the connection.")
        if size > 4 and unpack_length(view)[0] == size - 4 and self.is_connected and not self._codec.tail:
            # One whole message, as always when nobody is in a hurry.
            try:
                return [self._codec.decode(view[4:size])]
            except UNDECODABLE as error:
                raise ProtocolError(f"A frame of {size} bytes is no message of this protocol: {error}") from error
        data: bytes | memoryview = view[:size]
        if size >= RECEIVE_BYTES_MIN and size == len(view) and size < RECEIVE_BYTES_MAX:
            # The old one lives until its messages are decoded below.
            self._view = memoryview(bytearray(size * 4))
        if self._handshake is not None:
            data = self._shake_hands(bytes(data))
            if not data:
                return []
        return self._codec.feed(data)

    def _shake_hands(self, data: bytes) -> bytes:
        """Go on with the handshake; bytes that are messages already. AuthenticationFailed, ProtocolError."""
        handshake = self._handshake
        if isinstance(handshake, Listening):
            try:
                rest = handshake.feed(data)
            except AuthenticationFailed:
                with contextlib.suppress(ConnectionError):
                    self._send_short(handshake.verdict)
                raise
            if handshake.verdict:
                self._send_short(handshake.verdict)
                self._welcome()
            return rest
        assert handshake is not None, "the handshake is over"
        rest = handshake.feed(data)
        if handshake.answer:
            self._send_short(handshake.answer)
            handshake.answer = b""
            self._holds_back = self.sock.family != socket.AF_UNIX
        if handshake.is_over:
            self._welcome()
        return rest

    def _welcome(self) -> None:
        self._handshake = None
        self._holds_back = False
        self.is_connected = True

    def _send_short(self, data: bytes) -> None:
        """Some bytes of the handshake, before all else: a connection this young has room for them, or is broken."""
        try:
            if self._send(data) == len(data):
                return
        except OSError as error:
            raise ConnectionClosed(f"The connection broke in the handshake: {error}") from error
        raise ConnectionClosed("The connection took no more bytes in the handshake.")

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

    def release(self) -> socket.socket:
        """Let go of the socket, for somebody else to use and to close; this one is closed from now on."""
        self.closed = True
        return self.sock

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


def connect(
    address: str, token: bytes, union: Any, timeout_s: float = 10.0, security: Security | None = None
) -> FramedSocket:
    """Connect; each side proves the token to the other. Blocks for two round trips (about 60 µs each on a Unix socket).
    ConnectionError, saying why, or OSError when nobody listens there."""
    family, target = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_UNIX:
        security = None
    try:
        sock.settimeout(timeout_s)
        sock.connect(target)
        _tune(sock)
        if security is not None:
            sock = security.connected(sock, target[0])
        _prove_blocking(sock, Calling(token), address, timeout_s)
        return FramedSocket(sock, union) if security is None else security.framed(sock, union)
    except BaseException:
        sock.close()
        raise


def _prove_blocking(sock: socket.socket, handshake: Calling, address: str, timeout_s: float) -> None:
    try:
        while not handshake.is_over:
            # Not a byte more than the handshake has: what follows is for the framed socket.
            part = sock.recv(handshake.bytes_wanted)
            if not part:
                raise ConnectionClosed("It closed the connection in the handshake.")
            handshake.feed(part)
            if handshake.answer:
                sock.sendall(handshake.answer)
                handshake.answer = b""
    except TimeoutError:
        raise ConnectionClosed(
            f"The process at {address} took the connection and said nothing for {timeout_s:g} s. It is stuck, or speaks "
            f"TLS while this side does not."
        ) from None
    except ConnectionError as error:
        raise type(error)(f"The process at {address} cannot be spoken with. {error}") from None


def connect_nowait(address: str, token: bytes, union: Any, security: Security | None = None) -> FramedSocket:
    """Connect without waiting for the peer to accept: what is queued goes out once it has proved the token. For I/O
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
        if security is not None and family == socket.AF_INET:
            return security.connecting(sock, union, token, target[0])
        return FramedSocket(sock, union, prove_token=token)
    except BaseException:
        sock.close()
        raise


def listen(address: str, backlog: int = 4096) -> socket.socket:
    """A non-blocking listening socket; a Unix one is made with mode 0600. OSError naming the address."""
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
    except OSError as error:
        sock.close()
        raise cannot_listen(error, address) from None
    except BaseException:
        sock.close()
        raise


def cannot_listen(error: OSError, address: str, option: str = "") -> OSError:
    """The same error, saying where and what to do. option: which one chooses the port."""
    text = f"Cannot listen at {address}: {error.strerror or error}."
    if error.errno == errno.EADDRINUSE:
        text = f"Cannot listen at {address}: another process does. End it, or choose another port" + (
            f" with {option} (0: any free one)." if option else "."
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        text = f"Cannot listen at {address}: that is no address of this machine."
    elif error.errno in (errno.EACCES, errno.EPERM):
        text = f"Cannot listen at {address}: this user may not. Choose a port above 1023."
    return OSError(error.errno, text)


class NoMoreFiles(OSError):
    """Somebody waits to be accepted, and this process may not open another file."""


def accept(listener: socket.socket, token: bytes, union: Any, security: Security | None = None) -> FramedSocket | None:
    """The next waiting connection with its greeting sent, or None. NoMoreFiles: it goes on waiting."""
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise NoMoreFiles(error.errno, error.strerror) from None
            if error.errno in _GONE_AGAIN:
                continue
            raise
        try:
            _tune(sock)
            if security is not None and sock.family == socket.AF_INET:
                return security.accepted(sock, union, token)
            return FramedSocket(sock, union, accept_token=token)
        except OSError:
            # It knocked and went away.
            sock.close()


_GONE_AGAIN = frozenset(
    {
        errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET,
        errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EOPNOTSUPP, errno.ETIMEDOUT, errno.EPERM,
    }
)  # fmt: skip
"""accept(2): errors of the new connection, which Linux reports here, and which are to be treated like "try again"."""
