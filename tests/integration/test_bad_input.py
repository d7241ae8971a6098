"""Bad input: every misuse is an error at the call site that says what to do, and the cluster lives on.

The kinds of error are Ray's (its users' tests rely on them); tests marked `raybook_only` ask for more than Ray gives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

import raybook as ray

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True)
def cluster_lives_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each misuse the same cluster still runs a task, unless the test is about having no cluster."""
    if "no_cluster" in request.fixturenames:
        yield
        return
    request.getfixturevalue("cluster")
    yield

    @ray.remote(num_cpus=0)
    def alive():
        return "alive"

    assert ray.get(alive.remote()) == "alive"


@pytest.fixture
def task() -> object:
    @ray.remote
    def double(x, *, plus=0):
        return 2 * x + plus

    return double


@pytest.fixture
def actor_class() -> object:
    @ray.remote
    class Thing:
        def double(self, x):
            return 2 * x

    return Thing


# --- Decorating and calling --------------------------------------------------


def test_remote_of_an_undecorated_function_is_an_attribute_error():
    def plain():
        return 1

    with pytest.raises(AttributeError, match="remote"):
        plain.remote()


def test_calling_a_remote_function_directly_names_the_way_out(task: object):
    with pytest.raises(TypeError, match=r"cannot be called directly.*\.remote\(\)"):
        task(1)


def test_instantiating_an_actor_class_directly_names_the_way_out(actor_class: object):
    with pytest.raises(TypeError, match=r"cannot be instantiated directly.*\.remote\(\)"):
        actor_class()


def test_calling_an_actor_method_directly_names_the_way_out(actor_class: object):
    thing = actor_class.remote()
    with pytest.raises(TypeError, match=r"cannot be called directly.*\.remote\(\)"):
        thing.double(1)


def test_coroutine_function_cannot_be_a_task():
    async def coroutine():
        return 1

    with pytest.raises(ValueError, match="async"):
        ray.remote(coroutine)


@pytest.mark.parametrize("thing", [5, "text", None], ids=str)
def test_only_functions_and_classes_can_be_remote(thing: object):
    with pytest.raises((TypeError, AssertionError), match="remote"):
        ray.remote(thing)


def test_remote_with_empty_parentheses_is_refused():
    with pytest.raises((TypeError, AssertionError), match="remote"):

        @ray.remote()
        def f():
            return 1


def test_missing_argument_is_reported_at_the_call(task: object):
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        task.remote()


def test_surplus_argument_is_reported_at_the_call(task: object):
    with pytest.raises(TypeError, match="too many positional arguments"):
        task.remote(1, 2)


def test_unknown_keyword_argument_is_reported_at_the_call(task: object):
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'minus'"):
        task.remote(1, minus=2)


def test_wrong_arguments_of_an_actors_constructor_are_reported_at_the_call(actor_class: object):
    with pytest.raises(TypeError, match="too many positional arguments|takes no arguments"):
        actor_class.remote(1)


def test_wrong_arguments_of_a_method_are_reported_at_the_call(actor_class: object):
    thing = actor_class.remote()
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        thing.double.remote()
    assert ray.get(thing.double.remote(4)) == 8


def test_unknown_method_is_an_attribute_error(actor_class: object):
    thing = actor_class.remote()
    with pytest.raises(AttributeError, match="triple"):
        thing.triple.remote(1)


# --- Options -----------------------------------------------------------------


def test_unknown_task_option_is_refused_with_the_known_ones(task: object):
    with pytest.raises(ValueError, match=r"num_cpu[^s](.|\n)*num_cpus"):
        task.options(num_cpu=1)


def test_unknown_option_is_refused_in_the_decorator():
    with pytest.raises(ValueError, match="num_cpu"):

        @ray.remote(num_cpu=1)
        def f():
            return 1


def test_unknown_actor_option_is_refused_with_the_known_ones(actor_class: object):
    with pytest.raises(ValueError, match=r"restarts(.|\n)*max_restarts"):
        actor_class.options(restarts=1)


def test_actor_options_are_unknown_to_tasks(task: object):
    with pytest.raises(ValueError, match="max_restarts"):
        task.options(max_restarts=1)


@pytest.mark.parametrize("option", ["num_cpus", "num_gpus", "memory"])
def test_negative_resource_is_refused(task: object, option: str):
    with pytest.raises(ValueError, match="negative|>= 0|non-negative"):
        task.options(**{option: -1}).remote(1)


