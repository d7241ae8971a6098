"""Loop turns: an asyncio loop that turns the I/O loop of its process itself, for as long as calls come often.

An async actor's event loop would otherwise be told of each call by the I/O thread: one wake-up more for each. The
descriptor of the core process's epoll can be waited for like any other, so the asyncio loop watches it, and reads the
sockets on its own thread when something has arrived. Knows nothing of calls or of what arrives.

States:
    told      the I/O thread holds the baton, and tells the loop of what has come
    watching  the loop watches the descriptor; the I/O thread is parked (see ``baton``)
Watching begins when the loop was told twice within ``OFTEN_NS``. It ends by itself: a coroutine that keeps the loop busy,
or a quiet spell, lets the I/O thread take the baton up after some milliseconds; the loop finds out at the next turn.

Invariant: nothing is lost between the states. What arrives while both or neither look is read by the I/O thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from raybook.worker.core_process import CoreProcess
from raybook.worker.leading import OFTEN_NS


class LoopTurns:
    """All of it runs on the loop's thread. on_turn: called after each turn, and where a turn was somebody else's."""

    __slots__ = ("_core", "_fd", "_is_watching", "_loop", "_on_turn", "_told_ns", "is_turning")

    def __init__(self, core: CoreProcess, loop: asyncio.AbstractEventLoop, on_turn: Callable[[], None]) -> None:
        self._core = core
        self._fd = core.epoll_fd
        self._loop = loop
        self._on_turn = on_turn
        self._is_watching = False
        self._told_ns = 0
        self.is_turning = False
        """``on_turn`` is about to be called: whoever has something for the loop need not say so. Any thread may ask."""

    def told(self) -> None:
        """The I/O thread had something for this loop."""
        if self._is_watching:
            return
        now_ns = time.monotonic_ns()
        if now_ns - self._told_ns < OFTEN_NS:
            self._core.baton.is_wanted = True
            self._is_watching = True
            self._loop.add_reader(self._fd, self._on_readable)
        self._told_ns = now_ns

    def end(self) -> None:
        """Watch no more."""
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        self.is_turning = True
        if not self._core.leading.turn():
            # The I/O thread reads it; were this watched meanwhile, the loop would spin.
            self.end()
        # In this order: what came before the flag fell is found by the call.
        self.is_turning = False
        self._on_turn()
