"""Arena: the shared memory of a simulated node. Knows what lies where, and who looks at it; decides nothing.

The bytes of a region are one token. A view remembers what it saw; when it closes, the same must still lie there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Region(NamedTuple):
    """What was written: ``size`` bytes at ``offset``, the value of ``key``, by the process ``writer``."""

    offset: int
    size: int
    key: bytes
    payload: bytes
    writer: bytes


class View:
    """Somebody looks at a region. ``close`` when no longer; closed by the world when its process dies. via: processes
    through whose hands the reference came."""

    __slots__ = ("arena", "holder", "is_open", "region", "via")

    def __init__(self, arena: Arena, region: Region, holder: bytes, via: frozenset[bytes]) -> None:
        self.arena = arena
        self.region = region
        self.holder = holder
        self.via = via
        self.is_open = True

    def close(self) -> None:
        """Idempotent."""
        if self.is_open:
            self.is_open = False
            del self.arena.views[self]


class Arena:
    """on_overwritten(old region, new region): checkers."""

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}
        self.views: dict[View, None] = {}
        self.on_overwritten: Callable[[Region, Region], None] = lambda old, new: None

    def write(self, region: Region) -> None:
        """Bytes are written; what lay there is no more. Cost: linear in the regions."""
        end = region.offset + region.size
        for old in [old for old in self.regions.values() if old.offset < end and region.offset < old.offset + old.size]:
            del self.regions[old.offset]
            self.on_overwritten(old, region)
        self.regions[region.offset] = region

    def read(self, offset: int) -> Region | None:
        """What lies at an offset; None: garbage."""
        return self.regions.get(offset)

    def view(self, region: Region, holder: bytes, via: frozenset[bytes]) -> View:
        """Look at it."""
        view = View(self, region, holder, via)
        self.views[view] = None
        return view

    def holder_died(self, holder: bytes) -> None:
        """Its mappings are gone with it."""
        for view in [view for view in self.views if view.holder == holder]:
            view.close()
