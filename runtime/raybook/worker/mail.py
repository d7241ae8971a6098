"""Mail: the sockets of one process to its peers, and what lies in them: read, queue, write.

Run by whoever runs the I/O loop (see ``baton``); only ``Peer.send_now`` may be called beside it. Knows which messages
are for the owner machine and which for the executor, and nothing of what they mean.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Container
from typing import Any

from raybook.base.specs import Endpoint
from raybook.core.owner.records import FromPeer, PeerGone, PushTo, ToPeer
from raybook.io.transport import ConnectionClosed, accept
from raybook.protocol.messages.worker import ForgetFunctions, Hello, SendFunction, WorkerMessage
from raybook.worker.executor_base import Executor
from raybook.worker.peers import Peer, Peers

Inbox = list[Any]
_WRITABLE = select.EPOLLOUT


class Mail:
    """accepted: the types of messages that are for the owner machine. lost: called with a PeerGone found while writing."""

    def __init__(
        self,
        me: Endpoint,
        token: bytes,
        listeners: list[socket.socket],
        epoll: select.epoll,
        accepted: Container[type],
        lost: Callable[[PeerGone], None],
    ) -> None:
        self._token = token
        self.listeners = {listener.fileno(): listener for listener in listeners}
        self._epoll = epoll
        self._accepted = accepted
        self._lost = lost
        self.peers = Peers(me, token, self._watch)
        self.by_fd = self.peers.by_fd
        self.unsent: dict[int, Peer] = {}
        """Connections with something to write."""
        self.executor: Executor | None = None

    def _watch(self, peer: Peer) -> None:
        self._epoll.register(peer.framed.fd, select.EPOLLIN)

    # In

    def welcome(self, fd: int) -> None:
        """Take in everybody who knocks there."""
        while (framed := accept(self.listeners[fd], self._token, WorkerMessage)) is not None:
            self.peers.adopt(framed)

    def read(self, peer: Peer, mask: int, inbox: Inbox) -> None:
        """What a peer has sent: into the inbox, or to the executor."""
        if mask & _WRITABLE:
            self.unsent[peer.framed.fd] = peer
            if mask == _WRITABLE:
                return
        try:
            messages = peer.framed.receive()
        except ConnectionError:
            gone = self.drop(peer)
            if gone is not None:
                inbox.append(gone)
            return
        if not peer.is_open:
            peer.is_open = peer.framed.is_connected
            self.unsent[peer.framed.fd] = peer
        client_id = peer.client_id
        accepted = self._accepted
        for message in messages:
            kind = type(message)
            if kind in accepted:
                inbox.append(FromPeer(client_id, message))
            elif kind is Hello:
                self.peers.introduce(peer, message.endpoint)
                client_id = peer.client_id
            elif self.executor is not None:
                self.executor.on_message(peer, message)

    def drop(self, peer: Peer) -> PeerGone | None:
        """Close a connection. What to tell the owner machine, when the process cannot be reached any more."""
        self.unsent.pop(peer.framed.fd, None)
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(peer.framed.fd)
        if not self.peers.remove(peer):
            return None
        if self.executor is not None:
            self.executor.on_peer_gone(peer.client_id)
        return PeerGone(peer.client_id)

    # Out

    def send(self, effect: ToPeer) -> None:
        """Queue a message; ``flush`` writes it."""
        peer = self.peers.reach(effect.client_id, effect.address)
        if peer is None:
            self._lost(PeerGone(effect.client_id))
            return
        with peer.lock:
            peer.framed.queue(effect.message)
        self.unsent[peer.framed.fd] = peer

    def push(self, effect: PushTo) -> None:
        """Queue tasks or calls, and before them the functions that the peer does not have yet."""
        client_id = effect.client_id
        peer = self.peers.by_client.get(client_id) or self.peers.reach(client_id, effect.address)
        if peer is None:
            self._lost(PeerGone(client_id))
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
