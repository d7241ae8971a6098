"""Concurrency groups, as Ray 2.60 has them: lanes of an actor that do not hold each other up."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


def make_async_class() -> object:
    @ray.remote(concurrency_groups={"io": 2, "slow": 1})
    class Lanes:
        def __init__(self) -> None:
            self.release = threading.Event()
            self.most = self.now = 0

        @ray.method(concurrency_group="io")
        async def io(self):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.02)
            self.now -= 1
            return threading.get_ident(), self.most

        @ray.method(concurrency_group="slow")
        async def block(self):
            self.release.wait(20)
            return threading.get_ident()

        @ray.method(concurrency_group="slow")
        async def nap(self):
            await asyncio.sleep(20)

        async def where(self):
            return threading.get_ident()

        async def open(self):
            self.release.set()

    return Lanes


def test_a_group_of_an_async_actor_has_one_loop_and_keeps_to_its_limit():
    actor = make_async_class().remote()
    seen = ray.get([actor.io.remote() for _ in range(8)])
    assert len({thread for thread, _ in seen}) == 1
    assert max(most for _, most in seen) == 2
    assert ray.get(actor.where.remote()) != seen[0][0]


def test_code_that_blocks_in_one_group_of_an_async_actor_holds_up_no_other():
    actor = make_async_class().remote()
    blocked = actor.block.remote()
    ray.get([actor.io.remote(), actor.where.remote()], timeout=10)
    ray.get(actor.open.remote(), timeout=10)
    assert ray.get(blocked, timeout=10) != ray.get(actor.where.remote())


def test_a_call_of_a_group_can_be_cancelled():
    actor = make_async_class().remote()
    nap = actor.nap.remote()
    ray.get(actor.where.remote())
    time.sleep(0.05)
    ray.cancel(nap)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(nap, timeout=10)
    assert ray.get(actor.io.remote(), timeout=10)


def test_methods_of_one_group_share_its_threads_also_by_options():
    @ray.remote(concurrency_groups={"one": 1})
    class Threads:
        @ray.method(concurrency_group="one")
        def inside(self):
            return threading.get_ident()

        def outside(self):
            return threading.get_ident()

    actor = Threads.remote()
    inside = ray.get(actor.inside.remote())
    assert ray.get(actor.outside.remote()) != inside
    assert ray.get(actor.outside.options(concurrency_group="one").remote()) == inside


def test_a_group_that_the_class_does_not_declare_is_refused_at_the_call():
    actor = make_async_class().remote()
    with pytest.raises(ValueError, match=r"'fast'.*'io'"):
        actor.where.options(concurrency_group="fast")


def test_exception_classes_in_the_method_decorator_are_retried():
    @ray.remote
    class Flaky:
        def __init__(self) -> None:
            self.tries = 0

        @ray.method(retry_exceptions=[KeyError], max_task_retries=2)
        def step(self, error):
            self.tries += 1
            if self.tries < 3:
                raise error
            return self.tries

    assert ray.get(Flaky.remote().step.remote(KeyError("again"))) == 3
    with pytest.raises(ValueError, match="once"):
        ray.get(Flaky.remote().step.remote(ValueError("once")))
