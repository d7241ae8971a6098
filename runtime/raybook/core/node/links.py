"""Links: what this raylet says to each other raylet, in order and once, over connections that may break.

A link is one direction of a pair. Messages are numbered; what the far end has not confirmed is kept and said again on the
next connection, and the far end drops what it has heard. So a broken connection loses nothing, however long it lasts. What
cannot wait that long is told apart: a node that lives, as far as the GCS says, and is out of reach from here is *cut off*
after a while, and *healed* when it answers again.

    CONNECTING → OPEN          the far end answered the greeting
    CONNECTING, OPEN → PAUSING the connection broke; the next attempt comes after a pause that doubles
    PAUSING → CONNECTING       the pause is over
                               a node that dies is forgotten, from every state
Knows nothing of sockets or of what is said. Invariants: what is kept are the numbers after the last confirmed one, without
a gap; a node is cut off once until it is healed. Source: decision 0043.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

PAUSE_MS_MIN = 50
PAUSE_MS_MAX = 2_000
CUT_OFF_SHARE = 0.5
"""Of the health check's time-out, after the kernel gave up a connection (1.5 of them, ``io/keepalive``): a dead node is
mostly known to be dead before it is held for cut off."""
FIRST_CONTACT_SHARE = 2.0
"""The same for a node that has never been reached."""


class Said(msgspec.Struct, frozen=True):
    """Something is to be said to a node."""

    node_id: bytes
    message: Any


class Confirmed(msgspec.Struct, frozen=True):
    """The far end has heard so many messages. ``attempt``: of the connection that this came by."""

    node_id: bytes
    attempt: int
    count: int


class Broken(msgspec.Struct, frozen=True):
    """The connection of this attempt is over, or never was."""

    node_id: bytes
    attempt: int


class LinkEnded(msgspec.Struct, frozen=True):
    """The node is dead."""

    node_id: bytes


class Connect(msgspec.Struct, frozen=True):
    """Make a connection, and say on it that the messages begin with number ``first``; then these."""

    node_id: bytes
    attempt: int
    first: int
    messages: tuple[Any, ...]


class Transmit(msgspec.Struct, frozen=True):
    """Say it on the connection that there is."""

    node_id: bytes
    message: Any


class CutOff(msgspec.Struct, frozen=True):
    """Out of reach for so long."""

    node_id: bytes
    silence_ms: int


class Healed(msgspec.Struct, frozen=True):
    """It answers again."""

    node_id: bytes


class LinkState(Enum):
    CONNECTING = "CONNECTING"
    OPEN = "OPEN"
    PAUSING = "PAUSING"


class _Link(msgspec.Struct):
    state: LinkState = LinkState.PAUSING
    attempt: int = 0
    confirmed: int = 0
    kept: deque[Any] = msgspec.field(default_factory=deque)
    """Messages after the last confirmed one."""
    pause_ms: int = PAUSE_MS_MIN
    next_ms: int = 0
    """While PAUSING: when to try again."""
    silent_since_ms: int = 0
    patience_ms: int = 0
    is_cut_off: bool = False


class Links:
    """health_timeout_ms: of the cluster."""

    def __init__(self, health_timeout_ms: int) -> None:
        self._broken_ms_max = int(CUT_OFF_SHARE * health_timeout_ms)
        self._unheard_ms_max = int(FIRST_CONTACT_SHARE * health_timeout_ms)
        self._links: dict[bytes, _Link] = {}
        self._now_ms = 0
        self._effects: list[Any] = []
        self._edges: dict[type, Callable[[Any], None]] = {
            Said: self._said,
            Confirmed: self._was_confirmed,
            Broken: self._broken,
            LinkEnded: self._ended,
        }

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events, then what time brings; the effects, in order. Cost: 1 µs an event, and a look at each link that
        is not open."""
        self._now_ms = now_ms
        for event in events:
            self._edges[type(event)](event)
        for node_id, link in self._links.items():
            if link.state is not LinkState.OPEN:
                self._elapse(node_id, link)
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        """When the next attempt is due, or a node is to be held for cut off."""
        deadlines = []
        for link in self._links.values():
            if link.state is LinkState.PAUSING:
                deadlines.append(link.next_ms)
            if link.state is not LinkState.OPEN and not link.is_cut_off:
                deadlines.append(link.silent_since_ms + link.patience_ms)
        return min(deadlines) if deadlines else None

    # --- edges --------------------------------------------------------------------------------------------------------

    def _said(self, event: Said) -> None:
        link = self._links.get(event.node_id)
        if link is None:
            link = self._links[event.node_id] = _Link(
                silent_since_ms=self._now_ms, patience_ms=self._unheard_ms_max, next_ms=self._now_ms
            )
        link.kept.append(event.message)
        if link.state is not LinkState.PAUSING:
            self._effects.append(Transmit(event.node_id, event.message))

    def _was_confirmed(self, event: Confirmed) -> None:
        link = self._links.get(event.node_id)
        if link is None or link.attempt != event.attempt:
            return
        while link.confirmed < event.count and link.kept:
            link.kept.popleft()
            link.confirmed += 1
        if link.state is not LinkState.CONNECTING:
            return
        link.state = LinkState.OPEN
        link.pause_ms = PAUSE_MS_MIN
        if link.is_cut_off:
            link.is_cut_off = False
            self._effects.append(Healed(event.node_id))

    def _broken(self, event: Broken) -> None:
        link = self._links.get(event.node_id)
        if link is None or link.attempt != event.attempt or link.state is LinkState.PAUSING:
            return
        if link.state is LinkState.OPEN:
            link.silent_since_ms = self._now_ms
            link.patience_ms = self._broken_ms_max
        link.state = LinkState.PAUSING
        link.next_ms = self._now_ms + link.pause_ms
        link.pause_ms = min(2 * link.pause_ms, PAUSE_MS_MAX)

    def _ended(self, event: LinkEnded) -> None:
        self._links.pop(event.node_id, None)

    def _elapse(self, node_id: bytes, link: _Link) -> None:
        silence_ms = self._now_ms - link.silent_since_ms
        if not link.is_cut_off and silence_ms >= link.patience_ms:
            link.is_cut_off = True
            self._effects.append(CutOff(node_id, silence_ms))
        if link.state is LinkState.PAUSING and link.next_ms <= self._now_ms:
            link.state = LinkState.CONNECTING
            link.attempt += 1
            self._effects.append(Connect(node_id, link.attempt, link.confirmed + 1, tuple(link.kept)))

    # --- looking ------------------------------------------------------------------------------------------------------

    def story(self, node_id: bytes) -> str:
        """How this link is, in a line for people."""
        link = self._links.get(node_id)
        if link is None:
            return f"Nothing was said to node {node_id.hex()}."
        cut = ", cut off" if link.is_cut_off else ""
        return f"The link to node {node_id.hex()} is {link.state.value}{cut}; {len(link.kept)} messages unconfirmed."

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for node_id, link in self._links.items():
            assert not (link.is_cut_off and link.state is LinkState.OPEN), f"Node {node_id.hex()} is open and cut off."
            assert link.attempt or link.state is LinkState.PAUSING, f"Node {node_id.hex()} is tried without an attempt."


class Heard:
    """The other direction: what a neighbour has said, counted over all of its connections."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def is_new(self, number: int) -> bool:
        """Whether the message of that number is heard for the first time; from now on it is not."""
        if number <= self.count:
            return False
        self.count = number
        return True
