"""Event table: the last known row of everything that panels show, bounded, with a version for each change.

Decides which rows are kept and what a viewer at version v has missed. Knows no viewer. A later fact about a key
replaces the earlier one, so a viewer that reads seldom gets fewer rows, never wrong ones.
Invariants: versions only grow; a kind holds at most ``rows_max`` rows; a delta contains each key once; applying the
deltas of any sequence of reads gives the same rows as one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from raybook.base.facts import Fact, FactDelta, Row

FINISHED_STATES = frozenset({"FINISHED", "FAILED", "CANCELLED", "DEAD", "TERMINATED", "STOPPED", "ERROR"})
"""Rows in these states, or with ``alive`` false, go first when a kind is full."""

TOMBSTONES_MAX = 10_000
"""Deletions remembered for viewers; one that is further behind gets a snapshot."""


class _Entry(msgspec.Struct):
    fact: Fact
    version: int


class EventTableStatistics(msgspec.Struct, frozen=True):
    version: int
    rows: int
    tombstones: int


class EventTable:
    """The table; see the module's text. Amounts of work: 1 µs a fact, O(changes) a delta."""

    def __init__(self, rows_max: int, tombstones_max: int = TOMBSTONES_MAX) -> None:
        self._rows_max = rows_max
        self._tombstones_max = tombstones_max
        self.version = 0
        # Ordered by version, because a changed key is taken out and put back at the end.
        self._by_version: dict[tuple[str, str], _Entry] = {}
        self._open: dict[str, dict[str, None]] = {}
        self._finished: dict[str, dict[str, None]] = {}
        self._tombstones: dict[tuple[str, str], None] = {}
        self._complete_since = 0
        """Deltas from an older version would miss a forgotten deletion."""

    def add(self, facts: Iterable[Fact]) -> None:
        """Apply facts in order; the oldest finished rows (else the oldest rows) make room."""
        for fact in facts:
            self._set(fact)
            self._bound(fact.kind)

    def row(self, kind: str, key: str) -> Row | None:
        """The present row of one key."""
        entry = self._by_version.get((kind, key))
        return None if entry is None else entry.fact.row

    def rows(self, kind: str) -> list[Row]:
        """All rows of a kind, longest unchanged first."""
        return [e.fact.row for (k, _), e in self._by_version.items() if k == kind and e.fact.row is not None]

    def delta_since(self, since: int) -> FactDelta:
        """What changed after ``since``, oldest change first. A snapshot with ``reset`` for 0, for a version whose
        deletions were forgotten, and for one this table never had (it is younger than the viewer)."""
        if since <= 0 or since < self._complete_since or since > self.version:
            facts = [entry.fact for entry in self._by_version.values() if entry.fact.row is not None]
            return FactDelta(since, self.version, facts, reset=True)
        changed = []
        for entry in reversed(self._by_version.values()):
            if entry.version <= since:
                break
            changed.append(entry.fact)
        changed.reverse()
        return FactDelta(since, self.version, changed)

    def statistics(self) -> EventTableStatistics:
        rows = len(self._by_version) - len(self._tombstones)
        return EventTableStatistics(self.version, rows, len(self._tombstones))

    def check_invariants(self) -> None:
        versions = [entry.version for entry in self._by_version.values()]
        assert versions == sorted(versions), "Rows are not in the order of their versions."
        assert len(versions) == len(frozenset(versions)), "Two changes share a version."
        assert not versions or versions[-1] <= self.version, "A row is newer than the table."
        for kind in [*self._open, *self._finished]:
            assert self._count(kind) <= self._rows_max, f"There are too many rows of kind {kind}."
        assert len(self._tombstones) <= self._tombstones_max, "Too many deletions are remembered."
        for kind, key in self._tombstones:
            assert self._by_version[(kind, key)].fact.row is None, f"{kind} {key} is gone and there."

    def _set(self, fact: Fact) -> None:
        identity = (fact.kind, fact.key)
        known = self._by_version.pop(identity, None)
        self._open.get(fact.kind, {}).pop(fact.key, None)
        self._finished.get(fact.kind, {}).pop(fact.key, None)
        self._tombstones.pop(identity, None)
        if fact.row is None:
            if known is not None:
                self._bury(identity, fact)
            return
        self.version += 1
        self._by_version[identity] = _Entry(fact, self.version)
        shelf = self._finished if is_finished(fact.row) else self._open
        shelf.setdefault(fact.kind, {})[fact.key] = None

    def _bury(self, identity: tuple[str, str], fact: Fact) -> None:
        self.version += 1
        self._by_version[identity] = _Entry(fact, self.version)
        self._tombstones[identity] = None
        while len(self._tombstones) > self._tombstones_max:
            oldest = next(iter(self._tombstones))
            del self._tombstones[oldest]
            self._complete_since = max(self._complete_since, self._by_version.pop(oldest).version)

    def _bound(self, kind: str) -> None:
        while self._count(kind) > self._rows_max:
            shelf = self._finished.get(kind) or self._open[kind]
            self._set(Fact(kind, next(iter(shelf)), None))

    def _count(self, kind: str) -> int:
        return len(self._open.get(kind, ())) + len(self._finished.get(kind, ()))


def is_finished(row: dict[str, Any]) -> bool:
    """Whether a row tells of something that will not change any more."""
    return row.get("state") in FINISHED_STATES or row.get("alive") is False
