"""Pins: where views of this process look into the arena. Nobody may reuse those bytes, whatever becomes of the object.

Invariant: an entry exists exactly while at least one view of the object lives.
"""

from __future__ import annotations


class Pins:
    __slots__ = ("_views",)

    def __init__(self) -> None:
        self._views: dict[bytes, tuple[int, int]] = {}

    def add(self, key: bytes, offset: int) -> None:
        """One more view of the object at ``offset``."""
        _, count = self._views.get(key, (0, 0))
        self._views[key] = (offset, count + 1)

    def remove(self, key: bytes) -> None:
        """The last slice of one view is gone."""
        offset, count = self._views.pop(key, (0, 1))
        if count > 1:
            self._views[key] = (offset, count - 1)

    def touches(self, ranges: list[tuple[int, int]]) -> bool:
        """Whether some view looks into one of these (offset, size) ranges."""
        return any(start <= offset < start + size for offset, _ in self._views.values() for start, size in ranges)
