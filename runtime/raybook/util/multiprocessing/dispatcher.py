"""Dispatcher: one thread that gives a pool's chunks to its actors, and their results to the receivers.

It decides who runs what: the longest idle actor takes the oldest chunk, and several at once when they are known to be
short (``batching``). It alone touches the actors, so it needs no locks; others talk to it through one queue.
Invariants: every chunk is delivered or failed exactly once, also when the pool is terminated or the cluster goes; an
actor that died is replaced; an actor gets at most ``max_tasks`` chunks in its life.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from raybook.api import ActorHandle, ObjectRef, get, kill
from raybook.api.context import current_runtime
from raybook.base.errors import ActorDiedError, RayActorError
from raybook.util.batching import BATCH_BYTES_MAX, TARGET_S, Outcome
from raybook.util.completion import when_ready
from raybook.util.multiprocessing.results import Chunk

CALLS_AHEAD = 2
"""Calls that an actor may have when they are short: the next one is there when the first ends."""

FINISH = "finish"
TERMINATE = "terminate"
OVER = "over"


class Seat:
    """One of the pool's processes. given: chunks that the present actor got."""

    __slots__ = ("actor", "calls", "forgotten", "given", "known")

    def __init__(self, actor: ActorHandle) -> None:
        self.calls: dict[ObjectRef, list[Chunk]] = {}
        self.take_place(actor)

    def take_place(self, actor: ActorHandle) -> None:
        self.actor = actor
        self.given = 0
        self.known: set[int] = set()
        self.forgotten: list[int] = []


