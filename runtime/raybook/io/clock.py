"""Clocks that daemons hand to their machines: milliseconds since the epoch that never run backwards."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]


def anchored_clock() -> Clock:
    """Reads as wall-clock milliseconds since the epoch, but advances with the monotonic clock: setting the machine's
    time, or suspending it, makes no node look dead. Cost: 60 ns a reading."""
    anchor_ns = time.time_ns() - time.monotonic_ns()
    monotonic_ns = time.monotonic_ns

    def now_ms() -> int:
        return (anchor_ns + monotonic_ns()) // 1_000_000

    return now_ms
