"""Lease manager: decides which queued request gets which idle worker on *this* node, for tasks and actors alike.

Knows nothing of sockets, processes, other nodes, or of what a task does. Owners keep a lease while they have work for
it, so resources that look taken may be idle: when a request cannot be served from what is free, the *workers* of leases
that may be idle are asked to drop them; a stuck owner cannot hold a worker. A lease that was held for
``LEASE_HOLD_MS`` while somebody else starves is drained: what has not started goes back to its owner.

Invariants: allocated ≤ total (see local_resources for the one exception); one worker, one lease; a worker's epoch grows
with each lease; nothing is granted on a worker that is dead or about to end.
Source: Ray's lease protocol; 500 ms is its ``worker_lease_timeout_milliseconds``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from raybook.base.resources import Shape, describe
from raybook.base.specs import Assignment
from raybook.core.node.lease_events import (
    ActorCancelled,
    ActorFailed,
    ActorGone,
    ActorReady,
    ActorRequested,
    AskRevoke,
    ClientGone,
    DemandSet,
    Grant,
    Infeasible,
    KillWorker,
    LeaseLostEffect,
    LeaseProbed,
    LeaseReturned,
    ReportResources,
    RevokeAnswered,
    StartActorOn,
    StartWorkers,
    WaitingRequest,
    WorkerBlocked,
    WorkerDied,
    WorkerLeaving,
    WorkerReady,
    WorkerReleased,
    WorkerTaken,
    WorkerUnblocked,
    WorkerWithdrawn,
    wanted_by,
)
from raybook.core.node.local_resources import LocalResources
from raybook.core.node.request_queue import Group, GroupKey, Request, RequestKey, RequestQueue

REVOKE_INTERVAL_MS = 50
"""A worker that said it is busy is not asked again for this long."""
REVOKE_ANSWER_MS = 10
"""An unanswered question stands for the resources it may bring for this long; then others are asked as well."""
DRAIN_ANSWER_MS = 100
"""The same for a lease that was asked to drain, which may have to end a task first."""
LEASE_HOLD_MS = 500
ORPHAN_GRACE_MS = 200
"""The worker of a vanished client must say within this time that it is idle, or it is ended."""
STARTS_COUNTED_MAX = 16
"""No more lacking workers than this are counted in one pass; the pool starts fewer at once anyway."""
STORY_EVENTS_MAX = 1024
_LIGHT = "task without resources"
"""Stands for one place under ``light_leases_max`` where amounts are compared."""


class WorkerState(Enum):
    IDLE = "IDLE"
    LEASED = "LEASED"
    ACTOR = "ACTOR"
    ENDING = "EXITING"


@dataclass(slots=True)
class _Lease:
    lease_id: int
    epoch: int
    client: bytes
    class_key: int
    granted_ms: int
    light: bool
    """A task that asks for nothing: such leases are counted against a bound of their own."""
    actor: ActorRequested | None = None
    blocked: bool = False
    idle: bool = False
    """The worker said so when it was probed; only reports believe it."""
    asked_ms: int | None = None
    asking: bool = False
    draining: bool = False
    orphan_deadline_ms: int | None = None


@dataclass(slots=True)
class _Worker:
    worker_id: bytes
    environment: str
    state: WorkerState = WorkerState.IDLE
    epoch: int = 0
    lease: _Lease | None = None
    """What it holds resources for; kept while ENDING, because only death frees what the process really uses."""
    last_client: bytes = b""


class LeaseManager:
    """See the module. ``light_leases_max`` bounds how many tasks run at once that ask for no resource at all."""

    def __init__(self, resources: LocalResources, light_leases_max: int) -> None:
        self.resources = resources
        self._light_leases_max = light_leases_max
        self._light_leases = 0
        self._workers: dict[bytes, _Worker] = {}
        self._idle: dict[str, list[bytes]] = {}
        self._leases: dict[int, _Worker] = {}
        """Task leases that some client believes to hold, or that wait for the end of an orphan's grace."""
        self._orphans: dict[int, _Worker] = {}
        self._held_by: dict[RequestKey, int] = {}
        self._actors: dict[bytes, tuple[int, bytes | None]] = {}
        """Actor id → (incarnation, worker or None while queued)."""
        self._queue = RequestQueue()
        self._told_infeasible: dict[bytes, dict[int, bool]] = {}
        self._said_lacking: dict[str, bool] = {}
        self._last_lease_id = 0
        self._actor_number = 0
        self._revoke_deadline_ms: int | None = None
        self._effects: list[Any] = []
        self._changed = False
        self._history: deque[tuple[int, Any]] = deque(maxlen=STORY_EVENTS_MAX)
        self._edges: dict[type, Callable[[Any, int], None]] = {
            DemandSet: self._demand_set,
            LeaseReturned: self._lease_returned,
            WorkerReady: self._worker_ready,
            WorkerWithdrawn: self._worker_withdrawn,
            WorkerLeaving: self._worker_leaving,
            WorkerDied: self._worker_died,
            RevokeAnswered: self._revoke_answered,
            WorkerBlocked: self._worker_blocked,
            WorkerUnblocked: self._worker_unblocked,
            ClientGone: self._client_gone,
            ActorRequested: self._actor_requested,
            ActorReady: self._actor_ready,
            ActorFailed: self._actor_failed,
            ActorCancelled: self._actor_cancelled,
            LeaseProbed: self._lease_probed,
        }

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events in order, then serve what can be served. Cost: about 10 µs for one grant."""
        for event in events:
            self._history.append((now_ms, event))
            self._edges[type(event)](event, now_ms)
        self._end_orphans(now_ms)
        self._serve(now_ms)
        if self._changed:
            self._changed = False
            self._effects.append(ReportResources())
        effects, self._effects = self._effects, []
        for effect in effects:
            if type(effect) in (Grant, StartActorOn, KillWorker, LeaseLostEffect):
                self._history.append((now_ms, effect))
        return effects

    def next_deadline_ms(self) -> int | None:
        """The next question to repeat, or orphan to end. Cost: linear in the orphans."""
        deadlines = [
            worker.lease.orphan_deadline_ms
            for worker in self._orphans.values()
            if worker.lease is not None and worker.lease.orphan_deadline_ms is not None
        ]
        if self._revoke_deadline_ms is not None:
            deadlines.append(self._revoke_deadline_ms)
        return min(deadlines, default=None)

    # --- demand -------------------------------------------------------------------------------------------------------

    def _demand_set(self, event: DemandSet, now_ms: int) -> None:
        key = (event.client, event.class_key)
        if event.count <= 0:
            if self._queue.remove(key) is not None:
                self._changed = True
            return
        shape = tuple((name, amount) for name, amount in event.scheduling_class.resources if amount)
        group = self._queue.group(
            (shape, event.scheduling_class.environment, False), self.resources.missing_for_ever(dict(shape))
        )
        self._queue.put(group, Request(key, event.client, event.class_key, event.count, event.name))
        told = self._told_infeasible.setdefault(event.client, {})
        if group.missing and event.class_key not in told:
            told[event.class_key] = True
            text = self._explain_missing(event.name or "A task", group)
            self._effects.append(Infeasible(event.client, event.class_key, text))
            self._changed = True

    def _client_gone(self, event: ClientGone, now_ms: int) -> None:
        for request in self._queue.of_client(event.client):
            self._queue.remove(request.key)
        self._told_infeasible.pop(event.client, None)
        for worker in list(self._leases.values()):
            lease = worker.lease
            if lease and lease.client == event.client and not lease.actor and lease.orphan_deadline_ms is None:
                lease.orphan_deadline_ms = now_ms + ORPHAN_GRACE_MS
                self._orphans[lease.lease_id] = worker
                self._effects.append(AskRevoke(worker.worker_id, lease.epoch))

    # --- actors -------------------------------------------------------------------------------------------------------

    def _actor_requested(self, event: ActorRequested, now_ms: int) -> None:
        spec = event.spec
        known = self._actors.get(spec.actor_id)
        if known is not None and known[0] >= event.incarnation:
            return
        self._actors[spec.actor_id] = (event.incarnation, None)
        wanted = wanted_by(spec)
        shape = tuple(sorted(wanted.items()))
        group = self._queue.group((shape, spec.environment, True), self.resources.missing_for_ever(wanted))
        self._actor_number += 1
        request = Request((spec.actor_id, -self._actor_number), b"", 0, 1, f"actor {spec.class_name}", event)
        self._queue.put(group, request)

    def _actor_ready(self, event: ActorReady, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        if worker is not None and worker.state is WorkerState.ACTOR and worker.lease and worker.lease.actor:
            self.resources.shrink(worker.lease.lease_id, worker.lease.actor.spec.resources)
            self._changed = True

    def _actor_failed(self, event: ActorFailed, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        if worker is not None and worker.state is WorkerState.ACTOR and worker.lease and worker.lease.actor:
            del self._actors[worker.lease.actor.spec.actor_id]
            worker.lease.actor = None
            worker.state = WorkerState.ENDING
            self._effects.append(KillWorker(event.worker, event.reason))

    def _actor_cancelled(self, event: ActorCancelled, now_ms: int) -> None:
        incarnation, worker_id = self._actors.get(event.actor_id, (-1, None))
        if incarnation != event.incarnation:
            return
        if worker_id is not None:
            worker = self._workers[worker_id]
            self._effects.append(KillWorker(worker_id, event.reason, event.graceful))
            if not event.graceful:
                worker.state = WorkerState.ENDING
            return
        del self._actors[event.actor_id]
        for group in self._queue:
            for request in group.queue:
                if request.actor is not None and request.actor.spec.actor_id == event.actor_id:
                    self._queue.remove(request.key)
                    self._effects.append(ActorGone(event.actor_id, incarnation, event.reason, False, True))
                    return

    # --- workers ------------------------------------------------------------------------------------------------------

    def _worker_ready(self, event: WorkerReady, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        if worker is None:
            worker = self._workers[event.worker] = _Worker(event.worker, event.environment)
            self._idle.setdefault(event.environment, []).append(event.worker)
        elif worker.state is WorkerState.ENDING and worker.lease is None:
            worker.state = WorkerState.IDLE
            self._idle[worker.environment].append(event.worker)

    def _worker_withdrawn(self, event: WorkerWithdrawn, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        if worker is not None and worker.state is WorkerState.IDLE:
            self._idle[worker.environment].remove(event.worker)
            worker.state = WorkerState.ENDING
            self._effects.append(KillWorker(event.worker, "It was idle.", graceful=True))

    def _worker_leaving(self, event: WorkerLeaving, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        if worker is None or worker.state is WorkerState.ENDING:
            return
        if worker.state is WorkerState.IDLE:
            self._idle[worker.environment].remove(event.worker)
        lease = worker.lease
        if worker.state is WorkerState.LEASED and lease and lease.orphan_deadline_ms is None:
            self._effects.append(LeaseLostEffect(lease.client, lease.lease_id, died=False, reason="The worker ends."))
        self._set_ending(worker)

    def _set_ending(self, worker: _Worker) -> None:
        if worker.state is WorkerState.LEASED and worker.lease:
            self._forget_lease(worker.lease)
        worker.state = WorkerState.ENDING

    def _worker_died(self, event: WorkerDied, now_ms: int) -> None:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return
        lease = worker.lease
        if worker.state is WorkerState.IDLE:
            self._idle[worker.environment].remove(event.worker)
        if lease is None:
            return
        self.resources.release(lease.lease_id)
        self._changed = True
        if lease.actor:
            actor_id, incarnation = lease.actor.spec.actor_id, lease.actor.incarnation
            if self._actors.get(actor_id, (-1, None))[0] == incarnation:
                del self._actors[actor_id]
            self._effects.append(ActorGone(actor_id, incarnation, event.reason, True, event.intended))
        elif worker.state is WorkerState.LEASED:
            self._forget_lease(lease)
            if lease.orphan_deadline_ms is None:
                self._effects.append(
                    LeaseLostEffect(
                        lease.client, lease.lease_id, True, event.reason, event.exit_code, event.out_of_memory
                    )
                )

    def _worker_blocked(self, event: WorkerBlocked, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        if worker is None or worker.lease is None or worker.lease.blocked:
            return
        worker.lease.blocked = True
        worker.lease.idle = False
        if worker.state is WorkerState.LEASED and worker.lease.light:
            self._light_leases -= 1
        if self.resources.block_cpu(worker.lease.lease_id):
            self._changed = True

    def _worker_unblocked(self, event: WorkerUnblocked, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        if worker is None or worker.lease is None or not worker.lease.blocked:
            return
        worker.lease.blocked = False
        if worker.state is WorkerState.LEASED and worker.lease.light:
            self._light_leases += 1
        if self.resources.unblock_cpu(worker.lease.lease_id):
            self._changed = True

    # --- leases -------------------------------------------------------------------------------------------------------

    def _forget_lease(self, lease: _Lease) -> None:
        """The lease is over for its client; what it holds stays held until ``resources.release``."""
        del self._leases[lease.lease_id]
        self._orphans.pop(lease.lease_id, None)
        key = (lease.client, lease.class_key)
        self._held_by[key] -= 1
        if not self._held_by[key]:
            del self._held_by[key]
        if not lease.blocked and lease.light:
            self._light_leases -= 1

    def _free(self, worker: _Worker) -> None:
        lease = worker.lease
        assert lease is not None
        self._forget_lease(lease)
        self.resources.release(lease.lease_id)
        worker.lease = None
        worker.state = WorkerState.IDLE
        self._idle[worker.environment].append(worker.worker_id)
        self._effects.append(WorkerReleased(worker.worker_id))
        self._changed = True

    def _lease_returned(self, event: LeaseReturned, now_ms: int) -> None:
        worker = self._leases.get(event.lease_id)
        if worker is None or worker.lease is None or worker.lease.client != event.client:
            return
        if event.broken:
            self._effects.append(KillWorker(worker.worker_id, "Its owner could not talk to it."))
            self._set_ending(worker)
        else:
            self._free(worker)

    def _revoke_answered(self, event: RevokeAnswered, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        lease = worker.lease if worker else None
        if worker is None or lease is None or worker.state is not WorkerState.LEASED or lease.epoch != event.epoch:
            return
        lease.asking = False
        if event.idle:
            if lease.orphan_deadline_ms is None:
                self._effects.append(LeaseLostEffect(lease.client, lease.lease_id, died=False))
            self._free(worker)
        elif lease.orphan_deadline_ms is not None:
            lease.orphan_deadline_ms = now_ms

    def _lease_probed(self, event: LeaseProbed, now_ms: int) -> None:
        worker = self._workers.get(event.worker)
        lease = worker.lease if worker else None
        if worker is None or lease is None or worker.state is not WorkerState.LEASED or lease.epoch != event.epoch:
            return
        if lease.idle != event.idle:
            lease.idle = event.idle
            self._changed = True

    def _end_orphans(self, now_ms: int) -> None:
        for worker in list(self._orphans.values()):
            deadline_ms = worker.lease.orphan_deadline_ms if worker.lease else None
            if deadline_ms is not None and deadline_ms <= now_ms:
                self._effects.append(KillWorker(worker.worker_id, "The process that its task ran for is gone."))
                self._set_ending(worker)

    # --- serving ------------------------------------------------------------------------------------------------------

    def _serve(self, now_ms: int) -> None:
        self._revoke_deadline_ms = None
        lacking: dict[str, int] = {}
        if self._queue:
            reserved: list[int] = []
            starving = self._serve_in_turns(now_ms, lacking, reserved)
            if starving:
                self._ask_back(starving, now_ms)
            for lease_id in reserved:
                self.resources.release(lease_id)
        for environment in self._said_lacking:
            lacking.setdefault(environment, 0)
        self._effects += (StartWorkers(environment, count) for environment, count in lacking.items())
        self._said_lacking = {environment: True for environment, count in lacking.items() if count}

    def _serve_in_turns(self, now_ms: int, lacking: dict[str, int], reserved: list[int]) -> list[Group]:
        """Grant in turns until every group is done, lacks workers or starves for resources; the starving ones. What
        lacks only a worker keeps its resources ``reserved`` until the pass is over, so that workers are counted right.
        Groups with a request that holds no lease at all go first."""
        groups = [group for group in self._queue if not group.missing]
        groups.sort(key=lambda group: all(request.key in self._held_by for request in group.queue))
        turns = deque(groups)
        unserved: dict[GroupKey, int] = {}
        starving = []
        while turns:
            group = turns.popleft()
            light = not group.shape and not group.key[2]
            lease_id = self._last_lease_id = self._last_lease_id + 1
            assignment = None
            if not light or self._light_leases + unserved.get(group.key, 0) < self._light_leases_max:
                assignment = self.resources.allocate(lease_id, group.shape)
            if assignment is None:
                starving.append(group)
                continue
            request = self._first_of(group)
            worker = self._pick_worker(group.environment, request.client)
            if worker is not None:
                self._queue.take_turn(group, request)
                self._grant(worker, request, lease_id, light, assignment, now_ms)
            else:
                reserved.append(lease_id)
                unserved[group.key] = unserved.get(group.key, 0) + 1
                lacking[group.environment] = lacking.get(group.environment, 0) + 1
            if group.count > unserved.get(group.key, 0) and len(reserved) < STARTS_COUNTED_MAX:
                turns.append(group)
        return starving

    def _first_of(self, group: Group) -> Request:
        """Who has nothing goes first; otherwise whose turn it is."""
        return next((request for request in group.queue if request.key not in self._held_by), group.queue[0])

    def _pick_worker(self, environment: str, client: bytes) -> _Worker | None:
        """The idle worker that ended its last task latest, one that served this client before if there is one: it has
        its functions. Never the client itself. Cost: linear in the idle workers."""
        idle = self._idle.get(environment)
        if not idle:
            return None
        chosen = None
        for worker_id in reversed(idle):
            worker = self._workers[worker_id]
            if worker_id == client:
                continue
            if worker.last_client == client:
                return worker
            chosen = chosen or worker
        return chosen

    def _grant(
        self, worker: _Worker, request: Request, lease_id: int, light: bool, assignment: Assignment, now_ms: int
    ) -> None:
        self._idle[worker.environment].remove(worker.worker_id)
        worker.epoch += 1
        worker.last_client = request.client
        actor = request.actor
        lease = _Lease(lease_id, worker.epoch, request.client, request.class_key, now_ms, light, actor)
        worker.lease = lease
        worker.state = WorkerState.ACTOR if actor else WorkerState.LEASED
        self._effects.append(WorkerTaken(worker.worker_id, dedicated=actor is not None))
        self._changed = True
        if actor:
            self._actors[actor.spec.actor_id] = (actor.incarnation, worker.worker_id)
            self._effects.append(
                StartActorOn(worker.worker_id, actor.spec, actor.incarnation, assignment, actor.restarts)
            )
            return
        self._leases[lease_id] = worker
        self._held_by[request.key] = self._held_by.get(request.key, 0) + 1
        self._light_leases += light
        self._effects.append(
            Grant(request.client, request.class_key, lease_id, worker.epoch, worker.worker_id, assignment)
        )

    # --- asking leases back -------------------------------------------------------------------------------------------

    def _ask_back(self, starving: list[Group], now_ms: int) -> None:
        """Ask workers of leases that may be idle, as many as could serve what starves, first those asked longest ago. A
        lease whose class has demand of its own is busy by its owner's word: it is asked only to drain, and only for
        requests that hold nothing."""
        empty_handed = sum(request.key not in self._held_by for group in starving for request in group.queue)
        candidates: list[tuple[bool, int, int, _Worker, Shape]] = []
        hoped: Shape = {}
        coming: Shape = {}
        for lease_id, worker in self._leases.items():
            lease = worker.lease
            if lease is None or lease.blocked or lease.orphan_deadline_ms is not None:
                continue
            held = self._held_of(lease)
            aged_ms = now_ms - lease.granted_ms
            drain = aged_ms >= LEASE_HOLD_MS and empty_handed > 0
            if lease.asking:
                patience_ms = DRAIN_ANSWER_MS if lease.draining else REVOKE_ANSWER_MS
                if self._wait_until((lease.asked_ms or 0) + patience_ms, now_ms):
                    _add(coming, held)
                continue
            if not drain and (lease.client, lease.class_key) in self._queue:
                if empty_handed:
                    self._wait_until(lease.granted_ms + LEASE_HOLD_MS, now_ms)
                continue
            if lease.asked_ms is not None and self._wait_until(lease.asked_ms + REVOKE_INTERVAL_MS, now_ms):
                continue
            candidates.append((drain, lease.asked_ms or 0, lease_id, worker, held))
            _add(hoped, held)
        _add(hoped, coming)
        plain, urgent = self._wanted_back(starving, hoped)
        for shape in (plain, urgent):
            _subtract(shape, coming)
        candidates.sort(key=lambda candidate: candidate[:3])
        for drain, _, _, worker, held in candidates:
            wanted = urgent if drain else plain
            if not any(wanted.get(name, 0) > 0 for name in held):
                continue
            lease = worker.lease
            assert lease is not None
            lease.asking, lease.draining, lease.asked_ms = True, drain, now_ms
            self._wait_until(now_ms + (DRAIN_ANSWER_MS if drain else REVOKE_ANSWER_MS), now_ms)
            self._effects.append(AskRevoke(worker.worker_id, lease.epoch, drain))
            _subtract(plain, held)
            _subtract(urgent, held)

    def _held_of(self, lease: _Lease) -> Shape:
        if lease.light:
            return {_LIGHT: 1}
        held = self.resources.held(lease.lease_id)
        return held.resources if held else {}

    def _wanted_back(self, starving: list[Group], hoped: Shape) -> tuple[Shape, Shape]:
        """Amounts that would serve all starving requests, and one lease for each request that holds none. Groups that
        could not be served even if everything hoped for came back are left out: asking for them would only cost."""
        plain: Shape = {}
        urgent: Shape = {}
        for group in starving:
            shape = group.shape or {_LIGHT: 1}
            free = {name: self.resources.available.get(name, 0) for name in shape}
            one = {name: amount - free[name] for name, amount in shape.items() if amount > free[name]}
            if any(amount > hoped.get(name, 0) for name, amount in one.items()):
                continue
            # Nothing is short in sum: whole GPUs are taken apart by fractions.
            one = one or dict(shape)
            for name in one:
                plain[name] = plain.get(name, 0) + max(one[name], shape[name] * group.count - free[name])
            for request in group.queue:
                if request.key not in self._held_by:
                    _add(urgent, one)
        return plain, urgent

    def _wait_until(self, moment_ms: int, now_ms: int) -> bool:
        """Whether the moment is still to come; then the machine wants to be called at it."""
        if moment_ms <= now_ms:
            return False
        known = self._revoke_deadline_ms
        self._revoke_deadline_ms = moment_ms if known is None else min(known, moment_ms)
        return True

    # --- views --------------------------------------------------------------------------------------------------------

    def available_for_reports(self) -> Shape:
        """Free amounts, counting leases whose workers said that they are idle; never below zero."""
        amounts = dict(self.resources.available)
        for worker in self._leases.values():
            lease = worker.lease
            if lease is not None and lease.idle and not lease.blocked and not lease.light:
                _add(amounts, self._held_of(lease))
        return {name: max(0, amount) for name, amount in amounts.items()}

    def task_leases(self) -> list[tuple[bytes, int]]:
        """(worker, epoch) of every task lease that is not blocked: those worth a probe."""
        return [
            (worker.worker_id, worker.epoch)
            for worker in self._leases.values()
            if worker.lease is not None and not worker.lease.blocked
        ]

    def worker_states(self) -> list[tuple[bytes, str, Shape, bytes]]:
        """(worker, state, held amounts, actor id or b"") of every registered worker."""
        states = []
        for worker in self._workers.values():
            lease = worker.lease
            held = self.resources.held(lease.lease_id) if lease else None
            actor_id = lease.actor.spec.actor_id if lease and lease.actor else b""
            states.append((worker.worker_id, worker.state.value, dict(held.resources) if held else {}, actor_id))
        return states

    def actor_of(self, worker_id: bytes) -> ActorRequested | None:
        """The actor that lives (or starts) on this worker."""
        worker = self._workers.get(worker_id)
        return worker.lease.actor if worker is not None and worker.lease else None

    def queued(self) -> list[WaitingRequest]:
        """Everything that waits, with the reason in words."""
        rows = []
        for group in self._queue:
            for request in group.queue:
                name = request.name or "tasks"
                if group.missing:
                    text = self._explain_missing(name, group)
                else:
                    free = {name: self.resources.available.get(name, 0) for name in group.shape}
                    text = f"{request.count} × {name} wait for {describe(group.shape)}; free here: {describe(free)}."
                rows.append(WaitingRequest(dict(group.shape), request.count, name, text))
        return rows

    def waiting(self) -> list[str]:
        """One line for each queued demand, for people."""
        return [row.text for row in self.queued()]

    def _explain_missing(self, name: str, group: Group) -> str:
        total = {name: amount for name, amount in self.resources.total.items() if name in group.shape}
        return (
            f"{name} asks for {describe(group.shape)}, but this node has {describe(total)} in all, "
            f"{describe(group.missing)} too little. It stays queued; ask for less, or add a node that has it."
        )

    def story(self, key: bytes) -> str:
        """Recent events and effects that name this client, worker or actor, one a line."""
        lines = []
        for moment_ms, record in self._history:
            names = [getattr(record, name, None) for name in ("client", "worker", "actor_id")]
            spec = getattr(record, "spec", None)
            if key in names or (spec is not None and spec.actor_id == key):
                lines.append(f"{moment_ms} ms: {record}")
        return "\n".join(lines)

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        self.resources.check_invariants()
        self._queue.check_invariants()
        idle = [worker_id for ids in self._idle.values() for worker_id in ids]
        assert len(idle) == len(set(idle)), "A worker is idle twice."
        for worker_id in idle:
            assert self._workers[worker_id].state is WorkerState.IDLE, (
                f"{worker_id!r} is in the idle list but not idle."
            )
        held: dict[RequestKey, int] = {}
        light = 0
        for worker in self._workers.values():
            assert (worker.state is WorkerState.IDLE) == (worker.worker_id in idle), (
                "An idle worker is not in the list."
            )
            if worker.state in (WorkerState.LEASED, WorkerState.ACTOR):
                assert worker.lease is not None and worker.lease.epoch == worker.epoch, "A lease has another epoch."
            if worker.state is WorkerState.IDLE:
                assert worker.lease is None, "An idle worker has a lease."
            if worker.state is WorkerState.LEASED and worker.lease:
                assert self._leases.get(worker.lease.lease_id) is worker, "A lease is not in the table."
        for lease_id, worker in self._leases.items():
            lease = worker.lease
            assert lease is not None and lease.lease_id == lease_id, "One worker has two leases."
            assert worker.state is WorkerState.LEASED, f"A lease stands on a worker that is {worker.state}."
            held[(lease.client, lease.class_key)] = held.get((lease.client, lease.class_key), 0) + 1
            light += lease.light and not lease.blocked
        assert held == self._held_by, "Leases by client and class are miscounted."
        assert light == self._light_leases, "Leases of tasks that ask for nothing are miscounted."


def _add(amounts: Shape, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        amounts[name] = amounts.get(name, 0) + amount


def _subtract(amounts: Shape, less: Mapping[str, int]) -> None:
    for name, amount in less.items():
        amounts[name] = amounts.get(name, 0) - amount
