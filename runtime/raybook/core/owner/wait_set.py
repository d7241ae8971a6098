"""Wait set: which blocked ``get`` and ``wait`` calls a ready object releases.

Knows ids and counts, not values. Invariant: a wait is reported done exactly once.
"""

from __future__ import annotations

from collections.abc import Callable

from raybook.core.owner.records import Wait


class WaitSet:
    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[Wait]] = {}

    def add(self, wait: Wait, is_ready: Callable[[bytes], bool], is_failed: Callable[[bytes], bool]) -> bool:
        """Start waiting. True when nothing needs waiting for; the wait is then done already.
        Cost: one look-up per id."""
        missing = []
        for key in wait.ids:
            if is_ready(key):
                wait.needed -= 1
                if wait.stop_on_error and is_failed(key):
                    wait.needed = 0
            else:
                missing.append(key)
        if wait.needed <= 0 or not missing:
            wait.done = True
            return True
        waiting = self._waiting
        for key in missing:
            others = waiting.get(key)
            if others is None:
                waiting[key] = [wait]
            else:
                others.append(wait)
        return False

    def is_waiting(self) -> bool:
        """Whether anybody waits for anything."""
        return bool(self._waiting)

    def is_awaited(self, key: bytes) -> bool:
        return key in self._waiting

    def ready(self, key: bytes, failed: bool) -> list[Wait]:
        """An object became ready; the waits that this ends."""
        waits = self._waiting.pop(key, None)
        if waits is None:
            return []
        ended = []
        for wait in waits:
            if wait.done:
                continue
            wait.needed -= 1
            if wait.needed <= 0 or (failed and wait.stop_on_error):
                wait.done = True
                ended.append(wait)
        return ended

    def cancel(self, wait: Wait) -> None:
        """The caller gave up (time-out or interrupt)."""
        if wait.done:
            return
        wait.done = True
        for key in wait.ids:
            waits = self._waiting.get(key)
            if waits is not None:
                remaining = [other for other in waits if other is not wait]
                if remaining:
                    self._waiting[key] = remaining
                else:
                    del self._waiting[key]

    def abandon(self) -> list[Wait]:
        """The cluster is gone: all unfinished waits, which end without being done."""
        waits = {id(wait): wait for waits in self._waiting.values() for wait in waits if not wait.done}
        self._waiting.clear()
        return list(waits.values())

    def statistics(self) -> dict[str, int]:
        return {"awaited_ids": len(self._waiting)}
