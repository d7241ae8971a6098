"""Free ranges: the book of unused address ranges behind both arena allocators.

It decides which free range serves a request of so many bytes, and joins neighbours again when ranges come back. It does
not know what an address means, who holds the ranges in use, or how far a caller rounds its sizes.

Invariants: ranges never overlap; two ranges that touch are one range, unless a *fence* stands between them;
`free_bytes` is their sum.

Bins are a power of two split in four (as in TLSF, "two-level segregated fit", Masmano et al. 2004), with a bitmap of
the bins in use: one shift and one bit trick find a range that is sure to fit. The newest range of a bin goes first,
because its pages are the likeliest to be in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

# A request that only its own bin might satisfy looks at so many ranges there before giving up. In a bin sizes differ by
# less than a fifth, so most of them fit.
OWN_BIN_SCAN_MAX = 32


def bin_of(size: int) -> int:
    """The bin that holds ranges of `size` bytes. Grows with size, so a later bin holds only larger ranges."""
    bits = size.bit_length()
    if bits < 3:
        return size
    return (bits << 2) | ((size >> (bits - 3)) & 3)


class FreeRanges:
    """Address ranges that nobody uses.

    `put` and `take` are inverse: what was taken is given back by `put`, whole or in pieces. Cost: about 1 µs each.
    """

    __slots__ = ("_bins", "_fences", "_size_at", "_start_of_end", "_used_bins", "free_bytes")

    def __init__(self) -> None:
        self._size_at: dict[int, int] = {}
        self._start_of_end: dict[int, int] = {}
        # One ordered set (a dictionary without values) of range starts for every bin ever used.
        self._bins: dict[int, dict[int, None]] = {}
        self._used_bins = 0
        self._fences: set[int] = set()
        self.free_bytes = 0

    def __len__(self) -> int:
        return len(self._size_at)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """All ranges as (start, size), in address order."""
        return iter(sorted(self._size_at.items()))

    def add_fence(self, address: int) -> None:
        """Never join two ranges across `address`: what lies on either side has to be given back apart."""
        self._fences.add(address)

    def remove_fence(self, address: int) -> None:
        """Forget a fence. Ranges that already end there are joined only when one of them is put again."""
        self._fences.discard(address)

    def size_at(self, start: int) -> int | None:
        """Bytes of the free range that begins exactly at `start`, or None."""
        return self._size_at.get(start)

    def put(self, start: int, size: int) -> None:
        """Give a range back. The caller answers for it not being free already (see `check_invariants`)."""
        self.free_bytes += size
        end = start + size
        fences = self._fences
        if start in self._start_of_end and start not in fences:
            before = self._start_of_end[start]
            size += self._size_at[before]
            self._remove(before)
            start = before
        if end in self._size_at and end not in fences:
            size += self._size_at[end]
            self._remove(end)
        self._insert(start, size)

    def take(self, size: int) -> int | None:
        """The start of `size` bytes cut from the low end of some range, or None if none is known to fit."""
        start = self._find(size)
        if start is None:
            return None
        found = self._size_at[start]
        self._remove(start)
        if found > size:
            self._insert(start + size, found - size)
        self.free_bytes -= size
        return start

    def take_exactly(self, start: int, size: int) -> bool:
        """Remove the free range that begins at `start` if it has exactly `size` bytes; say whether it did."""
        if self._size_at.get(start) != size:
            return False
        self._remove(start)
        self.free_bytes -= size
        return True

    def take_up_to(self, size: int) -> tuple[int, int] | None:
        """Some whole range if it has at most `size` bytes, else `size` bytes of it; None when nothing is free."""
        if not self._used_bins or size <= 0:
            return None
        members = self._bins[self._used_bins.bit_length() - 1]
        start = next(reversed(members))
        found = self._size_at[start]
        self._remove(start)
        if found > size:
            self._insert(start + size, found - size)
            found = size
        self.free_bytes -= found
        return start, found

    def _find(self, size: int) -> int | None:
        size_at = self._size_at
        own = self._bins.get(bin_of(size))
        if own:
            start = next(reversed(own))
            if size_at[start] >= size:
                return start
        first_sure = bin_of(size - 1) + 1
        candidates = self._used_bins >> first_sure
        if candidates:
            lowest = first_sure + (candidates & -candidates).bit_length() - 1
            return next(reversed(self._bins[lowest]))
        if own:
            for scanned, start in enumerate(own):
                if scanned == OWN_BIN_SCAN_MAX:
                    break
                if size_at[start] >= size:
                    return start
        return None

    def _insert(self, start: int, size: int) -> None:
        self._size_at[start] = size
        self._start_of_end[start + size] = start
        index = bin_of(size)
        members = self._bins.get(index)
        if members is None:
            members = self._bins[index] = {}
        members[start] = None
        self._used_bins |= 1 << index

    def _remove(self, start: int) -> None:
        size = self._size_at.pop(start)
        # Two ranges that meet at a fence do not share this key: one ends there, the other starts there.
        del self._start_of_end[start + size]
        index = bin_of(size)
        members = self._bins[index]
        del members[start]
        if not members:
            self._used_bins &= ~(1 << index)

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken rule. Cost: O(n log n), for tests and sampling."""
        total = 0
        previous_end = None
        for start, size in sorted(self._size_at.items()):
            assert size > 0, f"free range at {start} has {size} bytes"
            assert previous_end is None or start >= previous_end, f"free ranges overlap at {start}"
            assert start != previous_end or start in self._fences, f"free ranges touch at {start} and were not joined"
            assert self._start_of_end.get(start + size) == start, f"end of the free range at {start} is not indexed"
            assert start in self._bins[bin_of(size)], f"free range at {start} is in the wrong bin"
            previous_end = start + size
            total += size
        assert total == self.free_bytes, f"free_bytes is {self.free_bytes}, the ranges sum to {total}"
        assert len(self._start_of_end) == len(self._size_at), "an end is indexed for a range that is gone"
        for index, members in self._bins.items():
            assert bool(members) == bool(self._used_bins >> index & 1), f"bitmap is wrong for bin {index}"
        assert sum(map(len, self._bins.values())) == len(self._size_at), "a bin holds a range that is gone"
