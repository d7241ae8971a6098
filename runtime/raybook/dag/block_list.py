"""Block list: which range of a channel's heap holds which large message. A brain: no memory, no clock.

The writer allocates; a block is free again when every reader has let go of it, which the writer finds out by asking
(`is_released`) when it next needs room, so that letting go costs readers one byte and no message.
Invariants: blocks do not overlap; freed neighbours are one range; offsets are multiples of a page.
"""

from __future__ import annotations

from collections.abc import Callable

PAGE_BYTES = 4096


class BlockList:
    """One heap of ``heap_bytes`` with at most ``blocks_max`` blocks. ``top``: everything from there on was never used."""

    def __init__(self, heap_bytes: int, blocks_max: int) -> None:
        self.heap_bytes = heap_bytes
        self.blocks_max = blocks_max
        self.top = 0
        self.used: dict[int, tuple[int, int]] = {}
        """Block → (offset, bytes), of blocks that a reader may still look at."""
        self.free: dict[int, int] = {}
        """Offset → bytes of ranges that hold no message; their pages are warm."""
        self._spare: list[int] = []

    def allocate(self, size: int, is_released: Callable[[int], bool]) -> tuple[int, int, bool]:
        """(block, offset, whether all its pages were used before). ValueError when the heap has no room. Cost: O(blocks in
        use)."""
        self.collect(is_released)
        size = -(-size // PAGE_BYTES) * PAGE_BYTES
        best = min((room for room in self.free.items() if room[1] >= size), key=lambda room: room[1], default=None)
        if best is None and self.top + size > self.heap_bytes or len(self.used) == self.blocks_max:
            held = sum(bytes_held for _offset, bytes_held in self.used.values())
            raise ValueError(
                f"A channel's heap of {self.heap_bytes} bytes has no room for {size} more: {held} are held in "
                f"{len(self.used)} messages. Readers that keep arrays keep their messages; copy what must stay."
            )
        block = self._spare.pop() if self._spare else len(self.used)
        if best is not None:
            offset, room_bytes = best
            del self.free[offset]
            if room_bytes > size:
                self.free[offset + size] = room_bytes - size
        else:
            offset = self.top
            self.top += size
        self.used[block] = (offset, size)
        return block, offset, best is not None

    def collect(self, is_released: Callable[[int], bool]) -> None:
        """Take back what every reader has let go of."""
        for block in [block for block in self.used if is_released(block)]:
            self._join(*self.used.pop(block))
            self._spare.append(block)

    def _join(self, offset: int, size: int) -> None:
        for before, bytes_before in self.free.items():
            if before + bytes_before == offset:
                del self.free[before]
                offset, size = before, size + bytes_before
                break
        after = self.free.pop(offset + size, 0)
        self.free[offset] = size + after

    def drop_free(self, keep_bytes: int) -> list[tuple[int, int]]:
        """Free ranges (offset, bytes) at the end of the heap, forgotten here, whose memory should go back to the machine:
        as many as hold more than ``keep_bytes`` together."""
        excess = sum(self.free.values()) - keep_bytes
        dropped: list[tuple[int, int]] = []
        for offset, size in sorted(self.free.items(), reverse=True):
            if excess <= 0 or offset + size != self.top:
                break
            del self.free[offset]
            self.top = offset
            dropped.append((offset, size))
            excess -= size
        return dropped

    def check_invariants(self) -> None:
        """AssertionError when two ranges overlap or reach beyond ``top``."""
        end = 0
        for offset, size in sorted([*self.used.values(), *self.free.items()]):
            assert offset >= end, (offset, end)
            end = offset + size
        assert end <= self.top