def test_negative_custom_resource_is_refused(task: object):
    with pytest.raises(ValueError, match="negative|>= 0|non-negative"):
        task.options(resources={"special": -1}).remote(1)


@pytest.mark.parametrize("options", [{"num_cpus": 0.00001}, {"num_gpus": 0.00001}], ids=str)
def test_resource_finer_than_a_ten_thousandth_is_refused(task: object, options: dict):
    with pytest.raises(ValueError, match="precision|0.0001"):
        task.options(**options).remote(1)


@pytest.mark.raybook_only
def test_resource_with_a_fifth_decimal_is_refused_and_not_rounded(task: object):
    with pytest.raises(ValueError, match="precision|0.0001"):
        task.options(num_gpus=0.12345).remote(1)


def test_custom_resource_finer_than_a_ten_thousandth_is_refused(task: object):
    with pytest.raises(ValueError, match="precision|0.0001"):
        task.options(resources={"special": 0.00005}).remote(1)


@pytest.mark.parametrize("name", ["CPU", "GPU", "memory"])
def test_predefined_resources_do_not_belong_into_resources(task: object, name: str):
    with pytest.raises(ValueError, match=f"{name}|num_cpus"):
        task.options(resources={name: 1}).remote(1)


def test_resource_of_the_wrong_type_is_refused(task: object):
    with pytest.raises(TypeError, match="num_cpus|CPU"):
        task.options(num_cpus="two").remote(1)


def test_resources_that_are_no_dictionary_are_refused(task: object):
    with pytest.raises(TypeError, match="resources"):
        task.options(resources=["special"]).remote(1)


def test_several_whole_gpus_cannot_come_with_a_fraction(task: object):
    with pytest.raises(ValueError, match="whole"):
        task.options(num_gpus=1.5).remote(1)


@pytest.mark.parametrize(
    "options",
    [{"max_retries": -2}, {"num_returns": -1}, {"max_calls": 1}],
    ids=str,
)
def test_task_option_out_of_range_or_place_is_refused(task: object, options: dict):
    with pytest.raises(ValueError, match=next(iter(options))):
        task.options(**options).remote(1)


@pytest.mark.parametrize(
    "options",
    [
        {"max_restarts": -2},
        {"max_task_retries": -2},
        {"max_concurrency": -1},
        {"lifetime": "forever"},
        {"concurrency_groups": {"io": 2}},
    ],
    ids=str,
)
def test_actor_option_out_of_range_or_place_is_refused(actor_class: object, options: dict):
    with pytest.raises(ValueError, match=next(iter(options))):
        actor_class.options(**options).remote()


# --- get, put, wait ----------------------------------------------------------


@pytest.mark.parametrize("what", [(1, 2), 5, None, "text"], ids=str)
def test_get_takes_a_ref_or_a_list_of_refs_and_nothing_else(what: object):
    with pytest.raises(ValueError, match="ObjectRef"):
        ray.get(what)


def test_get_of_a_tuple_of_refs_is_refused():
    with pytest.raises(ValueError, match="ObjectRef"):
        ray.get((ray.put(1), ray.put(2)))


def test_get_of_a_list_with_a_stranger_is_refused():
    with pytest.raises(TypeError, match="ObjectRef"):
        ray.get([ray.put(1), 5])


def test_put_of_a_ref_is_refused():
    with pytest.raises(TypeError, match="ObjectRef"):
        ray.put(ray.put(1))


def test_get_beyond_its_timeout_raises_an_error_of_both_families(gate: object):
    with pytest.raises(ray.exceptions.GetTimeoutError) as caught:
        ray.get(gate.wait.remote(), timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, ray.exceptions.RayError)


@pytest.mark.parametrize("what", [5, None, "text"], ids=str)
def test_wait_takes_only_a_list(what: object):
    with pytest.raises(TypeError, match="list"):
        ray.wait(what)


def test_wait_for_a_single_ref_is_refused():
    with pytest.raises(TypeError, match="list"):
        ray.wait(ray.put(1))


def test_wait_for_a_list_with_a_stranger_is_refused():
    with pytest.raises(TypeError, match="int"):
        ray.wait([ray.put(1), 5])


def test_wait_for_the_same_ref_twice_is_refused():
    ref = ray.put(1)
    with pytest.raises(ValueError, match="unique|duplicate"):
        ray.wait([ref, ref])


@pytest.mark.parametrize("num_returns", [0, -1, 3])
def test_wait_for_more_or_fewer_than_there_are_is_refused(num_returns: int):
    with pytest.raises(ValueError, match="num_returns|number of objects"):
        ray.wait([ray.put(1), ray.put(2)], num_returns=num_returns)


