"""Actor pool: a fixed set of actors, and calls that wait until one of them is free.

It decides which actor takes which call and in which order results are handed out. It makes no actors and ends none.
Invariants: an actor has at most one call of the pool; a call that was submitted is handed out once, or dropped by
``ignore_if_timedout`` or by a new ``map``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from raybook.api import ActorHandle, ObjectRef, get, wait

V = TypeVar("V")
Call = Callable[[ActorHandle, V], Any]


class ActorPool:
    """``ActorPool([a, b]).map(lambda actor, value: actor.work.remote(value), values)``."""

    def __init__(self, actors: Iterable[ActorHandle]) -> None:
        self._idle = list(actors)
        self._waiting: deque[tuple[Call, Any]] = deque()
        self._running: dict[int, tuple[list[ObjectRef], bool, ActorHandle]] = {}
        """By number of submission, in that order: refs, whether the call returned a list of them, its actor."""
        self._next_number = 0

    def map(self, fn: Call, values: Iterable[V]) -> Iterator[Any]:
        """Call ``fn(actor, value)`` for every value, now; the results, in order, as they are asked for. What an earlier
        ``map`` or ``submit`` has not handed out is dropped."""
        self._submit_all(fn, values)
        return self._hand_out(self.get_next)

    def map_unordered(self, fn: Call, values: Iterable[V]) -> Iterator[Any]:
        """As ``map``, each result as soon as it is there."""
        self._submit_all(fn, values)
        return self._hand_out(self.get_next_unordered)

    def _submit_all(self, fn: Call, values: Iterable[V]) -> None:
        while self._running:
            self._take(next(iter(self._running)))
        for value in values:
            self.submit(fn, value)

    def _hand_out(self, get_one: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield get_one()

    def submit(self, fn: Call, value: V) -> None:
        """Call ``fn(actor, value)``, which returns an ObjectRef (or a list of them), on a free actor; later if there is
        none."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            returned = fn(actor, value)
        except BaseException:
            self._idle.append(actor)
            raise
        is_list = isinstance(returned, list)
        self._running[self._next_number] = (returned if is_list else [returned], is_list, actor)
        self._next_number += 1

    def has_next(self) -> bool:
        """Whether a result is, or will be, there."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The oldest result not handed out yet; blocks until it is there.

        StopIteration when there is none. TimeoutError after ``timeout`` seconds; with ``ignore_if_timedout`` that call
        is dropped (its actor counts as free again), otherwise it can be asked for again. Raises what the call raised.
        """
        self._require_one()
        number = next(iter(self._running))
        refs = self._running[number][0]
        if timeout is not None:
            ready, _ = wait(refs, num_returns=len(refs), timeout=timeout)
            if len(ready) < len(refs):
                self._time_out(number, timeout, ignore_if_timedout)
        return self._result(number)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """As ``get_next``, whichever is there first. What ``ignore_if_timedout`` drops is the oldest."""
        self._require_one()
        number_of = {refs[-1]: number for number, (refs, _, _) in self._running.items()}
        ready, _ = wait(list(number_of), num_returns=1, timeout=timeout)
        if not ready:
            self._time_out(next(iter(self._running)), timeout, ignore_if_timedout)
        return self._result(number_of[ready[0]])

    def _require_one(self) -> None:
        if not self._running:
            raise StopIteration("No more results to get")

    def _time_out(self, number: int, timeout: float | None, ignore: bool) -> None:
        if not ignore:
            raise TimeoutError(f"Timed out waiting for result: none was ready after {timeout} s. Ask again later.")
        refs = self._take(number)[0]
        raise TimeoutError(
            f"Timed out waiting for result: none was ready after {timeout} s. The task of {refs[0]!r} has been "
            "ignored: it goes on, and its result is dropped."
        )

    def _result(self, number: int) -> Any:
        refs, is_list = self._take(number)
        return get(refs) if is_list else get(refs[0])

    def _take(self, number: int) -> tuple[list[ObjectRef], bool]:
        refs, is_list, actor = self._running.pop(number)
        self._free(actor)
        return refs, is_list

    def _free(self, actor: ActorHandle) -> None:
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())

    def has_free(self) -> bool:
        """Whether an actor is idle and nothing waits for it."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle | None:
        """Take an idle actor out of the pool; None when there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle) -> None:
        """Add an actor. ValueError when it belongs to the pool already."""
        if actor in self._idle or any(actor == busy for _, _, busy in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._free(actor)