class Average:
    """What one call of a function costs, lately."""

    __slots__ = ("bytes", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bytes = 0.0


class Dispatcher:
    """``make_actor`` starts one actor, without waiting. max_tasks: chunks an actor may run, None: any number."""

    def __init__(self, actors: list[ActorHandle], make_actor: Callable[[], ActorHandle], max_tasks: int | None) -> None:
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._make_actor = make_actor
        self._max_tasks = max_tasks or math.inf
        self._seats = [Seat(actor) for actor in actors]
        self._pending: deque[Chunk] = deque()
        self._averages: dict[str, Average] = {}
        self._is_finishing = False
        self._thread = threading.Thread(target=self._run, name="raybook-pool", daemon=True)
        self._thread.start()

    # Any thread

    def submit(self, chunks: list[Chunk]) -> None:
        """Queue chunks."""
        self._inbox.put(chunks)

    def forget(self, key: int) -> None:
        """No chunk will name this function again."""
        self._inbox.put(key)

    def finish(self) -> None:
        """End when everything that was submitted is done."""
        self._inbox.put(FINISH)

    def terminate(self) -> None:
        """Kill the actors now; what has no result fails."""
        self._inbox.put(TERMINATE)

    def join(self) -> None:
        """Wait until the actors are let go of."""
        self._thread.join()

    # The thread

    def _run(self) -> None:
        while True:
            message = self._inbox.get()
            if message == TERMINATE:
                self._terminate()
                return
            if message == FINISH:
                self._is_finishing = True
            elif isinstance(message, list):
                self._pending.extend(message)
            elif isinstance(message, int):
                self._forget(message)
            else:
                self._land(*message)
            if self._inbox.empty():
                # Only then: what has come meanwhile may be sent together.
                self._dispatch()
            if self._is_finishing and not self._pending and not any(seat.calls for seat in self._seats):
                self._seats.clear()
                return

    def _terminate(self) -> None:
        engine = current_runtime.engine
        for seat in self._seats:
            if engine is not None and not engine.closed and seat.actor._engine is engine:
                kill(seat.actor)
        error = ActorDiedError("The pool was terminated before this result was there. Submit the work to a new pool.")
        left = [chunk for seat in self._seats for chunks in seat.calls.values() for chunk in chunks]
        self._fail([*left, *self._pending], error)
        self._seats.clear()
        self._pending.clear()

    def _forget(self, key: int) -> None:
        for seat in self._seats:
            if key in seat.known:
                seat.known.discard(key)
                seat.forgotten.append(key)

    def _dispatch(self) -> None:
        while self._pending:
            seat = min(self._seats, key=lambda seat: len(seat.calls))
            if not self._has_room(seat):
                return
            chunks = self._take(seat)
            # Most idle first next time.
            self._seats.remove(seat)
            self._seats.append(seat)
            self._send(seat, chunks)

    def _has_room(self, seat: Seat) -> bool:
        if seat.given >= self._max_tasks:
            if seat.calls:
                return False
            self._replace(seat)
        if not seat.calls:
            return True
        expected_s = sum(self._expected(chunk)[0] for chunks in seat.calls.values() for chunk in chunks)
        return len(seat.calls) < CALLS_AHEAD and expected_s <= TARGET_S

    def _take(self, seat: Seat) -> list[Chunk]:
        """The oldest chunk, and those behind it that are short enough to go with it: no more than this seat's share."""
        pending = self._pending
        share = min(math.ceil(len(pending) / len(self._seats)), self._max_tasks - seat.given)
        taken = [pending.popleft()]
        seconds, size_bytes = self._expected(taken[0])
        while pending and len(taken) < share:
            more_s, more_bytes = self._expected(pending[0])
            if seconds + more_s > TARGET_S or size_bytes + more_bytes > BATCH_BYTES_MAX:
                break
            seconds += more_s
            size_bytes += more_bytes
            taken.append(pending.popleft())
        return taken

    def _expected(self, chunk: Chunk) -> tuple[float, float]:
        """(seconds, bytes) that a chunk takes: infinitely many as long as nobody knows."""
        average = self._averages.get(chunk.name)
        if average is None:
            return math.inf, math.inf
        return average.seconds * len(chunk.calls), average.bytes * len(chunk.calls)

    def _send(self, seat: Seat, chunks: list[Chunk]) -> None:
        learned = {c.key: c.function for c in chunks if c.key >= 0 and c.key not in seat.known}
        work = [(c.key, c.function if c.key < 0 else None, c.calls, c.name) for c in chunks]
        try:
            ref = seat.actor.run.remote(learned, seat.forgotten, work)
        except Exception as error:  # noqa: BLE001 - pickling runs user code, and the session may have ended.
            if len(chunks) == 1:
                self._fail(chunks, error)
                return
            for chunk in chunks:
                self._send(seat, [chunk])
            return
        seat.given += len(chunks)
        seat.known.update(learned)
        seat.forgotten = []
        seat.calls[ref] = chunks
        inbox = self._inbox
        when_ready(ref, lambda: inbox.put((seat, ref)))

    def _land(self, seat: Seat, ref: ObjectRef) -> None:
        """A call has ended."""
        chunks = seat.calls.pop(ref)
        try:
            outcomes: list[Outcome] = get(ref)
        except RayActorError as error:
            self._fail(chunks, error)
            self._replace(seat)
        except Exception as error:  # noqa: BLE001 - results run user code when they are rebuilt; the session may be over.
            self._fail(chunks, error)
        else:
            for chunk, outcome in zip(chunks, outcomes, strict=False):
                self._learn(chunk, outcome)
                chunk.receiver.deliver(chunk.index, outcome)
            unstarted = chunks[len(outcomes) :]
            seat.given -= len(unstarted)
            self._pending.extendleft(reversed(unstarted))

    def _learn(self, chunk: Chunk, outcome: Outcome) -> None:
        average = self._averages.setdefault(chunk.name, Average())
        count = max(1, len(chunk.calls))
        average.seconds = outcome.seconds / count
        average.bytes = outcome.size_bytes / count

    @staticmethod
    def _fail(chunks: list[Chunk], error: BaseException) -> None:
        for chunk in chunks:
            chunk.receiver.fail(chunk.index, error)

    def _replace(self, seat: Seat) -> None:
        """Another actor in this seat; the old one ends when its handle goes, after what it still has to do."""
        engine = current_runtime.engine
        if engine is not None and not engine.closed and not self._is_over():
            seat.take_place(self._make_actor())

    def _is_over(self) -> bool:
        return self._is_finishing and not self._pending
