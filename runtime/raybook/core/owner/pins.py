"""Pins: where views of this process look into the arena. Nobody may reuse those bytes, whatever becomes of the object.

Invariant: an entry exists exactly while at least one view of the place lives.
"""

from __future__ import annotations


class Pins:
    __slots__ = ("_views",)

    def __init__(self) -> None:
        self._views: dict[int, int] = {}

    def add(self, offset: int) -> None:
        """One more view of the object at ``offset``."""
        self._views[offset] = self._views.get(offset, 0) + 1

    def remove(self, offset: int) -> None:
        """The last slice of one view is gone."""
        count = self._views.pop(offset, 1)
        if count > 1:
            self._views[offset] = count - 1

    def is_pinned(self, offset: int) -> bool:
        """Whether some view looks at the object there."""
        return offset in self._views

    def count(self, offset: int) -> int:
        """How many views look at the object there."""
        return self._views.get(offset, 0)

    def touches(self, ranges: list[tuple[int, int]]) -> bool:
        """Whether some view looks into one of these (offset, size) ranges."""
        return any(start <= offset < start + size for offset in self._views for start, size in ranges)
