"""Helpers around refs: ``as_completed`` and ``map_unordered``.

They decide how many tasks are in flight and in which order results are handed out. Tiny items are sent many to a task
(see ``batching``): a task costs some ten microseconds however little it does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from raybook.api import ObjectRef, RemoteFunction, get, remote, wait
from raybook.util.batching import BatchSize, Outcome, run_each, spare_the_others
from raybook.util.give_back import LATE_S, Late, Turnstile, new_batch_id

PROBE_S = 0.002
"""How long the first item may take before it counts as not tiny, and every item gets a task of its own."""


def as_completed(refs: Sequence[ObjectRef], chunk_size: int = 10, yield_obj_refs: bool = False) -> Iterator[Any]:
    """The values of ``refs`` as they become ready, ``chunk_size`` at a time, in the order of ``refs`` inside a chunk.

    ``chunk_size=1`` gives the first that is ready at once; larger chunks cost less when results are many and small.
    yield_obj_refs: the refs instead of the values. Raises what a task raised when its turn comes. ValueError for a
    chunk_size below 1.
    """
    _check_chunk_size(chunk_size)
    return _as_completed(list(refs), chunk_size, yield_obj_refs)


def _as_completed(refs: list[ObjectRef], chunk_size: int, yield_obj_refs: bool) -> Iterator[Any]:
    while refs:
        ready, refs = wait(refs, num_returns=min(chunk_size, len(refs)), fetch_local=not yield_obj_refs)
        yield from ready if yield_obj_refs else get(ready)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
) -> Iterator[Any]:
    """``fn.remote(item)`` for every item, and the results in the order in which they come, as ``as_completed`` has it.

    fn: a remote function, or the method of an actor. items: any iterable, taken as room is made.
    backpressure_size: how many tasks may be in flight; None: any number.

    Items of a remote function that take microseconds are sent many to one task, as their measured time allows: 1,000
    no-ops take about as long as ten tasks. Not with ``yield_obj_refs``, ``retry_exceptions``, ``max_calls`` or several
    returns, where every item needs a task of its own. ValueError for a backpressure_size or chunk_size below 1.
    """
    _check_chunk_size(chunk_size)
    if backpressure_size is not None and backpressure_size <= 0:
        raise ValueError("backpressure_size must be positive.")
    flight = _Flight(fn, iter(items), backpressure_size, chunk_size)
    if yield_obj_refs or not _may_share_a_task(fn):
        return flight.run_single(yield_obj_refs)
    return flight.run_batched()


class _Flight:
    """One ``map_unordered``: what is in flight, and what may still take off."""

    def __init__(self, fn: Any, items: Iterator[Any], tasks_max: int | None, chunk_size: int) -> None:
        self._fn = fn
        self._items = items
        self._tasks_max = float("inf") if tasks_max is None else tasks_max
        self._chunk_size = chunk_size

    def run_single(self, yield_obj_refs: bool) -> Iterator[Any]:
        """A task for each item."""
        in_flight: list[ObjectRef] = []
        for item in self._items:
            in_flight.append(self._fn.remote(item))
            while len(in_flight) >= self._tasks_max:
                ready, in_flight = self._wait_for_chunk(in_flight, fetch_local=not yield_obj_refs)
                yield from ready if yield_obj_refs else get(ready)
        yield from _as_completed(in_flight, self._chunk_size, yield_obj_refs)

    def run_batched(self) -> Iterator[Any]:
        """As many items to a task as take about a millisecond or two together."""
        submit = _batch_submitter(self._fn)
        size = BatchSize()
        in_flight: dict[ObjectRef, _Batch] = {}
        if first := self._take(1):
            ref, batch = submit(first)
            in_flight[ref] = batch
            # Whether the items are tiny is known after the first: worth a moment, which long items do not notice.
            ready, _ = wait([ref], timeout=PROBE_S)
            if ready:
                yield from self._land(ref, in_flight, size)
        while True:
            while len(in_flight) < self._tasks_max and (items := self._take(size.items)):
                ref, batch = submit(items)
                in_flight[ref] = batch
            if not in_flight:
                return
            wanted = min(self._chunk_size, len(in_flight))
            may_be_late = any(len(batch.items) > 1 for batch in in_flight.values())
            ready, _ = wait(list(in_flight), num_returns=wanted, timeout=LATE_S if may_be_late else None)
            if len(ready) == wanted:
                for ref in ready:
                    yield from self._land(ref, in_flight, size)
            else:
                for batch in in_flight.values():
                    yield from self._fetch_back(batch)

    def _fetch_back(self, batch: _Batch) -> Iterator[Any]:
        """The results of a late batch so far; what it has not begun is to be sent again."""
        note = batch.late.note() if len(batch.items) > 1 else None
        if note is None:
            return
        self._items = chain(batch.items[note.begun :], self._items)
        del batch.items[note.begun :]
        if note.done is not None and not batch.handed_out:
            batch.handed_out = len(note.done.values)
            yield from note.done.results()

    def _land(self, ref: ObjectRef, in_flight: dict[ObjectRef, _Batch], size: BatchSize) -> Iterator[Any]:
        batch = in_flight.pop(ref)
        outcome: Outcome = get(ref)
        size.learn(outcome)
        if outcome.left:
            batch.late.forget()
            self._items = chain(batch.items[len(outcome.values) :], self._items)
        return outcome.results(batch.handed_out)

    def _take(self, count: int) -> list[Any]:
        return list(islice(self._items, count))

    def _wait_for_chunk(self, refs: list[ObjectRef], fetch_local: bool) -> tuple[list[ObjectRef], list[ObjectRef]]:
        return wait(refs, num_returns=min(self._chunk_size, len(refs)), fetch_local=fetch_local)


def _may_share_a_task(fn: Any) -> bool:
    if not isinstance(fn, RemoteFunction):
        return False
    if inspect.isgeneratorfunction(fn._function):
        return False
    options = fn._options
    return (
        options.get("num_returns") in (None, 1) and not options.get("retry_exceptions") and not options.get("max_calls")
    )


class _Batch:
    """Items that share a task, and what is known of it when it is late. handed_out: results taken from its note."""

    __slots__ = ("handed_out", "items", "late")

    def __init__(self, items: list[Any], late: Late) -> None:
        self.items = items
        self.late = late
        self.handed_out = 0


def _batch_submitter(fn: RemoteFunction) -> Callable[[list[Any]], tuple[ObjectRef, _Batch]]:
    function = fn._function
    name = fn._options.get("name") or function.__qualname__.rpartition("<locals>.")[2]

    def run_batch(batch_id: bytes, *items: Any) -> Outcome:
        with Turnstile(len(items), batch_id) as turnstile:
            outcome = run_each(function, items, name, turnstile)
        spare_the_others(outcome, name)
        return outcome

    batched = remote(**{**fn._options, "name": name})(run_batch)

    def submit(items: list[Any]) -> tuple[ObjectRef, _Batch]:
        batch_id = new_batch_id()
        # As positional arguments, so that an item that is a ref is resolved, as it would be by itself.
        return batched.remote(batch_id, *items), _Batch(items, Late(batch_id))

    return submit


def _check_chunk_size(chunk_size: int) -> None:
    if chunk_size < 1:
        raise ValueError("`chunk_size` must be >= 1")
