"""Push manager: who sends an object of this node to the next node that asks for it: this node, or one that has a copy.

Every node that wants a large object asks the node where it lies first; so that one knows who has a copy, and who is
getting one. It sends to ``FAN_OUT`` nodes at once, and names to the others one that has the object or is getting it,
which passes the bytes on as they come: a tree, in which no node sends an object more than ``FAN_OUT`` times at once.
Of those who may send, the one nearest to whole bytes is taken, then the least busy, then the one that has sent it
least. A node that could not be read from is not named again for this object.

    ReadWanted → Send … SendEnded
               → Elsewhere … ReadOver, or ReadWanted once more with the node that failed among ``avoid``

Knows nothing of sockets, offsets, or how long copies are kept: that a copy is gone shows when it is asked for.
Invariants: every ReadWanted is answered at once; nobody is sent to itself, or to one that gets the object from it; a
node that gets an object is counted as busy at one source at most. Source: Ray's push manager bounds pushes, and its
pullers choose among locations that the owner tells; that copies are passed on while they come is the tree broadcast of
MPI and BitTorrent's idea.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

FAN_OUT = 2
"""Two shorten the chain to log2 of the nodes, so that one slow node holds up few; more would share one link's bandwidth."""
RELAY_BYTES_MIN = 4 << 20
"""Less is sent in a few milliseconds, which is what asking a second node costs."""
OBJECTS_MAX = 1024
"""So many objects' copies are remembered, those asked for longest ago are forgotten first: they are sent from here again."""
HERE = b""
NOBODY = b"-"
"""The source of a node whose source is not known any more."""


class ReadWanted(msgspec.Struct, frozen=True):
    """A node wants an object that lies here. avoid: nodes that were named to it, and failed."""

    read_id: int
    object_id: bytes
    size: int
    reader: bytes
    avoid: list[bytes] = []


class SendEnded(msgspec.Struct, frozen=True):
    """What Send began is over. is_whole: the reader has it all."""

    read_id: int
    is_whole: bool


class ReadOver(msgspec.Struct, frozen=True):
    """A node that was named another one has the object (or has given up)."""

    reader: bytes
    object_id: bytes
    is_whole: bool


class NodeGone(msgspec.Struct, frozen=True):
    node_id: bytes


class Send(msgspec.Struct, frozen=True):
    """Send it from here; answer with SendEnded."""

    read_id: int


class Elsewhere(msgspec.Struct, frozen=True):
    """Tell the reader to read it from the copy of this node."""

    read_id: int
    node_id: bytes


class _Holder(msgspec.Struct):
    """A node with the object, or on the way to it. source: whom it gets it from; None when it is whole."""

    source: bytes | None = None
    sending: int = 0
    sent: int = 0
    read_id: int = 0
    """Of its last ReadWanted."""


class _Object(msgspec.Struct):
    """holders: by node, this one as ``HERE``, in the order of their asking."""

    holders: dict[bytes, _Holder]


