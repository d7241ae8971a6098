"""Write thread: the one thread that owns a store's connection, and batches that share a commit.

A commit takes milliseconds (a sync to disk, a round trip to another machine), and a daemon's loop must not wait
(ARCHITECTURE.md §13). Batches that come while one is being committed share the next commit, in the order of their calls.
Knows nothing of what a commit does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from raybook.io.storage import Write

Result = TypeVar("Result")
_Batch = tuple[Sequence[Write], "asyncio.Future[None]"]


class WriteThread:
    """commit: called in the thread with the writes of one or more batches; applies all of them or raises."""

    def __init__(self, commit: Callable[[list[Write]], None]) -> None:
        self._commit = commit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gcs-storage")
        self._waiting: list[_Batch] = []
        self._busy = False
        self._closed = False

    def ask(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function in the thread, after what was given to it before; blocks. Whatever it raises."""
        return self._thread.submit(function, *arguments).result()

    async def write(self, writes: Sequence[Write]) -> None:
        """Returns when the batch is committed. Whatever ``commit`` raises."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((writes, done))
        if not self._busy:
            self._busy = True
            # What else is given in this round of the loop goes along.
            asyncio.get_running_loop().call_soon(self._next)
        await done

    def close(self, last: Callable[[], object]) -> None:
        """Finish what is under way, call ``last`` in the thread, end it. Idempotent; blocks."""
        if not self._closed:
            self._closed = True
            self._thread.submit(last).result()
            self._thread.shutdown()

    def _next(self) -> None:
        batches, self._waiting = self._waiting, []
        writes = [write for batch, _ in batches for write in batch]
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, writes)
        work.add_done_callback(lambda finished: self._committed(finished, batches))

    def _committed(self, finished: asyncio.Future[None], batches: list[_Batch]) -> None:
        error = finished.exception()
        for _, done in batches:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        if self._waiting:
            self._next()
        else:
            self._busy = False
