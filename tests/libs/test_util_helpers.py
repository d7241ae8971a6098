"""as_completed and map_unordered, named actors, serializers: what is at ray.util itself."""

from __future__ import annotations

import io
import threading

import pytest

import raybook as ray
from raybook.util import (
    as_completed,
    deregister_serializer,
    get_node_ip_address,
    inspect_serializability,
    list_named_actors,
    map_unordered,
    register_serializer,
)
from raybook.util.batching import BatchSize, run_each
from raybook.util.give_back import Turnstile

pytestmark = pytest.mark.usefixtures("four_cpus")


@pytest.fixture
def after_gate():
    @ray.remote(num_cpus=0)
    def wait_then_return(gates, value):
        for gate in gates:
            ray.get(gate.wait.remote())
        return value

    return wait_then_return


# --- as_completed -------------------------------------------------------------


def test_first_finished_is_handed_out_while_the_others_run(after_gate, make_gate):
    gate = make_gate()
    refs = [after_gate.remote([gate], "slow"), after_gate.remote([], "quick")]
    results = as_completed(refs, chunk_size=1)
    assert next(results) == "quick"
    ray.get(gate.open.remote())
    assert list(results) == ["slow"]


def test_a_chunk_is_in_the_order_of_submission(after_gate, make_gate):
    last, middle = make_gate(), make_gate()
    refs = [
        after_gate.remote(gates, value) for value, gates in (("d", [last]), ("b", [middle]), ("a", []), ("c", [last]))
    ]
    results = as_completed(refs, chunk_size=2)
    ray.get(middle.open.remote())
    assert [next(results), next(results)] == ["b", "a"]
    ray.get(last.open.remote())
    assert list(results) == ["d", "c"]


def test_refs_are_handed_out_when_asked_for(after_gate):
    refs = [after_gate.remote([], value) for value in range(3)]
    assert set(as_completed(refs, yield_obj_refs=True)) == set(refs)


def test_a_chunk_of_less_than_one_is_refused():
    with pytest.raises(ValueError, match="chunk_size"):
        as_completed([], chunk_size=0)


# --- map_unordered ------------------------------------------------------------


@ray.remote
def plus_one(value):
    return value + 1


def test_every_item_has_its_result():
    assert sorted(map_unordered(plus_one, range(500))) == list(range(1, 501))


def test_tiny_items_share_tasks():
    @ray.remote
    def task_id(_):
        return ray.get_runtime_context().get_task_id()

    ids = list(map_unordered(task_id, range(2000)))
    assert len(ids) == 2000
    assert len(set(ids)) < 500


def test_each_item_has_a_task_of_its_own_when_refs_are_asked_for():
    refs = list(map_unordered(plus_one, range(5), yield_obj_refs=True))
    assert sorted(ray.get(refs)) == [1, 2, 3, 4, 5]


def test_long_items_run_side_by_side_from_the_start(after_gate, make_gate):
    chain = [make_gate() for _ in range(3)]

    @ray.remote(num_cpus=0)
    def wait_for_the_next_one(at):
        # One after the other, the first would wait for ever.
        if at + 1 < len(chain):
            ray.get(chain[at + 1].wait.remote())
        ray.get(chain[at].open.remote())
        return at

    assert sorted(map_unordered(wait_for_the_next_one, range(3))) == [0, 1, 2]


def test_an_item_that_raises_does_so_as_itself():
    @ray.remote
    def picky(value):
        if value == 300:
            raise ValueError("not this one")
        return value

    with pytest.raises(ValueError, match="not this one") as caught:
        list(map_unordered(picky, range(600)))
    assert isinstance(caught.value, ray.exceptions.RayTaskError)


def test_a_result_that_cannot_travel_is_named():
    @ray.remote
    def lock(value):
        return threading.Lock() if value == 300 else value

    with pytest.raises(TypeError, match="lock"):
        list(map_unordered(lock, range(600)))


def test_items_that_are_refs_are_resolved():
    assert sorted(map_unordered(plus_one, [ray.put(1), ray.put(2)])) == [2, 3]


def test_methods_of_actors_are_mapped_too():
    class Adder:
        def plus_one(self, value):
            return value + 1

    adder = ray.remote(Adder).remote()
    assert sorted(map_unordered(adder.plus_one, range(20))) == list(range(1, 21))


