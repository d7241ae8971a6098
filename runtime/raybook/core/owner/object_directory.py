"""Object directory: the value of every object this process owns or has been told about, and where it lies.

A value is inline bytes, a location in an arena, or an error. User threads read ``values`` directly (one dict look-up,
atomic under the GIL); only the owner machine writes it. Knows nothing of references or waits.

Invariants: a region of our own extents belongs to exactly one living id; a value is set once per life of an id, and
only its location changes after that, in place (`relocations`).
"""

from __future__ import annotations

from raybook.base.specs import Location, Value


class ObjectDirectory:
    __slots__ = ("adopted", "copies", "dropped_copies", "elsewhere", "own_regions", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, Value] = {}
        self.own_regions: dict[bytes, int] = {}
        """Offsets of values in extents of this process."""
        self.elsewhere: dict[bytes, int] = {}
        """Offsets of values in other extents: results of tasks, and what is borrowed."""
        self.copies: dict[bytes, Location] = {}
        """Where copies of other nodes' objects lie in this node's arena, by object."""
        self.adopted: set[bytes] = set()
        """Our own objects of which nothing but a copy is left: the copy is where they lie."""
        self.dropped_copies: list[bytes] = []
        """Objects with a copy that were forgotten since the last look."""

    def put(self, key: bytes, value: Value, own_region: bool) -> None:
        """A value is there. ``own_region``: it lies in an extent this process allocates from. One that is there already
        makes room: what is borrowed becomes an error when its owner dies."""
        if key in self.values:
            self.remove(key)
        self.values[key] = value
        location = value.location
        if location is not None and not location.spill_path:
            (self.own_regions if own_region else self.elsewhere)[key] = location.offset

    def is_ready(self, key: bytes) -> bool:
        return key in self.values

    def is_failed(self, key: bytes) -> bool:
        value = self.values.get(key)
        return value is not None and value.error is not None

    def remove(self, key: bytes) -> tuple[Value | None, int | None]:
        """Forget an object; its value, and the offset to free if the region is our own."""
        value = self.values.pop(key, None)
        if self.copies and self.copies.pop(key, None) is not None:
            self.dropped_copies.append(key)
        if value is None or value.location is None:
            return value, None
        self.elsewhere.pop(key, None)
        return value, self.own_regions.pop(key, None)

    def forget(self, keys: list[bytes]) -> None:
        """Forget what is known of these; there is nothing to free. Of most nothing is known: they were only held."""
        for key in keys:
            if key in self.values or key in self.copies:
                self.remove(key)

    def lose(self, key: bytes) -> None:
        """What lay at its place is gone; the object may get another value. There is nothing to free."""
        del self.values[key]
        self.elsewhere.pop(key, None)
        self.own_regions.pop(key, None)

    def adopt_copy(self, key: bytes) -> bool:
        """What lay at its place is gone, but a copy in this node's arena is not: that is where it lies from now on. False
        when there is none."""
        copy = self.copies.get(key)
        if copy is None:
            return False
        self.values[key].location = copy
        self.elsewhere.pop(key, None)
        self.own_regions.pop(key, None)
        self.adopted.add(key)
        return True

    def take_dropped(self) -> list[bytes]:
        """The objects whose copies this process needs no longer."""
        dropped, self.dropped_copies = self.dropped_copies, []
        return dropped

    def statistics(self) -> dict[str, int]:
        located = [value.location for value in self.values.values() if value.location is not None]
        in_arena = [location.size for location in located if not location.spill_path]
        on_disk = [location.size for location in located if location.spill_path]
        return {
            "values": len(self.values),
            "in_arena": len(in_arena),
            "arena_bytes": sum(in_arena),
            "on_disk": len(on_disk),
            "disk_bytes": sum(on_disk),
        }

    def check_invariants(self) -> None:
        offsets = list(self.own_regions.values())
        assert len(offsets) == len(set(offsets)), "two objects claim one region"
        for key in (*self.own_regions, *self.elsewhere):
            assert key in self.values, "a region outlives its object"