def test_wait_with_a_negative_timeout_is_refused():
    with pytest.raises(ValueError, match="timeout"):
        ray.wait([ray.put(1)], timeout=-0.5)


def test_unpicklable_value_cannot_be_put():
    with pytest.raises(TypeError, match="lock"):
        ray.put(threading.Lock())


def test_unpicklable_argument_is_reported_at_the_call(task: object):
    with pytest.raises(TypeError, match="lock"):
        task.remote(threading.Lock())


@pytest.mark.raybook_only
def test_unpicklable_argument_is_named_by_its_attribute_path(task: object):
    class Holder:
        def __init__(self, **attributes):
            self.__dict__.update(attributes)

    model = Holder(name="net", config=Holder(guards=[1, threading.Lock()]))
    with pytest.raises(TypeError, match=r"config\.guards\[1\]"):
        task.remote(model)


def test_unpicklable_closure_is_reported_at_the_call():
    lock = threading.Lock()

    @ray.remote
    def use():
        return lock.locked()

    with pytest.raises(TypeError, match="lock"):
        use.remote()


def test_unpicklable_result_is_an_error_of_the_task():
    @ray.remote
    def make():
        return threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        ray.get(make.remote())


def test_wrong_number_of_results_is_an_error_of_the_task():
    @ray.remote(num_returns=2)
    def three():
        return 1, 2, 3

    first, _ = three.remote()
    with pytest.raises(ValueError, match="3"):
        ray.get(first)


# --- Actors by name ----------------------------------------------------------


def test_missing_actor_is_named_in_the_error():
    with pytest.raises(ValueError, match="Failed to look up actor with name 'nobody'"):
        ray.get_actor("nobody")


def test_name_that_is_taken_is_refused(actor_class: object):
    first = actor_class.options(name="taken").remote()
    ray.get(first.double.remote(1))
    with pytest.raises(ValueError, match="name taken .*is already taken|name 'taken' .*is already taken"):
        actor_class.options(name="taken").remote()
    assert ray.get(first.double.remote(2)) == 4


@pytest.mark.parametrize("name", ["", 5], ids=repr)
def test_name_of_an_actor_is_a_text_that_is_not_empty(actor_class: object, name: object):
    with pytest.raises((TypeError, ValueError), match="name|empty"):
        actor_class.options(name=name).remote()


def test_get_actor_with_an_empty_name_is_refused():
    with pytest.raises(ValueError, match="name|non-empty"):
        ray.get_actor("")


def test_get_if_exists_needs_a_name(actor_class: object):
    with pytest.raises(ValueError, match="name"):
        actor_class.options(get_if_exists=True).remote()


def test_get_if_exists_returns_the_same_actor_and_no_second_one():
    @ray.remote
    class Counter:
        def __init__(self):
            self.n = 0

        def increment(self):
            self.n += 1
            return self.n

    options = {"name": "shared counter", "get_if_exists": True}
    first = Counter.options(**options).remote()
    second = Counter.options(**options).remote()
    assert ray.get(first.increment.remote()) == 1
    assert ray.get(second.increment.remote()) == 2


@pytest.mark.parametrize(("namespace", "error"), [(5, TypeError), ("", ValueError)], ids=repr)
def test_namespace_of_an_actor_is_a_text_that_is_not_empty(actor_class: object, namespace: object, error: type):
    with pytest.raises(error, match="namespace|Namespace|empty"):
        actor_class.options(name="somebody", namespace=namespace).remote()


def test_same_name_in_another_namespace_is_another_actor(actor_class: object):
    here = actor_class.options(name="double").remote()
    there = actor_class.options(name="double", namespace="elsewhere").remote()
    ray.get([here.double.remote(1), there.double.remote(1)])
    assert ray.get_actor("double", namespace="elsewhere") == there
    assert ray.get_actor("double") == here


def test_too_many_pending_calls_are_refused_at_the_call(gate: object):
    @ray.remote(max_pending_calls=2)
    class Narrow:
        def wait_at(self, gate):
            ray.get(gate.wait.remote())
            return "through"

    narrow = Narrow.remote()
    accepted = []
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        for _ in range(4):
            accepted.append(narrow.wait_at.remote(gate))
    ray.get(gate.open.remote())
    assert ray.get(accepted) == ["through"] * len(accepted)
    assert len(accepted) >= 2


def test_kill_takes_only_actor_handles():
    with pytest.raises(ValueError, match="actor"):
        ray.kill(ray.put(1))


