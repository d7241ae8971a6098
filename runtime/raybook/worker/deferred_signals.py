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
        real = dict(handlers)
        try:
            _hand_back(handlers)
        finally:
            if self.noted:
                noted, self.noted = self.noted, []
                _deliver(noted, real)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted.append(number)
        self._wake()


def _hand_back(handlers: list[tuple[int, Any]]) -> None:
    """All of them, also when one that is handed back comes at once, and raises: then its entry may still be there, and
    is set once more, which does no harm."""
    try:
        while handlers:
            _set(*handlers[-1])
            handlers.pop()
    finally:
        if handlers:
            _hand_back(handlers)


def _deliver(noted: list[int], real: dict[int, Any]) -> None:
    """Call the handlers in the order in which their signals came; all of them, whichever raises."""
    number = noted.pop(0)
    try:
        real[number](number, sys._getframe(2))
    finally:
        if noted:
            _deliver(noted, real)
