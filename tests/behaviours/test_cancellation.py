"""Cancellation: what ends, how, and what goes on."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def spin(ray, gate):
    """A task that arrives at the gate and then works for ever."""

    @ray.remote
    def work():
        import time

        ray.get(gate.arrive.remote())
        while True:
            time.sleep(0.01)

    return work


def test_a_cancelled_running_task_is_both_kinds_of_error(ray, gate, spin):
    ref = spin.remote()
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError, match="was cancelled") as caught:
        ray.get(ref, timeout=10)
    assert isinstance(caught.value, ray.exceptions.RayTaskError)


def test_a_cancelled_generator_raises_once_and_ends(ray, gate):
    @ray.remote
    def work():
        import time

        yield 0
        while True:
            time.sleep(0.01)

    items = work.remote()
    assert ray.get(next(items)) == 0
    ray.cancel(items)
    with pytest.raises(ray.exceptions.RayTaskError, match="was cancelled"):
        ray.get(next(items))
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(items)


def test_a_task_that_survives_its_interrupt_returns(ray, gate):
    @ray.remote
    def work():
        import time

        try:
            ray.get(gate.arrive.remote())
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            return "survived"

    ref = work.remote()
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref)
    try:
        assert ray.get(ref, timeout=10) == "survived"
    except ray.exceptions.TaskCancelledError:
        pytest.fail("what the task returned was lost")


def test_what_a_task_raises_instead_of_its_interrupt_is_its_error(ray, gate):
    @ray.remote
    def work():
        import time

        try:
            ray.get(gate.arrive.remote())
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            raise ValueError("converted") from None

    ref = work.remote()
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref)
    with pytest.raises(ValueError, match="converted"):
        ray.get(ref, timeout=10)


@pytest.mark.parametrize("force", [True, False])
def test_a_chain_of_waiting_tasks_fails_from_the_cancelled_one_on(ray, gate, force):
    @ray.remote
    def wait_for(refs):
        return ray.get(refs[0])

    first = wait_for.remote([gate.wait.remote()])
    second = wait_for.remote([first])
    third = wait_for.remote([second])
    fourth = wait_for.remote([third])
    ray.cancel(third, force=force)
    errors = (ray.exceptions.RayTaskError, ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)
    for ref in (third, fourth):
        with pytest.raises(errors):
            ray.get(ref, timeout=20)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get([first, second], timeout=0.05)
    ray.get(gate.open.remote())
    assert ray.get([first, second], timeout=20) == [None, None]


@pytest.mark.parametrize("force", [True, False])
def test_tasks_cancelled_at_any_moment_end(ray, force):
    @ray.remote
    def quick(x):
        return x

    random.seed(7)
    refs = [quick.remote(number) for number in range(300)]
    for ref in refs:
        if random.random() < 0.5:
            ray.cancel(ref, force=force)
    errors = (ray.exceptions.RayTaskError, ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)
    for number, ref in enumerate(refs):
        try:
            assert ray.get(ref, timeout=30) == number
        except errors:
            pass
    assert ray.get([quick.remote(number) for number in range(20)], timeout=30) == list(range(20))


def test_a_task_that_can_run_nowhere_can_be_cancelled(ray):
    @ray.remote(resources={"nowhere": 1})
    def work():
        pass

    ref = work.remote()
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=10)


def test_all_returns_of_a_cancelled_task_fail(ray, gate):
    @ray.remote(num_returns=3)
    def work(gone):
        return 1, 2, 3

    refs = work.remote(gate.wait.remote())
    ray.cancel(refs[1])
    for ref in refs:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=10)


def test_a_task_can_cancel_what_another_has_started(ray, gate, spin):
    @ray.remote
    def start():
        return [spin.remote()]

    @ray.remote
    def stop(refs):
        ray.cancel(refs[0])

    refs = ray.get(start.remote())
    ray.get(gate.arrived.remote(1))
    ray.get(stop.remote(refs))
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(refs[0], timeout=10)


def test_a_cancelled_task_is_not_retried(ray, gate, attempts):
    @ray.remote(max_retries=3, retry_exceptions=True)
    def work():
        import time

        attempts()
        ray.get(gate.arrive.remote())
        while True:
            time.sleep(0.01)

    ref = work.remote()
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=10)
    assert attempts() == 2


@pytest.mark.slow
def test_a_cancellation_at_the_very_beginning_of_a_task_is_never_lost(ray, gate):
    # The moments differ from round to round: in the queue, on the way, taken out, before the wait, in it.
    @ray.remote
    def wait_for(refs):
        return ray.get(refs[0])

    for number in range(60):
        refs = [wait_for.remote([gate.wait.remote()]) for _ in range(2)]
        if number % 3:
            ray.wait(refs, timeout=0.001 * (number % 7))
        for ref in refs:
            ray.cancel(ref)
        for ref in refs:
            with pytest.raises(ray.exceptions.TaskCancelledError):
                ray.get(ref, timeout=20)