def test_cancel_takes_only_refs(actor_class: object):
    with pytest.raises(TypeError, match="ObjectRef|object ref"):
        ray.cancel(actor_class.remote())


def test_forced_cancel_of_an_actors_call_is_refused(gate: object):
    @ray.remote
    class Patient:
        def wait_at(self, gate):
            return ray.get(gate.wait.remote())

    ref = Patient.remote().wait_at.remote(gate)
    with pytest.raises(ValueError, match="force"):
        ray.cancel(ref, force=True)
    ray.get(gate.open.remote())
    ray.get(ref)


def test_exit_actor_outside_an_actor_is_refused():
    with pytest.raises(TypeError, match="exit_actor"):
        ray.actor.exit_actor()


# --- Requests that no node can ever meet -------------------------------------


def test_infeasible_task_waits_while_others_run(task: object):
    impossible = task.options(resources={"unobtainium": 1}).remote(1)
    assert ray.get(task.remote(2)) == 4
    done, left = ray.wait([impossible], timeout=0.1)
    assert (done, left) == ([], [impossible])
    ray.cancel(impossible)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(impossible)


@pytest.mark.raybook_only
def test_infeasible_task_is_reported_at_once_with_what_the_cluster_has(
    task: object, capfd: pytest.CaptureFixture[str], eventually: Callable[[Callable[[], object]], None]
):
    impossible = task.options(num_cpus=400).remote(1)
    said = []

    def reported() -> bool:
        said.append(capfd.readouterr().err)
        return "400" in "".join(said)

    eventually(reported)
    text = "".join(said)
    assert "CPU" in text
    assert "4" in text
    ray.cancel(impossible)


# --- init and shutdown -------------------------------------------------------


def test_second_init_is_refused():
    with pytest.raises(RuntimeError, match="Maybe you called ray.init twice by accident"):
        ray.init()


def test_second_init_is_ignored_where_asked():
    assert ray.init(ignore_reinit_error=True) is not None


@pytest.mark.parametrize("num_cpus", [-1, "two"], ids=repr)
def test_init_refuses_cpus_that_cannot_be(no_cluster: ModuleType, num_cpus: object):
    with pytest.raises((TypeError, ValueError, AssertionError), match="CPU|cpu|[Rr]esource"):
        ray.init(num_cpus=num_cpus)
    assert not ray.is_initialized()


def test_init_refuses_an_unknown_option(no_cluster: ModuleType):
    with pytest.raises((TypeError, RuntimeError), match="number_of_cpus"):
        ray.init(number_of_cpus=2)


def test_init_refuses_resources_together_with_an_address(no_cluster: ModuleType):
    with pytest.raises(ValueError, match="num_cpus"):
        ray.init("127.0.0.1:1", num_cpus=2)
    assert not ray.is_initialized()


def test_init_with_auto_and_no_cluster_is_a_connection_error(no_cluster: ModuleType):
    with pytest.raises(ConnectionError, match="start|RAY_ADDRESS"):
        ray.init("auto")
    assert not ray.is_initialized()


def test_shutdown_twice_and_without_a_cluster_is_no_error(no_cluster: ModuleType):
    ray.shutdown()
    ray.init(num_cpus=1)
    ray.shutdown()
    ray.shutdown()
    assert not ray.is_initialized()


def test_ref_of_an_ended_cluster_raises_instead_of_hanging(no_cluster: ModuleType):
    ray.init(num_cpus=1)
    ref = ray.put(1)
    assert ray.get(ref) == 1
    ray.shutdown()
    ray.init(num_cpus=1)
    with pytest.raises((ray.exceptions.RayError, ValueError, RuntimeError)):
        ray.get(ref, timeout=5)


@pytest.mark.raybook_only
def test_handle_of_an_ended_cluster_raises_instead_of_hanging(no_cluster: ModuleType):
    ray.init(num_cpus=1)

    @ray.remote
    class Thing:
        def value(self):
            return 1

    thing = Thing.remote()
    assert ray.get(thing.value.remote()) == 1
    ray.shutdown()
    ray.init(num_cpus=1)
    with pytest.raises((ray.exceptions.RayError, ValueError, RuntimeError)):
        ray.get(thing.value.remote(), timeout=5)


def test_remote_function_of_an_ended_cluster_works_in_the_next_one(no_cluster: ModuleType):
    @ray.remote
    def f():
        return 1

    for _ in range(2):
        ray.init(num_cpus=1)
        assert ray.get(f.remote()) == 1
        ray.shutdown()