def test_items_are_taken_as_room_is_made():
    taken = []

    def items():
        for value in range(1000):
            taken.append(value)
            yield value

    results = map_unordered(plus_one, items(), backpressure_size=4, chunk_size=1, yield_obj_refs=True)
    next(results)
    assert len(taken) <= 5


@pytest.mark.parametrize("alone", [True, False])
def test_less_room_than_a_chunk_makes_smaller_chunks(alone):
    found = map_unordered(plus_one, range(7), backpressure_size=2, chunk_size=4, yield_obj_refs=alone)
    assert sorted(ray.get(list(found)) if alone else found) == list(range(1, 8))


@pytest.mark.parametrize("sizes", [{"backpressure_size": 0}, {"chunk_size": 0}])
def test_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(ValueError):
        map_unordered(plus_one, [], **sizes)


def test_an_item_that_blocks_does_not_hold_back_those_behind_it(make_gate):
    gate = make_gate()

    @ray.remote(num_cpus=0)
    def block_once(value):
        if value == 700:
            ray.get(gate.wait.remote())
        return value

    results = map_unordered(block_once, range(1000), chunk_size=1)
    assert len([next(results) for _ in range(999)]) == 999
    ray.get(gate.open.remote())
    assert list(results) == [700]


def test_a_closed_turnstile_lets_nothing_through():
    turnstile = Turnstile(3, b"")

    def close_at_two(value):
        if value == 2:
            assert turnstile.close() == 2
        return value

    outcome = run_each(close_at_two, [1, 2, 3], "work", turnstile)
    assert outcome.values == [1, 2] and outcome.left == 1


def test_the_size_of_batches_follows_time_and_space():
    size = BatchSize()
    assert size.items == 1
    size.learn(run_each(lambda value: value, list(range(100)), "work", Turnstile(100, b"")))
    assert size.items > 10
    size.learn(run_each(lambda value: bytes(40_000), list(range(10)), "work", Turnstile(10, b"")))
    assert size.items == 1


# --- Named actors, addresses --------------------------------------------------


def test_named_actors_are_listed_by_namespace():
    class Quiet:
        pass

    quiet = ray.remote(Quiet)
    kept = [quiet.options(name="here").remote(), quiet.options(name="there", namespace="other").remote()]
    gone = quiet.options(name="gone").remote()
    ray.kill(gone)
    assert list_named_actors() == ["here"]
    everywhere = list_named_actors(all_namespaces=True)
    assert {"name": "there", "namespace": "other"} in everywhere and len(everywhere) == len(kept)


def test_the_address_of_this_node_is_that_of_the_cluster():
    assert get_node_ip_address() == ray.nodes()[0]["NodeManagerAddress"]


# --- Serializers --------------------------------------------------------------


def make_locked_class():
    class Locked:
        def __init__(self, value):
            self.value = value
            self.lock = threading.Lock()

    return Locked


@ray.remote
def value_of(thing):
    return thing.value


def test_a_registered_serializer_is_used_and_travels_along():
    locked = make_locked_class()
    register_serializer(locked, serializer=lambda thing: thing.value, deserializer=lambda value: locked(value))
    assert ray.get(value_of.remote(locked(7))) == 7
    deregister_serializer(locked)
    with pytest.raises(TypeError, match="lock"):
        value_of.remote(locked(7))


def test_the_way_of_builtin_types_cannot_be_changed():
    with pytest.raises(TypeError, match="cannot be changed"):
        register_serializer(int, serializer=str, deserializer=int)


def test_inspect_names_the_parts_that_do_not_travel():
    thing = make_locked_class()(7)

    def use():
        return thing

    out = io.StringIO()
    travels, failures = inspect_serializability(use, name="use", print_file=out)
    assert not travels
    [failure] = failures
    assert failure.obj is thing.lock and failure.name == "lock" and failure.parent is thing
    assert "captured by function `use` as variable `thing`" in out.getvalue()


def test_inspect_has_nothing_to_say_against_a_plain_value():
    out = io.StringIO()
    assert inspect_serializability({"a": [1, 2]}, print_file=out) == (True, set())
