"""Storage of the GCS: a few tables of bytes by key. The contract, and the backend that keeps them in memory.

Knows nothing of what the bytes mean. A write is one batch; batches take effect in the order of their calls, each whole
or not at all. A store has one user at a time: whoever opens one that is in use is told who uses it. The other backends are
in ``sqlite_storage`` and ``redis_storage``, which the embedded head need not import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

ACTORS = "actors"
JOBS = "jobs"
KEY_VALUES = "kv"
NODES = "nodes"
PLACEMENT_GROUPS = "placement_groups"
META = "meta"
TABLES = (ACTORS, JOBS, KEY_VALUES, NODES, PLACEMENT_GROUPS, META)


class StoreError(OSError):
    """A store cannot be opened, read or written. The text names the store, says why, and what to do."""


class StoreTaken(StoreError):
    """Another GCS uses this store now. Whoever gets this is a GCS no more, and must not act."""


class StoreLost(StoreError):
    """What the store held is gone (a Redis that keeps nothing on disk was started anew). It takes writes again, and
    whoever still knows everything may write it down once more."""


class Write(msgspec.Struct, frozen=True):
    """Put ``value`` at ``key`` of ``table``, or delete the key when it is None."""

    table: str
    key: bytes
    value: bytes | None


class Storage(Protocol):
    """What the GCS needs of a store. One user at a time."""

    is_volatile: bool
    """Nothing outlives the process, so there is nothing to wait for."""
    description: str
    """What to call it in messages; no password is in it."""
    on_trouble: Callable[[StoreError], None]
    """Called from any thread with a StoreTaken or StoreLost that no write has met yet; the next write will."""

    def load(self, table: str) -> dict[bytes, bytes]:
        """A whole table, in the order in which its keys were first written. For start-up; blocks. StoreError."""

    async def write(self, writes: Sequence[Write]) -> None:
        """Apply one batch; returns once it would survive the process. StoreError when it cannot: then nothing of the
        batch is in the store, or, after a lost connection, all of it may be; giving it once more does no harm."""

    def close(self) -> None:
        """Finish what is under way. Idempotent."""


class MemoryStorage:
    """Keeps everything in dictionaries: the embedded cluster's choice, gone with its process."""

    is_volatile = True
    description = "memory"

    def __init__(self) -> None:
        self.on_trouble: Callable[[StoreError], None] = lambda error: None
        self._tables: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}

    def load(self, table: str) -> dict[bytes, bytes]:
        return dict(self._tables[table])

    async def write(self, writes: Sequence[Write]) -> None:
        for write in writes:
            if write.value is None:
                self._tables[write.table].pop(write.key, None)
            else:
                self._tables[write.table][write.key] = write.value

    def close(self) -> None:
        pass
