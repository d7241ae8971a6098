"""Deferred signals: keeps Python's signal handlers from running in the middle of something on the main thread.

A handler runs between two byte codes of the main thread, and may raise there: 1,000 interrupts into an update of two
tables left 773 torn. While signals are deferred, a handler of ours notes them and wakes the sleeper; the real one is
called afterwards, by whoever deferred. Other threads never run handlers, and need none of this. Changing a handler costs a
system call; where the handlers are ours, in workers, they are made ``deferrable`` instead, and stay.
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
    """Main thread only. ``wake``: ends the sleep that a signal comes into. Cost: 1 µs for both calls."""

    __slots__ = ("_chosen", "_handlers", "_seen", "_wake", "is_deferring", "noted")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._seen: tuple[Any, ...] = ()
        """The handlers of all six as they were the last time."""
        self._chosen: tuple[tuple[int, Any], ...] = ()
        """Those among them that Python calls and that do not defer themselves, with their numbers: mostly one."""
        self._handlers: tuple[tuple[int, Any], ...] = ()
        """What is to be handed back."""
        self.noted: list[int] = []
        self.is_deferring = False

    def deferrable(self, handler: Callable[[int, FrameType | None], Any]) -> Deferrable:
        """A handler that does what this one does, but not while signals are deferred."""
        return Deferrable(self, handler)

    def begin(self) -> None:
        """From here on nothing raises."""
        # No loop: this is asked at every blocking call, and has mostly the answer of the last one.
        get, number = _get, _NUMBERS
        seen = (get(number[0]), get(number[1]), get(number[2]), get(number[3]), get(number[4]), get(number[5]))
        if seen != self._seen:
            self._seen = seen
            self._chosen = tuple(pair for pair in zip(number, seen, strict=True) if self._is_foreign(pair[1]))
        self._handlers = self._chosen
        self.is_deferring = True
        try:
            for each, _ in self._chosen:
                _set(each, self._note)
        except BaseException:
            # The handler of one that was not deferred yet.
            self.end()
            raise

    def _is_foreign(self, handler: Any) -> bool:
        return callable(handler) and not (type(handler) is Deferrable and handler.deferred is self)

    def end(self) -> None:
        """Hand the signals back; what came meanwhile is delivered now, and may raise."""
        self.is_deferring = False
        handlers, self._handlers = self._handlers, ()
        try:
            for number, handler in handlers:
                _set(number, handler)
        except BaseException:
            # One that was handed back came at once, and raised.
            _hand_back(handlers)
            raise
        finally:
            if self.noted:
                noted, self.noted = self.noted, []
                _deliver(noted, dict(handlers))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted.append(number)
        self._wake()


class Deferrable:
    """See ``DeferredSignals.deferrable``."""

    __slots__ = ("_real", "deferred")

    def __init__(self, deferred: DeferredSignals, real: Callable[[int, FrameType | None], Any]) -> None:
        self.deferred = deferred
        self._real = real

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.deferred.is_deferring:
            self.deferred._note(number, frame)
        else:
            self._real(number, frame)


def _hand_back(handlers: tuple[tuple[int, Any], ...]) -> None:
    """All of them once more, which does no harm, until none raises."""
    try:
        for number, handler in handlers:
            _set(number, handler)
    except BaseException:
        _hand_back(handlers)
        raise


def _deliver(noted: list[int], real: dict[int, Any]) -> None:
    """Call the handlers in the order in which their signals came; all of them, whichever raises."""
    number = noted.pop(0)
    try:
        handler = real.get(number) or _get(number)
        if callable(handler):
            handler(number, sys._getframe(2))
    finally:
        if noted:
            _deliver(noted, real)
