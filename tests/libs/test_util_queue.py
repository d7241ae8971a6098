"""The queue behind an actor: as the standard library's, for many processes."""

from __future__ import annotations

import asyncio
import queue

import pytest

import raybook as ray
from raybook.util.queue import Empty, Full, Queue

pytestmark = pytest.mark.usefixtures("four_cpus")


def test_items_come_out_in_the_order_they_went_in():
    items = Queue()
    for item in ("a", None, [3]):
        items.put(item)
    assert len(items) == items.qsize() == items.size() == 3
    assert [items.get() for _ in range(3)] == ["a", None, [3]]
    assert items.empty() and not items.full()


def test_full_and_empty_are_those_of_the_standard_library():
    items = Queue(maxsize=1)
    with pytest.raises(queue.Empty):
        items.get_nowait()
    with pytest.raises(Empty):
        items.get(block=False)
    items.put_nowait(1)
    assert items.full()
    with pytest.raises(queue.Full):
        items.put_nowait(2)
    with pytest.raises(Full):
        items.put(2, block=False)


def test_waiting_ends_with_the_time_out():
    items = Queue(maxsize=1)
    with pytest.raises(Empty, match="No item came within 0.01 s"):
        items.get(timeout=0.01)
    items.put(1)
    with pytest.raises(Full, match="No room came free within 0.01 s"):
        items.put(2, timeout=0.01)
    assert items.get(timeout=0) == 1


def test_negative_time_outs_are_refused_before_anything_is_sent():
    items = Queue()
    with pytest.raises(ValueError, match="non-negative"):
        items.put(1, timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        items.get(timeout=-1)
    assert items.empty()


def test_batches_go_in_and_come_out_whole_or_not_at_all():
    items = Queue(maxsize=3)
    items.put_nowait_batch(["a", "b"])
    with pytest.raises(Full, match="Cannot add 2 items"):
        items.put_nowait_batch(["c", "d"])
    assert items.qsize() == 2
    with pytest.raises(Empty, match="Cannot get 3 items"):
        items.get_nowait_batch(3)
    assert items.get_nowait_batch(2) == ["a", "b"]


def test_batches_of_the_wrong_kind_are_refused():
    items = Queue()
    with pytest.raises(TypeError):
        items.put_nowait_batch(1)
    with pytest.raises(TypeError):
        items.get_nowait_batch("2")
    with pytest.raises(ValueError):
        items.get_nowait_batch(-1)


def test_a_blocked_get_is_served_by_another_tasks_put():
    items = Queue()

    @ray.remote
    def take(source):
        return source.get()

    @ray.remote
    def give(target, value):
        target.put(value)

    takers = [take.remote(items) for _ in range(2)]
    ray.get([give.remote(items, value) for value in (1, 2)])
    assert sorted(ray.get(takers)) == [1, 2]


def test_more_takers_than_an_async_actor_usually_runs_do_not_block_the_put():
    items = Queue()
    takers = [items.actor.get.remote() for _ in range(1200)]
    items.put_nowait_batch(list(range(1200)))
    assert sorted(ray.get(takers)) == list(range(1200))


def test_coroutines_put_and_get():
    async def exchange():
        items = Queue(maxsize=1)
        await items.put_async("first")
        with pytest.raises(Full):
            await items.put_async("second", block=False)
        with pytest.raises(Full):
            await items.put_async("second", timeout=0.01)
        assert await items.get_async() == "first"
        with pytest.raises(Empty):
            await items.get_async(block=False)
        with pytest.raises(Empty):
            await items.get_async(timeout=0.01)
        with pytest.raises(ValueError):
            await items.get_async(timeout=-1)

    asyncio.run(exchange())


def test_options_reach_the_queues_actor():
    items = Queue(actor_options={"name": "jobs"})
    items.put(1)
    assert ray.get(ray.get_actor("jobs").qsize.remote()) == 1


def test_shutdown_ends_the_actor():
    gentle, forced = Queue(), Queue()
    actors = [gentle.actor, forced.actor]
    gentle.put(1)
    gentle.shutdown()
    forced.shutdown(force=True)
    forced.shutdown()
    for actor in actors:
        # It may answer what reached it before its end; then never again.
        with pytest.raises(ray.exceptions.RayActorError):
            while ray.get(actor.qsize.remote()) >= 0:
                pass
