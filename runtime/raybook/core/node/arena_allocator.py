"""Arena allocator: decides who may use which bytes of a node's shared arena.

Two machines. `ExtentTable` lives in the raylet and grants extents: big page-aligned pieces of the arena, each for one
client. `LocalAllocator` lives in the client (a driver or a worker) and cuts objects out of its extents without a
message.

Neither knows what an object is, when it may be freed, or touches a byte of the arena.

Invariants: extents never overlap, nor do regions; granted bytes plus idle pages that still hold memory stay within the
budget; every byte of an extent is in a region or free.

The arena is sparse and far larger than its budget, and the budget counts bytes. So a hole between two extents costs
addresses, not memory, and fragmentation does not block a grant. *Warm* pages were written before and still hold memory:
writing them again is several times faster than writing cold ones, so they are granted first.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable

import msgspec

from raybook.core.node.free_ranges import FreeRanges

ClientID = bytes

PAGE_BYTES = 4096
# Regions start on cache lines: numpy and Arrow kernels want 64-byte alignment, and two writers never share a line.
REGION_ALIGN_BYTES = 64
# A worker that returns one small array holds 4 MiB, not 64; a client that keeps asking soon asks rarely.
EXTENT_MIN_BYTES = 4 << 20
EXTENT_MAX_BYTES = 64 << 20
STORY_EVENTS_MAX = 4096


def round_up(size: int, unit: int) -> int:
    """`size` rounded up to a multiple of `unit`, which is a power of two."""
    return (size + unit - 1) & -unit


class Extent(msgspec.Struct, frozen=True, order=True):
    """A page-aligned piece of the arena held by one client.

    warm_bytes: so many of its first bytes were written before and still hold memory.
    """

    offset: int
    size: int
    warm_bytes: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.size


class ExtentStatistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of an `ExtentTable`, in bytes."""

    arena_bytes: int
    budget_bytes: int
    granted_bytes: int
    warm_idle_bytes: int
    punching_bytes: int
    client_count: int
    extent_count: int


