"""Actor classes, handles and methods: use and misuse (behaviours 8, 16-26)."""

import asyncio
import copy
import gc
import pickle
import threading

import pytest

from raybook.actor import exit_actor
from raybook.api import remote
from raybook.exceptions import ActorDiedError, PendingCallsLimitExceeded, RayActorError, StaleReferenceError


class Plain:
    """Counts."""

    def __init__(self, start=0):
        self.value = start

    def add(self, by=1):
        self.value += by
        return self.value

    def fail(self):
        raise KeyError("bad")

    def leave(self):
        exit_actor()

    def items(self):
        yield 1
        yield 2

    @staticmethod
    def twice(x):
        return 2 * x

    @classmethod
    def name(cls):
        return cls.__name__


CALLS_MAX = 1_000
"""A kill goes through the GCS, and calls go straight to the actor: a few may overtake it."""


def ask_until_it_raises(ray, actor):
    for _ in range(CALLS_MAX):
        ray.get(actor.add.remote())


@pytest.fixture
def counter(ray):
    return ray.remote(Plain).remote()


def test_counter_keeps_its_state(ray, counter):
    assert ray.get([counter.add.remote(), counter.add.remote()]) == [1, 2]
    assert ray.get(counter.twice.remote(4)) == 8
    assert ray.get(counter.name.remote()) == "Plain"


def test_class_and_method_cannot_be_called_directly(ray, counter):
    with pytest.raises(TypeError, match=r"cannot be called directly.*try 'Plain.remote\(\)'"):
        ray.remote(Plain)()
    with pytest.raises(TypeError, match=r"cannot be called directly.*try 'handle.add.remote\(\)'"):
        counter.add()


def test_inheriting_from_an_actor_class_is_refused():
    with pytest.raises(TypeError, match="Inherit from the plain class"):

        class Child(remote(Plain)):
            pass


def test_unknown_method_names_the_class_and_what_there_is(ray, counter):
    with pytest.raises(AttributeError, match="'Plain' has no method 'ad'.*add, fail"):
        counter.ad.remote()
    with pytest.raises(AttributeError, match="through a method"):
        counter.value  # noqa: B018 - raises.


