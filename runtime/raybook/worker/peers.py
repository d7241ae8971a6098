"""Peers: the connections of one process to other drivers and workers, by client id.

A peer is reached by whichever connection exists, no matter who made it. Two threads may send on one (the I/O thread and
a worker's main thread with its replies), so each has a lock; it is held for one non-blocking write at most.
"""

from __future__ import annotations

import _thread
import errno
import logging
import resource
from collections.abc import Callable
from typing import Any

from raybook.base.specs import Endpoint
from raybook.io.keepalive import expect_answers
from raybook.io.peer_address import home_of, nearest
from raybook.io.transport import FramedSocket, Security, connect_nowait
from raybook.protocol.messages.worker import Hello, WorkerMessage

logger = logging.getLogger(__name__)

DEAD_HOMES_MAX = 1_000
"""Dead nodes that are remembered, the last ones. What an older one is still sent waits for the kernel's time-out."""


def _no_more_files() -> str:
    """For people: the peer lives, and yet cannot be reached."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"This process may have {soft} files open and has that many; the connection to another worker or actor needs one "
        "more. What was sent there waits. Raise the limit (ulimit -n) before you start, or keep fewer actors at a time."
    )


class Peer:
    """One connection."""

    __slots__ = ("client_id", "framed", "functions", "home", "is_open", "lock", "writing")

    def __init__(self, framed: FramedSocket, client_id: bytes, home: str = "") -> None:
        self.framed = framed
        self.client_id = client_id
        self.home = home
        """Its node (``io/peer_address``)."""
        self.functions: set[bytes] = set()
        """Keys of the functions that went over this connection already."""
        self.lock = _thread.allocate_lock()
        self.writing = False
        self.is_open = False
        """Whether the handshake is known to be over."""

    def send_now(self, message: Any) -> bool:
        """Queue and write from any thread. False when bytes are left for the I/O thread to finish.
        Raises ConnectionClosed."""
        with self.lock:
            self.framed.queue(message)
            return self.framed.flush()


class Peers:
    """All connections, with lookup by client and by descriptor. health_timeout_ms: of the cluster."""

    def __init__(
        self,
        me: Endpoint,
        token: bytes,
        watch: Callable[[Peer], None],
        health_timeout_ms: int,
        security: Security | None = None,
    ) -> None:
        self._me = me
        self._token = token
        self.security = security
        self._watch = watch
        self._health_timeout_ms = health_timeout_ms
        self._dead_homes: dict[str, str] = {}
        """Nodes that are dead → why. Nothing is sent there, and nothing heard from there: a process of such a node may
        live on, while everybody else has given it up."""
        self._has_complained = False
        self.by_client: dict[bytes, Peer] = {}
        self.by_fd: dict[int, Peer] = {}

    def adopt(self, framed: FramedSocket) -> Peer:
        """A connection that somebody made to us; who it is comes with its Hello."""
        expect_answers(framed.sock, self._health_timeout_ms)
        peer = Peer(framed, b"")
        self.by_fd[framed.fd] = peer
        self._watch(peer)
        return peer

    def introduce(self, peer: Peer, endpoint: Endpoint) -> bool:
        """The peer said who it is. False when its node is held for dead: nobody should listen to it."""
        peer.home = home_of(endpoint.address)
        if peer.home in self._dead_homes:
            return False
        peer.client_id = endpoint.client_id
        self.by_client.setdefault(endpoint.client_id, peer)
        return True

    def node_gone(self, home: str, reason: str) -> list[Peer]:
        """A node is dead. The connections to its processes, for the caller to remove."""
        self._dead_homes[home] = reason
        if len(self._dead_homes) > DEAD_HOMES_MAX:
            del self._dead_homes[next(iter(self._dead_homes))]
        return [peer for peer in self.by_fd.values() if peer.home == home]

    def why_out_of_reach(self, address: str) -> str:
        """What is known of it, when ``reach`` found nobody there."""
        return self._dead_homes.get(home_of(address), "") if self._dead_homes else ""

    def reach(self, client_id: bytes, address: str) -> Peer | None:
        """The connection to a process, made now if need be. None when it cannot be reached (it is gone)."""
        peer = self.by_client.get(client_id)
        if peer is not None:
            return peer
        if not address or self.why_out_of_reach(address):
            return None
        try:
            framed = connect_nowait(nearest(address, self._me.address), self._token, WorkerMessage, self.security)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and not self._has_complained:
                self._has_complained = True
                logger.error("%s", _no_more_files())
            return None
        expect_answers(framed.sock, self._health_timeout_ms)
        peer = Peer(framed, client_id, home_of(address))
        framed.queue(Hello(self._me))
        self.by_client[client_id] = peer
        self.by_fd[framed.fd] = peer
        self._watch(peer)
        return peer

    def remove(self, peer: Peer) -> bool:
        """Forget and close a connection. True when its process cannot be reached any more."""
        self.by_fd.pop(peer.framed.fd, None)
        peer.framed.close()
        if self.by_client.get(peer.client_id) is not peer:
            return False
        del self.by_client[peer.client_id]
        for other in self.by_fd.values():
            if other.client_id == peer.client_id:
                self.by_client[peer.client_id] = other
                return False
        return True

    def close(self) -> None:
        """Close all."""
        for peer in list(self.by_fd.values()):
            peer.framed.close()
        self.by_fd.clear()
        self.by_client.clear()
