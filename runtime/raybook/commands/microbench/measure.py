"""Measure: one row, repeated, boxed in time and given up when it takes too long.

A row that raises is reported with its error's first line; one that passes its deadline is interrupted, and if it does not
come back from that either, whoever measures decides what becomes of the process.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, ModuleType

from . import rows
from .figures import STATUS_FAILED, STATUS_NOT_YET, STATUS_OK, RowResult
from .plan import Row

HANG_GRACE_S = 10.0
"""How long an interrupted row may take to let go. Ray's own blocking calls look for signals within a second."""

GiveUp = Callable[[Row, float], None]


class RowDeadlineExceeded(Exception):
    """A row took longer than its deadline."""


class Deadline:
    """Raises in the main thread after `deadline_s`; calls ``give_up`` if that has not helped `HANG_GRACE_S` later."""

    def __init__(self, deadline_s: float, give_up: Callable[[], None]) -> None:
        self._deadline_s = deadline_s
        self._watchdog = threading.Timer(deadline_s + HANG_GRACE_S, give_up)
        self._watchdog.daemon = True

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, self._deadline_s)
        self._watchdog.start()

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._watchdog.cancel()

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        raise RowDeadlineExceeded(f"not finished after {self._deadline_s:g} s")


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def measure(ray: ModuleType, row: Row, seconds: float, repeats: int, deadline_s: float, give_up: GiveUp) -> RowResult:
    """Run one row `repeats` times under its deadline. Never raises for what the row does: the result tells. give_up: called
    from another thread when the row does not let itself be interrupted; must not return to normal life."""
    if row.function is None:
        raise ValueError(f"{row.key} needs a fresh interpreter: run startup_probe.py")
    samples = []
    try:
        with Deadline(deadline_s, lambda: give_up(row, deadline_s)):
            for _ in range(1 if row.once else repeats):
                samples.append(row.function(ray, seconds).value)
    except rows.NotYet as error:
        return RowResult(row.key, STATUS_NOT_YET, row.unit, reason=str(error))
    except Exception as error:  # noqa: BLE001 - a row fails in any way it can; those after it must still run.
        return RowResult(row.key, STATUS_FAILED, row.unit, reason=first_line(error))
    return RowResult(row.key, STATUS_OK, row.unit, tuple(samples))
