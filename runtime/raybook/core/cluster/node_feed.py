"""Node feed: what has changed among the nodes since a version, so that whoever has seen that much is told the rest alone.

Two logs, each in the order of the last change: who joined or died, and what nodes have free. A reader names the version it
has; the answer is everything newer, each node once. Dead nodes are remembered, ``dead_max`` of them; who has not
looked since one was forgotten, or has read another GCS, is told everything anew (*reset*).

Of amounts an answer has ``amounts_max`` at most, the oldest changes first, and its version is the newest that was told: the
next question brings more. So a look costs the same in a cluster where ten thousand nodes change, and what a reader knows is
old by as many looks as it takes to hear of each node once. Changes of members that it has read may be told again meanwhile.

Knows nothing of who reads or how. Invariants: versions grow by one a change; a node is in each log once. Cost: O(1) a
change, O(changes told) an answer, whatever the number of nodes. Source: decisions 0040, 0046; etcd's watches and Ray's
syncer have the same shape.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from raybook.base.resources import Shape

AMOUNTS_MAX = 256
"""Amounts in one answer: 9 ms of a raylet's loop at 10,000 nodes (decision 0046). Twenty looks a second hear of 5,000
changes."""


class Changes(msgspec.Struct, frozen=True):
    """Ids, oldest change first. reset: ``members`` are all there are. newest: the feed's version; beyond ``version`` when
    not everything was told."""

    version: int
    reset: bool
    members: list[bytes]
    amounts: list[bytes]
    newest: int


class _Log:
    """What changed, each member once, at the version of its last change."""

    __slots__ = ("_entries", "versions")

    def __init__(self) -> None:
        self.versions: dict[bytes, int] = {}
        self._entries: list[tuple[int, bytes]] = []
        """In order. One that is not its member's last change is skipped; from time to time all such are thrown away."""

    def touch(self, member: bytes, version: int) -> None:
        self.versions[member] = version
        self._entries.append((version, member))
        if len(self._entries) > 2 * len(self.versions) + 64:
            versions = self.versions
            self._entries = [entry for entry in self._entries if versions.get(entry[1]) == entry[0]]

    def newer(self, version: int, count_max: int | None = None) -> list[bytes]:
        """Members whose last change is newer than that, the oldest first."""
        entries, versions = self._entries, self.versions
        found: list[bytes] = []
        for index in range(bisect_right(entries, (version + 1,)), len(entries)):
            when, member = entries[index]
            if versions.get(member) == when:
                found.append(member)
                if len(found) == count_max:
                    break
        return found


class NodeFeed:
    def __init__(self, dead_max: int = 1_000, amounts_max: int = AMOUNTS_MAX) -> None:
        self.version = 0
        self._dead_max = dead_max
        self._amounts_max = amounts_max
        self._members = _Log()
        self._amounts = _Log()
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
        self._amounts.versions.pop(node_id, None)
        self._reported.pop(node_id, None)
        self._touch(self._members, node_id)
        self._dead[node_id] = None
        if len(self._dead) > self._dead_max:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            self._forgotten = max(self._forgotten, self._members.versions.pop(oldest))

    def _touch(self, log: _Log, node_id: bytes) -> None:
        self.version += 1
        log.touch(node_id, self.version)

    # --- questions ----------------------------------------------------------------------------------------------------

    def since(self, version: int, with_amounts: bool) -> Changes | None:
        """What is newer than that; None when nothing is. version 0: everything."""
        reset = version == 0 or version < self._forgotten or version > self.version
        if reset:
            version = 0
        members = self._members.newer(version)
        # Members come with what they have free.
        amounts = self._amounts.newer(version, self._amounts_max) if with_amounts and not reset else []
        if not (members or amounts or reset):
            return None
        told = self._amounts.versions[amounts[-1]] if len(amounts) == self._amounts_max else self.version
        return Changes(told, reset, members, amounts, self.version)

    def available(self, node_id: bytes) -> Shape:
        """What a node last said that it has free."""
        return self._reported.get(node_id, {})

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for log in (self._members, self._amounts):
            assert sorted(log.newer(0), key=log.versions.__getitem__) == log.newer(0), "A log is not in order."
            assert sorted(log.newer(0)) == sorted(log.versions), "A log has lost a change."
            assert all(version <= self.version for version in log.versions.values()), (
                "A change is newer than the newest."
            )
        assert self._dead.keys() <= self._members.versions.keys(), "A dead node that is remembered is not in the log."
        assert self._reported.keys() == self._members.versions.keys() - self._dead.keys(), (
            "Amounts of a node that is not there."
        )
