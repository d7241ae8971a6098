"""Pins: where views of this process look into the arena. Nobody may reuse those bytes, whatever becomes of the object.

Invariant: an entry exists exactly while at least one view of the place lives.
"""

from __future__ import annotations

from raybook.core.owner.borrows import Borrows
from raybook.core.owner.records import Pin, Unpin
from raybook.core.owner.reference_counter import ReferenceCounter


class Pins:
    """One per owner machine. A view holds its object, too."""

    __slots__ = ("_borrows", "_references", "_views")

    def __init__(self, references: ReferenceCounter, borrows: Borrows) -> None:
        self._references = references
        self._borrows = borrows
        self._views: dict[int, int] = {}

    def on_pin(self, event: Pin) -> None:
        """A view came to life."""
        self._borrows.hold(event.ref)
        self.add(event.offset)
        if event.unpin is not None:
            event.unpin.is_due = True

    def on_unpin(self, event: Unpin) -> None:
        """The last slice of it is gone."""
        if event.is_due:
            event.is_due = False
            self.remove(event.offset)
            self._references.drop(event.object_id)

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
