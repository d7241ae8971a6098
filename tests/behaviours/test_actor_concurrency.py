"""Order and overlap of calls: sync, threaded and async actors, concurrency groups, cancelling."""

import asyncio
import threading
import time

import pytest

from raybook.exceptions import GetTimeoutError, PendingCallsLimitExceeded, TaskCancelledError

PATIENCE_S = 20


@pytest.fixture
def make_log(ray):
    """Makes actors that note what they are called with, of the three kinds."""

    class Sync:
        def __init__(self):
            self.seen = []

        def add(self, x):
            self.seen.append(x)

        def get(self):
            return self.seen

    class Async:
        def __init__(self):
            self.seen = []

        async def add(self, x):
            self.seen.append(x)

        async def get(self):
            return self.seen

    def make(kind):
        if kind == "async":
            return ray.remote(Async).remote()
        options = {"threaded": {"max_concurrency": 2}, "unordered": {"allow_out_of_order_execution": True}}
        return ray.remote(Sync).options(**options.get(kind, {})).remote()

    return make


@pytest.fixture
def make_latch(ray):
    """Makes (ref that becomes 0 when told to, how to tell it)."""

    @ray.remote(num_cpus=0)
    class Latch:
        def __init__(self):
            self.open = asyncio.Event()

        async def wait(self):
            await self.open.wait()
            return 0

        async def release(self):
            self.open.set()

    def make():
        latch = Latch.remote()
        return latch.wait.remote(), latch.release.remote

    return make


def test_calls_of_a_sync_actor_run_in_order_even_when_arguments_come_late(ray, make_log, make_latch):
    log, (late, release) = make_log("sync"), make_latch()
    refs = [log.add.remote(late), log.add.remote(1), log.add.remote(2)]
    assert not ray.wait(refs, timeout=0.1)[0]
    release()
    ray.get(refs, timeout=PATIENCE_S)
    assert ray.get(log.get.remote()) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["async", "threaded", "unordered"])
def test_calls_pass_one_that_waits_for_an_argument(ray, make_log, make_latch, kind):
    log, (late, release) = make_log(kind), make_latch()
    waiting = log.add.remote(late)
    ray.get([log.add.remote(1), log.add.remote(2)], timeout=PATIENCE_S)
    release()
    ray.get(waiting, timeout=PATIENCE_S)
    seen = ray.get(log.get.remote())
    assert sorted(seen) == [0, 1, 2] and seen[-1] == 0


@pytest.mark.parametrize("kind", ["async", "threaded", "unordered"])
def test_a_call_that_stands_aside_can_be_cancelled(ray, make_log, make_latch, kind):
    log, (late, release) = make_log(kind), make_latch()
    waiting = log.add.remote(late)
    ray.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        ray.get(waiting, timeout=PATIENCE_S)
    release()
    assert ray.get(log.get.remote(), timeout=PATIENCE_S) == []


@pytest.mark.parametrize("kind", ["async", "threaded", "unordered"])
def test_a_call_that_stands_aside_fails_with_its_argument(ray, make_log, kind):
    @ray.remote
    def bad():
        raise ValueError("late and bad")

    log = make_log(kind)
    with pytest.raises(ValueError, match="late and bad"):
        ray.get(log.add.remote(bad.remote()), timeout=PATIENCE_S)
    assert ray.get(log.get.remote(), timeout=PATIENCE_S) == []


def test_calls_that_overlap_cannot_be_asked_to_run_in_order(ray):
    class Async:
        async def f(self):
            pass

    class Sync:
        def f(self):
            pass

    with pytest.raises(ValueError, match="async actors"):
        ray.remote(Async).options(allow_out_of_order_execution=False).remote()
    with pytest.raises(ValueError, match="multi-threaded"):
        ray.remote(Sync).options(allow_out_of_order_execution=False, max_concurrency=2).remote()


