"""Node table: decides which nodes are alive. A node that says nothing is asked; one that does not answer is dead, and so is
one whose connection closed and at whose port nobody listens any more.

No verdict depends on what a clock shows, and none falls on time in which nobody looked: the table has a time of its own,
which stands still while the clock is set back, and while this process slept through a deadline (it was stopped, its machine
was suspended, its loop was held up). Who could not be heard then is asked first.

Knows no resources (``resource_view`` does) and no actors. Reports count as signs of life, so a healthy cluster asks
nobody anything. Invariants: a dead node stays dead (its raylet must join anew under another id); every living node that
is watched has one deadline. Source of the times: ``Config.health_check_*`` (Ray: 3 s period, 10 s timeout, 5 failures).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raybook.protocol.messages.gcs import NodeInfo

STORY_LINES_MAX = 32
LATE_SHARE = 0.25
"""A deadline that is noticed later than this share of the time-out was slept through (and later than one period)."""


class NodeRegistered(msgspec.Struct, frozen=True):
    """``watched`` false: it lives in this very process, its health is ours."""

    node: NodeInfo
    watched: bool = True


class NodeHeard(msgspec.Struct, frozen=True):
    """It reported or answered. A late answer is a sign of life too, so answers carry no number."""

    node_id: bytes


class NodeUnreachable(msgspec.Struct, frozen=True):
    """A call to it failed for lack of a connection."""

    node_id: bytes


class NodeDisconnected(msgspec.Struct, frozen=True):
    """Its connection closed. That may be the network's doing, or its end."""

    node_id: bytes


class NodeLeft(msgspec.Struct, frozen=True):
    """It ends on purpose, or is known to have ended."""

    node_id: bytes
    reason: str


class NodeDraining(msgspec.Struct, frozen=True):
    """It takes no new work from now on, and leaves when it is empty."""

    node_id: bytes
    why: str


class Probe(msgspec.Struct, frozen=True):
    """Ask the node for a sign of life; answer with NodeHeard."""

    node_id: bytes


class Knock(msgspec.Struct, frozen=True):
    """See whether anybody listens at its port; answer with NodeLeft when its machine says that nobody does."""

    node_id: bytes


class AnnounceJoined(msgspec.Struct, frozen=True):
    node: NodeInfo


class AnnounceDraining(msgspec.Struct, frozen=True):
    """Place nothing there any more, and have what can move begin elsewhere."""

    node_id: bytes
    why: str


class AnnounceReachable(msgspec.Struct, frozen=True):
    """It had been out of reach, and answers."""

    node_id: bytes


class AnnounceDead(msgspec.Struct, frozen=True):
    node_id: bytes
    reason: str


class _Node(msgspec.Struct):
    info: NodeInfo
    watched: bool
    heard_ms: int
    deadline_ms: int = 0
    asked: bool = False
    """A probe is out; the next one waits for its deadline."""
    suspect: bool = False
    story: list[str] = []


