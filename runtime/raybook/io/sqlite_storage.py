"""Storage of the GCS in a SQLite file, for clusters whose GCS may be restarted.

WAL mode, in a thread of its own. What a write survives is chosen by whoever opens the file:

* ``durable`` (a file the user named): ``synchronous=FULL``, the log is synced at every commit, and what was acknowledged
  survives a power cut. Batches share commits, so a burst pays for few syncs.
* otherwise (a file in the session's folder): ``synchronous=NORMAL``, which survives the death of the process, also by
  SIGKILL. A power cut may lose the last transactions, and takes the session's folder and every process with it anyway.

A lock beside the file (``PATH.lock``) keeps a second GCS away. It is the kernel's, so it ends with its holder, however that
ends; the holder's name in it is for messages only. ``benchmarks/gcs_stores.py`` has the figures.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from raybook.io.storage import TABLES, StoreError, StoreTaken, Write
from raybook.io.write_thread import WriteThread


class SqliteStorage:
    """A file that a restarted GCS reads. holder: who says to own it, for whoever is kept away. StoreError naming the path
    when it cannot be used, StoreTaken when somebody uses it."""

    is_volatile = False

    def __init__(self, path: Path, durable: bool = True, holder: str = "") -> None:
        self._path = path
        self._durable = durable
        self.description = f"SQLite file {path}"
        self.on_trouble: Callable[[StoreError], None] = lambda error: None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(path, holder or f"process {os.getpid()}")
        except StoreError:
            raise
        except OSError as error:
            where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise StoreError(f"The GCS's store {path} cannot be used: {where}.") from error
        self._thread = WriteThread(self._commit)
        try:
            self._connection = self._thread.ask(self._open)
        except (sqlite3.Error, OSError) as error:
            self._thread.close(lambda: None)
            os.close(self._lock)
            raise StoreError(self._says(error)) from error

    def load(self, table: str) -> dict[bytes, bytes]:
        assert table in TABLES, table
        try:
            return self._thread.ask(self._read, table)
        except sqlite3.Error as error:
            raise StoreError(self._says(error)) from error

    async def write(self, writes: Sequence[Write]) -> None:
        await self._thread.write(writes)

    def close(self) -> None:
        self._thread.close(self._shut)

    # --- in the thread, which owns the connection for life: sqlite3's check of that stays on -------------------------------

    def _open(self) -> sqlite3.Connection:
        # For this user only; SQLite gives the files beside it the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
            # A page that was damaged is found now, when it can be told, and not in the middle of somebody's actors.
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            for table in TABLES:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        except BaseException:
            connection.close()
            raise
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
        except sqlite3.Error as error:
            # SQLite has rolled back by itself after some errors, a full disk among them.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StoreError(self._says(error)) from error

    def _shut(self) -> None:
        self._connection.close()
        # The lock file stays: who removed it could remove another's, made meanwhile.
        os.close(self._lock)

    def _says(self, error: Exception) -> str:
        what = f"The GCS's store {self._path}"
        text = str(error)
        if "full" in text or "disk I/O" in text:
            return (
                f"{what} cannot be written: {text}. Make room on the file system of {self._path.parent}; what it has "
                "acknowledged is safe."
            )
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            return (
                f"{what} is damaged, or no store of raybook's: {text}. Nothing was changed in it. Put a copy of it in its "
                "place, or start with another --store; names, detached actors and groups in it are unknown then."
            )
        return f"{what} cannot be used: {text}."


def _lock(path: Path, holder: str) -> int:
    """A descriptor that holds the lock. StoreTaken."""
    lock_path = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 1_000).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise StoreTaken(
            f"The GCS's store {path} is in use by {owner}. Two heads cannot share a store: stop that one "
            "(`raybook stop`), or start this one with another --store."
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
    except OSError:
        pass  # On a full disk there is no name in it, and the lock holds all the same.
    return descriptor
