"""Storage of the GCS in a SQLite file, for clusters whose GCS may be restarted.

WAL mode, in a thread of its own, because a sync takes milliseconds and a daemon's loop must not wait (ARCHITECTURE.md
§13). Batches that queue up while one is being written share the next transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raybook.io.storage import TABLES, Write


class SqliteStorage:
    """A file that a restarted GCS reads. Raises OSError naming the path when it cannot be opened."""

    is_volatile = False

    def __init__(self, path: Path) -> None:
        self._path = path
        # One thread owns the connection for life, so sqlite3's thread check stays on.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gcs-storage")
        try:
            self._connection = self._thread.submit(self._open).result()
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise OSError(f"The GCS store {path} cannot be opened: {error}") from error
        self._closed = False
        self._waiting: list[tuple[Sequence[Write], asyncio.Future[None]]] = []

    def load(self, table: str) -> dict[bytes, bytes]:
        assert table in TABLES, table
        return self._thread.submit(self._read, table).result()

    async def write(self, writes: Sequence[Write]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((writes, done))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._submit)
        await done

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._thread.submit(self._connection.close).result()
            self._thread.shutdown()

    def _submit(self) -> None:
        batches, self._waiting = self._waiting, []
        writes = [write for batch, _ in batches for write in batch]
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._commit, writes)
        work.add_done_callback(lambda finished: _settle(finished, [done for _, done in batches]))

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        # NORMAL with WAL survives the death of the process; only a power cut may lose the last transactions.
        connection.execute("PRAGMA synchronous=NORMAL")
        for table in TABLES:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        return connection

    def _read(self, table: str) -> dict[bytes, bytes]:
        return dict(self._connection.execute(f"SELECT key, value FROM {table} ORDER BY rowid"))

    def _commit(self, writes: list[Write]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                if write.value is None:
                    connection.execute(f"DELETE FROM {write.table} WHERE key = ?", (write.key,))
                else:
                    connection.execute(
                        f"INSERT INTO {write.table} (key, value) VALUES (?, ?) "
                        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                        (write.key, write.value),
                    )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _settle(finished: asyncio.Future[None], waiters: list[asyncio.Future[None]]) -> None:
    error = finished.exception()
    if isinstance(error, sqlite3.Error):
        error = OSError(f"SQLite: {error}")
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
