"""Node feed: what has changed among the nodes since a version, so that whoever has seen that much is told the rest alone.

Two logs, each a dictionary in the order of the last change: who joined or died, and what nodes have free. A reader names the
version it has; the answer is everything newer, each node once. Dead nodes are remembered, ``dead_max`` of them; who has not
looked since one was forgotten, or has read another GCS, is told everything anew (*reset*).

Knows nothing of who reads or how. Invariants: versions grow by one a change; a node is in each log once. Cost: O(1) a
change, O(changes) an answer, whatever the number of nodes. Source: decision 0040; etcd's watches and Ray's syncer have the
same shape.
"""

from __future__ import annotations

import msgspec

from raybook.base.resources import Shape


class Changes(msgspec.Struct, frozen=True):
    """Ids, oldest change first. reset: ``members`` are all there are."""

    version: int
    reset: bool
    members: list[bytes]
    amounts: list[bytes]


class NodeFeed:
    def __init__(self, dead_max: int = 1_000) -> None:
        self.version = 0
        self._dead_max = dead_max
        self._members: dict[bytes, int] = {}
        self._amounts: dict[bytes, int] = {}
        self._reported: dict[bytes, Shape] = {}
        self._dead: dict[bytes, None] = {}
        self._forgotten = 0
        """The newest version at which a node died that is not remembered any more."""

    # --- changes ------------------------------------------------------------------------------------------------------

    def joined(self, node_id: bytes, available: Shape) -> None:
        """A node is there, or is there with other amounts."""
        self._reported[node_id] = dict(available)
        self._touch(self._members, node_id)

    def reported(self, node_id: bytes, available: Shape) -> bool:
        """A node said what it has free. False when that is what it said last, and so no news."""
        if self._reported.get(node_id) == available:
            return False
        self._reported[node_id] = dict(available)
        self._touch(self._amounts, node_id)
        return True

    def died(self, node_id: bytes) -> None:
        self._amounts.pop(node_id, None)
        self._reported.pop(node_id, None)
        self._touch(self._members, node_id)
        self._dead[node_id] = None
        if len(self._dead) > self._dead_max:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            self._forgotten = max(self._forgotten, self._members.pop(oldest))

    def _touch(self, log: dict[bytes, int], node_id: bytes) -> None:
        self.version += 1
        log.pop(node_id, None)
        log[node_id] = self.version

    # --- questions ----------------------------------------------------------------------------------------------------

    def since(self, version: int, with_amounts: bool) -> Changes | None:
        """What is newer than that; None when nothing is. version 0: everything."""
        reset = version == 0 or version < self._forgotten or version > self.version
        if reset:
            version = 0
        members = _newer(self._members, version)
        amounts = _newer(self._amounts, version) if with_amounts else []
        if not (members or amounts or reset):
            return None
        return Changes(self.version, reset, members, amounts)

    def available(self, node_id: bytes) -> Shape:
        """What a node last said that it has free."""
        return self._reported.get(node_id, {})

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for log in (self._members, self._amounts):
            assert list(log.values()) == sorted(set(log.values())), "A log is not in the order of its changes."
            assert not log or max(log.values()) <= self.version, "A change is newer than the newest."
        assert self._dead.keys() <= self._members.keys(), "A dead node that is remembered is not in the log."
        assert self._reported.keys() == self._members.keys() - self._dead.keys(), "Amounts of a node that is not there."


def _newer(log: dict[bytes, int], version: int) -> list[bytes]:
    found = []
    for node_id in reversed(log):
        if log[node_id] <= version:
            break
        found.append(node_id)
    found.reverse()
    return found
