"""A store that fails on demand: rows in memory that count as written, and an error for as long as a test wants one."""

from __future__ import annotations

from collections.abc import Sequence

from raybook.io.storage import MemoryStorage, StoreError, Write


class FailingStorage(MemoryStorage):
    """``failure``: what every write raises; None: it works. ``batches``: what was written, batch by batch."""

    is_volatile = False
    description = "a store of a test"

    def __init__(self) -> None:
        super().__init__()
        self.failure: StoreError | None = None
        self.batches: list[list[Write]] = []

    async def write(self, writes: Sequence[Write]) -> None:
        if self.failure is not None:
            raise self.failure
        self.batches.append(list(writes))
        await super().write(writes)
