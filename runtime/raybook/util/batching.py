"""Batching: many small pieces of work in one task, and how many that should be.

``run_each`` runs in the worker, ``BatchSize`` decides in the driver. Neither knows how the work travels.
Invariants: a piece that has run is not run again; one that raised does not spoil the others; what has not begun when
the batch's time is up is given back (``give_back``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle
import msgspec

from raybook.api.serializers import serialization_error
from raybook.base.error_values import error_from_value, value_from_error
from raybook.base.errors import RayTaskError
from raybook.base.specs import ErrorValue
from raybook.util.give_back import Turnstile

TARGET_S = 0.002
"""What a batch should take: twenty times what a task costs, and too short for anybody to notice."""
BATCH_BYTES_MAX = 64 * 1024
"""Arguments and results of a batch together, as far as sizes can be guessed: they shall travel inside messages."""
BATCH_ITEMS_MAX = 1000
OBJECT_HEAD_BYTES = 32
SAMPLE_VALUES = 16
COLD_S = 20e-6
"""What the first call of a function in a process costs by itself. Taking it for the function's own time would make the
first batches too small; too large ones give back what they cannot do in time."""


class Outcome(msgspec.Struct):
    """What became of a batch: the values of the pieces that ran, errors by position (where the value is None), and how
    many at the end did not get their turn."""

    values: list[Any]
    errors: dict[int, ErrorValue]
    left: int
    seconds: float
    size_bytes: int

    def results(self, start: int = 0) -> Iterator[Any]:
        """The values in order, from ``start``; raises the error of a piece when its turn comes."""
        for position, value in enumerate(self.values[start:], start):
            if position in self.errors:
                raise error_from_value(self.errors[position])
            yield value

    def results_and_errors(self) -> list[Any]:
        """The values in order, with the exception itself where a piece raised."""
        if not self.errors:
            return self.values
        return [
            error_from_value(self.errors[position]) if position in self.errors else value
            for position, value in enumerate(self.values)
        ]


class BatchSize:
    """How many pieces make a batch, learned from the batches so far. One until the first has come back."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items = 1

    def learn(self, outcome: Outcome) -> None:
        """Follow the last batch: work changes its size more often than not."""
        done = len(outcome.values)
        if done:
            seconds = outcome.seconds - COLD_S if done == 1 else outcome.seconds
            self.items = batch_items(seconds / done, outcome.size_bytes / done)


def batch_items(seconds_each: float, bytes_each: float) -> int:
    """How many pieces that take this much time and space make a batch: 1 to ``BATCH_ITEMS_MAX``."""
    by_time = TARGET_S / max(seconds_each, 1e-9)
    by_size = BATCH_BYTES_MAX / max(bytes_each, 1.0)
    return max(1, min(BATCH_ITEMS_MAX, int(by_time), int(by_size)))


def run_each(
    function: Callable[..., Any], pieces: Sequence[Any], name: str, turnstile: Turnstile, is_star: bool = False
) -> Outcome:
    """Call ``function(piece)`` (``function(*piece)`` with ``is_star``) for every piece that the turnstile lets through.

    name: of the task, for tracebacks. Exceptions become values; KeyboardInterrupt and SystemExit are let through. Cost:
    0.3 µs a piece beside the function's own.
    """
    started = time.perf_counter()
    values: list[Any] = []
    errors: dict[int, ErrorValue] = {}

    def outcome(count: int) -> Outcome:
        seconds = time.perf_counter() - started
        known = {at: error for at, error in errors.items() if at < count}
        size_bytes = _size_of_all(values[:count]) + _size_of_all(pieces[:count])
        return Outcome(values[:count], known, len(pieces) - count, seconds, size_bytes)

    turnstile.snapshot = outcome
    may_begin = turnstile.take
    for piece in pieces:
        if not may_begin():
            break
        try:
            values.append(function(*piece) if is_star else function(piece))
        except Exception as error:  # noqa: BLE001 - user code; the error is the result of this piece.
            errors[len(values)] = _error_value(error, name)
            values.append(None)
    return outcome(len(values))


def spare_the_others(outcome: Outcome, name: str) -> None:
    """A value that cannot travel back becomes an error of its own, and not that of the whole batch. Cost: one pickling
    of the values, or one each when there is such a value."""
    if len(outcome.values) < 2 or serialization_error(outcome.values) is None:
        return
    for position, value in enumerate(outcome.values):
        error = serialization_error(value)
        if error is not None:
            outcome.errors[position] = _error_value(error, name)
            outcome.values[position] = None


def _error_value(error: Exception, name: str) -> ErrorValue:
    return value_from_error(RayTaskError.from_exception(name, error, os.getpid(), ""), cloudpickle.dumps)


def _size_of_all(values: Sequence[Any]) -> int:
    """A guess at the pickled size of many values, from some of them."""
    sample = values[:: max(1, len(values) // SAMPLE_VALUES)]
    return sum(map(_size_of, sample)) * len(values) // max(1, len(sample))


def _size_of(value: Any) -> int:
    """A guess at the pickled size: arrays and tables say it, containers only count themselves, and the rest is what
    an object has beyond its head, which pickle leaves out."""
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else max(4, sys.getsizeof(value, 64) - OBJECT_HEAD_BYTES)
