"""Worker pool: how many worker processes there are, and when idle ones end."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raybook.core.node.worker_pool import (
    STAY_MS,
    AbandonStart,
    EndWorker,
    StartWorker,
    WorkerBusy,
    WorkerIdle,
    WorkerLeft,
    WorkerPool,
    WorkerRegistered,
    WorkersLacking,
    WorkerStartFailed,
    WorkerStayed,
    WorkerUnwanted,
)


def pool(
    kept: int = 2, prestart: int = 0, parallel: int = 4, idle_ms: int = 1000, timeout_ms: int = 30_000
) -> WorkerPool:
    return WorkerPool(kept, prestart, parallel, idle_ms, timeout_ms)


def started(effects: list) -> list[int]:
    return [effect.start_id for effect in effects if isinstance(effect, StartWorker)]


def with_idle(machine: WorkerPool, count: int, now_ms: int = 0) -> list[bytes]:
    """Start and register ``count`` workers, named w1, w2, …"""
    names = []
    for _ in range(count):
        for start_id in started(machine.handle([WorkersLacking("", 1)], now_ms)):
            names.append(b"w%d" % start_id)
            machine.handle([WorkerRegistered(start_id, names[-1])], now_ms)
    machine.handle([WorkersLacking("", 0)], now_ms)
    return names


def test_as_many_as_cpus_are_started_ahead():
    assert len(started(pool(prestart=3).handle([], 0))) == 3


def test_starts_in_parallel_are_bounded_and_go_on_as_workers_register():
    machine = pool(parallel=2)
    first = started(machine.handle([WorkersLacking("", 5)], 0))
    assert len(first) == 2
    assert len(started(machine.handle([WorkerRegistered(first[0], b"a")], 1))) == 1


def test_saying_the_same_level_twice_starts_nothing_twice():
    machine = pool()
    assert len(started(machine.handle([WorkersLacking("", 2)], 0))) == 2
    assert started(machine.handle([WorkersLacking("", 2)], 1)) == []


def test_an_actor_takes_its_worker_for_good_and_a_spare_one_is_started():
    machine = pool(kept=1, prestart=1)
    (first,) = started(machine.handle([], 0))
    machine.handle([WorkerRegistered(first, b"a")], 1)
    assert len(started(machine.handle([WorkerBusy(b"a", dedicated=True)], 2))) == 1


def test_an_idle_worker_that_is_unwanted_is_asked_to_end_though_it_would_be_kept_and_may_stay():
    machine = pool(kept=2)
    first, second = with_idle(machine, 2)
    machine.handle([WorkerBusy(second)], 1)

    assert machine.handle([WorkerUnwanted(first), WorkerUnwanted(second), WorkerUnwanted(b"gone")], 2) == [
        EndWorker(first)
    ]
    assert machine.handle([WorkerUnwanted(first)], 3) == []
    assert machine.handle([], 2 + STAY_MS) == [WorkerStayed(first)]


def test_each_environment_has_workers_of_its_own():
    machine = pool()
    effects = machine.handle([WorkersLacking("", 1), WorkersLacking("uv:1", 1)], 0)
    assert sorted(effect.environment for effect in effects) == ["", "uv:1"]


def test_idle_workers_above_the_kept_number_end_after_their_time():
    machine = pool(kept=1, idle_ms=1000)
    first, second = with_idle(machine, 2)
    assert machine.next_deadline_ms() == 1000
    assert machine.handle([], 999) == []
    assert machine.handle([], 1000) == [EndWorker(first)]
    machine.handle([WorkerLeft(first)], 1001)
    assert machine.handle([], 99_000) == []
    assert second


def test_a_busy_worker_is_not_asked_to_end():
    machine = pool(kept=0, idle_ms=1000)
    (worker,) = with_idle(machine, 1)
    machine.handle([WorkerBusy(worker)], 10)
    assert machine.handle([], 5_000) == []
    machine.handle([WorkerIdle(worker)], 5_000)
    assert machine.handle([], 5_999) == []
    assert machine.handle([], 6_000) == [EndWorker(worker)]


def test_an_idle_worker_of_a_special_environment_ends_although_there_are_few():
    machine = pool(kept=4, idle_ms=1000)
    (start_id,) = started(machine.handle([WorkersLacking("uv:1", 1)], 0))
    machine.handle([WorkerRegistered(start_id, b"a")], 0)
    assert machine.handle([], 1000) == [EndWorker(b"a")]


def test_a_worker_that_stays_is_free_again_and_asked_less_and_less_often():
    machine = pool(kept=0, idle_ms=1000)
    (worker,) = with_idle(machine, 1)
    assert machine.handle([], 1000) == [EndWorker(worker)]
    assert machine.handle([], 1000 + STAY_MS) == [WorkerStayed(worker)]
    asked_again_ms = machine.next_deadline_ms()
    assert asked_again_ms == 1000 + STAY_MS + 2000
    assert machine.handle([], asked_again_ms) == [EndWorker(worker)]


def test_a_worker_that_was_leased_before_it_heard_is_busy():
    machine = pool(kept=0, idle_ms=1000)
    (worker,) = with_idle(machine, 1)
    assert machine.handle([], 1000) == [EndWorker(worker)]
    machine.handle([WorkerBusy(worker)], 1001)
    assert machine.handle([], 1000 + STAY_MS) == []


def test_a_start_that_takes_too_long_is_abandoned_and_tried_again_after_a_pause():
    machine = pool(timeout_ms=500)
    (start_id,) = started(machine.handle([WorkersLacking("", 1)], 0))
    effects = machine.handle([], 500)
    assert effects == [AbandonStart(start_id, 500)]
    pause_until_ms = machine.next_deadline_ms()
    assert pause_until_ms > 500
    assert len(started(machine.handle([], pause_until_ms))) == 1


def test_failing_starts_pause_longer_each_time_and_a_success_forgets_it():
    machine = pool()
    pauses = []
    now_ms = 0
    for _ in range(3):
        (start_id,) = started(machine.handle([WorkersLacking("", 1)], now_ms))
        machine.handle([WorkerStartFailed(start_id)], now_ms)
        pauses.append(machine.next_deadline_ms() - now_ms)
        now_ms += pauses[-1]
    assert pauses[0] < pauses[1] < pauses[2]
    (start_id,) = started(machine.handle([], now_ms))
    machine.handle([WorkerRegistered(start_id, b"a")], now_ms)
    assert len(started(machine.handle([WorkersLacking("", 1)], now_ms))) == 1


def test_a_closed_pool_starts_and_ends_nothing():
    machine = pool(prestart=2)
    machine.close()
    assert machine.handle([WorkersLacking("", 3)], 0) == []


def test_workers_that_became_actors_are_counted_and_replaced_by_others_for_tasks():
    machine = pool(prestart=2)
    names = with_idle(machine, 3)

    effects = machine.handle([WorkerBusy(name, dedicated=True) for name in names], 1)

    assert machine.statistics()["BUSY"] == len(names) and machine.statistics()["IDLE"] == 0
    assert len(started(effects)) == 2
    machine.handle([WorkerLeft(names[0]), WorkerBusy(names[1], dedicated=True)], 2)
    assert machine.statistics()["BUSY"] == len(names) - 1
    machine.check_invariants()


class PoolWorld(RuleBasedStateMachine):
    """Any order of the world's doings: bounds hold, and what is lacking is started in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = pool(kept=2, prestart=2, parallel=3, idle_ms=100, timeout_ms=1000)
        self.now_ms = 0
        self.starting: list[int] = []
        self.idle: list[bytes] = []
        self.busy: list[bytes] = []
        self.ending: list[bytes] = []

    def tell(self, *events) -> None:
        for effect in self.machine.handle(events, self.now_ms):
            if isinstance(effect, StartWorker):
                self.starting.append(effect.start_id)
            elif isinstance(effect, AbandonStart):
                self.starting.remove(effect.start_id)
            elif isinstance(effect, EndWorker):
                self.idle.remove(effect.worker)
                self.ending.append(effect.worker)
            else:
                assert isinstance(effect, WorkerStayed)
                self.ending.remove(effect.worker)
                self.idle.append(effect.worker)

    @rule(count=st.integers(0, 8))
    def lack(self, count: int) -> None:
        self.tell(WorkersLacking("", count))

    @rule(passed_ms=st.integers(1, 2500))
    def wait(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self.tell()

    @precondition(lambda self: self.starting)
    @rule(fails=st.booleans())
    def start_ends(self, fails: bool) -> None:
        start_id = self.starting.pop(0)
        if fails:
            self.tell(WorkerStartFailed(start_id))
        else:
            worker = b"w%d" % start_id
            self.idle.append(worker)
            self.tell(WorkerRegistered(start_id, worker))

    @precondition(lambda self: self.idle)
    @rule(dedicated=st.booleans())
    def lease(self, dedicated: bool) -> None:
        worker = self.idle.pop()
        if not dedicated:
            self.busy.append(worker)
        self.tell(WorkerBusy(worker, dedicated))

    @precondition(lambda self: self.busy)
    @rule()
    def release(self) -> None:
        worker = self.busy.pop()
        self.idle.append(worker)
        self.tell(WorkerIdle(worker))

    @precondition(lambda self: self.ending)
    @rule()
    def leave(self) -> None:
        self.tell(WorkerLeft(self.ending.pop()))

    @invariant()
    def bounds_hold(self) -> None:
        self.machine.check_invariants()
        assert self.machine.statistics()["starting"] == len(self.starting) <= 3
        assert self.machine.statistics()["IDLE"] == len(self.idle)

    def teardown(self) -> None:
        # Every start succeeds from now on: two general workers must be there in the end.
        for _ in range(50):
            self.now_ms = max(self.now_ms, self.machine.next_deadline_ms() or 0)
            self.tell(WorkersLacking("", 0))
            while self.starting:
                self.start_ends(False)
        assert len(self.idle) + len(self.busy) + len(self.ending) >= 2


TestPoolWorld = PoolWorld.TestCase
TestPoolWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
