"""The decorator and remote functions: what is refused at the call site, and what a call hands to the engine."""

import pickle
import threading

import cloudpickle
import pytest

from raybook.api import RemoteFunction, remote
from raybook.api.signature import CallSignature


def add(a, b=1, *, c=0):
    return a + b + c


def test_direct_call_is_refused_and_says_what_to_do():
    with pytest.raises(TypeError, match=r"cannot be called directly.*try 'add.remote\(\)'"):
        remote(add)(1)


def test_plain_function_is_within_reach():
    assert remote(add)._function(1, 2) == 3


def test_async_function_is_refused():
    async def f():
        return 1

    with pytest.raises(ValueError, match="'async def' should not be used for remote tasks"):
        remote(f)


@pytest.mark.parametrize("target", [3, "f", None, len])
def test_only_functions_and_classes_can_be_remote(target):
    with pytest.raises(TypeError, match="must be applied to either a function or a class"):
        remote(target)


def test_remote_twice_is_refused():
    with pytest.raises(TypeError, match="remote already"):
        remote(remote(add))


def test_decorator_with_empty_parentheses_or_positional_options_is_refused():
    with pytest.raises(TypeError, match="must be applied either with no arguments and no parentheses"):
        remote()
    with pytest.raises(TypeError, match="must be applied either"):
        remote(2, num_cpus=1)


def test_undecorated_function_has_no_remote_and_the_decorator_says_how_to_get_one():
    with pytest.raises(AttributeError):
        add.remote(1)
    assert "A plain function has no" in " ".join(remote.__doc__.split())


def test_name_and_documentation_are_kept():
    def documented():
        """What it does."""

    made = remote(documented)
    assert made.__name__ == "documented" and made.__doc__ == "What it does."


def test_options_leave_the_original_alone(ray):
    original = ray.remote(add)
    changed = original.options(num_cpus=0, name="other")
    assert isinstance(changed, RemoteFunction)
    assert ray.get([original.remote(1), changed.remote(1)]) == [2, 2]
    assert {event["name"] for event in ray.timeline() if event["ph"] == "X"} == {"add", "other"}


def test_options_share_one_export(ray):
    original = ray.remote(add)
    ray.get(original.remote(1))
    assert original.options(num_cpus=2)._export.blob is original._export.blob


def test_number_of_returns_decides_what_remote_returns(ray):
    @ray.remote
    def pair():
        return 1, 2

    assert ray.get(pair.options(num_returns=2).remote()) == [1, 2]
    assert ray.get(pair.remote()) == (1, 2)
    assert pair.options(num_returns=0).remote() is None


def test_wrong_number_of_returned_values_is_the_tasks_error(ray):
    @ray.remote(num_returns=3)
    def pair():
        return 1, 2

    with pytest.raises(ValueError, match="Task returned 2 objects, but num_returns=3"):
        ray.get(pair.remote()[0])


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"d": 1}, "unexpected keyword argument 'd'"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call(ray, args, kwargs, words):
    with pytest.raises(TypeError, match=words):
        ray.remote(add).remote(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"c": 3}), ((), {"b": 1, "a": 2, "c": 3})]
)
def test_arguments_that_fit_pass(args, kwargs):
    CallSignature(add).check(args, kwargs)


def test_signature_agrees_with_python_on_every_small_call():
    def free(a, /, b, c=1, *rest, d, e=2, **more): ...

    def bare(): ...

    for function in (add, free, bare):
        for count in range(5):
            for names in ([], ["a"], ["b"], ["d"], ["b", "d"], ["c", "d", "e"], ["x", "b", "d"]):
                kwargs = dict.fromkeys(names, 0)
                try:
                    function(*range(count), **kwargs)
                    fits = True
                except TypeError:
                    fits = False
                try:
                    CallSignature(function).check(tuple(range(count)), kwargs)
                    passed = True
                except TypeError:
                    passed = False
                assert passed == fits, (function, count, names)


def test_unpicklable_argument_is_refused_with_its_path(ray):
    with pytest.raises(TypeError, match="lock"):
        ray.remote(add).remote({"config": [threading.Lock()]})


def test_function_that_captures_something_unpicklable_is_refused_at_the_call(ray):
    lock = threading.Lock()

    @ray.remote
    def locked():
        return lock

    with pytest.raises(TypeError, match="lock"):
        locked.remote()


def test_function_that_captures_a_large_array_is_warned_about(ray):
    data = bytes(11 << 20)

    @ray.remote
    def large():
        return len(data)

    with pytest.warns(UserWarning, match="very large .11 MiB"):
        ref = large.remote()
    assert ray.get(ref) == 11 << 20


def test_generator_streams_unless_it_says_how_many_items_it_has(ray):
    @ray.remote
    def numbers():
        yield 1
        yield 2

    assert [ray.get(ref) for ref in numbers.remote()] == [1, 2]
    assert ray.get(numbers.options(num_returns=2).remote()) == [1, 2]
    assert ray.get(list(ray.get(numbers.options(num_returns="dynamic").remote()))) == [1, 2]


def test_error_of_a_generator_comes_after_its_items(ray):
    @ray.remote
    def broken():
        yield 1
        raise ValueError("no more")

    items = broken.remote()
    assert ray.get(next(items)) == 1
    with pytest.raises(ValueError, match="no more"):
        ray.get(next(items))
    assert list(items) == []
    assert items.is_finished()


def test_generators_of_local_actors_stream(ray):
    @ray.remote
    class Plain:
        def numbers(self, n):
            yield from range(n)

    @ray.remote
    class Coroutines:
        async def numbers(self, n):
            for number in range(n):
                yield number

    assert ray.get(list(Plain.remote().numbers.remote(3))) == [0, 1, 2]
    actor = Coroutines.remote()
    generator = actor.numbers.remote(3)
    assert ray.wait([generator])[0] == [generator]
    assert ray.get(list(generator)) == [0, 1, 2]


def test_remote_function_travels_inside_another(ray):
    @ray.remote
    def inner(x):
        return x + 1

    @ray.remote
    def outer(x):
        return ray.get(inner.remote(x)) * 10

    assert ray.get(outer.remote(1)) == 20


def test_remote_function_may_call_itself(ray):
    @ray.remote
    def factorial(n, low=1):
        return low if n <= 1 else n * ray.get(factorial.remote(n - 1))

    assert ray.get(factorial.remote(5)) == 120


def test_pickled_remote_function_keeps_its_options():
    made = pickle.loads(cloudpickle.dumps(remote(num_cpus=0.5, name="half")(add)))
    assert made._function(1) == 2
    assert made._prepare().name == "half"
    assert dict(made._prepare().scheduling_class.resources) == {"CPU": 5000}


def test_function_is_exported_again_in_a_new_session(stopped):
    @stopped.remote
    def one():
        return 1

    stopped.init(local_mode=True)
    assert stopped.get(one.remote()) == 1
    stopped.shutdown()
    stopped.init(local_mode=True)
    assert stopped.get(one.remote()) == 1
