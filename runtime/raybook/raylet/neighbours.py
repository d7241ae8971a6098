"""Neighbours: the connections of this raylet to the raylets of other nodes.

Each direction of a pair has a connection of its own, made by whoever has something to say: what is said when, and again, is
the machine's (``core/node/links``). Connections on which bytes of objects move are handed over to whoever moves them.
Carries, and decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from raybook.core.node import links
from raybook.core.node.links import Heard, Links
from raybook.core.node.node_view import NodeDied
from raybook.io.keepalive import expect_answers
from raybook.io.loop_transport import Connection, FrameServer
from raybook.io.transport import Security, connect_nowait
from raybook.protocol.messages.neighbours import Fenced, Greet, NeighbourMessage, ReadRange, Received
from raybook.raylet.node_watch import NodeWatch

logger = logging.getLogger(__name__)

CONFIRM_EVERY = 64
CONFIRM_S = 0.2
"""Messages are confirmed by the dozen, or after this time."""
DETOURS_MAX = 3
"""Nodes through which bytes are read that do not come directly. The head is the first, and hears most."""


class _Out:
    """Context of a connection of ours: whom it leads to, by which attempt."""

    __slots__ = ("attempt", "node_id")

    def __init__(self, node_id: bytes, attempt: int) -> None:
        self.node_id = node_id
        self.attempt = attempt


class _In:
    """Context of a neighbour's connection: who it is, and the number of its next message."""

    __slots__ = ("is_confirming", "next_number", "node_id")

    def __init__(self, node_id: bytes, next_number: int) -> None:
        self.node_id = node_id
        self.next_number = next_number
        self.is_confirming = False


