"""raybook's API on a real Ray: what a user relies on, a sentence each. Skipped where Ray is not installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

import raybook as ray

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed (pip install 'raybook[ray]').", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def a_real_ray() -> Iterator[None]:
    # Its workers give way to everything else by default, which on a busy machine is for ever.
    os.environ["RAY_worker_niceness"] = "0"
    ray.init(engine="ray", num_cpus=4)
    yield
    ray.shutdown()


def remote_increment():
    @ray.remote
    def increment(number):
        return number + 1

    return increment


def counter():
    @ray.remote
    class Counter:
        def __init__(self, start=0):
            self.count = start

        def add(self, amount):
            self.count += amount
            return self.count

        def leave(self):
            ray.actor.exit_actor()

    return Counter


def test_results_of_tasks_are_arguments_of_others() -> None:
    increment = remote_increment()

    assert ray.get([increment.remote(increment.remote(1)), increment.remote(5)]) == [3, 6]


def test_references_inside_values_are_followed_in_a_task() -> None:
    increment = remote_increment()

    @ray.remote
    def total(refs):
        return sum(ray.get(refs)) + ray.get(increment.remote(10))

    assert ray.get(total.remote([increment.remote(1), ray.put(5)])) == 18


def test_an_error_is_of_both_classes_and_carries_rays() -> None:
    @ray.remote
    def fails():
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as raised:
        ray.get(fails.remote())
    assert isinstance(raised.value, ray.exceptions.RayTaskError)
    assert type(raised.value.__cause__).__module__.startswith("ray.")


def test_an_actor_keeps_its_state_and_may_be_passed_on() -> None:
    @ray.remote
    def add_one(actor):
        return ray.get(actor.add.remote(1))

    actor = counter().remote(3)

    assert ray.get([actor.add.remote(4), add_one.remote(actor)]) in ([7, 8], [8, 4])


def test_a_named_actor_is_found_and_its_name_is_its_own() -> None:
    kept = counter().options(name="kept", namespace="here").remote(1)

    assert ray.get(ray.get_actor("kept", namespace="here").add.remote(2)) == 3
    with pytest.raises(ValueError):
        counter().options(name="kept", namespace="here").remote()
    del kept


def test_an_actor_that_left_or_was_killed_is_dead() -> None:
    left, killed = counter().remote(), counter().remote()
    assert ray.get([left.add.remote(0), killed.add.remote(0)]) == [0, 0]
    ray.kill(killed)

    for call in (left.leave.remote(), killed.add.remote(1)):
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(call)


def test_a_generators_items_come_in_order() -> None:
    @ray.remote
    def count(limit):
        yield from range(limit)

    assert [ray.get(ref) for ref in count.remote(3)] == [0, 1, 2]


def test_an_actors_generator_is_a_stream_too() -> None:
    @ray.remote
    class Source:
        def items(self, limit):
            yield from range(limit)

    source = Source.remote()
    assert [ray.get(ref) for ref in source.items.options(num_returns="streaming").remote(2)] == [0, 1]


def test_several_returns_are_several_references() -> None:
    @ray.remote(num_returns=2)
    def both():
        return 1, 2

    assert ray.get(both.remote()) == [1, 2]


def test_wait_time_limits_and_cancel_are_as_promised() -> None:
    @ray.remote
    def never():
        import threading

        threading.Event().wait()

    stuck, done = never.remote(), ray.put(1)

    assert ray.wait([stuck, done]) == ([done], [stuck])
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(stuck, timeout=0.1)
    ray.cancel(stuck, force=True)
    with pytest.raises((ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)):
        ray.get(stuck)


def test_a_placement_group_is_made_used_and_removed() -> None:
    from raybook.util.placement_group import placement_group, remove_placement_group
    from raybook.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{"CPU": 1}])
    assert group.wait(120) and ray.get(group.ready()) == group
    task = remote_increment().options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    assert ray.get(task.remote(1)) == 2
    remove_placement_group(group)


def test_the_environment_of_a_task_reaches_it() -> None:
    @ray.remote(runtime_env={"env_vars": {"RAYBOOK_TEST_WORD": "here"}})
    def word():
        return os.environ.get("RAYBOOK_TEST_WORD")

    assert ray.get(word.remote()) == "here"


def test_an_async_actor_awaits_references() -> None:
    @ray.remote
    class Waiter:
        async def first(self, refs):
            return await refs[0]

    assert ray.get(Waiter.remote().first.remote([remote_increment().remote(41)])) == 42


def test_nodes_and_resources_are_those_of_ray() -> None:
    (node,) = ray.nodes()

    assert node["Alive"] and ray.cluster_resources()["CPU"] == 4


def test_what_only_raybooks_runtime_knows_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="not to be had with engine='ray'"):
        ray.util.state.list_tasks()

    @ray.remote(num_returns="dynamic")
    def items():
        yield 1

    with pytest.raises(ValueError, match="dynamic"):
        items.remote()
