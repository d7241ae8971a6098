"""Neighbours: what a simulated raylet says to others, over connections that may break.

As ``raylet/neighbours``, around the shipped ``core/node/links``: each direction of a pair has connections of its own, what
has not been confirmed is said again on the next one, who is held for dead is not listened to. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raybook.core.node import links
from raybook.core.node.links import Heard, Links
from raybook.core.node.node_view import NodeView
from raybook.protocol.messages.neighbours import Fenced, Greet, Received
from raybook.sim.network import TO_NEIGHBOUR, Port
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.node import Node

CONFIRM_US = 200_000
"""As in ``raylet/neighbours``, where a batch is confirmed sooner."""


class _Out:
    """A connection of ours: whom it leads to, by which attempt."""

    __slots__ = ("attempt", "node_id")

    def __init__(self, node_id: bytes, attempt: int) -> None:
        self.node_id = node_id
        self.attempt = attempt


class _In:
    """A neighbour's connection: who it is, b"" until it says so, and the number of its next message."""

    __slots__ = ("is_confirming", "next_number", "node_id")

    def __init__(self) -> None:
        self.node_id = b""
        self.next_number = 0
        self.is_confirming = False


class Neighbours:
    """on_message(node_id, message), on_fenced(), on_cut_off(node_id, silence_ms), on_healed(node_id)."""

    def __init__(self, node: Node, view: NodeView) -> None:
        self.name = node.name
        self.place = node.node_id
        self.on_message: Callable[[bytes, Any], None] = lambda node_id, message: None
        self.on_fenced: Callable[[], None] = lambda: None
        self.on_cut_off: Callable[[bytes, int], None] = lambda node_id, silence_ms: None
        self.on_healed: Callable[[bytes], None] = lambda node_id: None
        self._node = node
        self._view = view
        self._timeline = node.world.timeline
        self._machine = Links(node.world.config.health_check_timeout_ms)
        self._out: dict[bytes, Port] = {}
        self._who: dict[Port, _Out | _In] = {}
        self._heard: dict[bytes, Heard] = {}
        self._timer: Timer | None = None
        self._is_closed = False

    def close(self) -> None:
        """The node is gone."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for port in list(self._who):
            port.close()

    def send(self, node_id: bytes, message: Any) -> bool:
        """Say it, in order and once, as long as both nodes live. False when there is no such node."""
        if self._view.info(node_id) is None and node_id not in self._heard:
            return False
        self._decide(links.Said(node_id, message))
        return True

    def node_died(self, node_id: bytes) -> None:
        """Nothing is said to it any more, and nothing heard from it."""
        self._decide(links.LinkEnded(node_id))
        self._heard.pop(node_id, None)
        for port in [port for port, who in self._who.items() if who.node_id == node_id]:
            self._forget(port)

    def _decide(self, *events: Any) -> None:
        if self._is_closed:
            return
        for effect in self._machine.handle(events, self._timeline.now_ms):
            if isinstance(effect, links.Transmit):
                port = self._out.get(effect.node_id)
                if port is not None:
                    port.send(effect.message)
            elif isinstance(effect, links.Connect):
                self._connect(effect)
            elif isinstance(effect, links.CutOff):
                self.on_cut_off(effect.node_id, effect.silence_ms)
            elif isinstance(effect, links.Healed):
                self.on_healed(effect.node_id)
        self._machine.check_invariants()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._machine.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = self._timeline.at(deadline_ms * 1000, self._decide)

    def _connect(self, effect: links.Connect) -> None:
        other = self._node.world.nodes.get(effect.node_id)
        if other is None or other.abroad is None:
            delay_us = self._node.world.network.latency_us()
            self._timeline.after(delay_us, self._decide, links.Broken(effect.node_id, effect.attempt))
            return
        port, far = self._node.world.network.connect(self, other.abroad.neighbours, TO_NEIGHBOUR)
        self._out[effect.node_id] = port
        self._who[port] = _Out(effect.node_id, effect.attempt)
        other.abroad.neighbours.connected(far)
        port.send(Greet(self.place, effect.first))
        for message in effect.messages:
            port.send(message)

    # Connections

    def connected(self, port: Port) -> None:
        """Another raylet called; which one comes with its greeting."""
        self._who[port] = _In()

    def arrived(self, port: Port, message: Any) -> None:
        """The network brings a message."""
        who = self._who.get(port)
        if self._is_closed or who is None:
            return
        if isinstance(who, _Out):
            if isinstance(message, Received):
                self._decide(links.Confirmed(who.node_id, who.attempt, message.count))
            elif isinstance(message, Fenced):
                self.on_fenced()
        elif isinstance(message, Greet):
            self._greeted(port, who, message)
        else:
            self._hear(port, who, message)

    def ended(self, port: Port) -> None:
        """The network brings the end of a connection, in whatever way."""
        who = self._forget(port)
        if isinstance(who, _Out):
            self._decide(links.Broken(who.node_id, who.attempt))

    broke = ended

    def _forget(self, port: Port) -> _Out | _In | None:
        who = self._who.pop(port, None)
        port.close()
        if who is not None and self._out.get(who.node_id) is port:
            del self._out[who.node_id]
        return who

    def _greeted(self, port: Port, who: _In, message: Greet) -> None:
        if reason := self._view.why_dead(message.node_id):
            port.send(Fenced(reason))
            self._forget(port)
            return
        who.node_id, who.next_number = message.node_id, message.first
        port.send(Received(self._heard.setdefault(who.node_id, Heard()).count))

    def _hear(self, port: Port, who: _In, message: Any) -> None:
        number = who.next_number
        who.next_number += 1
        if self._heard[who.node_id].is_new(number):
            self.on_message(who.node_id, message)
        if not who.is_confirming:
            who.is_confirming = True
            self._timeline.after(CONFIRM_US, self._confirm, port, who)

    def _confirm(self, port: Port, who: _In) -> None:
        who.is_confirming = False
        heard = self._heard.get(who.node_id)
        if heard is not None and not self._is_closed:
            port.send(Received(heard.count))