class ExtentTable:
    """Which client holds which extents of this node's arena.

    arena_bytes: size of the address space, several times the budget. budget_bytes: memory that may be in use at once.
    generous_bytes: up to so much in use, clients get more than they ask for, so that they ask rarely.
    """

    def __init__(self, arena_bytes: int, budget_bytes: int, generous_bytes: int | None = None) -> None:
        if budget_bytes <= 0 or arena_bytes < budget_bytes:
            raise ValueError(f"An arena of {arena_bytes} bytes cannot serve a budget of {budget_bytes} bytes.")
        self._arena_bytes = arena_bytes & -PAGE_BYTES
        self._budget_bytes = budget_bytes
        self._generous_bytes = budget_bytes if generous_bytes is None else generous_bytes
        self._granted_bytes = 0
        self._granted_ever_bytes = 0
        self._extents: dict[ClientID, dict[int, Extent]] = {}
        self._cold = FreeRanges()
        self._cold.put(0, self._arena_bytes)
        self._warm = FreeRanges()
        # Given out for hole punching and not reported done: in neither pool, so nobody can write there meanwhile.
        self._punching: dict[int, int] = {}
        self._events: deque[tuple[ClientID, str]] = deque(maxlen=STORY_EVENTS_MAX)

    @property
    def budget_bytes(self) -> int:
        return self._budget_bytes

    @property
    def granted_bytes(self) -> int:
        return self._granted_bytes

    @property
    def returned_bytes(self) -> int:
        """All that was ever granted and is not any more: whether something came back, however much was granted since."""
        return self._granted_ever_bytes - self._granted_bytes

    def granted_to(self, client_id: ClientID) -> int:
        """Bytes of all extents of this client."""
        return sum(extent.size for extent in self._extents.get(client_id, {}).values())

    def clients(self) -> list[ClientID]:
        """The clients that hold at least one extent, in the order of their first grant."""
        return list(self._extents)

    def extents_of(self, client_id: ClientID) -> list[Extent]:
        """The client's extents in address order; empty if it has none."""
        return sorted(self._extents.get(client_id, {}).values())

    def grant(self, client_id: ClientID, bytes_wanted: int) -> Extent | None:
        """Give the client an extent of at least `bytes_wanted` bytes, or None if the budget does not allow it now.

        A request of at most 64 MiB gets a larger extent than it asked for while the budget allows it, growing from 4 to
        64 MiB with each extent the client holds; a larger one gets what it asked for, rounded to pages. Cost: 3 µs.
        """
        if bytes_wanted <= 0:
            raise ValueError(f"An extent of {bytes_wanted} bytes was asked for.")
        least = round_up(bytes_wanted, PAGE_BYTES)
        size = least
        if least <= EXTENT_MAX_BYTES:
            held = len(self._extents.get(client_id, ()))
            size = max(least, min(EXTENT_MIN_BYTES << min(held, 4), EXTENT_MAX_BYTES))
        while size > least and self._granted_bytes + size > self._generous_bytes:
            size = max(least, round_up(size // 2, PAGE_BYTES)) if size > EXTENT_MIN_BYTES else least
        if self._granted_bytes + size > self._budget_bytes:
            return None
        return self._take(client_id, size) or (self._take(client_id, least) if size > least else None)

    def _take(self, client_id: ClientID, size: int) -> Extent | None:
        offset = self._warm.take(size)
        warm_bytes = size
        if offset is None:
            offset = self._cold.take(size)
            warm_bytes = 0
        if offset is None:
            return None
        extent = Extent(offset, size, warm_bytes)
        self._granted_bytes += size
        self._granted_ever_bytes += size
        self._extents.setdefault(client_id, {})[offset] = extent
        self._events.append((client_id, f"granted {size} bytes at {offset}, {warm_bytes} of them warm"))
        return extent

    def return_extent(self, client_id: ClientID, offset: int, written_bytes: int | None = None) -> Extent:
        """Take an extent back. written_bytes: how far its pages hold memory, from its start; None means all of it.

        Raises KeyError if the client does not hold an extent at `offset`.
        """
        extent = self._extents[client_id].pop(offset)
        if not self._extents[client_id]:
            del self._extents[client_id]
        self._granted_bytes -= extent.size
        warm = extent.size if written_bytes is None else max(written_bytes, extent.warm_bytes)
        warm = min(round_up(warm, PAGE_BYTES), extent.size)
        if warm:
            self._warm.put(offset, warm)
        if warm < extent.size:
            self._cold.put(offset + warm, extent.size - warm)
        self._events.append((client_id, f"returned {extent.size} bytes at {offset}, {warm} of them warm"))
        return extent

    def extent_around(self, client_id: ClientID, offset: int, size: int) -> Extent | None:
        """The client's extent that holds all of this range, or None. Cost: one look-up when the range begins an extent,
        else a walk over the client's extents."""
        held = self._extents.get(client_id, {})
        first = held.get(offset)
        candidates = held.values() if first is None else (first,)
        return next((e for e in candidates if e.offset <= offset and offset + size <= e.end), None)

    def return_range(self, client_id: ClientID, offset: int, size: int, warm_bytes: int = 0) -> None:
        """Take whole pages out of an extent; what lies before and behind them stays with the client, as extents of
        their own. warm_bytes: so many from the start of the range hold memory.

        Raises ValueError if the range is not whole pages or not inside one extent of the client.
        """
        extent = self.extent_around(client_id, offset, size)
        if extent is None or size <= 0 or offset % PAGE_BYTES or size % PAGE_BYTES:
            raise ValueError(f"{size} bytes at {offset} are no whole pages inside one extent of this client.")
        held = self._extents[client_id]
        del held[extent.offset]
        end = offset + size
        # What the client keeps may hold memory anywhere: pages are known for certain only where they are given back.
        if extent.offset < offset:
            held[extent.offset] = Extent(extent.offset, offset - extent.offset, offset - extent.offset)
        if end < extent.end:
            held[end] = Extent(end, extent.end - end, extent.end - end)
        if not held:
            del self._extents[client_id]
        self._granted_bytes -= size
        warm = min(round_up(warm_bytes, PAGE_BYTES), size)
        if warm:
            self._warm.put(offset, warm)
        if warm < size:
            self._cold.put(offset + warm, size - warm)
        self._events.append((client_id, f"returned {size} bytes at {offset}, {warm} of them warm"))

    def carve(self, client_id: ClientID, offset: int, keep: Iterable[tuple[int, int]]) -> list[Extent]:
        """Replace an extent by the pages that overlap `keep`, free the rest, and return what was kept.

        keep: (offset, size) regions inside the extent; pieces that share a page become one. The pieces stay with the
        client, who is usually dead, until they are returned. Raises KeyError as `return_extent` does.
        """
        extent = self._extents[client_id][offset]
        pieces: list[Extent] = []
        for start, size in sorted(keep):
            first, end = start & -PAGE_BYTES, round_up(start + size, PAGE_BYTES)
            if first < offset or end > extent.end:
                raise ValueError(f"Region {start}+{size} is not inside the extent at {offset}.")
            if pieces and first < pieces[-1].end:
                first, end = pieces[-1].offset, max(end, pieces[-1].end)
                pieces.pop()
            pieces.append(Extent(first, end - first, end - first))
        held = self._extents[client_id]
        del held[offset]
        self._granted_bytes -= extent.size
        position = offset
        for piece in pieces:
            if position < piece.offset:
                self._warm.put(position, piece.offset - position)
            held[piece.offset] = piece
            self._granted_bytes += piece.size
            position = piece.end
        if position < extent.end:
            self._warm.put(position, extent.end - position)
        if not held:
            del self._extents[client_id]
        self._events.append((client_id, f"carved {extent.size} bytes at {offset}, {len(pieces)} pieces stay"))
        return pieces

    def take_idle_ranges(self, keep_bytes: int = 0) -> list[tuple[int, int]]:
        """Warm ranges to hole-punch now, as (offset, size): enough that at most `keep_bytes` of idle memory stay warm.

        What must go so that granted and idle bytes fit the budget goes in any case. The ranges are nobody's until
        `punched` is told, so the punching may happen in a thread.
        """
        allowed = min(keep_bytes, max(0, self._budget_bytes - self._granted_bytes))
        ranges: list[tuple[int, int]] = []
        while self._warm.free_bytes > allowed:
            taken = self._warm.take_up_to(round_up(self._warm.free_bytes - allowed, PAGE_BYTES))
            assert taken is not None, "The warm pool has bytes but no range."
            ranges.append(taken)
            self._punching[taken[0]] = taken[1]
        return ranges

    def punched(self, offset: int) -> None:
        """The range at `offset` holds no memory any more and may be granted again. Raises KeyError if not asked for."""
        self._cold.put(offset, self._punching.pop(offset))

    def statistics(self) -> ExtentStatistics:
        return ExtentStatistics(
            arena_bytes=self._arena_bytes,
            budget_bytes=self._budget_bytes,
            granted_bytes=self._granted_bytes,
            warm_idle_bytes=self._warm.free_bytes,
            punching_bytes=sum(self._punching.values()),
            client_count=len(self._extents),
            extent_count=sum(map(len, self._extents.values())),
        )

    def story(self, client_id: ClientID) -> str:
        """What happened to this client's extents, a line each, as far as the last 4,096 events go."""
        return "\n".join(text for about, text in self._events if about == client_id)

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken rule. Cost: O(n log n)."""
        self._cold.check_invariants()
        self._warm.check_invariants()
        extents = [extent for held in self._extents.values() for extent in held.values()]
        pieces = [(extent.offset, extent.size) for extent in extents]
        assert sum(size for _, size in pieces) == self._granted_bytes, "granted_bytes is not the sum of the extents"
        assert self._granted_bytes <= self._budget_bytes, "more is granted than the budget allows"
        pieces += [*self._cold, *self._warm, *self._punching.items()]
        position = 0
        for offset, size in sorted(pieces):
            assert offset == position, f"the arena has a gap or an overlap between {position} and {offset}"
            position = offset + size
        assert position == self._arena_bytes, f"the arena ends at {position}, not at {self._arena_bytes}"


class LocalStatistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of a `LocalAllocator`, in bytes."""

    extent_bytes: int
    used_bytes: int
    free_bytes: int
    extent_count: int
    region_count: int


class LocalAllocator:
    """Regions inside the extents that this process was granted.

    For one thread, or under one lock, and where no KeyboardInterrupt can strike between two of its lines. Freed regions
    serve the next request at once, newest first. Cost: about 1.5 µs an operation.
    """

    __slots__ = ("_extents", "_free", "_high", "_starts", "_used", "_written_to", "used_bytes")

    def __init__(self) -> None:
        self._free = FreeRanges()
        self._used: dict[int, int] = {}
        self._extents: dict[int, Extent] = {}
        self._starts: list[int] = []
        # By extent: all before the first address was written; nothing from the second one on ever was.
        self._written_to: dict[int, int] = {}
        self._high: dict[int, int] = {}
        self.used_bytes = 0

    def add_extent(self, extent: Extent) -> None:
        """Use an extent that the raylet granted."""
        if extent.offset in self._extents:
            raise ValueError(f"The extent at {extent.offset} was added before.")
        self._extents[extent.offset] = extent
        insort(self._starts, extent.offset)
        self._written_to[extent.offset] = self._high[extent.offset] = extent.offset + extent.warm_bytes
        # An object never spans two extents, so that each can be given back apart.
        self._free.add_fence(extent.offset)
        self._free.add_fence(extent.end)
        self._free.put(extent.offset, extent.size)

    def remove_extent(self, offset: int) -> Extent | None:
        """Stop using an idle extent, so that it can be returned; None if a region in it is still in use."""
        extent = self._extents[offset]
        if not self._free.take_exactly(offset, extent.size):
            return None
        high = self._forget(extent)
        return Extent(offset, extent.size, high - offset)

    def give_up_idle(self, bytes_wanted: int, bytes_min: int) -> list[Extent]:
        """Stop using whole pages without a region, largest ranges first, until `bytes_wanted` are found; what was given
        up. A range inside an extent splits it. bytes_min: smaller ranges are not worth that; an extent without regions
        always goes as a whole. Cost: O(n log n) of the free ranges."""
        given: list[Extent] = []
        for start, size in sorted(self._free, key=lambda found: -found[1]):
            if bytes_wanted <= 0:
                break
            extent = self._extents[self._starts[bisect_right(self._starts, start) - 1]]
            first, end = round_up(start, PAGE_BYTES), (start + size) & -PAGE_BYTES
            if size == extent.size or end - first >= bytes_min:
                self._free.take_exactly(start, size)
                given.append(self._split_off(extent, first, end))
                for left, right in ((start, first), (end, start + size)):
                    if left < right:
                        self._free.put(left, right - left)
                bytes_wanted -= end - first
        return given

    def _split_off(self, extent: Extent, first: int, end: int) -> Extent:
        """Forget the pages from `first` to `end` of an extent; the rest of it becomes one or two extents."""
        written_to = self._written_to[extent.offset]
        high = self._forget(extent)
        for left, right in ((extent.offset, first), (end, extent.end)):
            if left < right:
                self._extents[left] = Extent(left, right - left)
                insort(self._starts, left)
                self._written_to[left] = min(max(written_to, left), right)
                self._high[left] = min(max(high, left), right)
                self._free.add_fence(left)
                self._free.add_fence(right)
        return Extent(first, end - first, min(max(high - first, 0), end - first))

    def _forget(self, extent: Extent) -> int:
        """Drop an extent from the books; where its memory may end."""
        del self._extents[extent.offset]
        self._starts.remove(extent.offset)
        del self._written_to[extent.offset]
        for fence in (extent.offset, extent.end):
            if fence not in self._extents and not self._ends_at(fence):
                self._free.remove_fence(fence)
        return self._high.pop(extent.offset)

    def _ends_at(self, address: int) -> bool:
        index = bisect_right(self._starts, address - 1) - 1
        return index >= 0 and self._extents[self._starts[index]].end == address

    def allocate(self, size: int) -> int | None:
        """The offset of a new 64-byte aligned region of at least `size` bytes; None: ask the raylet for an extent."""
        size = (size + 63) & -64 or 64
        offset = self._free.take(size)
        if offset is not None:
            self._used[offset] = size
            self.used_bytes += size
        return offset

    def free(self, offset: int) -> int:
        """Free the region at `offset`; return its bytes. Raises KeyError if there is none (freed twice, not ours)."""
        size = self._used.pop(offset)
        self.used_bytes -= size
        self._free.put(offset, size)
        return size

    def owns(self, offset: int) -> bool:
        """Is there a region in use at exactly this offset?"""
        return offset in self._used

    def is_warm(self, offset: int, size: int) -> bool:
        """Were all these bytes written before, so that their pages hold memory? May say no where the answer is yes."""
        start = self._starts[bisect_right(self._starts, offset) - 1]
        return offset + size <= self._written_to[start]

    def mark_written(self, offset: int, size: int) -> None:
        """These bytes hold memory now. Regions written out of address order count as cold: that costs speed only."""
        start = self._starts[bisect_right(self._starts, offset) - 1]
        written_to = self._written_to[start]
        if offset + size > self._high[start]:
            self._high[start] = offset + size
        if offset <= written_to < offset + size:
            extent_end = self._extents[start].end
            self._written_to[start] = min((offset + size + 63) & -64, extent_end)

    def idle_extents(self) -> list[Extent]:
        """The extents without a region in use, in address order. `remove_extent` each before returning it."""
        return [
            self._extents[start] for start in self._starts if self._free.size_at(start) == self._extents[start].size
        ]

    def extents(self) -> list[Extent]:
        """All extents in use here, in address order."""
        return [self._extents[start] for start in self._starts]

    def statistics(self) -> LocalStatistics:
        return LocalStatistics(
            extent_bytes=sum(extent.size for extent in self._extents.values()),
            used_bytes=self.used_bytes,
            free_bytes=self._free.free_bytes,
            extent_count=len(self._extents),
            region_count=len(self._used),
        )

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken rule. Cost: O(n log n)."""
        self._free.check_invariants()
        assert sum(self._used.values()) == self.used_bytes, "used_bytes is not the sum of the regions"
        pieces = sorted([*self._used.items(), *self._free])
        expected = [(start, self._extents[start].end) for start in self._starts]
        position = 0
        for offset, size in pieces:
            if expected and offset == expected[0][0]:
                assert position <= offset, f"an extent begins at {offset} inside a region"
                position = offset
                end = expected.pop(0)[1]
            assert offset == position, f"a gap or an overlap between {position} and {offset}"
            position = offset + size
            assert position <= end, f"the region or free range at {offset} leaves its extent"
            assert offset % REGION_ALIGN_BYTES == 0, f"the region at {offset} is not aligned"
        assert not expected, f"the extent at {expected[:1]} is in no list"
        for start, written_to in self._written_to.items():
            assert start <= written_to <= self._extents[start].end, f"written_to of the extent at {start} is outside it"
            assert start <= self._high[start] <= self._extents[start].end, (
                f"memory of the extent at {start} ends outside"
            )
