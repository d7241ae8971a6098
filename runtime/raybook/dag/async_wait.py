"""Async wait: how coroutines wait for a compiled graph: the event loop watches the doorbell and the actors' sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raybook.dag.graph_link import GraphLink


class RingWaiters:
    """Who waits for the next ring, on one event loop at a time."""

    def __init__(self, link: GraphLink) -> None:
        self._link = link
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: list[int] = []
        self._waiting: list[asyncio.Future[None]] = []

    async def next_ring(self, is_there: Callable[[], bool]) -> None:
        """Until something may have come; at once when it has."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._watch(loop)
        self._link.bell.raise_flag()
        if is_there():
            return
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        await future

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self.close()
        self._loop = loop
        self._watched = [self._link.bell.eventfd, *self._link.connection_fds()]
        for fd in self._watched:
            loop.add_reader(fd, self._on_ready, fd)

    def _on_ready(self, fd: int) -> None:
        bell = self._link.bell
        if fd == bell.eventfd:
            bell.clear()
        elif self._loop is not None:
            # Before its owner closes it: the number may be another file's then.
            self._loop.remove_reader(fd)
            self._watched.remove(fd)
            bell.check_hangups()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Stop watching; whoever waits looks once more."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            for fd in self._watched:
                loop.remove_reader(fd)
            self._wake()
        self._waiting = []
