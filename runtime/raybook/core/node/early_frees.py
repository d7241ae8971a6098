"""Early frees: objects that their owner freed before the raylet had read that they were sealed.

A worker seals a value over its own connection, and its owner frees it over another one; when the value was not wanted
any more, the second message may be read first. Knows nothing of extents. Invariant: a free is remembered for one seal of
the very same object at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable

KEPT_MAX = 65_536
"""What is waited for longer than so many others were is not coming: its worker died before it could seal."""


class EarlyFrees:
    """``count``: how many frees named a place where nothing of the owner's lay."""

    __slots__ = ("_freed", "count")

    def __init__(self) -> None:
        self._freed: dict[tuple[bytes, bytes, int], None] = {}
        self.count = 0

    def note(self, owner_id: bytes, unknown: Iterable[tuple[bytes, int]]) -> None:
        """(object, offset) of frees that came too early, if they are not simply wrong."""
        for object_id, offset in unknown:
            self.count += 1
            if object_id:
                self._freed[owner_id, object_id, offset] = None
                if len(self._freed) > KEPT_MAX:
                    del self._freed[next(iter(self._freed))]

    def take(self, owner_id: bytes, object_id: bytes, offset: int) -> bool:
        """Something is sealed: whether it was freed already."""
        return bool(self._freed) and self._freed.pop((owner_id, object_id, offset), 0) is None
