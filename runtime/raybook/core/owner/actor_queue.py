"""Actor queue: one caller's ordered stream of calls to one actor, across its restarts.

A call is sent only when every earlier one has been sent and its own arguments are there, so a sync actor runs calls in
submission order. Calls that may overtake (of async and threaded actors, and where the class says so) stand aside until
their arguments are there, and join the end of the queue then. After a restart, unanswered calls with retries left are
sent again, in order and first; the others fail, because they may or may not have run. Knows nothing of sockets or of
how results are stored.

Invariants: calls are sent in sequence order within one incarnation; a call is queued, aside or in flight, and only one
of these.
"""

from __future__ import annotations

from collections import deque

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_PENDING, ACTOR_RESTARTING
from raybook.base.specs import Endpoint, ErrorValue
from raybook.core.owner.records import PushTo, TaskRecord
from raybook.protocol.messages.raylet import ActorUpdate
from raybook.protocol.messages.worker import PushCalls, TaskSpec

BEFORE_ALIVE = (ACTOR_PENDING, ACTOR_RESTARTING)
ACTOR_OUT_OF_MEMORY = "ActorOutOfMemoryError"
PUSH_BATCH = 512
"""Calls in one message: large enough to amortise framing, small enough to start work at once."""


class ActorQueue:
    """The caller's side of one actor."""

    __slots__ = (
        "actor_id", "aside", "creation", "death", "ended", "ending", "endpoint", "held", "in_flight", "incarnation", "queue",
        "pid", "sequence", "state",
    )  # fmt: skip

    def __init__(self, actor_id: bytes) -> None:
        self.actor_id = actor_id
        self.state = ACTOR_PENDING
        self.endpoint: Endpoint | None = None
        self.incarnation = -1
        self.pid = 0
        self.sequence = 0
        self.ending = -1
        """The life that this process is having ended, or -1."""
        self.ended = 0
        """Calls that are over, in whatever way: what ``max_pending_calls`` is counted by."""
        self.queue: deque[TaskRecord] = deque()
        self.aside: dict[bytes, TaskRecord] = {}
        """Calls that others may pass while arguments of theirs are missing, by task id."""
        self.in_flight: dict[bytes, TaskRecord] = {}
        self.death: ErrorValue | None = None
        self.held: list | None = None
        """Creation arguments kept for restarts (only on the creator's side)."""
        self.creation: object = None

    def submit(self, record: TaskRecord) -> ErrorValue | None:
        """Queue a call. Returns the error it fails with at once: the actor is dead, or it is restarting and the call
        has no retries (behaviour 18)."""
        if self.state == ACTOR_DEAD:
            return self.death
        if self.state == ACTOR_RESTARTING and not record.retries_left:
            return unavailable(self)
        if record.unresolved and record.may_overtake:
            self.aside[record.spec.task_id] = record
        else:
            self.queue.append(record)
        return None

    def resolved(self, record: TaskRecord) -> None:
        """The last argument of a call is there: one that stood aside joins the queue."""
        if self.aside.pop(record.spec.task_id, None) is not None:
            self.queue.append(record)

    def send_ready(self, effects: list) -> None:
        """Send from the head of the queue as far as arguments are there."""
        queue = self.queue
        if not queue or self.state != ACTOR_ALIVE or self.endpoint is None:
            return
        endpoint = self.endpoint
        while queue and not queue[0].unresolved:
            batch: list[TaskRecord] = []
            specs: list[TaskSpec] = []
            while queue and len(batch) < PUSH_BATCH and not queue[0].unresolved:
                record = queue.popleft()
                spec = record.spec
                spec.sequence = self.sequence
                self.sequence += 1
                self.in_flight[spec.task_id] = record
                stats = record.stats
                stats.in_flight += 1
                stats.changed = True
                batch.append(record)
                specs.append(spec)
            effects.append(PushTo(endpoint.client_id, endpoint.address, PushCalls(self.incarnation, specs), batch))

    def answered(self, record: TaskRecord) -> bool:
        """A reply came. False when this call is not in flight (a late reply of an earlier life)."""
        if self.in_flight.pop(record.spec.task_id, None) is None:
            return False
        record.stats.in_flight -= 1
        record.stats.changed = True
        return True

    def withdraw(self, record: TaskRecord) -> bool:
        """Take an unsent call out. False when it was sent already."""
        if self.aside.pop(record.spec.task_id, None) is not None:
            return True
        try:
            self.queue.remove(record)
        except ValueError:
            return False
        return True

    def bounced(self, record: TaskRecord) -> None:
        """The actor did not take it (another incarnation): back to the front, in sequence order."""
        if self.answered(record):
            self.queue.appendleft(record)

    def hold_back(self) -> None:
        """This life of the actor is being ended: send nothing more to it, and wait for what the GCS says."""
        if self.state == ACTOR_ALIVE:
            self.state = ACTOR_PENDING
            self.endpoint = None
            self.ending = self.incarnation

    def cut_off(self, reason: str) -> list[tuple[TaskRecord, ErrorValue]]:
        """Its process lives, as far as the GCS has said, and the network to it is broken. Calls on their way may have run:
        those with retries are sent again, first and in order, the others fail. Returns these."""
        failed: list[tuple[TaskRecord, ErrorValue]] = []
        again = []
        for record in self._take_in_flight():
            if record.retries_left and not record.cancelled:
                record.retries_left -= 1 if record.retries_left > 0 else 0
                record.spec.attempt += 1
                again.append(record)
            else:
                failed.append((record, out_of_reach(self, reason)))
        self.queue.extendleft(reversed(again))
        return failed

    def update(self, update: ActorUpdate) -> list[tuple[TaskRecord, ErrorValue]]:
        """The GCS tells the actor's state. Returns the calls that fail by it, each with its error."""
        if update.incarnation < self.incarnation:
            return []
        if update.state == ACTOR_ALIVE and update.incarnation == self.ending:
            return []
        if self.state == ACTOR_DEAD or (
            self.state == ACTOR_ALIVE and update.incarnation == self.incarnation and update.state in BEFORE_ALIVE
        ):
            # What was known when a raylet asked, told after the news: a life does not begin twice.
            return []
        failed: list[tuple[TaskRecord, ErrorValue]] = []
        if update.state == ACTOR_DEAD:
            self.state = ACTOR_DEAD
            self.endpoint = None
            self.death = death_error(update)
            lost = [*self._take_in_flight(), *self.queue, *self.aside.values()]
            self.queue.clear()
            self.aside.clear()
            return [(record, self.death) for record in lost]
        if update.incarnation > self.incarnation or update.state == ACTOR_RESTARTING:
            again = []
            for record in self._take_in_flight():
                if record.retries_left and not record.cancelled:
                    record.retries_left -= 1 if record.retries_left > 0 else 0
                    record.spec.attempt += 1
                    again.append(record)
                else:
                    failed.append((record, unavailable(self, update)))
            self.queue.extendleft(reversed(again))
        if update.incarnation > self.incarnation:
            self.incarnation = update.incarnation
            self.sequence = 0
        self.state = update.state
        self.pid = update.pid
        if update.moving:
            # Whether this life has ended or not: calls wait for the next one, and none fails for coming between.
            self.state = ACTOR_PENDING
            if update.state == ACTOR_ALIVE:
                self.ending = update.incarnation
        self.endpoint = update.endpoint if self.state == ACTOR_ALIVE else None
        return failed

    def _take_in_flight(self) -> list[TaskRecord]:
        records = list(self.in_flight.values())
        self.in_flight.clear()
        for record in records:
            record.stats.in_flight -= 1
            record.stats.changed = True
        return records

    def check_invariants(self) -> None:
        queued = {record.spec.task_id for record in self.queue}
        assert not queued & self.in_flight.keys(), "a call is both queued and in flight"
        assert not self.aside.keys() & (queued | self.in_flight.keys()), (
            "a call stands aside and is queued or in flight"
        )
        sequences = [record.spec.sequence for record in self.in_flight.values()]
        assert sequences == sorted(sequences), "calls were sent out of order"


