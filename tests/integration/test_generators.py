"""Generators of tasks and actors: their items come back while they run (RAY.md, behaviours 4, 6, 42 and 43)."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(60)]


def make_counting_task() -> object:
    @ray.remote
    def count(n: int) -> object:
        yield from range(n)

    return count


def make_producer(kind: str) -> object:
    """Something with ``.numbers.remote(n, fail=False)``: a task, or an actor of one of three kinds."""

    def numbers(n, fail=False):
        yield from range(n)
        if fail:
            raise ValueError("no more")

    if kind == "task":

        class Task:
            pass

        task = Task()
        task.numbers = ray.remote(numbers)
        return task

    class Sync:
        def numbers(self, n, fail=False):
            yield from range(n)
            if fail:
                raise ValueError("no more")

    class Async:
        async def numbers(self, n, fail=False):
            for number in range(n):
                yield number
            if fail:
                raise ValueError("no more")

    if kind == "async actor":
        return ray.remote(Async).remote()
    return ray.remote(Sync).options(max_concurrency=2 if kind == "threaded actor" else 1).remote()


@pytest.fixture(params=["task", "sync actor", "threaded actor", "async actor"])
def producer(request: pytest.FixtureRequest, cluster: object) -> object:
    return make_producer(request.param)


# --- for tasks and all kinds of actors -------------------------------------------


def test_a_generator_returns_refs_of_its_items_in_order(producer: object):
    generator = producer.numbers.remote(5)
    assert isinstance(generator, ray.ObjectRefGenerator)
    refs = list(generator)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2, 3, 4]


def test_a_generator_without_items_is_at_its_end(producer: object):
    assert list(producer.numbers.remote(0)) == []


def test_an_exception_comes_after_the_items_and_then_the_end_for_ever(producer: object):
    generator = producer.numbers.remote(2, fail=True)
    assert [ray.get(next(generator)), ray.get(next(generator))] == [0, 1]
    with pytest.raises(ValueError, match="no more"):
        ray.get(next(generator))
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(generator)


def test_a_generator_works_with_async_for(producer: object):
    async def read() -> list[int]:
        return [await ref async for ref in producer.numbers.remote(4)]

    assert asyncio.run(read()) == [0, 1, 2, 3]


def test_thousands_of_items_come_in_order(producer: object):
    assert ray.get(list(producer.numbers.remote(3000))) == list(range(3000))


def test_a_producer_pauses_at_the_window(producer: object):
    generator = producer.numbers.options(_generator_backpressure_num_objects=2).remote(20)
    assert [ray.get(ref) for ref in generator] == list(range(20))


# --- while it runs ----------------------------------------------------------------


def test_items_are_there_before_the_task_ends(gate: object):
    @ray.remote
    def work(gate):
        yield "early"
        ray.get(gate.wait.remote())
        yield "late"

    generator = work.remote(gate)
    assert ray.get(next(generator)) == "early"
    assert not generator.is_finished()
    assert ray.wait([generator.completed()], timeout=0)[0] == []
    ray.get(gate.open.remote())
    assert ray.get(next(generator)) == "late"
    assert ray.get(generator.completed()) is None


def test_an_item_is_not_held_back_by_a_slow_next_one(gate: object):
    @ray.remote
    def work(gate):
        yield from range(50)
        ray.get(gate.wait.remote())
        yield 50

    generator = work.remote(gate)
    assert [ray.get(next(generator)) for _ in range(50)] == list(range(50))
    ray.get(gate.open.remote())
    assert ray.get(list(generator)) == [50]


def test_items_of_an_async_actor_come_while_others_wait(gate: object):
    @ray.remote
    class Actor:
        async def work(self, gate):
            yield "early"
            await gate.wait.remote()
            yield "late"

    actor = Actor.remote()
    first, second = actor.work.remote(gate), actor.work.remote(gate)
    assert ray.get([next(first), next(second)]) == ["early", "early"]
    ray.get(gate.open.remote())
    assert ray.get([*first, *second]) == ["late", "late"]


def test_wait_finds_a_generator_ready_when_its_next_item_is_there(gate: object):
    @ray.remote
    def work(gate):
        ray.get(gate.wait.remote())
        yield 1

    generator = work.remote(gate)
    assert ray.wait([generator], timeout=0.05) == ([], [generator])
    assert not generator.next_ready()
    ray.get(gate.open.remote())
    assert ray.wait([generator]) == ([generator], [])
    assert generator.next_ready()
    assert ray.get(next(generator)) == 1


def test_wait_takes_generators_and_refs_together():
    generator = make_counting_task().remote(1)
    ref = ray.put(1)
    ready, rest = ray.wait([generator, ref], num_returns=2)
    assert (ready, rest) == ([generator, ref], [])


def test_wait_finds_a_generator_at_its_end_ready():
    generator = make_counting_task().remote(0)
    assert ray.wait([generator])[0] == [generator]
    assert list(generator) == []
    assert generator.is_finished()
    assert not generator.next_ready()


def test_get_of_a_generator_is_the_generator():
    generator = make_counting_task().remote(1)
    assert ray.get(generator) is generator


def test_a_generator_cannot_be_pickled():
    generator = make_counting_task().remote(1)
    with pytest.raises(TypeError, match="generator"):
        pickle.dumps(generator)
    with pytest.raises(TypeError, match="generator"):
        ray.put(generator)
    with pytest.raises(TypeError, match="generator"):
        make_counting_task().remote(generator)


def test_items_can_be_arguments_of_tasks():
    @ray.remote
    def double(x):
        return 2 * x

    assert ray.get([double.remote(ref) for ref in make_counting_task().remote(3)]) == [0, 2, 4]


# --- what it may yield ---------------------------------------------------------------


def test_large_items_go_through_shared_memory():
    @ray.remote
    def arrays():
        for number in range(3):
            yield np.full(300_000, number)

    values = [ray.get(ref) for ref in arrays.remote()]
    assert [int(value[-1]) for value in values] == [0, 1, 2]


def test_references_inside_items_outlive_the_task():
    @ray.remote
    def nested():
        for number in range(3):
            yield [ray.put(np.full(50_000, number)), number]

    items = [ray.get(ref) for ref in nested.remote()]
    assert [int(ray.get(inner)[0]) for inner, _ in items] == [0, 1, 2]


def test_references_of_others_inside_items_come_in_order():
    inner = [ray.put(number) for number in range(20)]

    @ray.remote
    def pass_on(refs):
        for number, ref in enumerate(refs):
            yield [ref] if number % 2 else number

    items = [ray.get(ref) for ref in pass_on.remote(inner)]
    assert [item if isinstance(item, int) else ray.get(item[0]) for item in items] == list(range(20))


def test_an_item_that_cannot_be_pickled_is_an_error_after_the_others():
    @ray.remote
    def work():
        import threading

        yield 1
        yield threading.Lock()
        yield 2

    refs = list(work.remote())
    assert ray.get(refs[0]) == 1
    with pytest.raises(TypeError):
        ray.get(refs[1])
    assert len(refs) == 2


def test_a_function_that_is_no_generator_cannot_stream():
    with pytest.raises(ValueError, match="can only be used with generator functions"):

        @ray.remote(num_returns="streaming")
        def work():
            return [1]


# --- backpressure ------------------------------------------------------------------


def test_backpressure_of_one_makes_each_item_when_the_one_before_was_taken(
    attempts: Callable[[], int], recorded: Callable[[], int], eventually: Callable[[Callable[[], object]], None]
):
    @ray.remote(_generator_backpressure_num_objects=1)
    def work():
        for number in range(5):
            attempts()
            yield number

    generator = work.remote()
    for number in range(5):
        eventually(lambda wanted=number + 1: recorded() == wanted)
        assert ray.wait([generator], timeout=0.05)[0] == [generator]
        assert recorded() == number + 1
        assert ray.get(next(generator)) == number


def test_a_paused_async_producer_leaves_its_actor_free():
    @ray.remote
    class Actor:
        async def work(self):
            for number in range(10):
                yield number

        async def ping(self):
            return "pong"

    actor = Actor.remote()
    generator = actor.work.options(_generator_backpressure_num_objects=1).remote()
    assert ray.get(next(generator)) == 0
    assert ray.get(actor.ping.remote()) == "pong"
    assert ray.get(list(generator)) == list(range(1, 10))


def test_backpressure_of_zero_is_an_error_and_of_minus_one_is_off():
    with pytest.raises(ValueError):
        ray.remote(_generator_backpressure_num_objects=0)(lambda: None)
    count = make_counting_task().options(_generator_backpressure_num_objects=-1)
    assert len(list(count.remote(10))) == 10


# --- dynamic -------------------------------------------------------------------------


def test_dynamic_returns_one_ref_to_all_items():
    ref = make_counting_task().options(num_returns="dynamic").remote(3)
    assert isinstance(ref, ray.ObjectRef)
    assert [ray.get(item) for item in ray.get(ref)] == [0, 1, 2]


def test_dynamic_items_can_be_read_in_another_task():
    @ray.remote
    def read(generator):
        return [ray.get(item) for item in generator]

    assert ray.get(read.remote(make_counting_task().options(num_returns="dynamic").remote(3))) == [0, 1, 2]


def test_dynamic_error_is_the_last_ref():
    @ray.remote(num_returns="dynamic")
    def work():
        yield 1
        raise ValueError("no more")

    first, last = ray.get(work.remote())
    assert ray.get(first) == 1
    with pytest.raises(ValueError, match="no more"):
        ray.get(last)


# --- retries, cancelling, dropping ----------------------------------------------------


def test_a_retried_generator_goes_on_where_it_broke_off(attempts: Callable[[], int]):
    @ray.remote(max_retries=2)
    def work():
        attempt = attempts()
        for number in range(6):
            if number == 2 * attempt and attempt < 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield number

    generator = work.remote()
    assert [ray.get(ref) for ref in generator] == list(range(6))


def test_a_generator_that_lost_its_worker_gives_its_items_and_then_the_error():
    @ray.remote(max_retries=0)
    def work():
        yield 1
        os.kill(os.getpid(), signal.SIGKILL)
        yield 2

    generator = work.remote()
    assert ray.get(next(generator)) == 1
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(next(generator))
    assert list(generator) == []
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(generator.completed())


def test_retry_exceptions_restarts_a_generator(attempts: Callable[[], int]):
    @ray.remote(max_retries=1, retry_exceptions=True)
    def work():
        attempt = attempts()
        yield 1
        if attempt == 1:
            raise ValueError("once")
        yield 2

    assert ray.get(list(work.remote())) == [1, 2]


def test_cancelling_a_generator_interrupts_its_code(gate: object):
    @ray.remote
    def work(gate):
        yield 1
        ray.get(gate.wait.remote())
        yield 2

    generator = work.remote(gate)
    assert ray.get(next(generator)) == 1
    ray.cancel(generator)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(next(generator))
    assert list(generator) == []


@pytest.mark.parametrize("kind", ["task", "sync actor", "threaded actor", "async actor"])
def test_cancelling_a_paused_generator_ends_it(kind: str):
    numbers = make_producer(kind).numbers
    generator = numbers.options(_generator_backpressure_num_objects=1).remote(10)
    assert ray.wait([generator])[0] == [generator]
    ray.cancel(generator)
    outcomes = []
    for ref in generator:
        try:
            outcomes.append(ray.get(ref))
        except ray.exceptions.TaskCancelledError:
            outcomes.append("cancelled")
    assert outcomes[0] == 0
    assert outcomes[-1] == "cancelled"
    assert len(outcomes) < 10


@pytest.mark.parametrize("kind", ["task", "sync actor", "async actor"])
def test_dropping_a_generator_stops_its_producer(
    kind: str, tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
):
    closed = str(tmp_path / "closed")

    def endless(path):
        try:
            while True:
                yield 1
        finally:
            open(path, "w").close()

    class Sync:
        def endless(self, path):
            yield from endless(path)

    class Async:
        async def endless(self, path):
            try:
                while True:
                    yield 1
            finally:
                open(path, "w").close()

    if kind == "task":
        call = ray.remote(endless)
    else:
        actor = ray.remote(Sync if kind == "sync actor" else Async).remote()
        call = actor.endless
    generator = call.options(_generator_backpressure_num_objects=8).remote(closed)
    assert ray.get(next(generator)) == 1
    del generator
    eventually(lambda: os.path.exists(closed))


def test_an_actor_that_dies_ends_its_stream():
    @ray.remote
    class Actor:
        def work(self):
            yield 1
            os.kill(os.getpid(), signal.SIGKILL)
            yield 2

    actor = Actor.remote()
    generator = actor.work.remote()
    assert ray.get(next(generator)) == 1
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(next(generator))
    assert list(generator) == []


def test_a_restarted_actor_goes_on_with_the_stream(attempts: Callable[[], int]):
    @ray.remote(max_restarts=1, max_task_retries=1)
    class Actor:
        def work(self):
            attempt = attempts()
            for number in range(4):
                if number == 2 and attempt == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield number

    actor = Actor.remote()
    assert ray.get(list(actor.work.remote())) == [0, 1, 2, 3]


def test_a_retried_producer_with_a_window_does_not_wait_for_what_was_taken_before(attempts: Callable[[], int]):
    @ray.remote(max_retries=1, _generator_backpressure_num_objects=1)
    def work():
        attempt = attempts()
        for number in range(6):
            if number == 3 and attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield number

    assert [ray.get(ref) for ref in work.remote()] == list(range(6))


def test_a_handle_from_another_process_streams_too():
    @ray.remote
    class Actor:
        def work(self, n):
            yield from range(n)

    @ray.remote
    def read(actor):
        return [ray.get(ref) for ref in actor.work.remote(3)]

    assert ray.get(read.remote(Actor.remote())) == [0, 1, 2]


def test_next_of_a_generator_can_be_interrupted_and_asked_again(gate: object):
    @ray.remote
    def work(gate):
        ray.get(gate.wait.remote())
        yield 1

    generator = work.remote(gate)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(generator)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    ray.get(gate.open.remote())
    assert ray.get(next(generator)) == 1


def test_a_generator_with_a_large_argument_and_a_ref_streams():
    @ray.remote
    def work(array, offset):
        for number in range(3):
            yield int(array[number]) + offset

    generator = work.remote(np.arange(200_000), ray.put(10))
    assert ray.get(list(generator)) == [10, 11, 12]


def test_generators_work_inside_tasks():
    @ray.remote
    def total(n):
        @ray.remote
        def count(n):
            yield from range(n)

        return sum(ray.get(ref) for ref in count.remote(n))

    assert ray.get(total.remote(5)) == 10


def test_nothing_is_left_of_streams_that_were_read_or_dropped(eventually: Callable[[Callable[[], object]], None]):
    count = make_counting_task()
    assert len(list(count.remote(100))) == 100
    unread = count.remote(100)
    next(unread)
    del unread
    streams = ray.api.current_runtime.engine._core.owner.generators

    def nothing_left() -> bool:
        return sum(streams.statistics().values()) == 0

    eventually(nothing_left)
