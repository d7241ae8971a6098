"""Board: the facts that panels of this process see, with their version: what was published here, and samples of Ray.

Knows neither Ray nor threads of its own; whoever samples calls ``replace``. Listeners run on the publisher's thread, under
no lock, in the order of versions as far as one thread publishes; a mirror drops what comes late.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from raybook.base.facts import Fact, FactDelta


class Board:
    """Fact tables of one process, and who wants to hear of them."""

    def __init__(self) -> None:
        self._facts: dict[tuple[str, str], Fact] = {}
        self._version = 1
        self._listeners: list[Callable[[Any], None]] = []
        self._lock = threading.RLock()

    def publish(self, facts: Iterable[Fact]) -> None:
        """Add, change, and (row None) take away."""
        # Delivered under the lock: a delta that overtook its elder would make the mirror drop that one.
        with self._lock:
            changed = [fact for fact in facts if self._changes(fact)]
            if not changed:
                return
            for fact in changed:
                if fact.row is None:
                    del self._facts[fact.kind, fact.key]
                else:
                    self._facts[fact.kind, fact.key] = fact
            since, self._version = self._version, self._version + 1
            delta = FactDelta(since, self._version, changed)
            for listener in list(self._listeners):
                listener(delta)

    def replace(self, kinds: frozenset[str], facts: list[Fact]) -> None:
        """These are all there is of these kinds; what else was known of them is gone."""
        with self._lock:
            present = {(fact.kind, fact.key) for fact in facts}
            gone = [Fact(*key, None) for key in self._facts if key[0] in kinds and key not in present]
            self.publish([*gone, *facts])

    def facts(self) -> list[Fact]:
        """All rows."""
        with self._lock:
            return list(self._facts.values())

    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], bool]:
        """Deliver a snapshot now and every change from now on, until the returned function is called; that says whether
        nobody listens any more."""
        with self._lock:
            self._listeners.append(callback)
            callback(FactDelta(0, self._version, list(self._facts.values()), True))

        def unsubscribe() -> bool:
            with self._lock:
                if callback in self._listeners:
                    self._listeners.remove(callback)
                return not self._listeners

        return unsubscribe

    def _changes(self, fact: Fact) -> bool:
        known = self._facts.get((fact.kind, fact.key))
        return (known is not None) if fact.row is None else known is None or known.row != fact.row
