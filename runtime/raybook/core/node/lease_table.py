"""Lease table: which workers there are, what state each is in, and who holds a lease on which.

The lease manager's books with one writer; it decides nothing. Invariants: one worker, one lease; an idle worker is in
exactly one idle list; counts by client and class, and of light leases, match the leases.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from raybook.base.resources import GPU, Shape
from raybook.base.specs import Assignment
from raybook.core.node.lease_events import ActorRequested
from raybook.core.node.request_queue import RequestKey
from raybook.core.node.resource_pools import ResourcePools


class WorkerState(Enum):
    IDLE = "IDLE"
    LEASED = "LEASED"
    ACTOR = "ACTOR"
    ENDING = "EXITING"


BEGINNINGS_MAX = 3
"""How often an actor whose worker left before it began is given to another one."""


@dataclass(slots=True)
class Lease:
    """One worker for one class of one client's tasks, or for one actor."""

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
    """Set when its client is gone: the worker must say by then that it is idle."""

    has_started: bool = False
    """Its actor's ``__init__`` has ended well."""
    name: str = ""
    """Of a function whose tasks it was asked for; for people."""
    is_retriable: bool = True
    """Tasks under it may run again if its worker dies."""

    @property
    def key(self) -> RequestKey:
        return (self.client, self.class_key)

    def may_begin_elsewhere(self, exit_code: int) -> bool:
        """The worker was ending in good order when it was given this actor, and never looked at it. Bounded, because an
        ``__init__`` that ends its process with code 0 looks the same from here."""
        if self.has_started or exit_code or self.actor is None or self.actor.tries >= BEGINNINGS_MAX:
            return False
        self.actor.tries += 1
        return True


@dataclass(slots=True)
class Worker:
    """One registered worker process."""

    worker_id: bytes
    environment: str
    state: WorkerState = WorkerState.IDLE
    epoch: int = 0
    lease: Lease | None = None
    """What it holds resources for; kept while ENDING, because only death frees what the process really uses."""
    last_client: bytes = b""
    gpus: tuple[int, ...] | None = None
    """The GPUs of the leases it served; (): those asked for none; None: it served none yet."""