def unavailable(queue: ActorQueue, update: ActorUpdate | None = None) -> ErrorValue:
    """The actor is restarting and the call may have run. update: what the GCS said of that, if it is known."""
    code = "ActorUnavailableError"
    cause = ""
    if update is not None and update.death:
        cause = f" The cause: {update.death}"
        if update.death_code == ACTOR_OUT_OF_MEMORY:
            code = "OutOfMemoryError"
    return ErrorValue(
        code,
        f"The actor {queue.actor_id.hex()} is unavailable: its process ended and it is being restarted. The task "
        f"may or may not have been executed on it. Call again, or set max_task_retries on the actor so that raybook "
        f"does.{cause}",
        actor_id=queue.actor_id,
    )


def out_of_reach(queue: ActorQueue, reason: str) -> ErrorValue:
    """The actor lives and cannot be reached."""
    return ErrorValue(
        "ActorUnavailableError",
        f"The actor {queue.actor_id.hex()} is unavailable: its process {queue.pid} lives, as far as the head knows, and "
        f"cannot be reached from here ({reason}). The task may or may not have been executed on it. Call again when the "
        f"network is whole, or set max_task_retries on the actor so that raybook does.",
        actor_id=queue.actor_id,
    )


def death_error(update: ActorUpdate) -> ErrorValue:
    """Why every further call fails."""
    code = update.death_code or "ActorDiedError"
    return ErrorValue(code, update.death, update.death_payload, actor_id=update.actor_id)
