"""Every checker finds a bug of its kind: one is planted in a shipped machine, and some of a few seeds must catch it.

The same seeds are clean without it. A planted bug is what somebody might write: a line left out, an order reversed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raybook.base.strategies import SPREAD
from raybook.core.node.drain import NodeLoad
from raybook.core.node.lease_events import NodeDraining
from raybook.core.node.lease_manager import LeaseManager
from raybook.core.node.lease_table import LeaseTable, Worker, WorkerState
from raybook.core.node.local_resources import LocalResources
from raybook.core.node.pull_manager import PullManager
from raybook.core.node.spillover import Spillover
from raybook.core.owner.actor_queue import ActorQueue
from raybook.core.owner.borrows import Borrows
from raybook.core.owner.evacuation import Evacuation
from raybook.core.owner.exchange import Exchange
from raybook.core.owner.garbage import Garbage
from raybook.core.owner.pins import Pins
from raybook.core.owner.recovery import Recovery
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.regions import Regions
from raybook.core.owner.task_manager import TaskManager
from raybook.core.owner.wait_set import WaitSet
from raybook.core.scheduling import bundles
from raybook.core.worker.intake import Intake
from raybook.core.worker.recent_results import RecentResults
from raybook.protocol.messages.store import ReclaimAck
from raybook.sim.cases import make_world, violation_of
from raybook.sim.checkers.violation import Violation
from raybook.sim.faults import parse_schedule
from raybook.sim.fiber import Program
from raybook.sim.plans import CPU, TaskPlan
from raybook.sim.user import User
from raybook.sim.world import Setting, World

pytestmark = pytest.mark.slow
SEEDS = range(40)

Plant = Callable[[pytest.MonkeyPatch], None]


def a_busy_worker_is_picked(patch: pytest.MonkeyPatch) -> None:
    """grants: the idle list is not looked at closely."""
    pick = LeaseTable.pick_idle

    def broken(self: LeaseTable, environment: str, client: bytes, *more: Any) -> Worker | None:
        idle = pick(self, environment, client, *more)
        if idle is None:
            busy = [worker for worker in self.workers.values() if worker.state is WorkerState.LEASED]
            if busy and busy[0].worker_id != client:
                self.set_ending(busy[0])
                self.put_idle(busy[0])
                return busy[0]
        return idle

    patch.setattr(LeaseTable, "pick_idle", broken)


def amounts_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    """grants: what is free is forgotten to be subtracted, and the books agree with that."""
    allocate = LocalResources.allocate

    def broken(self: LocalResources, key: Any, shape: Any) -> Any:
        assignment = allocate(self, key, shape)
        if assignment is not None:
            for name, amount in shape.items():
                self.available[name] += amount
        return assignment

    patch.setattr(LocalResources, "allocate", broken)
    patch.setattr(LocalResources, "check_invariants", lambda self: None)
    patch.setattr(LocalResources, "release", lambda self, key: self._holdings.pop(key, None))


def borrowers_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """memory: an owner forgets who borrowed."""
    patch.setattr(ReferenceCounter, "add_borrower", lambda self, key, client_id: True)


def views_do_not_count(patch: pytest.MonkeyPatch) -> None:
    """memory: a view of the arena holds nothing."""
    patch.setattr(Pins, "is_pinned", lambda self, offset: False)
    patch.setattr(Pins, "touches", lambda self, ranges: False)
    patch.setattr(Regions, "_answer_reclaims", _acknowledge_all)


def _acknowledge_all(self: Regions) -> None:
    queries, self._reclaims = self._reclaims, []
    for query in queries:
        self._send(ReclaimAck(query.query_id))


def arguments_are_not_held(patch: pytest.MonkeyPatch) -> None:
    """memory: what a container holds is let go at once."""
    contain = ReferenceCounter.contain

    def broken(self: ReferenceCounter, container: bytes, refs: Any) -> Any:
        fresh = contain(self, container, refs)
        self._drop_contained(container)
        return fresh

    patch.setattr(ReferenceCounter, "contain", broken)


def borrows_are_not_given_back(patch: pytest.MonkeyPatch) -> None:
    """memory: a leak."""
    patch.setattr(Borrows, "give_back", lambda self: None)


def late_results_stay(patch: pytest.MonkeyPatch) -> None:
    """memory: a leak in the arena."""
    patch.setattr(Garbage, "discard", lambda self, key, value, own_offset: None)


def owners_do_not_answer(patch: pytest.MonkeyPatch) -> None:
    """liveness: who asked before the value was there is not told."""
    patch.setattr(Exchange, "answer", lambda self, key, value: None)


def a_wait_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """liveness: of two that wait for one object, one is woken."""
    ready = WaitSet.ready
    patch.setattr(WaitSet, "ready", lambda self, key, failed: ready(self, key, failed)[1:])


def a_drained_worker_does_not_say_so(patch: pytest.MonkeyPatch) -> None:
    """liveness: a lease that was asked back is never given back."""
    patch.setattr(Intake, "answer_drain", lambda self: None)
    patch.setattr(Intake, "unlend", lambda self: None)


def a_neighbours_result_is_taken(patch: pytest.MonkeyPatch) -> None:
    """values: a task gets what was made just before, whatever that was."""

    def broken(self: RecentResults, key: bytes) -> Any:
        for reply in reversed(self._made):
            for value in reply.returns:
                if value.inline is not None and not value.contained:
                    return value
        return None

    patch.setattr(RecentResults, "_find", broken)


def retries_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """values: code runs more often than it may."""

    def broken(record: Any) -> bool:
        record.spec.attempt += 1
        return True

    patch.setattr(TaskManager, "spend", staticmethod(broken))


def calls_overtake(patch: pytest.MonkeyPatch) -> None:
    """order: a call whose arguments are there goes before one whose are not."""
    send = ActorQueue.send_ready

    def broken(self: ActorQueue, effects: list[Any]) -> None:
        ready = [record for record in self.queue if not record.unresolved]
        waiting = [record for record in self.queue if record.unresolved]
        self.queue.clear()
        self.queue.extend([*ready, *waiting])
        send(self, effects)

    patch.setattr(ActorQueue, "send_ready", broken)


# On several nodes


def strict_spread_is_packed(patch: pytest.MonkeyPatch) -> None:
    """groups: bundles that may not share a node do."""
    patch.setattr(bundles._Planner, "_one_node_each", bundles._Planner._on_one_node)


def all_is_lost_with_any_node(patch: pytest.MonkeyPatch) -> None:
    """lineage: an owner does not look which node it was."""
    node_gone = Recovery.node_gone

    def broken(self: Recovery, node_id: bytes, reason: str) -> None:
        node_gone(self, node_id, reason)
        values = self._objects.values
        for key in [key for key, value in values.items() if value.location and key not in self._objects.own_regions]:
            if key in values:
                self._lose(key)

    patch.setattr(Recovery, "node_gone", broken)


def older_lives_go_on(patch: pytest.MonkeyPatch) -> None:
    """lives: a killed actor's process stays, and whoever has its address goes on calling it."""
    cancelled, update = LeaseManager._actor_cancelled, ActorQueue.update

    def is_not_ended(self: LeaseManager, event: Any, now_ms: int) -> None:
        if event.graceful or self._actors.get(event.actor_id, (0, None))[1] is None:
            cancelled(self, event, now_ms)

    def is_not_heard(self: ActorQueue, news: Any) -> list[Any]:
        if self.endpoint is not None and news.incarnation >= self.incarnation:
            return []
        return update(self, news)

    patch.setattr(LeaseManager, "_actor_cancelled", is_not_ended)
    patch.setattr(ActorQueue, "update", is_not_heard)