class LeaseTable:
    """``leases`` are task leases by id, with the worker of each; ``orphans`` those whose client is gone."""

    def __init__(self) -> None:
        self.workers: dict[bytes, Worker] = {}
        self.leases: dict[int, Worker] = {}
        self.orphans: dict[int, Worker] = {}
        self.held_by: dict[RequestKey, int] = {}
        self.light_leases = 0
        self._idle: dict[str, list[bytes]] = {}

    def add_worker(self, worker_id: bytes, environment: str) -> None:
        worker = self.workers[worker_id] = Worker(worker_id, environment)
        self.put_idle(worker)

    def put_idle(self, worker: Worker) -> None:
        """The worker is free; it is the first to be taken again."""
        worker.state = WorkerState.IDLE
        self._idle.setdefault(worker.environment, []).append(worker.worker_id)

    def take_idle(self, worker: Worker, state: WorkerState) -> None:
        """An idle worker is not idle any more."""
        self._idle[worker.environment].remove(worker.worker_id)
        worker.state = state

    def remove_worker(self, worker_id: bytes) -> Worker | None:
        worker = self.workers.pop(worker_id, None)
        if worker is not None and worker.state is WorkerState.IDLE:
            self._idle[worker.environment].remove(worker_id)
        return worker

    def pick_idle(self, environment: str, client: bytes, assignment: Assignment) -> Worker | None:
        """The idle worker that ended its last task latest, one that served this client before if there is one: it has
        its functions. Never the client itself, and never one that has served with other GPUs or without: CUDA reads what
        it may see once in a process. Cost: linear in the idle workers."""
        chosen = None
        gpus = _gpus(assignment)
        for worker_id in reversed(self._idle.get(environment, ())):
            worker = self.workers[worker_id]
            if worker_id == client or (worker.gpus is not None and worker.gpus != gpus):
                continue
            if worker.last_client == client:
                return worker
            chosen = chosen or worker
        return chosen

    def bind(self, worker: Worker, lease: Lease, assignment: Assignment) -> None:
        """An idle worker gets a lease."""
        worker.gpus = _gpus(assignment)
        self.take_idle(worker, WorkerState.ACTOR if lease.actor else WorkerState.LEASED)
        worker.lease = lease
        worker.last_client = lease.client
        if not lease.actor:
            self.leases[lease.lease_id] = worker
            self.held_by[lease.key] = self.held_by.get(lease.key, 0) + 1
            self.light_leases += lease.light

    def forget(self, lease: Lease) -> None:
        """A task lease is over for its client; the resources it holds are not touched."""
        del self.leases[lease.lease_id]
        self.orphans.pop(lease.lease_id, None)
        self.held_by[lease.key] -= 1
        if not self.held_by[lease.key]:
            del self.held_by[lease.key]
        if lease.light and not lease.blocked:
            self.light_leases -= 1

    def set_ending(self, worker: Worker) -> None:
        """Nothing new goes to this worker. What it holds stays held until it is dead."""
        if worker.state is WorkerState.IDLE:
            self.take_idle(worker, WorkerState.ENDING)
        elif worker.state is WorkerState.LEASED and worker.lease:
            self.forget(worker.lease)
        worker.state = WorkerState.ENDING

    def set_blocked(self, worker: Worker, blocked: bool) -> Lease | None:
        """The lease, if this changes anything."""
        lease = worker.lease
        if lease is None or lease.blocked == blocked:
            return None
        lease.blocked = blocked
        lease.idle = False
        if lease.light and worker.state is WorkerState.LEASED:
            self.light_leases += -1 if blocked else 1
        return lease

    def leased(self, worker_id: bytes, epoch: int) -> tuple[Worker, Lease] | None:
        """The worker and its task lease, if that still is the one of ``epoch``."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.state is not WorkerState.LEASED or worker.lease is None:
            return None
        return (worker, worker.lease) if worker.lease.epoch == epoch else None

    def acting(self, worker_id: bytes) -> tuple[Worker, Lease, ActorRequested] | None:
        """The worker, its lease and its actor, if it is one."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.state is not WorkerState.ACTOR or not worker.lease or not worker.lease.actor:
            return None
        return worker, worker.lease, worker.lease.actor

    def rows(self, resources: ResourcePools) -> list[tuple[bytes, str, Shape, bytes]]:
        """(worker, state, held amounts, actor id or b"") of every worker."""
        rows = []
        for worker in self.workers.values():
            lease = worker.lease
            held = resources.held(lease.lease_id) if lease else None
            actor_id = lease.actor.spec.actor_id if lease and lease.actor else b""
            rows.append((worker.worker_id, worker.state.value, dict(held.resources) if held else {}, actor_id))
        return rows

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        idle = [worker_id for ids in self._idle.values() for worker_id in ids]
        assert len(idle) == len(set(idle)), "A worker is idle twice."
        for worker in self.workers.values():
            assert (worker.state is WorkerState.IDLE) == (worker.worker_id in idle), "An idle worker is not listed."
            if worker.state is WorkerState.IDLE:
                assert worker.lease is None, "An idle worker has a lease."
            if worker.state in (WorkerState.LEASED, WorkerState.ACTOR):
                assert worker.lease is not None and worker.lease.epoch == worker.epoch, "A lease has another epoch."
            if worker.state is WorkerState.LEASED and worker.lease:
                assert self.leases.get(worker.lease.lease_id) is worker, "A lease is not in the table."
        assert all(worker_id in self.workers for worker_id in idle), "A dead worker is idle."
        held: dict[RequestKey, int] = {}
        light = 0
        for lease_id, worker in self.leases.items():
            lease = worker.lease
            assert self.workers.get(worker.worker_id) is worker, "A lease stands on a dead worker."
            assert lease is not None and lease.lease_id == lease_id, "One worker has two leases."
            assert worker.state is WorkerState.LEASED, f"A lease stands on a worker that is {worker.state}."
            held[lease.key] = held.get(lease.key, 0) + 1
            light += lease.light and not lease.blocked
        assert held == self.held_by, "Leases by client and class are miscounted."
        assert light == self.light_leases, "Leases of tasks that ask for nothing are miscounted."
        assert self.orphans.keys() <= self.leases.keys(), "An orphan is no lease."


def _gpus(assignment: Assignment) -> tuple[int, ...]:
    return tuple(index for index, _ in assignment.instances.get(GPU, ()))
