"""Streams: items of generators that run on Ray, by number, as raybook asks for them.

Ray hands items out in their order, once; here they are kept until they are taken. One lock for each stream: two threads may
read one generator.
"""

from __future__ import annotations

import threading
from typing import Any

from raybook.base.errors import GetTimeoutError


class Stream:
    """One generator. source: Ray's."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self._items: dict[int, Any] = {}
        self._count = 0
        self._has_ended = False
        self._lock = threading.Lock()

    def peek(self, index: int) -> bool | None:
        """Whether item ``index`` (from 1 on) is there; False after the end; None while nobody knows. Does not block."""
        with self._lock:
            if index > self._count and not self._has_ended:
                self._read(0)
            if index <= self._count:
                return True
            return False if self._has_ended else None

    def take(self, index: int, timeout_s: float | None) -> Any:
        """Ray's reference of the item; None after the end. GetTimeoutError."""
        with self._lock:
            while index > self._count:
                if self._has_ended:
                    return None
                if not self._read(timeout_s) and not self._has_ended:
                    raise GetTimeoutError(f"The next item of a generator was not there after {timeout_s} s.")
            return self._items.pop(index, None)

    def _read(self, timeout_s: float | None) -> bool:
        try:
            item = self.source._next_sync(timeout_s)
        except StopIteration:
            self._has_ended = True
            return False
        if item.is_nil():
            return False
        self._count += 1
        self._items[self._count] = item
        return True
