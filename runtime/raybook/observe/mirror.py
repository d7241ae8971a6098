"""Mirror: this process's copy of the cluster's fact tables. Facts in, tables out; no clock, no lock, no rendering.

Invariants: a row is replaced, never changed in place, so a shallow copy of a table is a consistent picture; a delta
older than what is here changes nothing; a kind never holds more than its bound. Source: base/facts (later facts about a
key replace earlier ones).
"""

from __future__ import annotations

from typing import Any

from raybook.base.facts import Fact, Row

ROWS_MAX = 10_000
"""Per kind. The head sends bounded tables (``fact_rows_max``); this guards against one that does not."""


class Tables(dict[str, dict[str, Row]]):
    """Kind → key → row. A kind that was never heard of reads as empty."""

    def rows(self, kind: str) -> dict[str, Row]:
        """The rows of a kind, in the order in which their keys were first heard of."""
        return self.get(kind) or {}


class Mirror:
    """Fact tables that follow a stream of deltas."""

    def __init__(self) -> None:
        self.version = 0
        self.gaps = 0
        """Deltas that started after the version held here: something between was lost (rows may be stale)."""
        self._tables = Tables()
        self._changed: dict[str, int] = {}

    def apply(self, delta: Any) -> list[Fact]:
        """Take in a FactDelta (of base/facts or of the wire: same fields). Returns the facts that were applied, in
        order; none when the delta is older than what is here. Cost: O(facts)."""
        if delta.reset:
            self._forget_all(delta.version)
        elif delta.version <= self.version:
            return []
        elif delta.since > self.version:
            self.gaps += 1
        for fact in delta.facts:
            self._apply_fact(fact, delta.version)
        self.version = delta.version
        return delta.facts

    def rows(self, kind: str) -> dict[str, Row]:
        """The rows of a kind as they are: to be read before the next delta."""
        return self._tables.rows(kind)

    def tables(self) -> Tables:
        """A picture of now that later deltas leave alone. Cost: a shallow copy of every table."""
        return Tables((kind, dict(rows)) for kind, rows in self._tables.items())

    def changed_since(self, version: int) -> frozenset[str]:
        """The kinds that changed after ``version``."""
        return frozenset(kind for kind, changed in self._changed.items() if changed > version)

    def _apply_fact(self, fact: Fact, version: int) -> None:
        rows = self._tables.setdefault(fact.kind, {})
        self._changed[fact.kind] = version
        if fact.row is None:
            rows.pop(fact.key, None)
            return
        rows[fact.key] = fact.row
        if len(rows) > ROWS_MAX:
            del rows[next(iter(rows))]

    def _forget_all(self, version: int) -> None:
        for kind in self._tables:
            self._changed[kind] = version
        self._tables = Tables()
