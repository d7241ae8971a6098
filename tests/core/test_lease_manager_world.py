"""Lease manager, any order of the world's doings: invariants hold, and whoever can be served is served in the end."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raybook.base.resources import shape_of
from raybook.base.specs import ActorSpec, Endpoint, SchedulingClass
from raybook.core.node import lease_events as le
from raybook.core.node.lease_manager import LeaseManager
from raybook.core.node.local_resources import LocalResources

CLIENTS = [b"client-a", b"client-b", b"client-c"]
SHAPES = [{"CPU": 1}, {"CPU": 0.5}, {"CPU": 2}, {"GPU": 1}, {"CPU": 1, "GPU": 0.5}, {}, {"CPU": 9}, {"memory": 600}]
LIGHT_MAX = 3


@dataclass
class Held:
    client: bytes
    worker: bytes
    epoch: int
    class_key: int


class LeaseWorld(RuleBasedStateMachine):
    """The world's side: clients, workers that are busy, idle or blocked, questions that wait for an answer."""

    def __init__(self) -> None:
        super().__init__()
        resources = LocalResources(shape_of({"CPU": 3, "GPU": 2, "memory": 1000}))
        self.machine = LeaseManager(resources, LIGHT_MAX)
        self.now_ms = 0
        self.workers: dict[bytes, str] = {}
        """State of each living worker as its process knows it: idle, leased, actor, ending."""
        self.epochs: dict[bytes, int] = {}
        self.blocked: list[bytes] = []
        self.leases: dict[int, Held] = {}
        self.demand: dict[tuple[bytes, int], int] = {}
        self.questions: list[le.AskRevoke] = []
        self.actors: dict[bytes, tuple[bytes, int]] = {}
        self.lacking: dict[str, int] = {}
        self.number = 0

    def tell(self, *events) -> None:
        for effect in self.machine.handle(events, self.now_ms):
            self.carry_out(effect)

    def carry_out(self, effect) -> None:
        if isinstance(effect, le.Grant):
            assert self.workers[effect.worker] == "idle", "granted a worker that is not idle"
            assert effect.client != effect.worker
            assert effect.epoch > self.epochs.get(effect.worker, 0), "the epoch did not grow"
            assert self.demand.get((effect.client, effect.class_key), 0) > 0, "granted what nobody asked for"
            wanted = shape_of(SHAPES[effect.class_key])
            assert effect.assignment.resources == wanted
            self.demand[(effect.client, effect.class_key)] -= 1
            self.workers[effect.worker] = "leased"
            self.epochs[effect.worker] = effect.epoch
            self.leases[effect.lease_id] = Held(effect.client, effect.worker, effect.epoch, effect.class_key)
        elif isinstance(effect, le.LeaseLostEffect):
            held = self.leases.pop(effect.lease_id)
            assert held.client == effect.client
            assert effect.died == (held.worker not in self.workers)
            if not effect.died and self.workers[held.worker] == "leased":
                self.workers[held.worker] = "idle"
        elif isinstance(effect, le.StartActorOn):
            assert self.workers[effect.worker] == "idle"
            self.workers[effect.worker] = "actor"
            self.actors[effect.spec.actor_id] = (effect.worker, effect.incarnation)
        elif isinstance(effect, le.AskRevoke):
            assert self.workers[effect.worker] == "leased"
            self.questions.append(effect)
        elif isinstance(effect, le.KillWorker):
            assert effect.worker in self.workers
            self.workers[effect.worker] = "ending"
        elif isinstance(effect, le.ActorGone):
            if self.actors.get(effect.actor_id, (b"", -1))[1] == effect.incarnation:
                del self.actors[effect.actor_id]
        elif isinstance(effect, le.StartWorkers):
            self.lacking[effect.environment] = effect.count
        else:
            assert isinstance(effect, (le.ReportResources, le.Infeasible, le.WorkerTaken, le.WorkerReleased)), effect

    @rule(client=st.sampled_from(CLIENTS), class_key=st.integers(0, len(SHAPES) - 1), count=st.integers(0, 4))
    def set_demand(self, client: bytes, class_key: int, count: int) -> None:
        self.ask_for(client, class_key, count)

    def ask_for(self, client: bytes, class_key: int, count: int) -> None:
        self.demand[(client, class_key)] = count
        what = SchedulingClass(tuple(sorted(shape_of(SHAPES[class_key]).items())))
        self.tell(le.DemandSet(client, class_key, what, count, "f"))

    @precondition(lambda self: [worker for worker, state in self.workers.items() if state == "leased"])
    @rule(data=st.data(), class_key=st.integers(0, 5), count=st.integers(0, 2))
    def nest(self, data, class_key: int, count: int) -> None:
        workers = [worker for worker, state in self.workers.items() if state == "leased"]
        self.ask_for(data.draw(st.sampled_from(workers)), class_key, count)

    @rule()
    def worker_comes(self) -> None:
        self.number += 1
        worker = b"worker%02d" % self.number
        self.workers[worker] = "idle"
        self.tell(le.WorkerReady(worker))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), broken=st.booleans())
    def give_back(self, data, broken: bool) -> None:
        lease_id = data.draw(st.sampled_from(sorted(self.leases)))
        held = self.leases.pop(lease_id)
        if held.worker in self.blocked:
            self.blocked.remove(held.worker)
        if not broken:
            self.workers[held.worker] = "idle"
        self.tell(le.LeaseReturned(held.client, lease_id, broken))

    @precondition(lambda self: self.questions)
    @rule(data=st.data(), idle=st.booleans())
    def answer(self, data, idle: bool) -> None:
        question = data.draw(st.sampled_from(self.questions))
        self.questions.remove(question)
        if question.worker not in self.workers:
            return
        current = self.epochs[question.worker] == question.epoch and self.workers[question.worker] == "leased"
        if question.worker in self.blocked:
            idle = False
        orphan = current and not any(held.worker == question.worker for held in self.leases.values())
        if orphan and idle:
            self.workers[question.worker] = "idle"
        self.tell(le.RevokeAnswered(question.worker, question.epoch, idle))

    @precondition(
        lambda self: [w for w, s in self.workers.items() if s in ("leased", "actor") and w not in self.blocked]
    )
    @rule(data=st.data())
    def block(self, data) -> None:
        free = [w for w, s in self.workers.items() if s in ("leased", "actor") and w not in self.blocked]
        worker = data.draw(st.sampled_from(free))
        self.blocked.append(worker)
        self.tell(le.WorkerBlocked(worker))

    @precondition(lambda self: self.blocked)
    @rule(data=st.data())
    def unblock(self, data) -> None:
        worker = data.draw(st.sampled_from(self.blocked))
        self.blocked.remove(worker)
        self.tell(le.WorkerUnblocked(worker))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), announced=st.booleans())
    def die(self, data, announced: bool) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        if announced and self.workers[worker] != "ending":
            was = self.workers[worker]
            self.workers[worker] = "ending"
            self.tell(le.WorkerLeaving(worker))
            if was == "leased":
                assert not any(held.worker == worker for held in self.leases.values())
        self.end(worker)

    def end(self, worker: bytes) -> None:
        del self.workers[worker]
        if worker in self.blocked:
            self.blocked.remove(worker)
        self.tell(le.WorkerDied(worker, "died", 1))
        self.gone(worker)

    @rule(client=st.sampled_from(CLIENTS))
    def client_goes(self, client: bytes) -> None:
        self.gone(client)

    def gone(self, client: bytes) -> None:
        for lease_id in [lease_id for lease_id, held in self.leases.items() if held.client == client]:
            del self.leases[lease_id]
        for key in [key for key in self.demand if key[0] == client]:
            del self.demand[key]
        self.tell(le.ClientGone(client))

    @rule(number=st.integers(0, 3), incarnation=st.integers(0, 2), shape=st.sampled_from([{}, {"CPU": 1}, {"GPU": 1}]))
    def request_actor(self, number: int, incarnation: int, shape: dict) -> None:
        endpoint = Endpoint(CLIENTS[0], b"", "")
        spec = ActorSpec(b"actor%d" % number, b"", "A", endpoint, shape_of(shape), shape_of({"CPU": 1, **shape}), b"")
        self.tell(le.ActorRequested(spec, incarnation))

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), failed=st.booleans())
    def actor_started(self, data, failed: bool) -> None:
        worker, _ = self.actors[data.draw(st.sampled_from(sorted(self.actors)))]
        self.tell(le.ActorFailed(worker, "boom") if failed else le.ActorReady(worker))

    @rule(number=st.integers(0, 3), incarnation=st.integers(0, 2))
    def cancel_actor(self, number: int, incarnation: int) -> None:
        self.tell(le.ActorCancelled(b"actor%d" % number, incarnation))

    @rule(passed_ms=st.sampled_from([1, 10, 60, 250, 600]))
    def time_passes(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self.tell()

    @invariant()
    def books_are_right(self) -> None:
        self.machine.check_invariants()
        deadline_ms = self.machine.next_deadline_ms()
        assert deadline_ms is None or deadline_ms > self.now_ms, "a deadline that is past would spin the loop"
        free = self.machine.resources.available
        if not self.blocked and free["CPU"] >= 10_000:
            # Work conservation: with a CPU free, a one-CPU demand waits only for a worker, and says so.
            wanted = [key for key, count in self.demand.items() if count and SHAPES[key[1]] == {"CPU": 1}]
            assert not wanted or self.lacking.get("", 0) > 0

    def teardown(self) -> None:
        """Everybody behaves from now on: all that is feasible must be served."""
        for worker in list(self.blocked):
            self.blocked.remove(worker)
            self.tell(le.WorkerUnblocked(worker))
        for _ in range(400):
            self.now_ms += 60
            self.tell()
            for worker in [worker for worker, state in self.workers.items() if state == "ending"]:
                self.end(worker)
            for actor_id, (_, incarnation) in list(self.actors.items()):
                self.tell(le.ActorCancelled(actor_id, incarnation))
            for lease_id in sorted(self.leases):
                held = self.leases.pop(lease_id)
                self.workers[held.worker] = "idle"
                self.tell(le.LeaseReturned(held.client, lease_id))
            if self.lacking.get("", 0):
                self.worker_comes()
            left = {key: count for key, count in self.demand.items() if count and SHAPES[key[1]] != {"CPU": 9}}
            if not left and self.machine.resources.available == self.machine.resources.total:
                return
        raise AssertionError(f"never served: {left}; {self.machine.waiting()}; {self.machine.worker_states()}")


TestLeaseWorld = LeaseWorld.TestCase
TestLeaseWorld.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
