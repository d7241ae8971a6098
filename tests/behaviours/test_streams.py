"""Streams of generators: waiting with a limit, and what cannot be done with them."""

from __future__ import annotations

import asyncio
import pickle

import pytest


@pytest.fixture
def slow(ray, gate):
    """A generator whose second item comes when the gate opens."""

    @ray.remote
    def work():
        yield 1
        ray.get(gate.wait.remote())
        yield 2

    return work


def test_a_limited_wait_for_an_item_gives_the_nil_reference(ray, gate, slow):
    items = slow.remote()
    assert ray.get(items._next_sync(timeout_s=10)) == 1
    assert items._next_sync(timeout_s=0).is_nil()
    assert items._next_sync(timeout_s=0.05).is_nil()
    ray.get(gate.open.remote())
    assert ray.get(items._next_sync(timeout_s=10)) == 2
    with pytest.raises(StopIteration):
        items._next_sync(timeout_s=10)


def test_a_limited_wait_on_a_loop_does_the_same(ray, gate, slow):
    async def main():
        items = slow.remote()
        first = await (await items._next_async(timeout_s=10))
        nothing = await items._next_async(timeout_s=0.05)
        await gate.open.remote()
        second = await (await items._next_async(timeout_s=10))
        with pytest.raises(StopAsyncIteration):
            await items._next_async(timeout_s=10)
        return first, nothing.is_nil(), second

    assert asyncio.run(main()) == (1, True, 2)


def test_a_stream_is_read_where_it_was_asked_for(ray):
    @ray.remote
    def work():
        yield 1

    items = work.remote()
    for carry in (pickle.dumps, ray.put, ray.remote(lambda x: x).remote):
        with pytest.raises(TypeError, match="You cannot return or pass a generator to other task"):
            carry(items)
    assert ray.get(items) is items
    for call in (lambda: items.send(1), lambda: items.throw(ValueError()), items.close):
        with pytest.raises(NotImplementedError, match="is not supported"):
            call()


def test_an_error_that_cannot_travel_is_still_an_item(ray):
    class Locked(Exception):
        def __init__(self):
            import threading

            self.lock = threading.Lock()

    @ray.remote
    def work():
        raise Locked
        yield 1

    refs = list(work.remote())
    assert len(refs) == 1
    with pytest.raises(ray.exceptions.RayTaskError):
        ray.get(refs[0])


def test_a_killed_actor_ends_its_stream_with_the_reason(ray, gate):
    @ray.remote
    class Maker:
        def work(self):
            yield 0
            ray.get(gate.wait.remote())
            yield 1

    maker = Maker.remote()
    items = maker.work.remote()
    assert ray.get(next(items)) == 0
    ray.kill(maker)
    with pytest.raises(ray.exceptions.RayActorError, match="it was killed by `ray.kill`"):
        ray.get(next(items))
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(items)


def test_a_generator_goes_on_after_its_retry(ray, attempts):
    @ray.remote(retry_exceptions=[ValueError], max_retries=5)
    def work():
        for number in range(4):
            if number == 2 and attempts() < 3:
                raise ValueError("not yet")
            yield number

    assert [ray.get(ref) for ref in work.remote()] == [0, 1, 2, 3]


def test_dynamic_references_can_be_unpacked_passed_and_counted(ray):
    @ray.remote
    def work(count):
        yield from range(count)

    @ray.remote
    def read(refs):
        return [ray.get(ref) for ref in refs]

    whole = work.options(num_returns="dynamic").remote(2)
    first, second = ray.get(whole)
    assert ray.get([first, second]) == [0, 1]
    assert ray.get(read.remote(whole)) == [0, 1]
    assert ray.get(read.remote(ray.get(whole))) == [0, 1]
    assert len(ray.get(work.options(num_returns="dynamic").remote(0))) == 0
