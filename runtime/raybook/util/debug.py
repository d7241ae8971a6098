"""Saying things once: for code that warns in a loop. The state is this process's."""

from __future__ import annotations

import time

from raybook.api.context import current_runtime

PERIOD_S = 60.0
"""With periodic logging, what was said is forgotten after so long."""


class _Said:
    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.disabled = False
        self.periodic = False
        self.last_s = 0.0


def _said() -> _Said:
    return current_runtime.lasting.setdefault("log_once", _Said())


def log_once(key: str) -> bool:
    """True the first time that it is asked about ``key``; for the caller to log then."""
    said = _said()
    if said.disabled:
        return False
    if key not in said.keys:
        said.keys.add(key)
        said.last_s = time.monotonic()
        return True
    if said.periodic and time.monotonic() - said.last_s > PERIOD_S:
        said.keys.clear()
        said.last_s = time.monotonic()
    return False


def disable_log_once_globally() -> None:
    """``log_once`` is False from now on, in this process."""
    _said().disabled = True


def enable_periodic_logging() -> None:
    """``log_once`` is True again now and then, in this process."""
    _said().periodic = True


def reset_log_once(key: str | None = None) -> None:
    """Forget that ``key`` was asked about; None: everything."""
    if key is None:
        _said().keys.clear()
    else:
        _said().keys.discard(key)
