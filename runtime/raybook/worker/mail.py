"""Mail: the sockets of one process to its peers, and what lies in them: read, queue, write.

Run by whoever runs the I/O loop (see ``baton``); only ``Peer.send_now`` may be called beside it. Knows which messages
are for the owner machine and which for the executor, and nothing of what they mean.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import time
from collections.abc import Callable, Container
from typing import Any

from raybook.base.specs import Endpoint
from raybook.core.owner.out_of_reach import why_node_died
from raybook.core.owner.records import FromPeer, FromRaylet, PeerGone, PushTo, ToPeer
from raybook.io.peer_address import home_of, session_of
from raybook.io.tls import load_tls
from raybook.io.transport import ConnectionClosed, NoMoreFiles, Security, accept
from raybook.protocol.messages.raylet import NodeGone
from raybook.protocol.messages.worker import ForgetFunctions, Hello, SendFunction, WorkerMessage
from raybook.protocol.waiting_room import WaitingRoom
from raybook.worker.executor_base import Executor
from raybook.worker.peers import Peer, Peers

logger = logging.getLogger(__name__)

Inbox = list[Any]
_WRITABLE = select.EPOLLOUT
LAST_READS = 64
"""Of a dead node's connection: one returns 256 KiB, and more than a few are never waiting."""


def _now_ms() -> int:
    return int(time.monotonic() * 1000)


