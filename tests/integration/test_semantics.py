"""Semantics of `get`, `wait`, tasks, their errors and retries, as Ray 2.60 has them.

Tests marked `raybook_only` ask for more than Ray gives.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


# --- get ---------------------------------------------------------------------


def test_get_of_a_list_keeps_the_order_of_the_list():
    refs = [ray.put(i) for i in range(10)]
    assert ray.get(refs[::-1]) == list(range(9, -1, -1))


def test_get_of_an_empty_list_is_an_empty_list():
    assert ray.get([]) == []


def test_get_of_the_same_ref_twice_gives_it_twice():
    ref = ray.put("x")
    assert ray.get([ref, ref]) == ["x", "x"]


def test_get_with_timeout_zero_returns_what_is_there():
    ref = ray.put(5)
    assert ray.get(ref, timeout=0) == 5


def test_get_with_timeout_zero_raises_for_what_is_not_there(gate: object):
    ref = gate.wait.remote()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0)


def test_get_keeps_its_timeout(gate: object):
    begin = time.monotonic()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(gate.wait.remote(), timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 2


def test_get_raises_as_soon_as_one_has_failed(gate: object):
    @ray.remote
    def fail():
        raise ValueError("early")

    with pytest.raises(ValueError, match="early"):
        ray.get([gate.wait.remote(), fail.remote()])


def test_ref_can_be_awaited_and_turned_into_a_future():
    @ray.remote
    def f():
        return 1

    async def use():
        return await f.remote(), await asyncio.gather(f.remote(), f.remote())

    assert asyncio.run(use()) == (1, [1, 1])
    assert f.remote().future().result(timeout=10) == 1


def test_awaited_ref_raises_the_error_of_its_task():
    @ray.remote
    def fail():
        raise KeyError("missing")

    async def use():
        await fail.remote()

    with pytest.raises(KeyError):
        asyncio.run(use())


def test_get_works_from_several_threads():
    @ray.remote
    def f(x):
        return x

    results = {}

    def use(index):
        results[index] = ray.get([f.remote(index) for _ in range(5)])

    threads = [threading.Thread(target=use, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {index: [index] * 5 for index in range(4)}


# --- wait --------------------------------------------------------------------


def test_wait_returns_no_more_than_asked_for():
    refs = [ray.put(i) for i in range(5)]
    ready, left = ray.wait(refs, num_returns=2)
    assert (len(ready), len(left)) == (2, 3)


def test_wait_keeps_the_order_of_its_input_in_both_lists(make_gate: Callable[[], object]):
    gates = [make_gate() for _ in range(5)]
    refs = [gate.wait.remote() for gate in gates]
    for index in (3, 1):
        gates[index].open.remote()
    ray.get([refs[3], refs[1]])
    ready, left = ray.wait(refs, num_returns=2)
    assert ready == [refs[1], refs[3]]
    assert left == [refs[0], refs[2], refs[4]]


def test_wait_of_nothing_returns_nothing():
    assert ray.wait([]) == ([], [])


def test_wait_keeps_its_timeout_and_returns_what_is_there(gate: object):
    done, pending = ray.put(1), gate.wait.remote()
    begin = time.monotonic()
    ready, left = ray.wait([pending, done], num_returns=2, timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 2
    assert (ready, left) == ([done], [pending])


def test_wait_with_timeout_zero_does_not_wait(gate: object):
    ref = gate.wait.remote()
    assert ray.wait([ref], timeout=0) == ([], [ref])


def test_wait_counts_a_failed_task_as_ready():
    @ray.remote
    def fail():
        raise ValueError

    ref = fail.remote()
    assert ray.wait([ref], timeout=20) == ([ref], [])


def test_wait_without_fetching_says_that_the_object_is_there():
    ref = ray.put(np.zeros(300_000))
    assert ray.wait([ref], fetch_local=False, timeout=10) == ([ref], [])


# --- Arguments and refs inside refs ------------------------------------------


def test_ref_as_an_argument_arrives_as_its_value_positional_and_by_keyword():
    @ray.remote
    def types(a, b=None):
        return type(a).__name__, type(b).__name__

    assert ray.get(types.remote(ray.put(1), b=ray.put("x"))) == ("int", "str")


def test_ref_inside_a_container_arrives_as_a_ref():
    @ray.remote
    def look(container):
        return isinstance(container[0], ray.ObjectRef), ray.get(container[0])

    assert ray.get(look.remote([ray.put(7)])) == (True, 7)


def test_borrowed_ref_keeps_its_object_alive_after_the_driver_has_let_go(gate: object):
    @ray.remote
    class Keeper:
        def keep(self, container):
            self.ref = container[0]

        def value(self):
            return ray.get(self.ref)

    keeper = Keeper.remote()
    ref = ray.put(np.arange(50_000))
    ray.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    assert int(ray.get(keeper.value.remote())[-1]) == 49_999


def test_ref_returned_by_a_task_can_be_got_by_the_driver():
    @ray.remote
    def make():
        return [ray.put("inner")]

    inner = ray.get(make.remote())[0]
    assert ray.get(inner) == "inner"


def test_task_waits_for_its_arguments_and_not_for_a_cpu(gate: object):
    @ray.remote
    def after(_, value):
        return value

    @ray.remote
    def work(value):
        return value

    waiting = [after.remote(gate.wait.remote(), index) for index in range(8)]
    assert ray.get([work.remote(index) for index in range(8)]) == list(range(8))
    gate.open.remote()
    assert ray.get(waiting) == list(range(8))


def test_function_sees_the_closure_of_the_time_of_its_first_call():
    factor = 3

    @ray.remote
    def scale(x):
        return factor * x

    assert ray.get(scale.remote(5)) == 15


# --- Errors of tasks ---------------------------------------------------------


def test_error_of_a_task_is_a_task_error_and_the_errors_own_class():
    class Odd(Exception):
        def __init__(self, code):
            super().__init__(f"odd {code}")
            self.code = code

    @ray.remote
    def fail():
        raise Odd(42)

    with pytest.raises(Odd) as caught:
        ray.get(fail.remote())
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert caught.value.code == 42
    assert isinstance(caught.value.cause, Odd)


def test_error_text_shows_the_users_lines_and_the_task():
    @ray.remote
    def name_of_the_task():
        def inner_frame():
            raise ValueError("what went wrong")

        inner_frame()

    with pytest.raises(ValueError, match="what went wrong") as caught:
        ray.get(name_of_the_task.remote())
    text = str(caught.value)
    assert "name_of_the_task()" in text
    assert "inner_frame" in text
    assert "pid=" in text


def test_error_of_a_dependency_reaches_the_end_of_the_chain():
    @ray.remote
    def fail():
        raise ValueError("at the start")

    @ray.remote
    def pass_on(value):
        return value

    with pytest.raises(ValueError, match="at the start"):
        ray.get(pass_on.remote(pass_on.remote(fail.remote())))


def test_error_that_cannot_be_pickled_still_arrives_with_its_text():
    class Unpicklable(Exception):
        def __init__(self, text):
            super().__init__(text)
            self.lock = threading.Lock()

    @ray.remote
    def fail():
        raise Unpicklable("text that must arrive")

    with pytest.raises(ray.exceptions.RayTaskError, match="text that must arrive"):
        ray.get(fail.remote())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup came with Python 3.11")
def test_error_group_arrives_as_a_group():
    @ray.remote
    def fail():
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

    with pytest.raises(ExceptionGroup) as caught:
        ray.get(fail.remote())
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]


def test_system_exit_in_a_task_is_a_crash_of_its_worker():
    @ray.remote(max_retries=0)
    def leave():
        raise SystemExit(3)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(leave.remote())


def test_keyboard_interrupt_in_a_task_is_a_cancellation():
    @ray.remote
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(interrupt.remote())


# --- Retries of tasks --------------------------------------------------------


def test_task_whose_worker_dies_three_times_succeeds_at_the_fourth(attempts: Callable[[], int]):
    @ray.remote
    def die():
        if attempts() < 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    assert ray.get(die.remote()) == "survived"


def test_task_whose_worker_dies_four_times_is_given_up(attempts: Callable[[], int], recorded: Callable[[], int]):
    @ray.remote
    def die():
        attempts()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(die.remote())
    assert recorded() == 4


def test_task_without_retries_runs_once(attempts: Callable[[], int], recorded: Callable[[], int]):
    @ray.remote(max_retries=0)
    def die():
        attempts()
        os._exit(1)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(die.remote())
    assert recorded() == 1


@pytest.mark.raybook_only
def test_crash_names_the_signal():
    @ray.remote(max_retries=0)
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ray.exceptions.WorkerCrashedError, match="SIGKILL"):
        ray.get(die.remote())


def test_crash_of_one_task_does_not_touch_the_others():
    @ray.remote(max_retries=0)
    def die():
        os._exit(1)

    @ray.remote
    def work(x):
        return x

    crash = die.remote()
    assert ray.get([work.remote(i) for i in range(20)]) == list(range(20))
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(crash)


def test_error_of_the_users_code_is_not_retried(attempts: Callable[[], int], recorded: Callable[[], int]):
    @ray.remote(max_retries=3)
    def fail():
        attempts()
        raise ValueError

    with pytest.raises(ValueError):
        ray.get(fail.remote())
    assert recorded() == 1


def test_error_of_the_users_code_is_retried_where_asked(attempts: Callable[[], int]):
    @ray.remote(max_retries=3, retry_exceptions=True)
    def fail():
        if attempts() < 3:
            raise ValueError
        return "third time"

    assert ray.get(fail.remote()) == "third time"


def test_only_the_listed_errors_are_retried(attempts: Callable[[], int], recorded: Callable[[], int]):
    @ray.remote(max_retries=3, retry_exceptions=[KeyError])
    def fail():
        raise KeyError if attempts() < 2 else ValueError("not in the list")

    with pytest.raises(ValueError, match="not in the list"):
        ray.get(fail.remote())
    assert recorded() == 2


def test_crashes_and_errors_share_one_count_of_retries(attempts: Callable[[], int], recorded: Callable[[], int]):
    @ray.remote(max_retries=2, retry_exceptions=True)
    def fail():
        if attempts() % 2:
            os._exit(1)
        raise ValueError("at an even attempt")

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(fail.remote())
    assert recorded() == 3


# --- Where am I --------------------------------------------------------------


def test_runtime_context_knows_task_actor_worker_and_node():
    @ray.remote
    def ids():
        context = ray.get_runtime_context()
        return context.get_task_id(), context.get_node_id(), context.get_worker_id(), context.get_actor_id()

    @ray.remote
    class Actor:
        def ids(self):
            context = ray.get_runtime_context()
            return context.get_actor_id(), context.get_node_id()

    task_id, node_id, worker_id, no_actor = ray.get(ids.remote())
    assert all(isinstance(value, str) and value for value in (task_id, node_id, worker_id))
    assert no_actor is None
    actor = Actor.remote()
    assert ray.get(actor.ids.remote()) == (actor._actor_id.hex(), node_id)
    assert node_id == ray.nodes()[0]["NodeID"]


def test_timeline_names_the_tasks_that_ran(eventually: Callable[..., None]):
    @ray.remote
    def task_for_the_timeline():
        return 1

    ray.get(task_for_the_timeline.remote())
    eventually(lambda: any("task_for_the_timeline" in str(event.get("name")) for event in ray.timeline()))


def test_a_node_has_one_unit_of_its_own_name_to_pin_tasks_to_it(cluster):
    address = ray.nodes()[0]["NodeManagerAddress"]
    assert ray.cluster_resources()[f"node:{address}"] == ray.cluster_resources()["node:__internal_head__"] == 1

    @ray.remote(resources={f"node:{address}": 0.01})
    def where():
        return ray.get_runtime_context().get_node_id()

    assert ray.get(where.remote()) == ray.nodes()[0]["NodeID"]
