"""Router: sends the requests of this process for one deployment to its replicas.

A request goes out in its caller's thread when a replica has room; else it waits in a queue, which the hub's thread empties
as results arrive. Which replica is `core/choice`'s decision. Loads are counted lazily: a request ends when its result is
taken; results that nobody took are looked for only when all replicas seem full, so a sequence of calls pays for no
bookkeeping beyond a counter. Invariants: a replica is sent at most `max_ongoing_requests` of this process's requests at a
time; requests are sent in order of arrival, but for those whose arguments are not there yet.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import Any

from raybook.api import wait as wait_for_refs
from raybook.api.object_ref import engine_of
from raybook.api.object_ref_generator import ObjectRefGenerator
from raybook.serve.assignment import Assignment
from raybook.serve.core.choice import choose
from raybook.serve.core.names import DeploymentID
from raybook.serve.exceptions import BackPressureError, DeploymentUnavailableError

logger = logging.getLogger("ray.serve")
SWEEP_S = 0.002
"""How often, at most, a full router looks for results that nobody took."""


class Slot:
    """One replica as this process sees it."""

    __slots__ = ("handle", "is_near", "limit", "load", "methods", "models", "running", "unique_id")

    def __init__(self, unique_id: str, handle: Any, limit: int, models: frozenset[str], is_near: bool) -> None:
        self.unique_id = unique_id
        self.handle = handle
        self.limit = limit
        self.models = models
        self.is_near = is_near
        self.load = 0
        self.running: dict[Assignment, bool] = {}
        """Requests sent and not over → whether the hub will hear of their end."""
        self.methods: dict[str, Any] = {}

    def method(self, verb: str) -> Any:
        found = self.methods.get(verb)
        if found is None:
            found = self.methods[verb] = getattr(self.handle, verb)
        return found


class Router:
    """Of one deployment, in one process. Any thread."""

    def __init__(self, hub: Any, deployment: DeploymentID) -> None:
        self.deployment = deployment
        self.version: Any = None
        """Of the last snapshot of the controller's."""
        self.is_autoscaled = False
        self.backpressure: tuple[int, float | None] = (503, None)
        self._hub = hub
        self._lock = threading.Lock()
        self._slots: list[Slot] = []
        self._queue: deque[Assignment] = deque()
        self._max_queued = -1
        self._unavailable = ""
        self._is_known = threading.Event()
        self._draw = random.Random().randrange
        self._swept_s = 0.0

    @property
    def queued(self) -> int:
        """Requests that wait here."""
        return len(self._queue)

    def running(self) -> int:
        """Requests of this process that replicas have, as far as is known."""
        return sum(slot.load for slot in self._slots)

    def is_populated(self) -> bool:
        """Whether any replica is known."""
        return bool(self._slots)

    @property
    def max_queued(self) -> int:
        """How many requests may wait with one caller."""
        return self._max_queued

    def wait_until_known(self, timeout_s: float | None) -> bool:
        """Block until a replica is known, or that there is none; False when the time is over."""
        return self._is_known.wait(timeout_s)

    def is_only(self, unique_id: str) -> bool:
        """Whether this replica is the only one."""
        slots = self._slots
        return len(slots) == 1 and slots[0].unique_id == unique_id

    # Requests

    def submit(self, assignment: Assignment) -> None:
        """Send it, or let it wait. BackPressureError and DeploymentUnavailableError end up in the assignment."""
        with self._lock:
            if not self._queue and self._send(assignment):
                return
            if self._unavailable:
                error: Exception = DeploymentUnavailableError(self.deployment, self._unavailable)
            elif 0 <= self._max_queued <= len(self._queue):
                error = BackPressureError(len(self._queue), self._max_queued, *self.backpressure)
            else:
                self._queue.append(assignment)
                self._listen_for_ends()
                self._hub.note_queue(self)
                return
        assignment.refuse(error)

    def _send(self, assignment: Assignment) -> bool:
        """Under the lock: hand it to a replica that has room."""
        slot = choose(self._slots, assignment.model_id, self._draw)
        if slot is None:
            if not self._slots or not self._sweep():
                return False
            slot = choose(self._slots, assignment.model_id, self._draw)
            if slot is None:
                return False
        slot.load += 1
        slot.running[assignment] = False
        assignment.slot = slot
        if assignment.model_id and assignment.model_id not in slot.models:
            slot.models |= {assignment.model_id}
        try:
            ref = slot.method(assignment.verb).remote(assignment.call, *assignment.args, **assignment.kwargs)
        except Exception as error:  # noqa: BLE001 - arguments that cannot be pickled; the caller hears of it.
            self._end(assignment)
            assignment.refuse(error)
            return True
        assignment.args, assignment.kwargs = (), {}
        assignment.sent(ref)
        if self._queue:
            self._listen(assignment)
        return True

    def send_to_all(self, call: tuple, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
        """One call of each replica, beside the queue and its limits; the results to come. DeploymentUnavailableError."""
        with self._lock:
            if self._unavailable:
                raise DeploymentUnavailableError(self.deployment, self._unavailable)
            return [slot.method("handle_request").remote(call, *args, **kwargs) for slot in self._slots]

    def finish(self, assignment: Assignment) -> None:
        """Its result has been taken, or it will not come."""
        if assignment.over:
            return
        with self._lock:
            self._end(assignment)
            has_waiting = bool(self._queue)
        if has_waiting:
            self._hub.ask_to_drain(self)

    def _end(self, assignment: Assignment) -> None:
        if assignment.over:
            return
        assignment.over = True
        slot = assignment.slot
        if slot is not None and slot.running.pop(assignment, None) is not None:
            slot.load -= 1

    def cancel(self, assignment: Assignment) -> bool:
        """Take a request that waits out of the queue; False when it has been sent."""
        with self._lock:
            try:
                self._queue.remove(assignment)
            except ValueError:
                return False
            return True

    def drain(self) -> None:
        """The hub's thread: send what waits and fits."""
        with self._lock:
            while self._queue:
                assignment = self._queue[0]
                if not assignment.is_cancelled and not self._send(assignment):
                    self._listen_for_ends()
                    return
                self._queue.popleft()

    # Results that nobody took

    def _sweep(self) -> bool:
        """Whether any request turned out to be over."""
        now = time.monotonic()
        if now - self._swept_s < SWEEP_S:
            return False
        self._swept_s = now
        sent = [assignment for slot in self._slots for assignment in slot.running]
        refs = {_end_of(assignment): assignment for assignment in sent if assignment.ref is not None}
        if not refs:
            return False
        ready, _ = wait_for_refs(list(refs), num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            self._end(refs[ref])
        return bool(ready)

    def _listen_for_ends(self) -> None:
        for slot in self._slots:
            for assignment, is_heard in slot.running.items():
                if not is_heard:
                    self._listen(assignment)

    def _listen(self, assignment: Assignment) -> None:
        if assignment.ref is None:
            return
        assignment.slot.running[assignment] = True
        ref = _end_of(assignment)
        engine_of(ref).when_ready(ref, lambda: self._hub.tell_ended(self, assignment))

    # Replicas

    def update(self, snapshot: dict[str, Any], node_id: str) -> None:
        """What the controller says of the deployment now."""
        with self._lock:
            self.version = snapshot["version"]
            self._max_queued = snapshot["max_queued"]
            self.backpressure = tuple(snapshot["backpressure"])  # type: ignore[assignment]
            self.is_autoscaled = snapshot["is_autoscaled"]
            self._unavailable = snapshot["unavailable"]
            known = {slot.unique_id: slot for slot in self._slots}
            self._slots = []
            for unique_id, handle, node, models in snapshot["replicas"]:
                slot = known.get(unique_id)
                if slot is None:
                    slot = Slot(unique_id, handle, snapshot["limit"], frozenset(models), node == node_id)
                slot.limit, slot.models = snapshot["limit"], frozenset(models)
                self._slots.append(slot)
            if self._slots or self._unavailable:
                self._is_known.set()
            refused = []
            if self._unavailable:
                refused, self._queue = list(self._queue), deque()
        for assignment in refused:
            assignment.refuse(DeploymentUnavailableError(self.deployment, self._unavailable))
        self.drain()

    def drop(self, slot: Slot) -> None:
        """A replica is dead, which this process noticed before the controller told it."""
        with self._lock:
            if slot in self._slots:
                self._slots.remove(slot)

    def statistics(self) -> dict[str, Any]:
        """For tests and panels."""
        return {"queued": self.queued, "running": {slot.unique_id: slot.load for slot in self._slots}}


def _end_of(assignment: Assignment) -> Any:
    """The reference that is ready when the request is over."""
    ref = assignment.ref
    return ref.completed() if isinstance(ref, ObjectRefGenerator) else ref
