"""TLS between nodes, with certificates on both sides: who has none of the cluster's authority is no peer.

Lies below the token's proof, never instead of it: a certificate says which machine may speak, the token which cluster is
meant. Unix sockets have none: they do not leave the machine. TLS 1.3 only; both ends are raybook.

Names. A certificate that ``raybook tls init`` makes says ``MEMBER_NAME``: its owner is a member, at whatever address. With
certificates of another origin the name or address that was connected to must be in the peer's, as on the web.

A TLS connection of OpenSSL is not for two threads at a time, and here one may read while another writes: hence the lock.
Source of the rules for non-blocking use: Python's ssl, "Notes on non-blocking sockets".
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from raybook.base.tls_files import TlsFiles
from raybook.io import session_dir
from raybook.io.transport import ConnectionClosed, FramedSocket
from raybook.protocol.auth import AuthenticationFailed

MEMBER_NAME = "node.raybook"
"""Never resolved: it stands in the certificates of a cluster's members."""

_CONNECTING, _LISTENING, _GREETING, _SAFE = range(4)


class TlsFailed(AuthenticationFailed):
    """There is no safe connection with this peer; the text says what its certificate lacks, or ours."""


class TlsSocket(ssl.SSLSocket):
    """Behaves as a plain socket does: BlockingIOError when there is nothing to do now, OSError with a text for people."""

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        try:
            return super().read(len, buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        except ssl.SSLError as error:
            raise TlsFailed(explain(error)) from None

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        except ssl.SSLError as error:
            raise TlsFailed(explain(error)) from None


class TlsFramedSocket(FramedSocket):
    """Frames over TLS. Made by ``Tls``; used as any framed socket."""

    __slots__ = ("_guard", "_host", "_state", "_tls", "_wants_write")

    def __init__(self, tls: Tls, sock: socket.socket, union: Any, state: int, host: str = "", **tokens: Any) -> None:
        self._tls = tls
        self._host = host
        self._state = state
        self._wants_write = False
        self._guard = threading.Lock()
        super().__init__(sock, union, **tokens)

    def flush(self) -> bool:
        """As for all framed sockets. While the handshake of TLS goes on, True means: it waits for the peer."""
        with self._guard:
            if self._state == _LISTENING:
                # The calling side speaks first.
                return True
            if self._state != _SAFE and not self._proceed():
                return not self._wants_write
            # OpenSSL may take a record at a time, and no more bytes than that although the kernel has room.
            left = self.unsent_bytes
            while not (done := super().flush()) and self.unsent_bytes < left:
                left = self.unsent_bytes
            return done

    def receive(self) -> list[Any]:
        """As for all framed sockets, and TlsFailed."""
        with self._guard:
            if self._state != _SAFE and not self._proceed():
                return []
            messages = super().receive()
            # What OpenSSL has taken from the kernel already wakes nobody.
            while self.sock.pending():  # type: ignore[attr-defined]
                messages += super().receive()
            return messages

    def _proceed(self) -> bool:
        """Connect, and shake hands, as far as it goes without waiting. True: it is done."""
        self._wants_write = False
        try:
            if self._state == _CONNECTING:
                error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise ConnectionClosed(f"Nobody can be reached there: {os.strerror(error)}.")
                if not _is_connected(self.sock):
                    self._wants_write = True
                    return False
                self.sock = self._tls.wrap(self.sock, self._host)
                self._send, self._recv_into = self.sock.send, self.sock.recv_into
                self._state = _GREETING
            self.sock.do_handshake()  # type: ignore[attr-defined]
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return False
        except ssl.SSLError as error:
            raise TlsFailed(explain(error)) from None
        except ConnectionClosed:
            raise
        except OSError as error:
            raise ConnectionClosed(f"The connection broke in the handshake of TLS: {error}") from error
        self._state = _SAFE
        return True


class Tls:
    """One process's side of TLS. ValueError when the files are no certificate, key and authority that fit together.
    Cost: 2 ms."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        try:
            self.cert = Path(files.cert).read_bytes()
            self.key = Path(files.key).read_bytes()
            self.ca = Path(files.ca).read_bytes()
            self._listening = _context(ssl.PROTOCOL_TLS_SERVER, files)
            self._calling = _context(ssl.PROTOCOL_TLS_CLIENT, files)
        except ssl.SSLError as error:
            raise ValueError(f"{files} are no TLS files that fit together: {_reason(error)}.") from None
        except OSError as error:
            raise ValueError(f"A TLS file cannot be read: {error}.") from None
        self.is_member = _names_a_member(self.cert)
        self._calling.check_hostname = True

    def check(self) -> None:
        """Shake hands with ourselves, in memory: what is out of date, or of another authority than it says, shows now and
        not when the first peer is refused. ValueError."""
        here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Not by name: which one others use for us is not known here.
        calling = _context(ssl.PROTOCOL_TLS_CLIENT, self.files)
        sides = [
            calling.wrap_bio(here, there),
            self._listening.wrap_bio(there, here, server_side=True),
        ]
        for _ in range(4):
            for side in sides:
                try:
                    side.do_handshake()
                    side.read(1)
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError as error:
                    raise ValueError(
                        f"The certificate {self.files.cert} is of no use with the authority {self.files.ca}: "
                        f"{_reason(error)}. `raybook tls init FOLDER` makes new ones."
                    ) from None

    def name_of(self, host: str) -> str:
        """What the certificate of the process at ``host`` has to say."""
        return MEMBER_NAME if self.is_member else host

    def wrap(self, sock: socket.socket, host: str) -> TlsSocket:
        """TLS over a connected socket, the calling side; the handshake is still to come."""
        wrapped = self._calling.wrap_socket(sock, do_handshake_on_connect=False, server_hostname=self.name_of(host))
        assert isinstance(wrapped, TlsSocket), "set in _context"
        return wrapped

    # What ``io/transport`` asks for.

    def accepted(self, sock: socket.socket, union: Any, token: bytes) -> FramedSocket:
        sock.setblocking(False)
        wrapped = self._listening.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return TlsFramedSocket(self, wrapped, union, _LISTENING, accept_token=token)

    def connecting(self, sock: socket.socket, union: Any, token: bytes, host: str) -> FramedSocket:
        return TlsFramedSocket(self, sock, union, _CONNECTING, host, prove_token=token)

    def connected(self, sock: socket.socket, host: str) -> socket.socket:
        wrapped = self.wrap(sock, host)
        try:
            wrapped.do_handshake()
        except ssl.SSLError as error:
            wrapped.close()
            raise TlsFailed(explain(error)) from None
        except BaseException:
            wrapped.close()
            raise
        return wrapped

    def framed(self, sock: socket.socket, union: Any) -> FramedSocket:
        return TlsFramedSocket(self, sock, union, _SAFE)


def load_tls(session: str | Path) -> Tls | None:
    """As the session folder says for its node; None when it uses none. ValueError. Cost: 10 µs when it uses none."""
    files = session_dir.read_tls(Path(session))
    return None if files is None else Tls(files)


def usable_tls(files: TlsFiles | None) -> TlsFiles | None:
    """The same with absolute paths, once it is known to work: at the command, not in a daemon's log. ValueError."""
    if files is None:
        return None
    absolute = TlsFiles(*(os.path.abspath(path) for path in (files.cert, files.key, files.ca)))
    Tls(absolute).check()
    return absolute


def explain(error: ssl.SSLError) -> str:
    """What went wrong, and whose move it is."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The other side's certificate was refused: {error.verify_message}. {_advice(error.verify_message)}"
    if "ALERT" in reason:
        what = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"The other side refused this node's certificate ({what}). {_advice(what)}"
    if reason in (
        "WRONG_VERSION_NUMBER",
        "UNEXPECTED_MESSAGE",
        "HTTP_REQUEST",
        "UNKNOWN_PROTOCOL",
        "RECORD_LAYER_FAILURE",
    ):
        return "The other side does not speak TLS, and this cluster does. Start it with the same --tls-* options."
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "The other side showed no certificate. It needs one of this cluster's authority (--tls-cert, --tls-key)."
    return f"No safe connection could be made: {_reason(error)}."


def _advice(text: str) -> str:
    text = text.lower()
    if "expired" in text:
        return "It is out of date; make a new one (`raybook tls init`)."
    if "not yet valid" in text:
        return "Compare the clocks of the two machines."
    if "match" in text and ("hostname" in text or "ip address" in text):
        return "It was made for another name; make one that has this address (`raybook tls init --host`)."
    return "It has to be one of this cluster's authority (--tls-ca)."


def _reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or (error.reason or str(error)).replace("_", " ").lower())


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca)
    context.sslsocket_class = TlsSocket
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Connections live long; tickets for the next one would only be bytes that nobody expects.
        context.num_tickets = 0
    return context


def _names_a_member(pem: bytes) -> bool:
    """Whether a certificate has ``MEMBER_NAME`` among its names. The name as it is encoded there (a DNS name of an
    alternative name: tag 0x82, length) is looked for, because Python reads no certificate but a peer's. Found by accident
    it would only make connections fail: what is checked on each is the name itself."""
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    first = begin + pem.partition(begin)[2].partition(end)[0] + end
    try:
        encoded = ssl.PEM_cert_to_DER_cert(first.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return False
    name = MEMBER_NAME.encode()
    return b"\x82" + bytes([len(name)]) + name in encoded


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
