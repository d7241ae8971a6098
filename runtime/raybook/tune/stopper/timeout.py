"""Timeout stopper: ends a sweep some time after its first result was judged. Not pure: it reads the clock."""

from __future__ import annotations

import datetime
import time
from typing import Any

from raybook.tune.core.stopper import Stopper


class TimeoutStopper(Stopper):
    """Ends every trial once timeout (seconds, or a timedelta) is used up. Time between two runs does not count.

    Raises ValueError for anything else.
    """

    def __init__(self, timeout: float | datetime.timedelta) -> None:
        if isinstance(timeout, datetime.timedelta):
            timeout = timeout.total_seconds()
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise ValueError(f"`timeout` has to be a number of seconds or a `datetime.timedelta`, not {timeout!r}.")
        self._left_s = float(timeout)
        self._asked_s: float | None = None

    def stop_all(self) -> bool:
        now = time.monotonic()
        if self._asked_s is not None:
            self._left_s -= now - self._asked_s
        self._asked_s = now
        return self._left_s <= 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_left_s": self._left_s, "_asked_s": None}