@pytest.fixture(scope="module")
def crowd(ray):
    @ray.remote
    class Crowd:
        def __init__(self):
            self.inside = self.peak = 0
            self.thread = threading.get_ident()

        async def enter(self):
            self.inside += 1
            self.peak = max(self.peak, self.inside)
            await asyncio.sleep(0.05)
            self.inside -= 1
            return self.peak

        def same_thread(self):
            return threading.get_ident() == self.thread

        async def threads(self):
            return threading.active_count()

        async def task_id(self):
            before = ray.get_runtime_context().get_task_id()
            await asyncio.sleep(0.01)
            return before, ray.get_runtime_context().get_task_id()

        async def get(self, refs):
            return ray.get(refs[0])

        async def wait_for(self, refs):
            return await asyncio.gather(*refs)

        async def some(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i
            raise ValueError("after all")

        async def bad(self):
            raise ValueError("in a coroutine")

    return Crowd


@pytest.mark.slow
def test_an_async_actor_runs_a_thousand_calls_at_once_on_one_thread(ray, crowd):
    actor = crowd.remote()
    assert max(ray.get([actor.enter.remote() for _ in range(1000)], timeout=PATIENCE_S)) > 100
    assert ray.get(actor.threads.remote()) < 60
    assert ray.get(actor.same_thread.remote())


def test_max_concurrency_bounds_an_async_actor(ray, crowd):
    actor = crowd.options(max_concurrency=2).remote()
    assert max(ray.get([actor.enter.remote() for _ in range(6)], timeout=PATIENCE_S)) == 2


def test_each_coroutine_sees_its_own_task(ray, crowd):
    actor = crowd.remote()
    seen = ray.get([actor.task_id.remote() for _ in range(5)], timeout=PATIENCE_S)
    assert all(before == after for before, after in seen) and len({before for before, _ in seen}) == 5


def test_references_can_be_awaited_and_gotten_in_coroutines(ray, crowd):
    actor = crowd.remote()
    refs = [ray.put(i) for i in range(3)]
    assert ray.get(actor.get.remote(refs), timeout=PATIENCE_S) == 0
    assert ray.get(actor.wait_for.remote(refs), timeout=PATIENCE_S) == [0, 1, 2]


def test_an_async_generator_streams_and_ends_with_its_error(ray, crowd):
    refs = list(crowd.remote().some.remote(2))
    assert ray.get(refs[:2]) == [0, 1]
    with pytest.raises(ValueError, match="after all"):
        ray.get(refs[2])
    with pytest.raises(ValueError, match="in a coroutine"):
        ray.get(crowd.remote().bad.remote())


def test_a_threaded_actor_runs_as_many_calls_at_once_as_it_has_threads(ray):
    @ray.remote(max_concurrency=3)
    class Threaded:
        def __init__(self):
            self.barrier = threading.Barrier(3)

        def meet(self):
            return self.barrier.wait(PATIENCE_S) >= 0

    actor = Threaded.remote()
    assert all(ray.get([actor.meet.remote() for _ in range(3)], timeout=PATIENCE_S))


def test_a_sync_actor_runs_on_the_main_thread(ray):
    @ray.remote
    class Sync:
        def is_main(self):
            return threading.current_thread() is threading.main_thread()

    assert ray.get(Sync.remote().is_main.remote(), timeout=PATIENCE_S)


def test_concurrency_groups_have_loops_of_their_own_and_hold_up_nobody(ray):
    @ray.remote(concurrency_groups={"io": 2, "compute": 4})
    class Grouped:
        @ray.method(concurrency_group="io")
        async def io(self):
            return threading.get_ident()

        @ray.method(concurrency_group="compute")
        async def compute(self):
            return threading.get_ident()

        async def plain(self):
            return threading.get_ident()

        @ray.method(concurrency_group="io")
        async def hang(self):
            await asyncio.Event().wait()

    actor = Grouped.remote()
    io, compute, plain = ray.get([actor.io.remote(), actor.compute.remote(), actor.plain.remote()], timeout=PATIENCE_S)
    assert len({io, compute, plain}) == 3 and ray.get(actor.io.remote()) == io
    assert ray.get(actor.plain.options(concurrency_group="io").remote()) == io
    for _ in range(2):
        actor.hang.remote()
    assert ray.get([actor.compute.remote(), actor.plain.remote()], timeout=PATIENCE_S) == [compute, plain]
    with pytest.raises(GetTimeoutError):
        ray.get(actor.io.remote(), timeout=0.1)
    with pytest.raises(ValueError, match="does not declare it"):
        actor.plain.options(concurrency_group="nobody")


def test_max_pending_calls_refuses_the_call_too_many(ray):
    @ray.remote(max_pending_calls=2)
    class Busy:
        def __init__(self):
            self.go = threading.Event()

        def wait(self):
            time.sleep(0.2)

    busy = Busy.remote()
    refs = [busy.wait.remote() for _ in range(2)]
    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls"):
        busy.wait.remote()
    ray.get(refs, timeout=PATIENCE_S)
    ray.get(busy.wait.remote(), timeout=PATIENCE_S)


def test_cancelling_a_coroutine_cancels_what_it_awaits(ray, till):
    @ray.remote
    class Sleeper:
        def __init__(self):
            self.log = []

        async def sleep(self):
            self.log.append("begun")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.log.append("cancelled")
                raise

        async def nested(self, others):
            return await others[0].sleep.remote()

        async def get(self):
            return self.log

    outer, inner = Sleeper.remote(), Sleeper.remote()
    ref = outer.nested.remote([inner])
    till(lambda: ray.get(inner.get.remote()) == ["begun"])
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=PATIENCE_S)
    till(lambda: ray.get(inner.get.remote()) == ["begun", "cancelled"])
    with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
        ray.cancel(inner.sleep.remote(), force=True)


