"""Results: what the pool's calls give back, and where the dispatcher delivers to.

A *receiver* gets every chunk's outcome or failure exactly once, on the dispatcher's thread. User threads wait on raw
locks and on ``SimpleQueue``, which an interrupt leaves whole.
"""

from __future__ import annotations

import _thread
import logging
import multiprocessing
import queue
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from raybook.util.batching import Outcome

logger = logging.getLogger(__name__)

Callback = Callable[[Any], Any] | None


class Receiver(Protocol):
    """Where the results of chunks go; ``index`` is the chunk's place in its call."""

    def deliver(self, index: int, outcome: Outcome) -> None:
        """The chunk has run."""

    def fail(self, index: int, error: BaseException) -> None:
        """The chunk has not, or not wholly, or nobody knows."""


class Chunk:
    """A part of one call of the pool: ``function(piece)`` for each of ``pieces``, ``function(*piece)`` with is_star.

    key: by which workers know the function, -1 when it travels with the chunk. kind: what is likely to take as long.
    """

    __slots__ = ("function", "index", "is_star", "key", "kind", "name", "pieces", "receiver")

    def __init__(
        self, function: Callable[..., Any], pieces: list[Any], is_star: bool, receiver: Receiver, index: int, key: int
    ) -> None:
        self.function = function
        self.pieces = pieces
        self.is_star = is_star
        self.receiver = receiver
        self.index = index
        self.key = key
        self.name = getattr(function, "__qualname__", type(function).__qualname__)
        # Two lambdas of one function have one name.
        self.kind = (self.name, getattr(getattr(function, "__code__", None), "co_firstlineno", 0))


class AsyncResult:
    """The result of ``apply_async`` (one value) or ``map_async`` (a list), there or to come."""

    def __init__(
        self, pool: Any, chunk_count: int, is_single: bool, callback: Callback, error_callback: Callback
    ) -> None:
        # The pool must live as long as somebody waits for it.
        self._pool = pool
        self._is_single = is_single
        self._callback = callback
        self._error_callback = error_callback
        self._parts: list[list[Any]] = [[]] * chunk_count
        self._errors: dict[int, BaseException] = {}
        self._missing = chunk_count
        self._value: Any = None
        self._is_ready = False
        self._done = _thread.allocate_lock()
        self._done.acquire()
        if not chunk_count:
            self._finish()

    def get(self, timeout: float | None = None) -> Any:
        """The value; blocks until it is there. Raises what the function raised (the first in order), or
        multiprocessing.TimeoutError after ``timeout`` seconds."""
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError(f"The result was not ready within {timeout} s. Ask again later.")
        if self._errors:
            raise self._first_error()
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Block until the result is there or ``timeout`` seconds have passed."""
        if self._done.acquire(True, -1 if timeout is None else max(0.0, min(timeout, 4_000_000.0))):
            self._done.release()

    def ready(self) -> bool:
        """Whether the result is there."""
        return self._is_ready

    def successful(self) -> bool:
        """Whether the call ended without an exception. ValueError when it has not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return not self._errors

    def deliver(self, index: int, outcome: Outcome) -> None:
        results = outcome.results_and_errors()
        if outcome.errors:
            self._errors[index] = results[min(outcome.errors)]
        self._parts[index] = results
        self._one_less()

    def fail(self, index: int, error: BaseException) -> None:
        self._errors[index] = error
        self._one_less()

    def _one_less(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        if not self._errors:
            self._value = self._parts[0][0] if self._is_single else [item for part in self._parts for item in part]
        self._pool = None
        self._parts = []
        callback, argument = (
            (self._error_callback, self._first_error()) if self._errors else (self._callback, self._value)
        )
        # As in the standard library: the result is there when the callback has returned.
        if callback is not None:
            try:
                callback(argument)
            except Exception:
                # User code, on a thread where nobody could catch it; the result itself is whole.
                logger.exception("The callback of a pool's call raised.")
        self._is_ready = True
        self._done.release()

    def _first_error(self) -> BaseException:
        return self._errors[min(self._errors)]


class IMapIterator:
    """The results of ``imap``, in order. What raised comes as the exception itself, as a value; the others go on."""

    def __init__(self, submit: Callable[[IMapIterator, int, list[Any]], None], chunks: Iterator[list[Any]]) -> None:
        self._submit = submit
        self._chunks = chunks
        self._arrived: queue.SimpleQueue[tuple[int, list[Any]]] = queue.SimpleQueue()
        self._early: dict[int, list[Any]] = {}
        self._ready: deque[Any] = deque()
        self._next_index = 0
        self._submitted = 0
        self._received = 0
        self.is_exhausted = False
        """Whether every chunk has been submitted."""

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result; multiprocessing.TimeoutError after ``timeout`` seconds, StopIteration at the end."""
        while not self._ready:
            if self.is_exhausted and self._received == self._submitted:
                raise StopIteration
            try:
                index, results = self._arrived.get(timeout=timeout)
            except queue.Empty:
                raise multiprocessing.TimeoutError(f"No result came within {timeout} s. Ask again later.") from None
            self._received += 1
            self.submit(1)
            self._sort_in(index, results)
        return self._ready.popleft()

    def _sort_in(self, index: int, results: list[Any]) -> None:
        self._early[index] = results
        while self._next_index in self._early:
            self._ready.extend(self._early.pop(self._next_index))
            self._next_index += 1

    def submit(self, count: int | None) -> None:
        """Submit the next chunks; None: all that are left."""
        while count is None or count > 0:
            pieces = next(self._chunks, None)
            if not pieces:
                self.is_exhausted = True
                return
            self._submit(self, self._submitted, pieces)
            self._submitted += 1
            count = None if count is None else count - 1

    def deliver(self, index: int, outcome: Outcome) -> None:
        self._arrived.put((index, outcome.results_and_errors()))

    def fail(self, index: int, error: BaseException) -> None:
        self._arrived.put((index, [error]))


class IMapUnorderedIterator(IMapIterator):
    """The results of ``imap_unordered``, as they come."""

    def _sort_in(self, index: int, results: list[Any]) -> None:
        self._ready.extend(results)