def test_arguments_that_do_not_fit_are_refused_at_the_call(ray, counter):
    with pytest.raises(TypeError, match="too many positional arguments"):
        counter.add.remote(1, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'begin'"):
        ray.remote(Plain).remote(begin=1)


def test_class_without_init_takes_no_arguments(ray):
    class Empty:
        pass

    with pytest.raises(TypeError, match="no __init__"):
        ray.remote(Empty).remote(1)


def test_unknown_call_option_lists_the_valid_ones(ray, counter):
    with pytest.raises(ValueError, match="Invalid option keyword num_cpus for actor methods.*num_returns"):
        counter.add.options(num_cpus=1)


def test_call_options_change_one_call(ray, counter):
    assert ray.get(counter.items.options(num_returns=2).remote()) == [1, 2]
    assert [ray.get(ref) for ref in counter.items.options(name="other").remote()] == [1, 2]
    assert counter.add.options(num_returns=0).remote() is None


def test_method_decorator_gives_the_number_of_returns(ray):
    @ray.remote
    class Pairs:
        @ray.method(num_returns=2)
        def pair(self):
            return "a", "b"

    assert ray.get(Pairs.remote().pair.remote()) == ["a", "b"]


@pytest.mark.parametrize("kind", [ValueError, AssertionError])
def test_method_decorator_takes_keywords_only(ray, kind):
    with pytest.raises(kind, match="keyword arguments only"):
        ray.method(1)


def test_method_decorator_works_without_options(ray):
    @ray.remote
    class Plain:
        @ray.method
        def one(self):
            return 1

        @ray.method()
        def two(self):
            return 2

    plain = Plain.remote()
    assert ray.get([plain.one.remote(), plain.two.remote()]) == [1, 2]


def test_method_decorator_refuses_unknown_options(ray):
    with pytest.raises(ValueError, match="Unexpected keyword argument to @raybook.method: 'returns'"):
        ray.method(returns=2)
    with pytest.raises(ValueError, match="a boolean or a list of exceptions"):
        ray.method(retry_exceptions=["KeyError"])


def test_method_in_an_undeclared_concurrency_group_is_refused(ray):
    class Grouped:
        @ray.method(concurrency_group="io")
        def read(self):
            return threading.get_ident()

    with pytest.raises(ValueError, match="names the concurrency group 'io', which the class does not declare"):
        ray.remote(Grouped)
    actor = ray.remote(concurrency_groups={"io": 1})(Grouped).remote()
    assert ray.get(actor.read.remote(), timeout=10) != threading.get_ident()


def test_method_retries_win_over_the_actors(ray):
    @ray.remote(max_task_retries=5)
    class Flaky:
        def __init__(self):
            self.calls = 0

        @ray.method(max_task_retries=1, retry_exceptions=True)
        def fail(self):
            self.calls += 1
            raise KeyError(self.calls)

        def count(self):
            return self.calls

    actor = Flaky.remote()
    with pytest.raises(KeyError):
        ray.get(actor.fail.remote())
    assert ray.get(actor.count.remote()) == 2
    with pytest.raises(KeyError):
        ray.get(actor.fail.options(max_task_retries=3).remote())
    assert ray.get(actor.count.remote()) == 6


def test_error_of_a_method_keeps_its_class_and_the_actor_lives(ray, counter):
    with pytest.raises(KeyError, match="Plain.fail"):
        ray.get(counter.fail.remote())
    assert ray.get(counter.add.remote()) == 1


def test_calls_after_a_failed_init_tell_its_error(ray):
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("no luck")

        def f(self):
            return 1

    with pytest.raises(ActorDiedError, match="no luck"):
        ray.get(Broken.remote().f.remote())


def test_killed_actor_says_so(ray, counter):
    ray.kill(counter)
    with pytest.raises(RayActorError, match="killed by `ray.kill`"):
        ask_until_it_raises(ray, counter)


def test_killed_actor_begins_again_when_it_may(ray):
    actor = ray.remote(Plain).options(max_restarts=1, max_task_retries=1).remote(10)
    assert ray.get(actor.add.remote()) == 11
    ray.kill(actor, no_restart=False)
    assert 11 in (ray.get(actor.add.remote()) for _ in range(CALLS_MAX))
    ray.kill(actor, no_restart=False)
    with pytest.raises(ActorDiedError):
        ask_until_it_raises(ray, actor)


def test_exit_actor_ends_it(ray, counter):
    with pytest.raises(ActorDiedError, match="exit_actor"):
        ray.get(counter.leave.remote())
    with pytest.raises(ActorDiedError, match="exit_actor"):
        ray.get(counter.add.remote())


def test_exit_actor_outside_an_actor_is_a_type_error(ray):
    with pytest.raises(TypeError, match="called on a non-actor worker"):
        exit_actor()

    @ray.remote
    def task():
        exit_actor()

    with pytest.raises(TypeError):
        ray.get(task.remote())


def test_system_methods(ray, counter):
    assert ray.get(counter.__ray_ready__.remote()) is True
    assert ray.get(counter.__ray_call__.remote(lambda self, x: self.value + x, 5)) == 5
    counter.__ray_terminate__.remote()
    with pytest.raises(ActorDiedError):
        ray.get(counter.add.remote())


def test_name_is_taken_until_its_actor_is_gone(ray):
    actor = ray.remote(Plain).options(name="one").remote()
    with pytest.raises(ValueError, match="The name .*one.* is already taken"):
        ray.remote(Plain).options(name="one").remote()
    ray.kill(actor)
    assert ray.get(ray.remote(Plain).options(name="one").remote().add.remote()) == 1


def test_namespaces_keep_names_apart(ray):
    here = ray.remote(Plain).options(name="one").remote(1)
    there = ray.remote(Plain).options(name="one", namespace="other").remote(2)
    assert ray.get_actor("one") == here
    assert ray.get_actor("one", namespace="other") == there


def test_get_if_exists_returns_the_same_actor(ray):
    options = ray.remote(Plain).options(name="shared", get_if_exists=True)
    first = options.remote()
    second = options.remote()
    assert first == second and hash(first) == hash(second)
    ray.get(first.add.remote())
    assert ray.get(second.add.remote()) == 2


def test_handle_travels_into_tasks_and_values(ray, counter):
    @ray.remote
    def use(handle, box):
        return ray.get(handle.add.remote(10)), box["actor"] == handle

    assert ray.get(use.remote(counter, {"actor": counter})) == (10, True)


def test_handle_can_be_copied_and_pickled(ray, counter):
    assert copy.deepcopy([counter])[0] is counter
    assert pickle.loads(pickle.dumps(counter)) == counter


def test_handle_is_shown_with_its_class(counter):
    assert repr(counter).startswith("Actor(Plain, ")
    assert "add" in dir(counter)


def test_actor_ends_when_its_last_handle_goes(ray):
    named = ray.remote(Plain).options(name="short").remote()
    assert ray.get_actor("short") == named
    del named
    gc.collect()
    with pytest.raises(ValueError, match="Failed to look up"):
        ray.get_actor("short")


def test_detached_actor_outlives_its_handles(ray):
    ray.remote(Plain).options(name="long", lifetime="detached").remote()
    gc.collect()
    assert ray.get(ray.get_actor("long").add.remote()) == 1


def test_temporary_handle_lives_until_its_call_is_done(ray):
    assert ray.get(ray.remote(Plain).remote(4).add.remote()) == 5


def test_pending_calls_are_limited_where_asked(ray):
    @ray.remote(max_pending_calls=2)
    class Slow:
        async def wait(self):
            await asyncio.Event().wait()

    actor = Slow.remote()
    refs = [actor.wait.remote(), actor.wait.remote()]
    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls is 2"):
        actor.wait.remote()
    assert len(refs) == 2


def test_threaded_actor_runs_calls_beside_each_other(ray):
    @ray.remote(max_concurrency=2)
    class Gate:
        def __init__(self):
            self.barrier = threading.Barrier(2, timeout=10)

        def meet(self):
            return self.barrier.wait() >= 0

    gate = Gate.remote()
    assert ray.get([gate.meet.remote(), gate.meet.remote()], timeout=20) == [True, True]


def test_actor_class_may_be_used_inside_tasks(ray):
    actor_class = ray.remote(Plain)

    @ray.remote
    def make():
        return ray.get(actor_class.options(num_cpus=0).remote(3).add.remote())

    assert ray.get(make.remote()) == 4


def test_handle_of_an_earlier_session_raises(stopped):
    stopped.init(local_mode=True)
    handle = stopped.remote(Plain).remote()
    stopped.shutdown()
    stopped.init(local_mode=True)
    with pytest.raises(StaleReferenceError, match="earlier raybook session"):
        handle.add.remote()
    with pytest.raises(StaleReferenceError):
        stopped.kill(handle)
