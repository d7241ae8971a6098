"""Collectives: decides when all ranks have come to the same point, and what each of them is told there.

Every rank numbers its collectives 1, 2, 3 … in its own order; those with the same number belong together. Knows ranks
and payloads; does not know calls, time or processes.
Invariants: a collective is released exactly once, with rank 0's payload; two ranks that are at different verbs under one
number are told so instead of being paired; a rank that has left releases nobody and leaves nobody waiting for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any


class CollectiveMismatch(Exception):
    """The ranks of one group do not do the same things in the same order, or one of them has gone."""


@dataclass
class _Gathering:
    verb: str
    payloads: dict[int, Any] = field(default_factory=dict)


class Collectives:
    """The collectives of one worker group. required: ranks that must come; all of them until `relax`."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._open: dict[int, _Gathering] = {}
        self._left: set[int] = set()
        self._excused: frozenset[int] = frozenset()

    def join(self, rank: int, number: int, verb: str, payload: Any = None) -> dict[int, Any] | None:
        """Note that rank is at collective `number`. Return all payloads by rank if that released it, else None.

        Raises CollectiveMismatch if others are at another verb, or wait for a rank that has returned already.
        """
        gathering = self._open.setdefault(number, _Gathering(verb))
        if gathering.verb != verb:
            others = sorted(gathering.payloads)
            raise CollectiveMismatch(
                f"Rank {rank} called {verb} where ranks {others} called {gathering.verb}. Every worker must make these "
                "calls in the same order, the same number of times."
            )
        gathering.payloads[rank] = payload
        gone = self._missing(gathering) & self._left
        if gone:
            raise CollectiveMismatch(self._gone_text(verb, sorted(gathering.payloads), sorted(gone)))
        return self._release(number)

    def leave(self, rank: int) -> list[tuple[int, CollectiveMismatch]]:
        """Note that rank's function has returned. Return the collectives that can never be released now, with why."""
        self._left.add(rank)
        broken = []
        for number, gathering in list(self._open.items()):
            if rank in self._missing(gathering):
                del self._open[number]
                text = self._gone_text(gathering.verb, sorted(gathering.payloads), [rank])
                broken.append((number, CollectiveMismatch(text)))
        return broken

    def relax(self, excused: Collection[int]) -> list[tuple[int, dict[int, Any]]]:
        """Stop waiting for these ranks (rank 0 is never excused: it has the payload). Return what that released."""
        self._excused = frozenset(excused) - {0}
        released = ((number, self._release(number)) for number in sorted(self._open))
        return [(number, payloads) for number, payloads in released if payloads is not None]

    def missing(self, number: int) -> list[int]:
        """Return the ranks that have not come to this collective yet."""
        gathering = self._open.get(number)
        return sorted(self._missing(gathering)) if gathering is not None else []

    def _release(self, number: int) -> dict[int, Any] | None:
        gathering = self._open[number]
        if self._missing(gathering):
            return None
        del self._open[number]
        return gathering.payloads

    def _missing(self, gathering: _Gathering) -> set[int]:
        return set(range(self._world_size)) - set(gathering.payloads) - self._excused

    @staticmethod
    def _gone_text(verb: str, waiting: list[int], gone: list[int]) -> str:
        return (
            f"Ranks {waiting} are at {verb}, and ranks {gone} will never come: their function has returned. Every "
            f"worker must call {verb} the same number of times."
        )
