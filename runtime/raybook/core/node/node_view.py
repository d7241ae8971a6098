"""Node view: what this node knows of the others, kept by deltas from the GCS.

A resource view that others may also subtract guesses from (what was granted since the last look); each look at the amounts
takes these guesses back. Nodes that a GCS does not know which was started anew are not dead for that: they have
``grace_ms`` to register with it. The dead stay dead.

A node that lives and cannot be reached from here is out of the view until it can; one that drains is out of it for good.

Knows nothing of connections, nor who asks the GCS when. Invariants: who is in the view lives, as far as the GCS says; a
death is told once. Source: decision 0040.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from raybook.base.resources import Shape
from raybook.core.cluster.resource_view import ResourceView
from raybook.protocol.messages.gcs import NodeInfo, NodesDelta

DEAD_MAX = 1_000
"""Dead nodes whose reason is remembered."""


class Cursor(msgspec.Struct):
    """How much one reader has seen, of which GCS."""

    epoch: bytes = b""
    since: int = 0


class NodeJoined(msgspec.Struct, frozen=True):
    node_id: bytes


class NodeDrains(msgspec.Struct, frozen=True):
    """It takes no more work."""

    node_id: bytes


class NodeDied(msgspec.Struct, frozen=True):
    """``home``: what the addresses of its processes begin with, see ``io/peer_address``; here it is passed on only."""

    node_id: bytes
    reason: str
    info: NodeInfo


class NodeView(ResourceView):
    def __init__(self, grace_ms: int) -> None:
        super().__init__()
        self._grace_ms = grace_ms
        self._infos: dict[bytes, NodeInfo] = {}
        self._named: dict[bytes, tuple[bytes, int]] = {}
        """Node → the epoch and version by which it was last said to live. Of two readers, one may be told later what was
        said earlier."""
        self._dead: dict[bytes, str] = {}
        self._cut_off: dict[bytes, str] = {}
        self.draining: dict[bytes, None] = {}
        """Living nodes that take no more work: in no view, but in reach."""
        self._unconfirmed: dict[bytes, int] = {}
        """Nodes that a new GCS has not named yet → until when they may be silent."""
        self._reported: dict[bytes, Shape] = {}
        self._guessed: dict[bytes, None] = {}
        self._older_guesses: dict[bytes, None] = {}
        """Those of before the last look but one that did not bring all the amounts there were."""
        self._known_from = 0
        """The version from which on amounts know of the older guesses."""

    # --- what the GCS says --------------------------------------------------------------------------------------------

    def apply(self, cursor: Cursor, delta: NodesDelta, now_ms: int) -> list[NodeJoined | NodeDrains | NodeDied]:
        """Take in an answer to a reader; what has changed among the nodes. An answer to another question than the
        cursor's is ignored: there will be one to this."""
        if not delta.reset and (delta.epoch, delta.since) != (cursor.epoch, cursor.since):
            return []
        is_other_gcs = cursor.epoch not in (b"", delta.epoch)
        cursor.epoch, cursor.since = delta.epoch, delta.version
        happened: list[NodeJoined | NodeDrains | NodeDied] = []
        for info in delta.nodes:
            if info.alive:
                happened += self._joined(info, delta)
            else:
                happened += self._died(info.node_id, info.death_reason)
        if delta.reset:
            happened += self._miss(delta, now_ms, is_other_gcs)
        for row in delta.amounts:
            if row.node_id in self._infos:
                self._reported[row.node_id] = row.available
                self._forget_guess(row.node_id)
                self.report(row.node_id, row.available)
        return happened

    def take_back_guesses(self, cursor: Cursor, newest: int) -> None:
        """The amounts were looked at up to the cursor, of changes up to ``newest``: what was guessed before is known now, or
        never came to be."""
        taken: dict[bytes, None] = {}
        if cursor.since >= newest:
            taken = self._older_guesses | self._guessed
            self._older_guesses, self._guessed = {}, {}
        elif cursor.since >= self._known_from:
            taken = self._older_guesses
            self._older_guesses, self._guessed, self._known_from = self._guessed, {}, newest
        for node_id in taken:
            if node_id in self._reported and node_id not in self._guessed and node_id not in self._older_guesses:
                self.report(node_id, self._reported[node_id])

    def _forget_guess(self, node_id: bytes) -> None:
        self._guessed.pop(node_id, None)
        self._older_guesses.pop(node_id, None)

    def elapse(self, now_ms: int) -> list[NodeDied]:
        """Who was not named in time is dead."""
        due = [node_id for node_id, deadline_ms in self._unconfirmed.items() if deadline_ms <= now_ms]
        text = f"The GCS was started anew, and it has not registered there within {self._grace_ms / 1000:g} s."
        return [died for node_id in due for died in self._died(node_id, text)]

    def next_deadline_ms(self) -> int | None:
        return min(self._unconfirmed.values()) if self._unconfirmed else None

    def reserve(self, node_id: bytes, shape: Shape) -> None:
        """A guess, until the amounts are looked at."""
        self._guessed[node_id] = None
        super().reserve(node_id, shape)

    def _joined(self, info: NodeInfo, delta: NodesDelta) -> list[NodeJoined | NodeDrains | NodeDied]:
        node_id = info.node_id
        self._unconfirmed.pop(node_id, None)
        if node_id in self._dead:
            return []
        self._named[node_id] = (delta.epoch, max(delta.version, delta.newest))
        known = self._infos.get(node_id)
        self._infos[node_id] = info
        if info.draining:
            return self._drains(node_id)
        if known is not None and known.resources_total == info.resources_total and known.labels == info.labels:
            if delta.reset:
                self._reported[node_id] = dict(info.resources_available)
                self.report(node_id, info.resources_available)
            return []
        self._reported[node_id] = dict(info.resources_available)
        if node_id not in self._cut_off:
            self.add(node_id, info.resources_total, info.resources_available, info.labels)
        return [NodeJoined(node_id)]

    def _drains(self, node_id: bytes) -> list[NodeJoined | NodeDrains | NodeDied]:
        if node_id in self.draining:
            return []
        self.draining[node_id] = None
        self._reported.setdefault(node_id, {})
        self.remove(node_id)
        return [NodeDrains(node_id)]

    def _died(self, node_id: bytes, reason: str) -> list[NodeDied]:
        self._unconfirmed.pop(node_id, None)
        if node_id in self._dead:
            return []
        self._dead[node_id] = reason
        if len(self._dead) > DEAD_MAX:
            del self._dead[next(iter(self._dead))]
        info = self._infos.pop(node_id, None)
        self._forget_guess(node_id)
        for table in (self._named, self._reported, self._cut_off, self.draining):
            table.pop(node_id, None)
        self.remove(node_id)
        return [] if info is None else [NodeDied(node_id, reason, info)]

    def _miss(self, delta: NodesDelta, now_ms: int, is_other_gcs: bool) -> list[NodeDied]:
        """All that live were named. By the same GCS as before, the others died, and that was forgotten."""
        missing = []
        for node_id, (epoch, version) in self._named.items():
            was_named_since = epoch == delta.epoch and version >= delta.version
            if not was_named_since:
                missing.append(node_id)
        if is_other_gcs:
            for node_id in missing:
                self._unconfirmed.setdefault(node_id, now_ms + self._grace_ms)
            return []
        text = "It died while this node was out of touch with the GCS."
        return [died for node_id in missing for died in self._died(node_id, text)]

    # --- what the network says ----------------------------------------------------------------------------------------

    def cut_off(self, node_id: bytes, reason: str) -> None:
        """It cannot be reached from here: nothing should be sent there."""
        if node_id in self._infos:
            self._cut_off[node_id] = reason
            self.remove(node_id)

    def healed(self, node_id: bytes) -> None:
        """It can be reached again."""
        info = self._infos.get(node_id)
        if self._cut_off.pop(node_id, None) is not None and info is not None and node_id not in self.draining:
            self.add(node_id, info.resources_total, self._reported[node_id], info.labels)

    # --- questions ----------------------------------------------------------------------------------------------------

    def info(self, node_id: bytes) -> NodeInfo | None:
        """A living node."""
        return self._infos.get(node_id)

    def why_dead(self, node_id: bytes) -> str:
        """ "" for a node that is not known to be dead."""
        return self._dead.get(node_id, "")

    def why_cut_off(self, node_id: bytes) -> str:
        """ "" for a node that is in reach."""
        return self._cut_off.get(node_id, "")

    def why_absent(self, node_id: bytes) -> str:
        """What is known of a node that nothing can be sent to, as "which …"; "" when nothing is."""
        if node_id in self._dead:
            return f"which is dead ({self._dead[node_id].rstrip('.')})"
        if node_id in self.draining:
            return f"which is about to leave ({self._infos[node_id].draining})"
        return f"which cannot be reached from here ({self._cut_off[node_id]})" if node_id in self._cut_off else ""

    def in_reach(self) -> Iterable[bytes]:
        """Living nodes that are not cut off."""
        return [node_id for node_id in self._infos if node_id not in self._cut_off]

    def check_invariants(self) -> None:
        super().check_invariants()
        assert not self._dead.keys() & self._infos.keys(), "A node is dead and alive."
        assert self._unconfirmed.keys() <= self._infos.keys(), "A node that is waited for is not there."
        assert self._cut_off.keys() <= self._infos.keys(), "A node that is not there is cut off."
        absent = self._cut_off.keys() | self.draining.keys()
        assert len(self) == len(self._infos) - len(absent), "The view and the nodes differ."
        assert self._named.keys() == self._infos.keys(), "A node is there that nobody named."