class Mail:
    """accepted: the types of messages that are for the owner machine. lost: called with a PeerGone found while
    writing. Connections between nodes have TLS where the session folder says so."""

    def __init__(
        self,
        me: Endpoint,
        token: bytes,
        listeners: list[socket.socket],
        epoll: select.epoll,
        accepted: Container[type],
        lost: Callable[[PeerGone], None],
        health_timeout_ms: int,
    ) -> None:
        self._token = token
        # Only who listens over TCP has peers on other nodes, and a file to look for.
        self._security: Security | None = load_tls(session_of(me.address)) if len(listeners) > 1 else None
        self._home = home_of(me.address)
        self.listeners = {listener.fileno(): listener for listener in listeners}
        self._epoll = epoll
        self._accepted = accepted
        self._lost = lost
        self.peers = Peers(me, token, self._watch, health_timeout_ms, self._security)
        self.by_fd = self.peers.by_fd
        self.unsent: dict[int, Peer] = {}
        """Connections with something to write."""
        self.executor: Executor | None = None
        self._waiting: WaitingRoom[Peer] = WaitingRoom()
        self._deaf: set[int] = set()
        """Listeners that wait until this process may open files again."""

    def _watch(self, peer: Peer) -> None:
        self._epoll.register(peer.framed.fd, select.EPOLLIN)

    # In

    def welcome(self, fd: int) -> None:
        """Take in everybody who knocks there."""
        try:
            while (framed := accept(self.listeners[fd], self._token, WorkerMessage, self._security)) is not None:
                evicted = self._waiting.arrive(self.peers.adopt(framed), _now_ms())
                if evicted is not None:
                    self._send_away(evicted)
        except NoMoreFiles:
            # Who knocks stays in the kernel's queue; asking again at once would only burn the processor.
            self._deaf.add(fd)
            self._epoll.modify(fd, 0)

    def look(self, now_ms: int) -> None:
        """Now and then: who has not proved the token in time goes; listeners that had to stop listen again."""
        for peer in self._waiting.overdue(now_ms):
            self._send_away(peer)
        while self._deaf:
            self._epoll.modify(self._deaf.pop(), select.EPOLLIN)

    def _send_away(self, peer: Peer) -> None:
        if not peer.is_open and not peer.framed.closed:
            self.drop(peer)

    def read(self, peer: Peer, mask: int, inbox: Inbox) -> None:
        """What a peer has sent: into the inbox, or to the executor."""
        if mask & _WRITABLE:
            self.unsent[peer.framed.fd] = peer
            if mask == _WRITABLE:
                return
        try:
            messages = peer.framed.receive()
        except ConnectionError as error:
            # Why a process ended, its raylet says; why it cannot be reached, the kernel.
            is_end = isinstance(error.__cause__, ConnectionError) or error.__cause__ is None
            gone = self.drop(peer, "" if is_end else str(error), is_cut_off=not is_end)
            if gone is not None:
                inbox.append(gone)
            return
        if not peer.is_open:
            peer.is_open = peer.framed.is_connected
            if peer.is_open:
                self._waiting.leave(peer)
            self.unsent[peer.framed.fd] = peer
        client_id = peer.client_id
        accepted = self._accepted
        for message in messages:
            kind = type(message)
            if kind in accepted:
                inbox.append(FromPeer(client_id, message))
            elif kind is Hello:
                if not self.peers.introduce(peer, message.endpoint):
                    logger.warning("Process %s is of a node that is dead; it is not listened to.", message.endpoint)
                    self.drop(peer)
                    return
                client_id = peer.client_id
            elif self.executor is not None:
                self.executor.on_message(peer, message)

    def node_gone(self, message: NodeGone, inbox: Inbox) -> None:
        """A node is dead. Answers that had come from there count, and then its processes are gone."""
        reason = why_node_died(message)
        ended = []
        for peer in self.peers.node_gone(message.home, reason):
            for _ in range(LAST_READS):
                if self.by_fd.get(peer.framed.fd) is peer:
                    self.read(peer, select.EPOLLIN, inbox)
            if self.by_fd.get(peer.framed.fd) is peer and (gone := self.drop(peer, reason)) is not None:
                ended.append(gone)
        inbox.append(FromRaylet(message))
        inbox += ended

    def drop(self, peer: Peer, reason: str = "", is_cut_off: bool = False) -> PeerGone | None:
        """Close a connection. What to tell the owner machine, when the process cannot be reached any more."""
        if not peer.is_open:
            self._waiting.leave(peer)
        self.unsent.pop(peer.framed.fd, None)
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(peer.framed.fd)
        if not self.peers.remove(peer):
            return None
        if self.executor is not None:
            self.executor.on_peer_gone(peer.client_id)
        return PeerGone(peer.client_id, reason, is_cut_off, "" if peer.home == self._home else peer.home)

    # Out

    def send(self, effect: ToPeer) -> None:
        """Queue a message; ``flush`` writes it."""
        peer = self.peers.reach(effect.client_id, effect.address)
        if peer is None:
            self._lost(PeerGone(effect.client_id, self.peers.why_out_of_reach(effect.address)))
            return
        with peer.lock:
            peer.framed.queue(effect.message)
        self.unsent[peer.framed.fd] = peer

    def push(self, effect: PushTo) -> None:
        """Queue tasks or calls, and before them the functions that the peer does not have yet."""
        client_id = effect.client_id
        peer = self.peers.by_client.get(client_id) or self.peers.reach(client_id, effect.address)
        if peer is None:
            self._lost(PeerGone(client_id, self.peers.why_out_of_reach(effect.address)))
            return
        functions = peer.functions
        framed = peer.framed
        with peer.lock:
            for record in effect.records:
                key = record.spec.function_key
                if key and key not in functions:
                    functions.add(key)
                    if record.stats.payload:
                        framed.queue(SendFunction(key, record.stats.payload))
            framed.queue(effect.message)
        self.unsent[framed.fd] = peer

    def forget(self, key: bytes) -> None:
        """No task needs this function: whoever got it may let it go."""
        for peer in list(self.peers.by_client.values()):
            if key in peer.functions:
                with peer.lock:
                    peer.functions.discard(key)
                    peer.framed.queue(ForgetFunctions([key]))
                self.unsent[peer.framed.fd] = peer

    def flush(self) -> None:
        """Write what the kernel takes; the rest when it says so."""
        unsent, self.unsent = self.unsent, {}
        for fd, peer in unsent.items():
            with peer.lock:
                try:
                    done = peer.framed.flush()
                except ConnectionClosed:
                    # What it said before it closed is still to be read, and then its end.
                    peer.framed.drop_unsent()
                    done = True
            if done == peer.writing:
                peer.writing = not done
                self._epoll.modify(fd, select.EPOLLIN | (0 if done else select.EPOLLOUT))

    def close(self) -> None:
        """Close all connections."""
        self.peers.close()
