"""Names of actors: looking up, taking, giving back, namespaces, and handles that do not keep alive."""

import gc
import os

import pytest

from raybook.exceptions import ActorAlreadyExistsError, ActorDiedError
from raybook.util import list_named_actors

PATIENCE_S = 20


@pytest.fixture(scope="module")
def keeper(ray):
    @ray.remote(num_cpus=0)
    class Keeper:
        def pid(self):
            return os.getpid()

        def names(self):
            context = ray.get_runtime_context()
            return context.get_actor_name(), context.namespace

    return Keeper


def test_a_named_actor_is_found_and_is_the_same(ray, keeper):
    actor = keeper.options(name="one").remote()
    assert ray.get_actor("one") == actor == ray.get_actor("one", namespace="behaviours")
    assert ray.get(ray.get_actor("one").names.remote(), timeout=PATIENCE_S) == ("one", "behaviours")


def test_a_taken_name_is_refused(ray, keeper):
    actor = keeper.options(name="taken").remote()
    with pytest.raises(ValueError, match="The name .* is already taken") as caught:
        keeper.options(name="taken").remote()
    assert isinstance(caught.value, ActorAlreadyExistsError)
    assert ray.get(actor.pid.remote())


@pytest.mark.parametrize("wrong", ["nobody", "", None])
def test_looking_up_nobody_is_a_value_error(ray, wrong):
    with pytest.raises(ValueError):
        ray.get_actor(wrong)


@pytest.mark.parametrize(("namespace", "kind"), [("", ValueError), (2, TypeError), ("elsewhere", ValueError)])
def test_namespaces_that_are_none_or_hold_nobody_are_refused(ray, keeper, namespace, kind):
    actor = keeper.options(name="here").remote()
    with pytest.raises(kind):
        ray.get_actor("here", namespace=namespace)
    assert ray.get(actor.pid.remote())


def test_one_name_may_be_taken_in_each_namespace(ray, keeper):
    here, there = keeper.options(name="twin").remote(), keeper.options(name="twin", namespace="other").remote()
    assert ray.get_actor("twin") == here and ray.get_actor("twin", namespace="other") == there
    assert {"name": "twin", "namespace": "other"} in list_named_actors(all_namespaces=True)
    assert "twin" in list_named_actors()


def test_get_if_exists_needs_a_name_and_gives_the_actor_that_is_there(ray, keeper):
    with pytest.raises(ValueError, match="The actor name must be specified to use `get_if_exists`"):
        keeper.options(get_if_exists=True).remote()
    first = keeper.options(name="shared", get_if_exists=True).remote()
    assert keeper.options(name="shared", get_if_exists=True).remote() == first


def test_get_if_exists_makes_one_actor_however_many_ask_at_once(ray, keeper):
    @ray.remote(num_cpus=0)
    def ask():
        actor = keeper.options(name="raced", get_if_exists=True, lifetime="detached").remote()
        return ray.get(actor.pid.remote())

    assert len(set(ray.get([ask.remote() for _ in range(8)], timeout=PATIENCE_S))) == 1
    ray.kill(ray.get_actor("raced"))


@pytest.mark.slow
def test_a_name_can_be_taken_again_at_once_when_its_actor_was_let_go(ray, keeper):
    for _ in range(100):
        actor = keeper.options(name="again", get_if_exists=True).remote()
        assert ray.get(actor.pid.remote(), timeout=PATIENCE_S)
        del actor


def test_a_name_is_free_as_soon_as_its_actor_was_killed(ray, keeper):
    for _ in range(5):
        actor = keeper.options(name="killed").remote()
        ray.get(actor.pid.remote())
        ray.kill(actor)
        with pytest.raises(ValueError, match="Failed to look up actor with name"):
            ray.get_actor("killed")


def test_a_handle_that_was_looked_up_does_not_keep_the_actor_alive(ray, keeper, till):
    actor = keeper.options(name="weak").remote()
    ray.get(actor.pid.remote())
    weak = ray.get_actor("weak")
    del actor
    gc.collect()

    def is_dead():
        try:
            ray.get(weak.pid.remote(), timeout=PATIENCE_S)
        except ActorDiedError as error:
            return "all references to the actor were removed" in str(error)
        return False

    till(is_dead)
    with pytest.raises(ValueError):
        ray.get_actor("weak")


def test_a_looked_up_handle_that_was_passed_on_is_weak_too(ray, keeper, till):
    @ray.remote(num_cpus=0)
    class Holder:
        def hold(self, actor):
            self.actor = actor

    actor, holder = keeper.options(name="passed").remote(), Holder.remote()
    ray.get(actor.pid.remote())
    ray.get(holder.hold.remote(ray.get_actor("passed")))
    del actor
    gc.collect()
    till(lambda: "passed" not in list_named_actors())


def test_a_detached_actor_lives_without_handles_and_can_be_called_through_passing_ones(ray, keeper):
    pid = ray.get(keeper.options(name="detached", lifetime="detached").remote().pid.remote(), timeout=PATIENCE_S)
    gc.collect()
    for _ in range(3):
        assert ray.get(ray.get_actor("detached").pid.remote(), timeout=PATIENCE_S) == pid
    ray.kill(ray.get_actor("detached"))


def test_a_detached_actor_can_be_called_through_a_handle_that_was_passed(ray, keeper):
    actor = keeper.options(name="lent", lifetime="detached").remote()

    @ray.remote
    def call(handles):
        return ray.get(handles.pop().pid.remote(), timeout=PATIENCE_S)

    assert ray.get(call.remote([actor]), timeout=PATIENCE_S) == ray.get(actor.pid.remote())
    ray.kill(actor)


def test_a_name_can_be_looked_up_while_its_actor_is_being_made(ray):
    @ray.remote(num_cpus=100)
    class Large:
        pass

    large = Large.options(name="waiting").remote()
    assert ray.get_actor("waiting") == large
    ray.kill(large)


@pytest.mark.parametrize(
    ("options", "kind"), [({"namespace": ""}, ValueError), ({"name": ""}, ValueError), ({"namespace": 1}, TypeError)]
)
def test_names_that_are_none_are_refused(keeper, options, kind):
    with pytest.raises(kind):
        keeper.options(**options).remote()