class NodeTable:
    """The machine; see the module's text. Dead nodes are remembered, ``dead_max`` of them."""

    def __init__(self, period_ms: int, timeout_ms: int, dead_max: int = 1_000) -> None:
        self._period_ms = period_ms
        self._timeout_ms = timeout_ms
        self._dead_max = dead_max
        self._nodes: dict[bytes, _Node] = {}
        self._dead: dict[bytes, None] = {}
        self._deadlines: list[tuple[int, bytes]] = []
        self._effects: list[Any] = []
        self._late_ms_max = max(period_ms, int(LATE_SHARE * timeout_ms))
        self._last_ms = 0
        self._slept_ms = 0
        """The clock less our own time."""
        self._edges: dict[type, Callable[[Any, int], None]] = {
            NodeRegistered: self._registered,
            NodeHeard: self._heard,
            NodeUnreachable: self._unreachable,
            NodeDisconnected: self._disconnected,
            NodeDraining: self._draining,
            NodeLeft: self._left,
        }

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events, then what time brings. Cost: 1 µs an event, O(log nodes) per elapsed deadline."""
        now_ms = self._own_time(now_ms)
        for event in events:
            self._edges[type(event)](event, now_ms)
        self._elapse(now_ms)
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        return self._deadlines[0][0] + self._slept_ms if self._deadlines else None

    def _own_time(self, clock_ms: int) -> int:
        """What the clock shows, less all jumps."""
        now_ms = clock_ms - self._slept_ms
        jump_ms = 0
        if now_ms < self._last_ms:
            jump_ms = now_ms - self._last_ms
        elif self._deadlines and now_ms > self._deadlines[0][0] + self._late_ms_max:
            jump_ms = now_ms - max(self._deadlines[0][0], self._last_ms)
        self._slept_ms += jump_ms
        self._last_ms = now_ms - jump_ms
        return self._last_ms

    # ------------------------------------------------------------------ questions

    def get(self, node_id: bytes) -> NodeInfo | None:
        node = self._nodes.get(node_id)
        return None if node is None else node.info

    def is_alive(self, node_id: bytes) -> bool:
        node = self._nodes.get(node_id)
        return node is not None and node.info.alive

    def why_refused(self, info: NodeInfo) -> tuple[str, str] | None:
        """Why a node that asks to join may not: (name of an exception, text); None when it may. A node that joins again is
        known by its address: two with one id would be taken for one that moves to and fro."""
        known = self.get(info.node_id)
        if known is None:
            return None
        name = info.node_id.hex()
        if not known.alive:
            text = f"Node {name} was declared dead ({known.death_reason}); it must end and join anew."
            return "NodeDiedError", text
        if known.raylet_address != info.raylet_address:
            text = (
                f"The id {name} is taken: the node at {known.raylet_address} ({known.hostname}, pid {known.pid}) has it and "
                f"lives. Nothing was changed. The node at {info.raylet_address} must start anew, with an id of its own."
            )
            return "ValueError", text
        return None

    def infos(self) -> list[NodeInfo]:
        return [node.info for node in self._nodes.values()]

    def alive_ids(self) -> list[bytes]:
        return [node_id for node_id, node in self._nodes.items() if node.info.alive]

    def story(self, key: bytes) -> str:
        node = self._nodes.get(key)
        if node is None:
            return f"Node {key.hex()} is not in the table."
        state = "alive" if node.info.alive else f"dead: {node.info.death_reason.rstrip('.')}"
        return "\n".join([f"Node {key.hex()} is {state}.", *node.story])

    def check_invariants(self) -> None:
        filed = {(deadline, node_id) for deadline, node_id in self._deadlines}
        for node_id, node in self._nodes.items():
            assert node.info.alive == (node_id not in self._dead), f"Node {node_id.hex()} is filed wrongly."
            if node.info.alive and node.watched:
                assert (node.deadline_ms, node_id) in filed, f"Nobody watches node {node_id.hex()}."
            assert node.info.alive or node.info.death_reason, f"Node {node_id.hex()} died without a reason."

    # ------------------------------------------------------------------ edges

    def _registered(self, event: NodeRegistered, now_ms: int) -> None:
        info = event.node
        node = self._nodes.get(info.node_id)
        if node is not None and not node.info.alive:
            return  # The shell refuses it; the dead stay dead.
        story = [] if node is None else node.story
        node = self._nodes[info.node_id] = _Node(info, event.watched, now_ms, story=story)
        self._tell(node, now_ms, "joined")
        if node.watched:
            self._await(node, now_ms + self._period_ms)
        self._effects.append(AnnounceJoined(info))
        if info.draining:
            # It began under an earlier GCS, or the GCS has lost sight of it meanwhile.
            self._effects.append(AnnounceDraining(info.node_id, info.draining))

    def _draining(self, event: NodeDraining, now_ms: int) -> None:
        node = self._nodes.get(event.node_id)
        if node is None or not node.info.alive or node.info.draining:
            return
        node.info = msgspec.structs.replace(node.info, draining=event.why)
        self._tell(node, now_ms, f"drains: {event.why}")
        self._effects.append(AnnounceDraining(event.node_id, event.why))

    def _heard(self, event: NodeHeard, now_ms: int) -> None:
        node = self._nodes.get(event.node_id)
        if node is None or not node.info.alive:
            return
        node.heard_ms = now_ms
        node.asked = False
        if node.suspect:
            node.suspect = False
            self._tell(node, now_ms, "answers again")
            self._effects.append(AnnounceReachable(event.node_id))

    def _unreachable(self, event: NodeUnreachable, now_ms: int) -> None:
        node = self._nodes.get(event.node_id)
        if node is None or not node.info.alive:
            return
        if not node.suspect:
            node.suspect = True
            self._tell(node, now_ms, "out of reach")
        if node.watched and not node.asked:
            self._ask(node, now_ms)

    def _disconnected(self, event: NodeDisconnected, now_ms: int) -> None:
        node = self._nodes.get(event.node_id)
        if node is None or not node.info.alive or not node.watched:
            return
        self._tell(node, now_ms, "its connection closed")
        self._effects.append(Knock(event.node_id))
        if not node.asked:
            self._ask(node, now_ms)

    def _left(self, event: NodeLeft, now_ms: int) -> None:
        node = self._nodes.get(event.node_id)
        if node is not None and node.info.alive:
            self._declare_dead(node, event.reason, now_ms)

    def _elapse(self, now_ms: int) -> None:
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            deadline, node_id = heapq.heappop(self._deadlines)
            node = self._nodes.get(node_id)
            if node is None or not node.info.alive or node.deadline_ms != deadline:
                continue  # Superseded by a later deadline.
            silence_ms = now_ms - node.heard_ms
            if silence_ms >= self._timeout_ms:
                text = f"it has not answered for {silence_ms / 1000:.1f} s."
                self._declare_dead(node, text, now_ms)
            elif silence_ms >= self._period_ms:
                self._ask(node, now_ms)
            else:
                self._await(node, node.heard_ms + self._period_ms)

    def _ask(self, node: _Node, now_ms: int) -> None:
        node.asked = True
        self._effects.append(Probe(node.info.node_id))
        self._await(node, min(now_ms + self._period_ms, max(node.heard_ms + self._timeout_ms, now_ms + 1)))

    def _await(self, node: _Node, deadline_ms: int) -> None:
        node.deadline_ms = deadline_ms
        heapq.heappush(self._deadlines, (deadline_ms, node.info.node_id))

    def _declare_dead(self, node: _Node, reason: str, now_ms: int) -> None:
        node_id = node.info.node_id
        node.info = msgspec.structs.replace(node.info, alive=False, death_reason=reason, resources_available={})
        self._tell(node, now_ms, f"dead: {reason}")
        self._dead[node_id] = None
        self._effects.append(AnnounceDead(node_id, reason))
        while len(self._dead) > self._dead_max:
            oldest = next(iter(self._dead))
            del self._dead[oldest], self._nodes[oldest]

    def _tell(self, node: _Node, now_ms: int, what: str) -> None:
        if len(node.story) < STORY_LINES_MAX:
            node.story.append(f"{now_ms} ms: {what}")
