"""Choice: which replica gets the next request.

Two candidates are drawn and the less loaded one wins (power of two choices): nearly as even as asking all, at the cost of
two. Replicas that have a request's model loaded come first, then those on the caller's node. It knows loads as the caller
sees them; a replica that is full (`limit`) is no candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the choice needs to know of a replica."""

    load: int
    limit: int
    models: frozenset[str]
    is_near: bool


C = TypeVar("C", bound=Candidate)


def choose(candidates: Sequence[C], model_id: str, draw: Callable[[int], int]) -> C | None:
    """The replica for a request; None when all are full. draw(n): a number below n. Cost: one pass over the candidates
    for those that have room, two draws."""
    if len(candidates) == 1:
        only = candidates[0]
        return only if only.load < only.limit else None
    free = [candidate for candidate in candidates if candidate.load < candidate.limit]
    if model_id:
        # With the model loaded; else those that hold the fewest, so that models spread.
        having = [candidate for candidate in free if model_id in candidate.models]
        if having:
            free = having
        elif free:
            least = min(len(candidate.models) for candidate in free)
            free = [candidate for candidate in free if len(candidate.models) == least]
    else:
        near = [candidate for candidate in free if candidate.is_near]
        free = near or free
    if not free:
        return None
    if len(free) == 1:
        return free[0]
    first = draw(len(free))
    second = draw(len(free) - 1)
    one, other = free[first], free[second if second < first else second + 1]
    return one if one.load <= other.load else other
