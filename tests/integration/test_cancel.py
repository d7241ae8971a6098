"""Semantics of cancelling, as Ray 2.60 has them: of pending, running, stubborn, finished, nested and async work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


def test_pending_task_that_is_cancelled_never_runs(
    gate: object, attempts: Callable[[], int], recorded: Callable[[], int]
):
    @ray.remote
    def run(_):
        return attempts()

    ref = run.remote(gate.wait.remote())
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    ray.get(gate.open.remote())
    assert recorded() == 0


def test_running_task_that_is_cancelled_sees_an_interrupt(gate: object):
    @ray.remote
    def hang(gate):
        try:
            ray.get(gate.arrive.remote())
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            ray.get(gate.arrive.remote())
            raise

    ref = hang.remote(gate)
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    assert ray.get(gate.arrived.remote(2)) == 2


def test_forced_cancel_ends_a_task_that_ignores_interrupts(gate: object):
    @ray.remote
    def stubborn(gate):
        ray.get(gate.arrive.remote())
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                continue

    ref = stubborn.remote(gate)
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref, force=True)
    with pytest.raises((ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)):
        ray.get(ref)


def test_cancelling_a_finished_task_changes_nothing():
    @ray.remote
    def f():
        return 1

    ref = f.remote()
    assert ray.get(ref) == 1
    ray.cancel(ref)
    assert ray.get(ref) == 1


def test_dependents_of_a_cancelled_task_fail_and_others_go_on(gate: object):
    @ray.remote
    def pass_on(value):
        return value

    cancelled = pass_on.remote(gate.wait.remote())
    dependent = pass_on.remote(cancelled)
    independent = pass_on.remote(5)
    ray.cancel(cancelled)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(dependent)
    assert ray.get(independent) == 5


def test_cancel_reaches_the_children_of_a_task(gate: object):
    @ray.remote
    def child(gate):
        try:
            ray.get(gate.arrive.remote())
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            ray.get(gate.open.remote())
            raise

    @ray.remote
    def parent(gate):
        return ray.get(child.remote(gate))

    ref = parent.remote(gate)
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    ray.get(gate.wait.remote())


def test_call_of_an_async_actor_can_be_cancelled(gate: object):
    @ray.remote
    class Async:
        async def hang(self, gate):
            try:
                await gate.arrive.remote()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await gate.arrive.remote()
                raise

        async def use(self):
            return 1

    actor = Async.remote()
    ref = actor.hang.remote(gate)
    ray.get(gate.arrived.remote(1))
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    assert ray.get(gate.arrived.remote(2)) == 2
    assert ray.get(actor.use.remote()) == 1
