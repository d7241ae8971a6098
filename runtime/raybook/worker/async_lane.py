"""Async lane: one event loop, how many calls may run on it at once, and those that do.

The default lane of an async actor is its main thread's loop; each concurrency group has a loop on a thread of its own, so
that code that blocks in one group holds up no other. Knows nothing of what a call is.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine
from typing import Any


class AsyncLane:
    """All but ``cancel`` and ``close`` runs on the loop's thread, or before it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.loop = loop
        self.free = size
        """Calls more that may run. Whoever begins takes one off, or waits for one if there is none."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.running: dict[bytes, asyncio.Task] = {}
        """By task id. Whoever runs takes itself out."""
        self.cancelled: set[bytes] = set()
        """Of those that run, the ones that were cancelled: whatever they make of it, that is how they end."""
        self.is_flush_due = False
        """Replies of calls that end in this round of the loop are sent together."""

    def start(self, task_id: bytes, coroutine: Coroutine[Any, Any, None]) -> None:
        self.running[task_id] = self.loop.create_task(coroutine)

    async def wait_for_slot(self) -> None:
        """Wait in line until a call gives its slot on; it is taken then."""
        waiter = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give_slot()
            raise

    def give_slot(self) -> None:
        """A call has ended: the next in line has its slot."""
        waiters = self._waiters
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1

    def cancel(self, task_id: bytes) -> None:
        """Any thread. Changes nothing for a call that is not here."""
        self.loop.call_soon_threadsafe(self._cancel, task_id)

    def _cancel(self, task_id: bytes) -> None:
        task = self.running.get(task_id)
        if task is not None:
            self.cancelled.add(task_id)
            task.cancel()

    def close(self) -> None:
        pass


class ThreadLane(AsyncLane):
    """A lane with a thread of its own; ``start`` may be called from any other."""

    def __init__(self, group: str, size: int) -> None:
        super().__init__(asyncio.new_event_loop(), size)
        # A daemon: code of the user's that never ends must not keep the process.
        self._thread = threading.Thread(target=self._serve, name=f"raybook-actor-{group}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def start(self, task_id: bytes, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.call_soon_threadsafe(super().start, task_id, coroutine)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
