"""Outbox: calls to one service, in order, one at a time, at least once.

When the service is out of reach the outbox stands still with the unanswered call at its head, and goes on when it is
told to; what it carries must therefore be idempotent at the other end. Knows nothing of what it carries. Order costs a
round trip a call (0.5 ms over gRPC), which control traffic can afford and tasks never pay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from raybook.io.channel import Channel, RemoteError

Answered = Callable[[Any], None]
"""Called with the reply, or with the RemoteError that came in its place."""


class Outbox:
    """Calls through one channel. unreachable: called each time a call fails for lack of a connection; whoever made the
    outbox calls ``resume`` when it is worth another try."""

    def __init__(self, channel: Channel, unreachable: Callable[[], None]) -> None:
        self.channel = channel
        self._unreachable = unreachable
        self._queue: deque[tuple[str, Any, Answered]] = deque()
        self._delivery: asyncio.Task[None] | None = None

    def send(self, method: str, request: Any, answered: Answered) -> None:
        """Queue a call; it goes out as soon as those before it are answered."""
        self._queue.append((method, request, answered))
        self.resume()

    def resume(self) -> None:
        """Go on after the service was out of reach. Harmless when it was not."""
        if self._queue and (self._delivery is None or self._delivery.done()):
            self._delivery = asyncio.get_running_loop().create_task(self._deliver())

    async def drain(self, timeout_s: float) -> None:
        """Wait until all is delivered, the service is out of reach, or the time is up."""
        if self._delivery is not None and not self._delivery.done():
            await asyncio.wait([self._delivery], timeout=timeout_s)

    async def close(self) -> None:
        """Drop what is queued. The channel stays open."""
        self._queue.clear()
        if self._delivery is not None and not self._delivery.done():
            self._delivery.cancel()
            await asyncio.wait([self._delivery])

    async def _deliver(self) -> None:
        while self._queue:
            method, request, answered = self._queue[0]
            try:
                reply = await self.channel.call(method, request)
            except RemoteError as error:
                reply = error
            except ConnectionError:
                self._unreachable()
                return
            if self._queue:  # It may have been closed meanwhile.
                self._queue.popleft()
                answered(reply)
