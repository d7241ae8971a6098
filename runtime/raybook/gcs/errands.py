"""Errands: what the GCS does on the side, by a timer or as a task; failures are logged, and the end takes all along."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.io.clock import Clock

logger = logging.getLogger(__name__)


class Errands:
    """clock: the one that deadlines are told in."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def arm(self, name: str, deadline_ms: int | None, elapsed: Callable[[], Awaitable[Any]]) -> None:
        """One timer for each name; the later call replaces the earlier one."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if deadline_ms is not None:
            delay_s = max(0, deadline_ms - self._clock()) / 1000
            self._timers[name] = asyncio.get_running_loop().call_later(delay_s, self._fire, name, elapsed)

    def spawn(self, work: Awaitable[Any]) -> None:
        """Run it on the side."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop timers, cancel what runs, wait until it has ended."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _fire(self, name: str, elapsed: Callable[[], Awaitable[Any]]) -> None:
        self._timers.pop(name, None)
        self.spawn(elapsed())

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("A background step of the GCS failed.", exc_info=task.exception())
