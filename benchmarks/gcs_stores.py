"""GCS stores: what it costs to write a row down, one after the other and many at once.

A row is an actor's of 1 kB. "one by one" is what somebody waits for who creates an actor by name; "64 at once" is what a
burst of them gets, because batches that queue up share a commit.

Arithmetic: a commit of SQLite without a sync 30 µs, a sync what the disk takes (0.1 to 10 ms); Redis two round trips, 60 µs
each at a Unix socket; the hand-over to the store's thread and back 60 µs.

Usage: ``python benchmarks/gcs_stores.py [--seconds 1] [--folder FOLDER] [--redis-server PATH]``. The folder's file system
decides what a sync costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from gcs_restart import redis_at
from machine import machine_line

from raybook.io.process_name import this_process
from raybook.io.redis_storage import Holder, RedisStorage
from raybook.io.sqlite_storage import SqliteStorage
from raybook.io.storage import Storage, Write
from raybook.io.store_address import parse_store

ROW = os.urandom(1_000)
AT_ONCE = 64


async def rate(storage: Storage, seconds: float, at_once: int) -> float:
    """Acknowledged rows a second, each a batch of its own."""
    count = 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        rows = [storage.write([Write("actors", b"%d" % ((count + each) % 1000), ROW)]) for each in range(at_once)]
        await asyncio.gather(*rows)
        count += at_once
    return count / (time.perf_counter() - begin)


async def measure(name: str, storage: Storage, seconds: float) -> None:
    alone, together = await rate(storage, seconds, 1), await rate(storage, seconds, AT_ONCE)
    storage.close()
    print(f"{name:28s} one by one {alone:8,.0f} /s ({1e3 / alone:.2f} ms)   {AT_ONCE} at once {together:8,.0f} /s")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--folder", help="where the files are made; the system's temporary folder by default")
    parser.add_argument("--redis-server", default=shutil.which("redis-server"))
    options = parser.parse_args(arguments)
    print(machine_line())
    with tempfile.TemporaryDirectory(prefix="rb-", dir=options.folder) as name:
        folder = Path(name)
        for title, durable in (("SQLite, of a session", False), ("SQLite, synced (named file)", True)):
            asyncio.run(measure(title, SqliteStorage(folder / title.replace(" ", ""), durable), options.seconds))
        if options.redis_server:
            with redis_at(options.redis_server, folder) as url:
                storage = RedisStorage(parse_store(url), Holder(this_process(), "the benchmark"))
                asyncio.run(measure("Redis, appendfsync everysec", storage, options.seconds))
        else:
            print("Redis left out: there is no redis-server")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
