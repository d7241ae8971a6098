"""The contract: actors, their names, calls, lives and deaths."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from tests.contracts.engines.contract import PATIENCE_S


@pytest.fixture
def counter(ray):
    @ray.remote
    class Counter:
        def __init__(self, start=0):
            self.count = start

        def add(self, amount=1):
            self.count += amount
            return self.count

        def leave(self):
            ray.actor.exit_actor()

        def die(self):
            os._exit(1)

        def fails(self):
            raise ValueError("boom")

        def items(self, limit):
            yield from range(limit)

        @ray.method(num_returns=2)
        def both(self):
            return 1, 2

    return Counter


def test_an_actor_keeps_its_state_between_calls_in_order(engine, get, counter):
    actor = counter.remote(3)
    assert get([actor.add.remote() for _ in range(20)]) == list(range(4, 24))


def test_a_handle_may_be_passed_on(engine, ray, get, counter):
    @ray.remote
    def add(actor, amount):
        return ray.get(actor.add.remote(amount))

    actor = counter.remote()
    assert get(add.remote(actor, 4)) == 4 and get(actor.add.remote()) == 5


def test_an_actor_outlives_calls_that_raise(engine, get, counter):
    actor = counter.remote()
    with pytest.raises(ValueError, match="boom"):
        get(actor.fails.remote())
    assert get(actor.add.remote()) == 1


def test_a_method_that_is_not_there_is_an_attribute_error_here(engine, counter):
    actor = counter.remote()
    with pytest.raises(AttributeError, match="nothing_such"):
        actor.nothing_such.remote()


def test_a_named_actor_is_found_by_its_name(engine, ray, get, counter):
    kept = counter.options(name="found").remote(1)
    assert get(ray.get_actor("found").add.remote()) == 2
    with pytest.raises(ValueError, match="found"):
        counter.options(name="found").remote()
    again = counter.options(name="found", get_if_exists=True).remote()
    assert get(again.add.remote()) == get(kept.add.remote()) - 1


def test_names_of_another_namespace_are_others(engine, ray, get, counter):
    kept = counter.options(name="elsewhere", namespace="other").remote(1)
    assert get(kept.add.remote()) == 2
    with pytest.raises(ValueError, match="elsewhere"):
        ray.get_actor("elsewhere")
    assert get(ray.get_actor("elsewhere", namespace="other").add.remote()) == 3


def test_a_name_that_nobody_has_is_a_value_error(engine, ray):
    with pytest.raises(ValueError, match="nobody"):
        ray.get_actor("nobody")


def test_a_task_finds_a_named_actor(engine, ray, get, counter):
    @ray.remote
    def add():
        return ray.get(ray.get_actor("of_tasks").add.remote())

    kept = counter.options(name="of_tasks").remote()
    assert get(kept.add.remote()) == 1 and get(add.remote()) == 2


def test_a_detached_actor_lives_without_its_handle(engine, ray, get, counter):
    counter.options(name="detached", lifetime="detached").remote(1)
    found = ray.get_actor("detached")
    assert get(found.add.remote()) == 2
    ray.kill(found)


def test_a_killed_actor_is_dead(engine, ray, get, counter):
    actor = counter.remote()
    get(actor.add.remote())
    ray.kill(actor)
    with pytest.raises(ray.exceptions.ActorDiedError):
        get(actor.add.remote())


def test_an_actor_may_leave(engine, ray, get, counter):
    actor = counter.remote()
    get(actor.add.remote())
    for call in (actor.leave.remote(), actor.add.remote()):
        with pytest.raises(ray.exceptions.ActorDiedError):
            get(call)


def test_an_actor_whose_init_raised_says_so(engine, ray, get):
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("no luck")

        def call(self):
            pass

    with pytest.raises(ray.exceptions.ActorDiedError, match="no luck"):
        get(Broken.remote().call.remote())


def test_an_actor_that_may_restart_does_and_calls_are_tried_again(engine, ray, get, counter, tmp_path):
    @ray.remote(max_restarts=1, max_task_retries=1)
    class Phoenix:
        def dies_once(self, folder):
            path = os.path.join(folder, "been")
            if not os.path.exists(path):
                open(path, "w").close()
                os._exit(3)
            return ray.get_runtime_context().was_current_actor_reconstructed

    actor = Phoenix.remote()
    assert get(actor.dies_once.remote(str(tmp_path))) is True


def test_an_actor_that_may_not_restart_stays_dead(engine, ray, get, counter):
    actor = counter.remote()
    for call in (actor.die.remote(), actor.add.remote()):
        with pytest.raises(ray.exceptions.ActorDiedError):
            get(call)


def test_coroutines_of_an_async_actor_run_together(engine, ray, get):
    @ray.remote
    class Gate:
        def __init__(self):
            self.open = asyncio.Event()

        async def wait(self):
            await self.open.wait()
            return "through"

        async def open_it(self):
            self.open.set()

        async def first(self, refs):
            return await refs[0]

    gate = Gate.remote()
    waiting = [gate.wait.remote() for _ in range(5)]
    get(gate.open_it.remote())
    assert get(waiting) == ["through"] * 5
    assert get(gate.first.remote([ray.put(41)])) == 41


def test_threads_of_an_actor_run_together(engine, ray, get):
    @ray.remote(max_concurrency=2)
    class Door:
        def __init__(self):
            self.open = threading.Event()

        def wait(self):
            return self.open.wait(PATIENCE_S)

        def open_it(self):
            self.open.set()

    door = Door.remote()
    waiting = door.wait.remote()
    get(door.open_it.remote())
    assert get(waiting) is True


def test_groups_of_methods_have_limits_of_their_own(engine, ray, get):
    @ray.remote(concurrency_groups={"io": 2})
    class Grouped:
        def __init__(self):
            self.open = threading.Event()

        @ray.method(concurrency_group="io")
        def wait(self):
            return self.open.wait(PATIENCE_S)

        @ray.method(concurrency_group="io")
        def open_it(self):
            self.open.set()

        def other(self):
            return "free"

    actor = Grouped.remote()
    waiting = actor.wait.remote()
    assert get(actor.other.remote()) == "free"
    get(actor.open_it.remote())
    assert get(waiting) is True


def test_a_method_says_how_much_it_returns(engine, get, counter):
    assert get(counter.remote().both.remote()) == [1, 2]


def test_an_actors_generator_is_a_stream(engine, get, counter):
    actor = counter.remote()
    assert [get(ref) for ref in actor.items.options(num_returns="streaming").remote(3)] == [0, 1, 2]


def test_an_actor_inherits_and_knows_itself(engine, ray, get):
    class Base:
        def name(self):
            return f"{self.prefix}-{ray.get_runtime_context().get_actor_name()}"

    @ray.remote
    class Child(Base):
        prefix = "child"

        def me(self):
            return ray.get_runtime_context().current_actor

        def id(self):
            return ray.get_runtime_context().get_actor_id()

    actor = Child.options(name="inherits").remote()
    assert get(actor.name.remote()) == "child-inherits"
    assert get(get(actor.me.remote()).id.remote()) == get(actor.id.remote()) == actor._actor_id.hex()


def test_a_handle_refuses_more_than_it_may_have_pending(engine, ray, get):
    @ray.remote(max_pending_calls=1, max_concurrency=1)
    class Slow:
        def wait(self, refs):
            ray.get(refs)

    @ray.remote
    def never():
        threading.Event().wait()

    stuck = never.remote()
    actor = Slow.remote()
    first = actor.wait.remote([stuck])
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        for _ in range(3):
            actor.wait.remote([stuck])
    ray.kill(actor)
    ray.cancel(stuck, force=True)
    with pytest.raises(ray.exceptions.RayError):
        get(first)