def test_a_cancelled_coroutine_that_goes_on_is_cancelled_all_the_same(ray, till):
    @ray.remote
    class Stubborn:
        def __init__(self):
            self.begun = False

        async def go_on(self):
            self.begun = True
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "went on"

        async def has_begun(self):
            return self.begun

    stubborn = Stubborn.remote()
    ref = stubborn.go_on.remote()
    till(lambda: ray.get(stubborn.has_begun.remote()))
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=PATIENCE_S)
    assert ray.get(stubborn.has_begun.remote())


def test_a_sync_method_sees_that_it_was_cancelled_and_its_actor_lives_on(ray, till):
    @ray.remote
    class Patient:
        def __init__(self):
            self.calls = 0

        def work(self):
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end:
                if ray.get_runtime_context().is_canceled():
                    return "saw it"
                time.sleep(0.01)

        def ok(self):
            return "ok"

    patient = Patient.remote()
    assert ray.get(patient.ok.remote(), timeout=PATIENCE_S) == "ok"
    running, queued = patient.work.remote(), patient.work.remote()
    ray.cancel(queued)
    with pytest.raises(TaskCancelledError):
        ray.get(queued, timeout=PATIENCE_S)
    ray.wait([running], timeout=0.2)
    ray.cancel(running)
    with pytest.raises(TaskCancelledError):
        ray.get(running, timeout=PATIENCE_S)
    assert ray.get(patient.ok.remote(), timeout=PATIENCE_S) == "ok"


@pytest.mark.parametrize("ending", ["returns", "raises"])
@pytest.mark.parametrize("max_concurrency", [1, 2])
def test_a_cancelled_call_of_a_sync_actor_is_cancelled_however_its_method_ends(
    ray, till, tmp_path, ending, max_concurrency
):
    begun = tmp_path / "begun"

    @ray.remote(max_concurrency=max_concurrency)
    class Attentive:
        def work(self):
            begun.touch()
            end = time.monotonic() + PATIENCE_S
            while not ray.get_runtime_context().is_canceled() and time.monotonic() < end:
                time.sleep(0.01)
            if ending == "raises":
                raise ValueError("not what it ends with")
            return "nor this"

        def ok(self):
            return "ok"

    attentive = Attentive.remote()
    running = attentive.work.remote()
    till(begun.exists)
    ray.cancel(running)
    with pytest.raises(TaskCancelledError):
        ray.get(running, timeout=PATIENCE_S)
    assert ray.get(attentive.ok.remote(), timeout=PATIENCE_S) == "ok"


def test_is_canceled_is_for_sync_code_in_workers(ray):
    @ray.remote
    class Async:
        async def ask(self):
            return ray.get_runtime_context().is_canceled()

    with pytest.raises(RuntimeError):
        ray.get_runtime_context().is_canceled()
    with pytest.raises(RuntimeError):
        ray.get(Async.remote().ask.remote(), timeout=PATIENCE_S)


def test_an_interrupt_raised_by_a_method_is_a_cancelled_task(ray):
    @ray.remote
    class Interrupted:
        def stop(self):
            raise KeyboardInterrupt

    with pytest.raises(TaskCancelledError):
        ray.get(Interrupted.remote().stop.remote(), timeout=PATIENCE_S)