class Neighbours:
    """host: where to listen for others; security: TLS, if the cluster uses it. on_message(node_id, message).
    on_range(connection, message): somebody reads an object; the connection is handed over. on_fenced(reason): somebody
    holds this node for dead. on_cut_off(node_id, silence_ms), on_healed(node_id): a node that lives is out of reach from
    here, or is in reach again."""

    def __init__(
        self,
        node_id: bytes,
        token: bytes,
        host: str,
        watch: NodeWatch,
        health_timeout_ms: int,
        security: Security | None = None,
    ) -> None:
        self.on_message: Callable[[bytes, Any], None] = lambda node_id, message: None
        self.on_range: Callable[[Connection, ReadRange], None] = lambda connection, message: connection.close()
        self.on_fenced: Callable[[str], None] = lambda reason: None
        self.on_cut_off: Callable[[bytes, int], None] = lambda node_id, silence_ms: None
        self.on_healed: Callable[[bytes], None] = lambda node_id: None
        self._node_id = node_id
        self._token = token
        self._view = watch.view
        self.health_timeout_ms = health_timeout_ms
        self._machine = Links(health_timeout_ms)
        self._out: dict[bytes, Connection] = {}
        self._heard: dict[bytes, Heard] = {}
        self.security = security
        self._server = FrameServer(f"tcp:{host}:0", token, NeighbourMessage, self._received, self._closed, security)
        self.address = self._server.address
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_ended = False

    def close(self) -> None:
        self._is_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._server.close()

    def gateway(self, node_id: bytes) -> str:
        """Where a living node listens; "" when it is not known."""
        info = self._view.info(node_id)
        return "" if info is None else info.gateway_address

    def is_dead(self, node_id: bytes) -> bool:
        """Whether a node that is not known any more has died."""
        return bool(self._view.why_dead(node_id))

    def ways(self, node_id: bytes) -> list[bytes]:
        """How to read what lies on a node: directly (b"") if it is in reach, as far as is known; then through others."""
        others = [other for other in self._view.in_reach() if other not in (node_id, self._node_id)]
        direct = [] if self._view.why_cut_off(node_id) else [b""]
        return direct + others[:DETOURS_MAX]

    def send(self, node_id: bytes, message: Any) -> bool:
        """Say it, in order and once, as long as both nodes live. False when there is no such node. One that has said
        something is there, even if the GCS has not told us of it yet."""
        if self._view.info(node_id) is None and node_id not in self._heard:
            return False
        self._decide(links.Said(node_id, message))
        return True

    def node_died(self, died: NodeDied) -> None:
        """Nothing is said to it any more, and nothing heard from it."""
        self._decide(links.LinkEnded(died.node_id))
        self._heard.pop(died.node_id, None)
        for connection in list(self._server.connections):
            if connection.context is not None and connection.context.node_id == died.node_id:
                connection.close()

    # --- the machine --------------------------------------------------------------------------------------------------

    def _decide(self, *events: Any) -> None:
        if self._is_ended:
            return
        for effect in self._machine.handle(events, _now_ms()):
            if isinstance(effect, links.Transmit):
                connection = self._out.get(effect.node_id)
                if connection is not None:  # Else it broke just now, and this is said on the next one.
                    connection.send(effect.message)
            elif isinstance(effect, links.Connect):
                self._connect(effect)
            elif isinstance(effect, links.CutOff):
                self.on_cut_off(effect.node_id, effect.silence_ms)
            elif isinstance(effect, links.Healed):
                self.on_healed(effect.node_id)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._machine.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = self._loop.call_later(max(0, deadline_ms - _now_ms()) / 1000, self._decide)

    def _connect(self, effect: links.Connect) -> None:
        node_id = effect.node_id
        try:
            framed = connect_nowait(self.gateway(node_id), self._token, NeighbourMessage, self.security)
        except (OSError, ValueError) as error:
            logger.info("Node %s cannot be reached: %s", node_id.hex(), error)
            self._loop.call_soon(self._decide, links.Broken(node_id, effect.attempt))
            return
        expect_answers(framed.sock, self.health_timeout_ms)
        connection = self._out[node_id] = self._server.adopt(framed)
        connection.context = _Out(node_id, effect.attempt)
        connection.send(Greet(self._node_id, effect.first))
        for message in effect.messages:
            connection.send(message)

    # --- connections --------------------------------------------------------------------------------------------------

    def _received(self, connection: Connection, message: Any) -> None:
        who = connection.context
        if isinstance(who, _Out):
            if isinstance(message, Received):
                self._decide(links.Confirmed(who.node_id, who.attempt, message.count))
            elif isinstance(message, Fenced):
                self.on_fenced(message.reason)
        elif isinstance(message, ReadRange):
            expect_answers(connection.framed.sock, self.health_timeout_ms)
            self.on_range(connection, message)
        elif isinstance(message, Greet):
            self._greeted(connection, message)
        elif who is None:
            logger.warning("A raylet sent a %s before it said which one it is.", type(message).__name__)
            connection.close()
        else:
            self._heard_from(connection, who, message)

    def _greeted(self, connection: Connection, message: Greet) -> None:
        reason = self._view.why_dead(message.node_id)
        if reason:
            logger.warning("Node %s is dead (%s), and not listened to.", message.node_id.hex(), reason)
            connection.send(Fenced(reason))
            connection.close()
            return
        connection.context = _In(message.node_id, message.first)
        expect_answers(connection.framed.sock, self.health_timeout_ms)
        heard = self._heard.setdefault(message.node_id, Heard())
        connection.send(Received(heard.count))

    def _heard_from(self, connection: Connection, who: _In, message: Any) -> None:
        heard = self._heard[who.node_id]
        number = who.next_number
        who.next_number += 1
        if heard.is_new(number):
            self.on_message(who.node_id, message)
        if number % CONFIRM_EVERY == 0:
            connection.send(Received(heard.count))
        elif not who.is_confirming:
            who.is_confirming = True
            self._loop.call_later(CONFIRM_S, self._confirm, connection, who)

    def _confirm(self, connection: Connection, who: _In) -> None:
        who.is_confirming = False
        heard = self._heard.get(who.node_id)
        if heard is not None:
            connection.send(Received(heard.count))

    def _closed(self, connection: Connection) -> None:
        who = connection.context
        if isinstance(who, _Out):
            if self._out.get(who.node_id) is connection:
                del self._out[who.node_id]
            self._decide(links.Broken(who.node_id, who.attempt))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
