"""Give back: a batch whose turn takes longer than expected lets others have what it has not begun.

The worker's side closes a *turnstile* after ``BUDGET_S`` from a thread of its own, because the piece that runs may run
for hours, and leaves a note in the cluster's key-value table: how far it got, and the results so far. The driver reads
it when a batch is late. So a wrong guess about the length of work neither delays nor deadlocks what another worker
could run, nor the results that are there.
Invariants: a piece is begun by at most one worker; after the note, the batch begins nothing any more.
"""

from __future__ import annotations

import _thread
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pickle import PicklingError, loads
from typing import Any, NamedTuple

import cloudpickle

from raybook.api.kv import kv_delete, kv_get, kv_put
from raybook.base.errors import RayError

BUDGET_S = 0.01
"""A batch that takes longer gives the rest back."""
LATE_S = 0.04
"""When the driver begins to look for a note, and how often it looks."""

NAMESPACE = "raybook.batches"


def new_batch_id() -> bytes:
    """A name for one batch; empty ones leave no notes."""
    return os.urandom(12)


class Note(NamedTuple):
    """begun: how many pieces the batch will have begun in the end. done: the results of all but the last of these, as
    the batch itself would give them; None when they cannot be had before its end."""

    begun: int
    done: Any


class Turnstile:
    """Lets the pieces of one batch through, in order, until it is closed. Used with ``with``: it closes itself after
    the budget and leaves a note under ``batch_id``; without one, or with a single piece, it stays open."""

    def __init__(self, count: int, batch_id: bytes, budget_s: float = BUDGET_S) -> None:
        self._end = count
        self._next = 0
        self._batch_id = batch_id
        self._budget_s = budget_s
        self._lock = _thread.allocate_lock()
        self._over = _thread.allocate_lock()
        self._noted = _thread.allocate_lock()
        self._is_watched = bool(batch_id) and count > 1
        self.snapshot: Callable[[int], Any] = lambda count: None
        """Makes the results of the first pieces, from the watching thread; set by who runs them."""

    def take(self) -> bool:
        """Whether the next piece may begin."""
        with self._lock:
            if self._next >= self._end:
                return False
            self._next += 1
            return True

    def close(self) -> int:
        """Let nothing more through; how many pieces have begun."""
        with self._lock:
            self._end = self._next
            return self._end

    def __enter__(self) -> Turnstile:
        if self._is_watched:
            self._over.acquire()
            self._noted.acquire()
            _thread.start_new_thread(self._watch, ())
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_watched:
            self._over.release()
            # The note must be there before the batch's own answer, with which the driver takes it away.
            self._noted.acquire()

    def _watch(self) -> None:
        try:
            if not self._over.acquire(True, self._budget_s):
                count = self._end
                begun = self.close()
                if begun < count:
                    kv_put(NAMESPACE, self._batch_id, self._note(begun))
        finally:
            self._noted.release()

    def _note(self, begun: int) -> bytes:
        try:
            return cloudpickle.dumps(Note(begun, self.snapshot(begun - 1)))
        except (TypeError, AttributeError, ValueError, RuntimeError, PicklingError):
            # A result that cannot travel: the batch will say so itself.
            return cloudpickle.dumps(Note(begun, None))


class Late:
    """The driver's side, for one batch that is out."""

    __slots__ = ("_batch_id", "_next_look_s")

    def __init__(self, batch_id: bytes) -> None:
        self._batch_id = batch_id
        self._next_look_s = time.monotonic() + LATE_S

    def note(self) -> Note | None:
        """What the batch says if it has given something back, once; asks at most every ``LATE_S``, one round trip."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return None
        self._next_look_s = now_s + LATE_S
        try:
            data = kv_get(NAMESPACE, self._batch_id)
        except (RayError, RuntimeError):
            # The cluster is gone, and the batch fails with the reason.
            return None
        if data is None:
            return None
        self._next_look_s = math.inf
        return loads(data)

    def forget(self) -> None:
        """Take the note away. Call it when the batch has answered and had left something."""
        with suppress(RayError, RuntimeError):
            kv_delete(NAMESPACE, self._batch_id)
