"""get, put, wait, cancel, kill, get_actor: every wrong use is refused at the call site (behaviours 1-7, 25)."""

import pytest

from raybook.exceptions import GetTimeoutError, TaskCancelledError


@pytest.fixture
def never(ray):
    """A ref that is not ready until ``release`` is called on its signal."""

    @ray.remote
    class Signal:
        def __init__(self):
            self.waiting = []

        async def wait(self, value):
            import asyncio

            event = asyncio.Event()
            self.waiting.append(event)
            await event.wait()
            return value

        async def send(self):
            for event in self.waiting:
                event.set()

    signal = Signal.remote()
    return signal


def test_get_of_a_list_keeps_its_order(ray):
    refs = [ray.put(number) for number in range(5)]
    assert ray.get(refs[::-1]) == [4, 3, 2, 1, 0]
    assert ray.get(refs[2]) == 2
    assert ray.get([]) == []


@pytest.mark.parametrize("wrong", [(), 3, "ref", None, {}])
def test_get_of_anything_but_refs_is_a_value_error(ray, wrong):
    with pytest.raises(ValueError, match="Invalid type of object refs"):
        ray.get(wrong)


def test_get_of_a_tuple_of_refs_says_make_it_a_list(ray):
    with pytest.raises(ValueError, match=r"Make it a list: list\(refs\)"):
        ray.get((ray.put(1),))


def test_list_item_that_is_no_ref_is_a_type_error_that_names_it(ray):
    with pytest.raises(
        TypeError,
        match=r"Attempting to call `get` on the value 2, which is not an ray.ObjectRef \(item 1 of the list\)",
    ):
        ray.get([ray.put(1), 2])


def test_get_of_a_nested_list_says_flatten(ray):
    with pytest.raises(TypeError, match="Flatten nested lists"):
        ray.get([[ray.put(1)]])


def test_get_of_a_remote_function_says_call_it(ray):
    @ray.remote
    def f():
        return 1

    with pytest.raises(ValueError, match=r"Call it with .remote\(\) first"):
        ray.get(f)


def test_get_without_time_left_raises_what_is_also_a_timeout_error(ray, never):
    ref = never.wait.remote(1)
    with pytest.raises(GetTimeoutError) as raised:
        ray.get(ref, timeout=0)
    assert isinstance(raised.value, TimeoutError)
    assert ref.hex() in str(raised.value)


def test_get_with_timeout_zero_returns_what_is_there(ray):
    assert ray.get(ray.put(1), timeout=0) == 1


@pytest.mark.parametrize(("timeout", "kind"), [(-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_wrong_timeouts_are_refused(ray, timeout, kind):
    ref = ray.put(1)
    with pytest.raises(kind):
        ray.get(ref, timeout=timeout)
    with pytest.raises(kind):
        ray.wait([ref], timeout=timeout)


def test_get_raises_as_soon_as_one_failed(ray, never):
    @ray.remote
    def fail():
        raise KeyError("bad")

    with pytest.raises(KeyError):
        ray.get([never.wait.remote(1), fail.remote()], timeout=10)


def test_put_of_a_ref_is_refused(ray):
    with pytest.raises(TypeError, match="Calling 'put' on an ray.ObjectRef is not allowed"):
        ray.put(ray.put(1))


def test_put_for_another_owner_is_refused(ray):
    with pytest.raises(ValueError, match="_owner"):
        ray.put(1, _owner=object())


def test_put_of_something_unpicklable_names_it(ray):
    with pytest.raises(TypeError, match="generator"):
        ray.put({"items": (x for x in [])})


def test_put_copies(ray):
    value = [1]
    ref = ray.put(value)
    value.append(2)
    assert ray.get(ref) == [1]
    ray.get(ref).append(3)
    assert ray.get(ref) == [1]


def test_wait_keeps_the_order_of_its_input(ray, never):
    slow = never.wait.remote(1)
    quick = [ray.put(1), ray.put(2), ray.put(3)]
    refs = [quick[0], slow, quick[1], quick[2]]
    assert ray.wait(refs, num_returns=2) == ([quick[0], quick[1]], [slow, quick[2]])
    assert ray.wait(refs, num_returns=4, timeout=0.01) == (quick, [slow])


def test_wait_wakes_when_something_becomes_ready(ray, never):
    slow = never.wait.remote(7)
    never.send.remote()
    assert ray.wait([slow], timeout=10) == ([slow], [])


def test_wait_of_nothing_is_nothing(ray):
    assert ray.wait([]) == ([], [])


def test_wait_counts_failures_as_ready(ray):
    @ray.remote
    def fail():
        raise KeyError("bad")

    ref = fail.remote()
    assert ray.wait([ref]) == ([ref], [])


def test_wait_of_a_single_ref_or_a_tuple_is_a_type_error(ray):
    ref = ray.put(1)
    with pytest.raises(TypeError, match=r"got a single ObjectRef: .*Pass \[ref\]"):
        ray.wait(ref)
    with pytest.raises(TypeError, match="Make it a list"):
        ray.wait((ref,))
    with pytest.raises(TypeError, match="item 0"):
        ray.wait([1])


def test_wait_of_duplicates_is_refused(ray):
    ref = ray.put(1)
    with pytest.raises(ValueError, match="unique ray_waitables"):
        ray.wait([ref, ref])


@pytest.mark.parametrize(("count", "kind"), [(0, ValueError), (-1, ValueError), (2, ValueError), (1.0, TypeError)])
def test_wait_for_an_impossible_number_is_refused(ray, count, kind):
    with pytest.raises(kind, match="num_returns"):
        ray.wait([ray.put(1)], num_returns=count)


def test_cancel_and_kill_say_what_they_take(ray):
    @ray.remote
    class A:
        pass

    with pytest.raises(TypeError, match=r"only supported for object refs. For actors, try ray.kill"):
        ray.cancel(A.remote())
    with pytest.raises(ValueError, match=r"ray.kill\(\) only supported for actors. For tasks, try ray.cancel\(\)"):
        ray.kill(ray.put(1))


def test_cancelled_task_never_runs(ray, never):
    @ray.remote
    def work(x):
        return x

    gate = never.wait.remote(1)
    ref = work.remote(gate)
    ray.cancel(ref)
    never.send.remote()
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=10)
    assert ray.get(gate) == 1


def test_cancelled_coroutine_of_an_actor_stops(ray, never):
    ref = never.wait.remote(1)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=10)


def test_cancel_of_a_finished_task_has_no_effect(ray):
    @ray.remote
    def one():
        return 1

    ref = one.remote()
    assert ray.get(ref) == 1
    ray.cancel(ref)
    assert ray.get(ref) == 1


def test_forced_cancel_of_an_actor_call_is_refused(ray, never):
    ref = never.wait.remote(1)
    ray.wait([ref], timeout=0.05)
    with pytest.raises(ValueError, match="force=True is not supported for actor"):
        ray.cancel(ref, force=True)


@pytest.mark.parametrize("name", ["", None, 3])
def test_get_actor_needs_a_name(ray, name):
    with pytest.raises(ValueError, match="non-empty value to get_actor"):
        ray.get_actor(name)


def test_get_actor_checks_the_namespace(ray):
    with pytest.raises(TypeError, match="namespace"):
        ray.get_actor("a", namespace=1)
    with pytest.raises(ValueError, match="not a valid namespace"):
        ray.get_actor("a", namespace="")


def test_get_actor_of_nobody_says_where_it_looked(ray):
    with pytest.raises(ValueError, match="Failed to look up actor with name 'nobody' in namespace 'tests'"):
        ray.get_actor("nobody")
