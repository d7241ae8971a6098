"""A world around one owner machine: a raylet that grants and revokes, workers that run, bounce and die. No I/O.

Everything is driven by a seeded choice, so a failure is a seed. It checks what users rely on: every task ends, no
worker runs two tasks of one attempt, nothing is left when all references are gone.
"""

from __future__ import annotations

import random
from collections import deque

from raybook.base.config import Config
from raybook.base.ids import FIRST_RETURN, owner_of
from raybook.base.specs import DYNAMIC, STREAMING, Assignment, Endpoint, ErrorValue, RefInfo, SchedulingClass, Value
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import (
    FromPeer,
    FromRaylet,
    FunctionStats,
    PeerGone,
    PushTo,
    TaskRecord,
    ToPeer,
    ToRaylet,
    WakeUp,
)
from raybook.protocol.messages.raylet import LeaseGranted, LeaseLost, ReturnLease, SetDemand
from raybook.protocol.messages.worker import (
    ArgRef,
    PushTasks,
    StealTasks,
    StreamItems,
    StreamOrder,
    TaskReplies,
    TaskReply,
    TasksBounced,
    TaskSpec,
)

ME = b"driver.."
NODE = b"node...."
ONE_CPU = SchedulingClass((("CPU", 10_000),))


class World:
    def __init__(self, seed: int = 0, workers: int = 2, config: Config | None = None) -> None:
        self.rng = random.Random(seed)
        self.owner = Owner(ME, config or Config())
        self.now_ms = 0
        self.counter = 0
        self.demand: dict[int, int] = {}
        self.free_workers = deque(b"worker-" + bytes([48 + index]) for index in range(workers))
        self.leases: dict[int, tuple[bytes, int]] = {}
        self.queues: dict[bytes, deque[TaskSpec]] = {}
        self.made: dict[bytes, set[bytes]] = {}
        """Task ids whose results a worker has made and kept."""
        self.ahead: dict[bytes, list[bytes]] = {}
        """Tasks pushed before all their arguments had values, and which were missing."""
        self.next_lease = 1
        self.pushes: list[list[bytes]] = []
        self.runs: list[tuple[bytes, int]] = []
        self.woken: list[object] = []
        self.effects: list[object] = []

    def task(
        self,
        stats: FunctionStats,
        *,
        args: list[bytes] | None = None,
        retries: int = 3,
        scheduling_class: SchedulingClass = ONE_CPU,
    ) -> bytes:
        """Submit one; its object id."""
        self.counter += 1
        task_id = ME + self.counter.to_bytes(8, "big")
        spec = TaskSpec(task_id, b"key", stats.name, b"")
        record = TaskRecord(spec, stats, scheduling_class, retries_left=retries)
        if args:
            spec.slots = [ArgRef(RefInfo(key, "unix:/me")) for key in args]
            record.held = [slot.ref for slot in spec.slots]
        self.feed(record)
        return task_id + FIRST_RETURN

    def stream(self, stats: FunctionStats, *, window: int = -1, retries: int = 0, collect: str = "") -> bytes:
        """Submit a generator; its task id."""
        self.counter += 1
        task_id = ME + self.counter.to_bytes(8, "big")
        spec = TaskSpec(task_id, b"key", stats.name, b"", DYNAMIC if collect else STREAMING)
        spec.stream = StreamOrder(window, collect=collect)
        self.feed(TaskRecord(spec, stats, ONE_CPU, retries_left=retries))
        return task_id

    def yield_items(self, worker: bytes, spec: TaskSpec, first: int, values: list[Value]) -> None:
        """A worker sends items of the generator that it runs."""
        self.feed(FromPeer(worker, StreamItems(spec.task_id, spec.attempt, first, values)))

    def end_stream(self, worker: bytes, *, error: ErrorValue | None = None) -> None:
        """The generator that a worker runs returns, or raises."""
        spec = self.queues[worker].popleft()
        returns = [] if error is not None and not error.payload else [Value(inline=b"None")]
        self.feed(FromPeer(worker, TaskReplies([TaskReply(spec.task_id, spec.attempt, returns, 5, error)])))

    def feed(self, *events: object) -> None:
        self.absorb(self.owner.handle(events, self.now_ms))

    def absorb(self, effects: list) -> None:
        """Carry the machine's effects into the world."""
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, ToRaylet):
                self._raylet(effect.message)
            elif isinstance(effect, PushTo) and isinstance(effect.message, PushTasks):
                self.pushes.append([spec.task_id for spec in effect.message.tasks])
                self.queues[effect.client_id].extend(effect.message.tasks)
                for spec in effect.message.tasks:
                    self.ahead[spec.task_id] = [slot.ref.object_id for slot in spec.slots or () if slot.value is None]
            elif isinstance(effect, ToPeer) and isinstance(effect.message, StealTasks):
                self.bounce(effect.client_id, effect.message.count, "stolen", keep=1)
            elif isinstance(effect, WakeUp):
                self.woken.append(effect.wait)
        self.owner.check_invariants()

    def _raylet(self, message: object) -> None:
        if isinstance(message, SetDemand):
            self.demand[message.class_key] = message.count
        elif isinstance(message, ReturnLease):
            worker, _ = self.leases.pop(message.lease_id)
            assert not self.queues[worker], "a lease was returned with work in flight"
            self.free_workers.append(worker)

    # What may happen next

    def grant(self) -> bool:
        """The raylet serves some standing demand."""
        wanted = [key for key, count in self.demand.items() if count]
        if not wanted or not self.free_workers:
            return False
        key = self.rng.choice(wanted)
        self.demand[key] -= 1
        worker = self.free_workers.popleft()
        lease = self.next_lease
        self.next_lease += 1
        self.leases[lease] = (worker, key)
        self.queues[worker] = deque()
        self.made[worker] = set()
        endpoint = Endpoint(worker, NODE, "unix:/" + worker.decode())
        self.feed(FromRaylet(LeaseGranted(key, lease, lease, endpoint, Assignment({}), 1000 + lease)))
        return True

    def run_one(
        self,
        worker: bytes | None = None,
        *,
        run_us: int = 5,
        error: ErrorValue | None = None,
        value: Value | None = None,
    ) -> bool:
        """One worker finishes its first task, or bounces it when an argument that it should have made is missing. value:
        what the task returns."""
        busy = [worker] if worker else [name for name, queue in self.queues.items() if queue]
        if not busy or not self.queues[busy[0]]:
            return False
        name = self.rng.choice(busy)
        spec = self.queues[name].popleft()
        if not self.made[name].issuperset(self.ahead[spec.task_id]):
            self.feed(FromPeer(name, TasksBounced([spec.task_id], 0, "argument")))
            return True
        self.runs.append((spec.task_id, spec.attempt))
        returns = [] if error else [value or Value(inline=b"value")]
        if not error:
            self.made[name].add(spec.task_id + FIRST_RETURN)
        self.feed(FromPeer(name, TaskReplies([TaskReply(spec.task_id, spec.attempt, returns, run_us, error)])))
        return True

    def bounce(self, worker: bytes, count: int, reason: str, keep: int = 0) -> None:
        """A worker gives back its newest unstarted tasks."""
        queue = self.queues[worker]
        taken = [queue.pop().task_id for _ in range(min(count, max(0, len(queue) - keep)))]
        self.feed(FromPeer(worker, TasksBounced(taken, 0, reason)))

    def kill(self, lease: int, *, died: bool = True) -> None:
        """A lease's worker dies, or the lease is revoked: what it had not started bounces. The raylet's word and the
        end of the worker's socket come in any order."""
        worker, _ = self.leases.pop(lease)
        unstarted = self.queues.pop(worker)
        self.free_workers.append(worker)
        lost = FromRaylet(LeaseLost(lease, died, "it was killed by SIGKILL."))
        if died:
            last: PeerGone | FromPeer = PeerGone(worker)
        else:
            last = FromPeer(worker, TasksBounced([spec.task_id for spec in unstarted], 0, "revoked"))
        for event in (lost, last) if self.rng.random() < 0.5 else (last, lost):
            self.feed(event)

    def tick(self, ms: int) -> None:
        self.now_ms += ms
        deadline = self.owner.next_deadline_ms()
        if deadline is not None and deadline <= self.now_ms:
            self.absorb(self.owner.tick(self.now_ms))

    def settle(self) -> None:
        """Let everything that can happen without faults happen."""
        for _ in range(100_000):
            if not (self.run_one() or self.grant()):
                break
        else:
            raise AssertionError("the world does not come to rest")

    def value(self, key: bytes) -> Value | None:
        assert owner_of(key) == ME
        return self.owner.objects.values.get(key)
