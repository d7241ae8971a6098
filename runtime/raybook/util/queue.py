"""Queue: a first-in-first-out queue for many tasks, actors and drivers, kept by an async actor.

The handle decides nothing: every call is one call of the actor, so all users see one order. Pass the handle to tasks
and actors; it stays alive while anybody holds it. ``Empty`` and ``Full`` are those of the standard library's ``queue``.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

from raybook.api import get, kill, remote, wait

WAITERS_MAX = 100_000
"""How many calls may block in the queue's actor at once. More getters than an async actor's usual 1,000 would keep the
put that they wait for from being heard."""


class Empty(queue.Empty):
    """There is nothing to get."""


class Full(queue.Full):
    """There is no room."""


class Queue:
    """``maxsize`` items at most; 0 or less: any number. actor_options: options of the actor behind it."""

    def __init__(self, maxsize: int = 0, actor_options: dict | None = None) -> None:
        options = {"num_cpus": 0, "max_concurrency": WAITERS_MAX, **(actor_options or {})}
        self.maxsize = maxsize
        self.actor = remote(**options)(QueueActor).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def __repr__(self) -> str:
        return f"Queue(maxsize={self.maxsize}, actor={self.actor!r})"

    def size(self) -> int:
        """How many items are in it."""
        return get(self.actor.qsize.remote())

    def qsize(self) -> int:
        """How many items are in it."""
        return self.size()

    def empty(self) -> bool:
        """Whether there is nothing in it (now; somebody may put meanwhile)."""
        return get(self.actor.empty.remote())

    def full(self) -> bool:
        """Whether there is no room (now)."""
        return get(self.actor.full.remote())

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item. Waits for room for ``timeout`` seconds (None: for ever), or not at all without ``block``. Full
        when there was none, ValueError for a negative timeout."""
        if block:
            _check_timeout(timeout)
            _raise_plainly(self.actor.put.remote(item, timeout))
        else:
            self.put_nowait(item)

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As ``put``, for coroutines."""
        if block:
            _check_timeout(timeout)
            await self.actor.put.remote(item, timeout)
        else:
            await self.actor.put_nowait.remote(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item. Waits for one for ``timeout`` seconds (None: for ever), or not at all without
        ``block``. Empty when there was none, ValueError for a negative timeout."""
        if not block:
            return self.get_nowait()
        _check_timeout(timeout)
        return _raise_plainly(self.actor.get.remote(timeout))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """As ``get``, for coroutines."""
        if not block:
            return await self.actor.get_nowait.remote()
        _check_timeout(timeout)
        return await self.actor.get.remote(timeout)

    def put_nowait(self, item: Any) -> None:
        """Add an item; Full when there is no room."""
        _raise_plainly(self.actor.put_nowait.remote(item))

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all items or none, in order and in one call; Full when they do not all fit."""
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        _raise_plainly(self.actor.put_nowait_batch.remote(list(items)))

    def get_nowait(self) -> Any:
        """Take the oldest item; Empty when there is none."""
        return _raise_plainly(self.actor.get_nowait.remote())

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take ``num_items`` items in one call; Empty, and nothing taken, when there are fewer."""
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        return _raise_plainly(self.actor.get_nowait_batch.remote(num_items))

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor: after what it was asked for before, but at most ``grace_period_s`` seconds later; at once with
        ``force``. The queue and what is in it are gone then. Idempotent."""
        if self.actor is None:
            return
        if not force:
            ended = self.actor.__ray_terminate__.remote()
            done, _ = wait([ended], num_returns=1, timeout=grace_period_s)
            force = not done
        if force:
            kill(self.actor, no_restart=True)
        self.actor = None


class QueueActor:
    """What the handles talk to. Waiting calls are coroutines, so a blocked ``get`` blocks nobody else."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self.queue.qsize()

    async def empty(self) -> bool:
        return self.queue.empty()

    async def full(self) -> bool:
        return self.queue.full()

    async def put(self, item: Any, timeout: float | None = None) -> None:
        if timeout == 0:
            # wait_for gives up on a timeout of 0 before it has looked.
            return await self.put_nowait(item)
        try:
            await asyncio.wait_for(self.queue.put(item), timeout)
        except asyncio.TimeoutError:
            raise Full(f"No room came free within {timeout} s: {self._state()}.") from None

    async def get(self, timeout: float | None = None) -> Any:
        if timeout == 0:
            return await self.get_nowait()
        try:
            return await asyncio.wait_for(self.queue.get(), timeout)
        except asyncio.TimeoutError:
            raise Empty(f"No item came within {timeout} s.") from None

    async def put_nowait(self, item: Any) -> None:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            raise Full(f"The queue is full: {self._state()}.") from None

    async def put_nowait_batch(self, items: list[Any]) -> None:
        if self.maxsize > 0 and len(items) + self.queue.qsize() > self.maxsize:
            raise Full(f"Cannot add {len(items)} items to {self._state()}. None was added.")
        for item in items:
            self.queue.put_nowait(item)

    async def get_nowait(self) -> Any:
        try:
            return self.queue.get_nowait()
        except asyncio.QueueEmpty:
            raise Empty("The queue is empty.") from None

    async def get_nowait_batch(self, num_items: int) -> list[Any]:
        if num_items > self.queue.qsize():
            raise Empty(f"Cannot get {num_items} items from {self._state()}. None was taken.")
        return [self.queue.get_nowait() for _ in range(num_items)]

    def _state(self) -> str:
        return f"queue of size {self.queue.qsize()} and maxsize {self.maxsize}"


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


def _raise_plainly(ref: Any) -> Any:
    """The value of a call of the actor. That there was nothing or no room is an answer: it is raised here, without the
    story of another process."""
    try:
        return get(ref)
    except (Empty, Full) as answer:
        cause = getattr(answer, "cause", None)
        if isinstance(cause, (Empty, Full)):
            raise cause.with_traceback(None) from None
        raise
