"""Wait set: which blocked ``get`` and ``wait`` calls a ready object releases.

Knows ids and counts, and of values whether they are there and failed. Invariant: a wait is reported done exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping

from raybook.base.specs import Value
from raybook.core.owner.records import Wait


class WaitSet:
    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[bytes, list[Wait]] = {}
        """Ids that somebody waits for. The hot path looks whether there are any."""

    def add(self, wait: Wait, values: Mapping[bytes, Value]) -> list[bytes]:
        """Start waiting for those ids that have no value yet, and return them; or, when nothing needs waiting for, make
        the wait done. Cost: one look-up per id."""
        ids = wait.ids
        missing = [key for key in ids if key not in values] if len(ids) != 1 or ids[0] in values else ids
        if len(missing) < len(ids):
            wait.needed -= len(ids) - len(missing)
            if wait.stop_on_error and any(values[key].error is not None for key in ids if key in values):
                wait.needed = 0
        if wait.needed <= 0 or not missing:
            wait.done = True
            return missing
        waiting = self.waiting
        for key in missing:
            if key in waiting:
                waiting[key].append(wait)
            else:
                waiting[key] = [wait]
        return missing

    def ready(self, key: bytes, failed: bool) -> list[Wait]:
        """An object became ready; the waits that this ends."""
        waits = self.waiting.pop(key, None)
        if waits is None:
            return []
        ended = []
        for wait in waits:
            wait.needed -= 1
            if not wait.done and (wait.needed <= 0 or (failed and wait.stop_on_error)):
                wait.done = True
                ended.append(wait)
        return ended

    def cancel(self, wait: Wait) -> None:
        """The caller gave up (time-out or interrupt)."""
        if wait.done:
            return
        wait.done = True
        for key in wait.ids:
            waits = self.waiting.get(key)
            if waits is not None:
                remaining = [other for other in waits if other is not wait]
                if remaining:
                    self.waiting[key] = remaining
                else:
                    del self.waiting[key]

    def abandon(self) -> list[Wait]:
        """The cluster is gone: all unfinished waits, which end without being done."""
        waits = {id(wait): wait for waits in self.waiting.values() for wait in waits if not wait.done}
        self.waiting.clear()
        return list(waits.values())

    def statistics(self) -> dict[str, int]:
        return {"awaited_ids": len(self.waiting)}
