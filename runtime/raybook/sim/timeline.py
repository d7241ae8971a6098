"""Timeline: virtual time, and what is to happen when. One thread, no clock.

Knows nothing of what it calls. Invariants: time never goes back; what is due at the same moment happens in the order in
which it was asked for, so a run is a function of its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Timer:
    """Something that is to happen. ``cancel`` may be called at any time, also afterwards."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.function: Callable[..., None] | None = function
        self.args = args

    def cancel(self) -> None:
        """It does not happen."""
        self.function = None
        self.args = ()


class Timeline:
    """``now_us``: microseconds since the beginning. ``happened``: how many calls were made."""

    __slots__ = ("_due", "_order", "happened", "now_us")

    def __init__(self) -> None:
        self.now_us = 0
        self.happened = 0
        self._due: list[tuple[int, int, Timer]] = []
        self._order = 0

    @property
    def now_ms(self) -> int:
        """What the machines are told."""
        return self.now_us // 1000

    def at(self, when_us: int, function: Callable[..., None], *args: Any) -> Timer:
        """Call at a moment; at once, in its turn, if that has passed. Cost: 1 µs."""
        timer = Timer(function, args)
        self._order += 1
        heapq.heappush(self._due, (max(when_us, self.now_us), self._order, timer))
        return timer

    def after(self, delay_us: int, function: Callable[..., None], *args: Any) -> Timer:
        """Call after a while."""
        return self.at(self.now_us + delay_us, function, *args)

    def step(self) -> bool:
        """Let the next thing happen. False when nothing is left."""
        due = self._due
        while due:
            when_us, _, timer = heapq.heappop(due)
            function = timer.function
            if function is None:
                continue
            self.now_us = when_us
            self.happened += 1
            function(*timer.args)
            return True
        return False
