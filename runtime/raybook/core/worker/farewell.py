"""Farewell: when a worker that is to end in good order may really end.

    replies that wait until owners know what is still held   sent first, in any case
    references in return values                              kept until the caller has borrowed them
    objects of this process that others need,                waited for as long as it takes, unless it is an actor:
        and tasks that it has submitted                      an actor's objects go with it

The first two take a round trip; they are given up after ``LAST_REPLIES_MS``. Knows nothing of processes. Source: Ray's
workers drain their references, and actors do not, for they may hold references of their own for ever.
"""

from __future__ import annotations

from raybook.core.owner.owner import Owner

LAST_REPLIES_MS = 5_000
"""A caller that has not answered by now is stuck or gone."""


class Farewell:
    """One ending. ``begin``: milliseconds, of the clock that ``is_over`` is told."""

    __slots__ = ("_begin_ms", "_is_actor", "_owner")

    def __init__(self, owner: Owner, is_actor: bool, begin_ms: int) -> None:
        self._owner = owner
        self._is_actor = is_actor
        self._begin_ms = begin_ms

    def is_over(self, now_ms: int) -> bool:
        """Whether the process may end now."""
        if self._owner.borrows.is_handing_over() and now_ms - self._begin_ms < LAST_REPLIES_MS:
            return False
        return self._is_actor or not (self._owner.references.borrowers or self._owner.tasks.tasks)
