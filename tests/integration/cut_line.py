"""A line that can be cut: a TCP proxy between a thin client and its head, in this process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class CutLine:
    """Forwards connections to ``target`` until it is told otherwise. Address: ``host:port``."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = threading.Event()
        self._open.set()
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._cut_at = -1
        self.carried = 0
        """Bytes, both ways."""
        self.connections = 0
        self._start(self._accept)

    def cut(self) -> None:
        """Every connection ends now."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut_after(self, count: int) -> None:
        """Every connection ends when so many more bytes have been carried."""
        self._cut_at = self.carried + count

    def close_for_new(self) -> None:
        """Connections are accepted and closed at once, as by a machine that reboots."""
        self._open.clear()

    def open_again(self) -> None:
        self._open.set()

    def hold(self) -> None:
        """Nothing is carried, and nobody is told: a network that is gone."""
        self._flows.clear()

    def let_flow(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self._flows.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._open.is_set():
                near.close()
                continue
            far = socket.create_connection(self._target)
            self.connections += 1
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {near, far}
            self._start(self._carry, near, far)
            self._start(self._carry, far, near)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                self.carried += len(data)
                if 0 <= self._cut_at <= self.carried:
                    self._cut_at = -1
                    self.cut()
                    return
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
