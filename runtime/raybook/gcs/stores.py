"""Stores by address: the one place that knows which backend an address means."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from raybook.io.process_name import this_process
from raybook.io.redis_storage import Holder, RedisStorage
from raybook.io.sqlite_storage import SqliteStorage
from raybook.io.storage import MemoryStorage, Storage
from raybook.io.store_address import MEMORY, REDIS, parse_store


def open_store(text: str, session: Path, title: str) -> Storage:
    """The store at an address ("": memory). A file outside the session's folder is one that a user named, and is synced at
    every commit. title: of the cluster, for whoever is kept away from its store. StoreError; ValueError for no address."""
    address = parse_store(text or MEMORY)
    if address.kind == MEMORY:
        return MemoryStorage()
    holder = f"the head of {title} (process {os.getpid()} on {socket.gethostname()})"
    if address.kind == REDIS:
        return RedisStorage(address, Holder(this_process(), holder))
    path = Path(address.target)
    return SqliteStorage(path, durable=not path.is_relative_to(session.resolve()), holder=holder)
