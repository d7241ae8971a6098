"""Dispatcher: one thread that gives a pool's chunks to its actors, and their results to the receivers.

It decides who runs what: the longest idle actor takes the oldest chunk, and several at once when they are known to be
short (``batching``); what a late actor has not begun goes to another (``give_back``). It alone touches the actors, so
it needs no locks; others talk to it through one queue.
Invariants: every chunk is delivered or failed exactly once, also when the pool is terminated or the cluster goes; an
actor that died is replaced; an actor gets at most ``max_tasks`` chunks in its life.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from raybook.api import ActorHandle, ObjectRef, get, kill
from raybook.api.context import current_runtime
from raybook.base.errors import ActorDiedError, LocalRayletDiedError, RayActorError, RayError
from raybook.util.batching import BATCH_BYTES_MAX, TARGET_S, Outcome
from raybook.util.completion import when_ready
from raybook.util.give_back import LATE_S, Late, new_batch_id
from raybook.util.multiprocessing.results import Chunk

logger = logging.getLogger(__name__)

FINISH = "finish"
TERMINATE = "terminate"


class Call:
    """``sent`` chunks that were sent together. chunks: those of them that were not given back; done: how many of these
    have been delivered before its end."""

    __slots__ = ("chunks", "done", "late", "ref", "sent")

    def __init__(self, ref: ObjectRef, chunks: list[Chunk], late: Late) -> None:
        self.ref = ref
        self.chunks = chunks
        self.sent = len(chunks)
        self.done = 0
        self.late = late

    def undone(self) -> list[Chunk]:
        return self.chunks[self.done :]


class Seat:
    """One of the pool's processes. call: what it works on; given: chunks that the present actor got."""

    __slots__ = ("actor", "call", "forgotten", "given", "known")

    def __init__(self, actor: ActorHandle) -> None:
        self.call: Call | None = None
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
        self._averages: dict[tuple[str, int], Average] = {}
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
            message = self._next_message()
            if message == TERMINATE:
                self._terminate()
                return
            if message == FINISH:
                self._is_finishing = True
            elif isinstance(message, list):
                self._pending.extend(message)
            elif isinstance(message, int):
                self._forget(message)
            elif message is not None:
                self._land(message)
            if self._inbox.empty():
                # Only then: what has come meanwhile may be sent together.
                self._dispatch()
            if self._is_finishing and not self._pending and all(seat.call is None for seat in self._seats):
                self._seats.clear()
                return

    def _next_message(self) -> Any:
        """None when it was only time to ask late actors for what they have not begun."""
        is_shared = any(seat.call is not None and len(seat.call.chunks) > 1 for seat in self._seats)
        try:
            message = self._inbox.get(timeout=LATE_S if is_shared else None)
        except queue.Empty:
            message = None
        for seat in self._seats:
            if seat is not message:
                self._fetch_back(seat)
        return message

    def _fetch_back(self, seat: Seat) -> None:
        call = seat.call
        if call is None or len(call.chunks) < 2:
            return
        note = call.late.note()
        if note is None:
            return
        self._pending.extendleft(reversed(call.chunks[note.begun :]))
        del call.chunks[note.begun :]
        if note.done is not None and not call.done:
            call.done = len(note.done)
            self._deliver(call.chunks, note.done)

    def _deliver(self, chunks: list[Chunk], outcomes: list[Outcome]) -> None:
        for chunk, outcome in zip(chunks, outcomes, strict=False):
            self._learn(chunk, outcome)
            chunk.receiver.deliver(chunk.index, outcome)

    def _terminate(self) -> None:
        engine = current_runtime.engine
        for seat in self._seats:
            if engine is not None and not engine.closed and seat.actor._engine is engine:
                # The session may end right here; its actors end with it.
                with suppress(LocalRayletDiedError):
                    kill(seat.actor)
        error = ActorDiedError("The pool was terminated before this result was there. Submit the work to a new pool.")
        left = [chunk for seat in self._seats if seat.call is not None for chunk in seat.call.undone()]
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
            seat = next((seat for seat in self._seats if seat.call is None), None)
            if seat is None:
                return
            if seat.given >= self._max_tasks:
                self._replace(seat)
            # The others have waited longer next time.
            self._seats.remove(seat)
            self._seats.append(seat)
            self._send(seat, self._take(seat))

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
        average = self._averages.get(chunk.kind)
        if average is None:
            return math.inf, math.inf
        return average.seconds * len(chunk.pieces), average.bytes * len(chunk.pieces)

    def _send(self, seat: Seat, chunks: list[Chunk]) -> None:
        learned = {c.key: c.function for c in chunks if c.key >= 0 and c.key not in seat.known}
        work = [(c.key, c.function if c.key < 0 else None, c.pieces, c.is_star, c.name) for c in chunks]
        batch_id = new_batch_id()
        try:
            ref = seat.actor.run.remote(batch_id, learned, seat.forgotten, work)
        except Exception as error:  # noqa: BLE001 - pickling runs user code, and the session may have ended.
            # Whose fault it is shows when the first goes alone.
            self._pending.extendleft(reversed(chunks[1:]))
            if len(chunks) == 1:
                self._fail(chunks, error)
            else:
                self._send(seat, chunks[:1])
            return
        seat.given += len(chunks)
        seat.known.update(learned)
        seat.forgotten = []
        seat.call = Call(ref, chunks, Late(batch_id))
        inbox = self._inbox
        when_ready(ref, lambda: inbox.put(seat))

    def _land(self, seat: Seat) -> None:
        """A call has ended."""
        call, seat.call = seat.call, None
        assert call is not None, "only a call that was sent can end"
        try:
            outcomes: list[Outcome] = get(call.ref)
        except RayActorError as error:
            self._fail(call.undone(), error)
            self._replace(seat)
        except Exception as error:  # noqa: BLE001 - results run user code when rebuilt; the session may be over.
            self._fail(call.undone(), error)
        else:
            self._deliver(call.undone(), outcomes[call.done :])
            if len(outcomes) < call.sent:
                call.late.forget()
                seat.given -= call.sent - len(outcomes)
                self._pending.extendleft(reversed(call.chunks[len(outcomes) :]))

    def _learn(self, chunk: Chunk, outcome: Outcome) -> None:
        average = self._averages.setdefault(chunk.kind, Average())
        count = max(1, len(chunk.pieces))
        average.seconds = outcome.seconds / count
        average.bytes = outcome.size_bytes / count

    @staticmethod
    def _fail(chunks: list[Chunk], error: BaseException) -> None:
        for chunk in chunks:
            chunk.receiver.fail(chunk.index, error)

    def _replace(self, seat: Seat) -> None:
        """Another actor in this seat; the old one ends when its handle goes, after what it still has to do."""
        if self._is_finishing and not self._pending:
            return
        try:
            seat.take_place(self._make_actor())
        except (RayError, RuntimeError):
            # The session is over: what is sent to the old actor fails with the reason.
            logger.info("A pool could not replace a process.", exc_info=True)