def readers_of_copies_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """memory: a copy goes while somebody looks at it."""
    told = PullManager._tell

    def broken(self: PullManager, copy: Any, client: bytes, request_id: int) -> None:
        told(self, copy, client, request_id)
        copy.users.clear()

    patch.setattr(PullManager, "_tell", broken)


def copies_are_kept_for_ever(patch: pytest.MonkeyPatch) -> None:
    """memory: a leak of copies."""
    patch.setattr(PullManager, "_dropped", lambda self, event: None)
    patch.setattr(PullManager, "_reader_gone", lambda self, event: None)


def parts_of_dead_nodes_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """liveness: what was asked of a node is not asked of others when it dies."""
    patch.setattr(Spillover, "_lay_out_all", lambda self: None)


PLANTED: list[tuple[str, Plant, bool]] = [
    ("grants", a_busy_worker_is_picked, True),
    ("grants", amounts_are_not_compared, True),
    ("memory", borrowers_are_not_counted, True),
    ("memory", views_do_not_count, False),
    ("memory", arguments_are_not_held, True),
    ("memory", borrows_are_not_given_back, True),
    ("memory", late_results_stay, True),
    ("liveness", owners_do_not_answer, True),
    ("liveness", a_wait_is_forgotten, True),
    ("liveness", a_drained_worker_does_not_say_so, True),
    ("values", a_neighbours_result_is_taken, True),
    ("values", retries_are_not_counted, True),
    ("order", calls_overtake, True),
]
PLANTED_IN_MANY: list[tuple[str, Plant, bool]] = [
    ("groups", strict_spread_is_packed, True),
    ("lineage", all_is_lost_with_any_node, False),
    ("memory", readers_of_copies_are_not_counted, True),
    ("memory", copies_are_kept_for_ever, True),
    ("liveness", parts_of_dead_nodes_are_forgotten, False),
]


