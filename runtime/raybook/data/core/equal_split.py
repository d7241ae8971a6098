"""Equal shares of a stream whose length nobody knows: each block is dealt out in slices of one length."""

from __future__ import annotations

from collections import deque
from typing import Any


class EqualSplitter:
    """Deals rows to `count` consumers. Invariant: all have been given the same number of rows at any time; fewer than
    `count` rows wait."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: deque[tuple[Any, int, int]] = deque()
        self._rows = 0

    def add(self, block: Any, rows: int) -> list[list[tuple[Any, int, int]]]:
        """Take a block in; for each consumer the pieces (block, offset, length) it is given now."""
        if rows:
            self._waiting.append((block, 0, rows))
            self._rows += rows
        share = self._rows // self._count
        self._rows -= share * self._count
        return [self._take(share) for _ in range(self._count)]

    def _take(self, rows: int) -> list[tuple[Any, int, int]]:
        pieces = []
        while rows:
            block, offset, length = self._waiting.popleft()
            taken = min(rows, length)
            pieces.append((block, offset, taken))
            if taken < length:
                self._waiting.appendleft((block, offset + taken, length - taken))
            rows -= taken
        return pieces
