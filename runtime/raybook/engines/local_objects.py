"""Local objects: the values of local mode, by id, with who counts them and who waits for them.

It keeps serialized bytes, so that a value is copied on its way as between processes. It does not know tasks or actors.
Invariants: a value is filled once; an entry is there while it is counted or pending; callbacks run once, outside the
lock, on the thread that filled the last value they waited for.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from raybook.base.error_values import error_from_value
from raybook.base.errors import GetTimeoutError, ObjectLostError
from raybook.base.ids import owner_of
from raybook.base.specs import ErrorValue
from raybook.protocol.serialization import Serialized, deserialize


class Entry(msgspec.Struct):
    """One object. ``contained``: ids of refs and actors inside the value, each counted once."""

    count: int = 0
    is_ready: bool = False
    data: bytes = b""
    error: ErrorValue | None = None
    contained: list[bytes] = []
    callbacks: list[Callable[[], None]] = []


class LocalObjects:
    """All methods may be called from any thread; none is called by a finalizer."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._lock = threading.Lock()

    def add(self, object_id: bytes) -> None:
        """A new object without a value, counted once."""
        with self._lock:
            self._entries[object_id] = Entry(count=1)

    def hold(self, object_ids: Iterable[bytes]) -> None:
        """Count each once more. Unknown ones come back as lost."""
        with self._lock:
            for object_id in object_ids:
                entry = self._entries.get(object_id)
                if entry is None:
                    lost = ErrorValue("ObjectLostError", f"Object {object_id.hex()} is gone: nobody held a reference.")
                    entry = self._entries[object_id] = Entry(is_ready=True, error=lost)
                entry.count += 1

    def drop(self, object_ids: Iterable[bytes]) -> list[bytes]:
        """Count each once less; what nobody counts goes, and what only it held. Returns the actors' ids among those."""
        actors: list[bytes] = []
        queue = list(object_ids)
        with self._lock:
            while queue:
                object_id = queue.pop()
                entry = self._entries.get(object_id)
                if entry is None:
                    actors.append(object_id)
                    continue
                entry.count -= 1
                if entry.count <= 0 and entry.is_ready:
                    del self._entries[object_id]
                    queue += entry.contained
        return actors

    def fill(self, object_id: bytes, value: Serialized | ErrorValue) -> list[bytes]:
        """Give a pending object its value. A value that nobody waits for any more goes at once; returns as ``drop``."""
        with self._lock:
            entry = self._entries[object_id]
            if entry.is_ready:
                return []
            if isinstance(value, ErrorValue):
                entry.error = value
            else:
                entry.data = value.to_bytes()
                entry.contained = [info.object_id for info in value.contained]
            entry.is_ready = True
            callbacks, entry.callbacks = entry.callbacks, []
            entry.count += 1
        for callback in callbacks:
            callback()
        return self.drop((object_id,))

    def is_ready(self, object_id: bytes) -> bool:
        """Whether it has a value or an error."""
        with self._lock:
            entry = self._entries.get(object_id)
            return entry is None or entry.is_ready

    def error(self, object_id: bytes) -> ErrorValue | None:
        """The error of a ready object."""
        with self._lock:
            entry = self._entries.get(object_id)
            return entry.error if entry is not None else None

    def value(self, object_id: bytes) -> Any:
        """A fresh copy of a ready object's value; raises its error."""
        with self._lock:
            entry = self._entries.get(object_id)
        if entry is None:
            raise ObjectLostError(f"Object {object_id.hex()} is gone: nobody held a reference.")
        if entry.error is not None:
            raise error_from_value(entry.error, deserialize)
        return deserialize(entry.data)

    def memory(self) -> list[dict[str, Any]]:
        """A row an object, as in ``core/owner/memory_report``; everything is inline and owned here."""
        with self._lock:
            entries = list(self._entries.items())
        report: list[dict[str, Any]] = []
        for object_id, entry in entries:
            kind = "PENDING" if not entry.is_ready else "FAILED" if entry.error is not None else "INLINE"
            report.append(
                {
                    "object_id": object_id.hex(),
                    "kind": kind,
                    "size_bytes": len(entry.data),
                    "owner_id": owner_of(object_id).hex(),
                    "is_owned": True,
                    "references": entry.count,
                    "views": 0,
                    "arguments": 0,
                    "contained_in": 0,
                    "borrowers": [],
                    "task": "",
                    "call_site": "",
                    "path": "",
                    "node_id": "",
                }
            )
        report.sort(key=lambda row: (-row["size_bytes"], row["object_id"]))
        return report

    def when_ready(self, object_ids: Sequence[bytes], callback: Callable[[], None]) -> None:
        """Call back once for each object, now for those that are ready."""
        now = 0
        with self._lock:
            for object_id in object_ids:
                entry = self._entries.get(object_id)
                if entry is None or entry.is_ready:
                    now += 1
                else:
                    entry.callbacks.append(callback)
        for _ in range(now):
            callback()

    def wait(self, object_ids: Sequence[bytes], num_ready: int, timeout_s: float | None, *, any_error: bool) -> None:
        """Block until ``num_ready`` are ready, or one failed (``any_error``), or time is up. SIGINT wakes it."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._is_enough(object_ids, num_ready, any_error):
            gate = _thread.allocate_lock()
            gate.acquire()
            pending = [object_id for object_id in object_ids if not self.is_ready(object_id)]
            self.when_ready(pending, _opener(gate))
            left = -1 if deadline is None else deadline - time.monotonic()
            if deadline is not None and left <= 0:
                return
            gate.acquire(timeout=left)

    def get(self, object_ids: Sequence[bytes], timeout_s: float | None) -> list[Any]:
        """The values, when all are ready or as soon as one failed. GetTimeoutError."""
        self.wait(object_ids, len(object_ids), timeout_s, any_error=True)
        failed = next((object_id for object_id in object_ids if self.error(object_id) is not None), None)
        if failed is not None:
            self.value(failed)
        missing = [object_id for object_id in object_ids if not self.is_ready(object_id)]
        if missing:
            raise GetTimeoutError(
                f"Get timed out: some object(s) not ready: {len(missing)} of {len(object_ids)} after {timeout_s} s, first "
                f"{missing[0].hex()}. Their tasks go on; ask again, or give a longer timeout."
            )
        return [self.value(object_id) for object_id in object_ids]

    def _is_enough(self, object_ids: Sequence[bytes], num_ready: int, any_error: bool) -> bool:
        ready = [object_id for object_id in object_ids if self.is_ready(object_id)]
        return len(ready) >= num_ready or (any_error and any(self.error(object_id) for object_id in ready))


def _opener(gate: Any) -> Callable[[], None]:
    opened: list[None] = []

    def open_gate() -> None:
        opened.append(None)
        if len(opened) == 1:
            gate.release()

    return open_gate