@pytest.mark.parametrize(("checker", "plant", "calm"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_bug_is_caught_by_its_checker(
    checker: str, plant: Plant, calm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _catch(checker, plant, calm, monkeypatch, wide=False)


@pytest.mark.parametrize(("checker", "plant", "calm"), PLANTED_IN_MANY, ids=lambda v: getattr(v, "__name__", None))
def test_a_bug_planted_in_several_nodes_is_caught_by_its_checker(
    checker: str, plant: Plant, calm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _catch(checker, plant, calm, monkeypatch, wide=True)


def _play_a_restart_elsewhere(seed: int) -> World:
    """An actor that fills a node is killed and lives again on another one, while a task goes on calling it."""
    world = World(seed, Setting(steps=0, nodes=3))
    user = User(world.driver)

    def program() -> Program:
        actor = user.create_actor(TaskPlan(seed, "Actor", 300), [], 5, {"CPU": 3 * CPU}, 1)
        asking = user.submit(TaskPlan(seed, "ask", 300, asks=9), [], [actor], SPREAD)
        yield from user.work(800_000)
        yield from user.kill(actor, False)
        for step in range(8):
            yield from user.get(user.call(actor, TaskPlan(step, "m", 300), [], [], 3))
            yield from user.work(600_000)
        yield from user.get(asking)
        user.close()

    user.fiber = world.driver.spawn(program())
    world.advance(9_000_000)
    return world


def test_an_older_life_of_an_actor_that_goes_on_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    _play_a_restart_elsewhere(1).finish()
    with monkeypatch.context() as patch:
        older_lives_go_on(patch)
        with pytest.raises(Violation, match="^lives: life 0 of actor .* executes a call on"):
            _play_a_restart_elsewhere(1)


DRAINS = parse_schedule("20 ms: drain 1; 60 ms: drain 2")


def others_objects_do_not_count(patch: pytest.MonkeyPatch) -> None:
    """drains: a node leaves when nobody is at work there, and an owner does not fetch what is its own."""
    patch.setattr(Evacuation, "node_draining", lambda self, message: None)
    patch.setattr(NodeLoad, "is_empty", lambda self: not (self.tasks or self.actors or self.drivers or self.workers))


def a_node_that_drains_goes_on_serving(patch: pytest.MonkeyPatch) -> None:
    """drains: it asks its leases back and grants new ones."""
    draining = LeaseManager._node_draining

    def broken(self: LeaseManager, event: NodeDraining, now_ms: int) -> None:
        draining(self, event, now_ms)
        self.reports.draining = ""

    patch.setattr(LeaseManager, "_node_draining", broken)


@pytest.mark.parametrize("plant", [others_objects_do_not_count, a_node_that_drains_goes_on_serving])
def test_a_bug_of_draining_is_caught(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        found = [violation_of(make_world(seed, wide=True, schedule=DRAINS)) for seed in range(3, 12)]
    assert any(violation is not None and violation.checker == "drains" for violation in found)


def _catch(checker: str, plant: Plant, calm: bool, monkeypatch: pytest.MonkeyPatch, *, wide: bool) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        for seed in reversed(SEEDS):
            violation = violation_of(make_world(seed, calm=calm, wide=wide))
            if violation is not None and violation.checker == checker:
                break
        else:
            pytest.fail(f"no seed below {len(SEEDS)} shows this to the checker of {checker}")
    text = str(violation)
    assert f"--seed {seed}" in text and "faults:" in text

    assert violation_of(make_world(seed, calm=calm, wide=wide)) is None