class PushManager:
    """node_id: of this node."""

    def __init__(self, node_id: bytes) -> None:
        self._node_id = node_id
        self._objects: dict[bytes, _Object] = {}
        """In the order of their last use."""
        self._sends: dict[int, tuple[bytes, bytes]] = {}
        """Sends from here under way → (object, reader)."""
        self._sent_count = 0
        self._passed_on_count = 0
        self._effects: list[Any] = []
        self._edges: dict[type, Callable[[Any], None]] = {
            ReadWanted: self._wanted,
            SendEnded: self._send_ended,
            ReadOver: self._read_over,
            NodeGone: self._node_gone,
        }

    def handle(self, events: Iterable[Any]) -> list[Any]:
        """Apply events in order; the effects, in order. Cost: 1 µs, and a look at each node that has the object."""
        for event in events:
            self._edges[type(event)](event)
        effects, self._effects = self._effects, []
        return effects

    def _wanted(self, event: ReadWanted) -> None:
        key, reader = event.object_id, event.reader
        if event.size < RELAY_BYTES_MIN or not reader:
            self._sent_count += 1
            self._effects.append(Send(event.read_id))
            return
        known = self._objects.pop(key, None) or _Object({HERE: _Holder()})
        self._objects[key] = known
        if len(self._objects) > OBJECTS_MAX:
            del self._objects[next(iter(self._objects))]
        holders = known.holders
        for failed in event.avoid:
            if failed and failed != reader:
                self._forget(known, failed)
        before = holders.pop(reader, None)
        if before is not None:
            self._release(known, before)
        source = self._choose(known, reader, event.avoid)
        holder = holders[source]
        holder.sending += 1
        holder.sent += 1
        # It keeps what it passes on meanwhile: the bytes that it has already stay where they are.
        sending, sent = (before.sending, before.sent) if before is not None else (0, 0)
        holders[reader] = _Holder(source, sending, sent, event.read_id)
        if source == HERE:
            self._sent_count += 1
            self._sends[event.read_id] = (key, reader)
            self._effects.append(Send(event.read_id))
        else:
            self._passed_on_count += 1
            self._effects.append(Elsewhere(event.read_id, source))

    def _choose(self, known: _Object, reader: bytes, avoid: list[bytes]) -> bytes:
        best, best_rank = HERE, (len(known.holders) + 1, 0, 0)
        for node_id, holder in known.holders.items():
            if holder.sending >= FAN_OUT or (node_id and node_id in avoid):
                continue
            depth = self._depth(known, node_id, reader)
            rank = (depth, holder.sending, holder.sent)
            if depth >= 0 and rank < best_rank:
                best, best_rank = node_id, rank
        return best

    def _depth(self, known: _Object, node_id: bytes, reader: bytes) -> int:
        """How many transfers lie between a node and whole bytes; -1: it gets them from ``reader``, or from nobody."""
        depth = 0
        while (source := known.holders[node_id].source) is not None:
            if source == reader or source not in known.holders:
                return -1
            node_id = source
            depth += 1
        return depth

    def _send_ended(self, event: SendEnded) -> None:
        key, reader = self._sends.pop(event.read_id, (b"", b""))
        known = self._objects.get(key)
        holder = known.holders.get(reader) if known is not None else None
        if known is not None and holder is not None and holder.read_id == event.read_id:
            self._over(known, reader, holder, event.is_whole)

    def _read_over(self, event: ReadOver) -> None:
        known = self._objects.get(event.object_id)
        holder = known.holders.get(event.reader) if known is not None else None
        if known is not None and holder is not None:
            self._over(known, event.reader, holder, event.is_whole)

    def _over(self, known: _Object, reader: bytes, holder: _Holder, is_whole: bool) -> None:
        if holder.source is None:
            return
        if not is_whole:
            self._forget(known, reader)
            return
        self._release(known, holder)
        holder.source = None

    def _release(self, known: _Object, holder: _Holder) -> None:
        """Its source has one less to send to."""
        source = known.holders.get(holder.source) if holder.source is not None else None
        if source is not None:
            source.sending -= 1

    def _forget(self, known: _Object, node_id: bytes) -> None:
        holder = known.holders.pop(node_id, None)
        if holder is None:
            return
        self._release(known, holder)
        for other in known.holders.values():
            if other.source == node_id:
                other.source = NOBODY

    def _node_gone(self, event: NodeGone) -> None:
        for known in self._objects.values():
            self._forget(known, event.node_id)

    def story(self, key: bytes) -> str:
        """Who has an object of this node, for people."""
        known = self._objects.get(key)
        if known is None:
            return "No other node has asked for it lately."
        lines = []
        for node_id, holder in known.holders.items():
            where = f"node {(node_id or self._node_id).hex()}"
            state = "has it" if holder.source is None else f"gets it from {(holder.source or self._node_id).hex()}"
            lines.append(f"{where} {state}, sends it to {holder.sending}, has sent it {holder.sent} times")
        return "\n".join(lines)

    def statistics(self) -> dict[str, int]:
        """Sends from here, and readers that were sent to a copy, since the start."""
        return {"sent": self._sent_count, "passed_on": self._passed_on_count, "sending": len(self._sends)}

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for known in self._objects.values():
            busy: dict[bytes, int] = {}
            for node_id, holder in known.holders.items():
                assert holder.source != node_id, "a node gets an object from itself"
                if holder.source is not None:
                    busy[holder.source] = busy.get(holder.source, 0) + 1
                    assert self._depth(known, node_id, b"?") < len(known.holders), "nodes wait for each other"
            for node_id, holder in known.holders.items():
                assert holder.sending == busy.get(node_id, 0), (
                    "somebody is counted as busy with another number of readers"
                )
