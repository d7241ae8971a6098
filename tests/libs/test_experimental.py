"""raybook.experimental and other lesser modules of Ray's: the key-value table, places of objects, bars, old names."""

from __future__ import annotations

import pytest

import raybook as ray
from raybook._common import network_utils
from raybook.experimental import get_local_object_locations, get_object_locations, internal_kv, set_resource


@pytest.fixture
def kv(cluster):
    yield internal_kv
    for namespace in (None, "other"):
        internal_kv._internal_kv_del("", del_by_prefix=True, namespace=namespace)


def test_a_key_says_whether_it_was_there_and_keeps_its_value_unless_overwritten(kv):
    assert kv._internal_kv_initialized()
    assert [kv._internal_kv_put("k", "one"), kv._internal_kv_put(b"k", b"two")] == [False, True]
    assert kv._internal_kv_put("k", "three", overwrite=False)
    assert kv._internal_kv_get("k") == b"two" and kv._internal_kv_exists("k")
    assert kv._internal_kv_del("k") == 1 and kv._internal_kv_del("k") == 0
    assert kv._internal_kv_get("k") is None and not kv._internal_kv_exists("k")


def test_keys_are_listed_and_forgotten_by_prefix_within_their_namespace(kv):
    for key in ("a1", "a2", "b"):
        kv._internal_kv_put(key, key, namespace="other")
    assert sorted(kv._internal_kv_list("a", namespace=b"other")) == [b"a1", b"a2"]
    assert kv._internal_kv_list("a") == [] and kv._internal_kv_get("b") is None
    assert kv._internal_kv_del("a", del_by_prefix=True, namespace="other") == 2
    assert kv._internal_kv_list("", namespace="other") == [b"b"]


def test_keys_are_bytes_or_text(kv):
    with pytest.raises(TypeError):
        kv._internal_kv_put(1, b"")


@pytest.mark.slow
def test_an_object_is_on_its_node_with_its_size_whoever_holds_it(cluster):
    here = ray.get_runtime_context().get_node_id()
    large, small = ray.put(b"x" * 1_000_000), ray.put(1)

    @ray.remote
    class Maker:
        def make(self):
            self.made = ray.put(b"y" * 500_000)
            return [self.made]

    maker = Maker.remote()
    (theirs,) = ray.get(maker.make.remote())
    told = get_object_locations([large, small, theirs, large])
    assert told[large]["node_ids"] == told[theirs]["node_ids"] == [here] and told[small]["node_ids"] == []
    assert told[large]["object_size"] > 1_000_000 > told[theirs]["object_size"] > 500_000
    assert not any(row["did_spill"] for row in told.values())
    assert get_local_object_locations([large]) == {large: told[large]}
    ray.kill(maker)


def test_only_references_have_places(cluster):
    with pytest.raises(TypeError):
        get_object_locations([1])
    with pytest.raises(ValueError, match="nobody knows"):
        get_object_locations([ray.ObjectRef.from_random()])
    assert get_local_object_locations([ray.ObjectRef.from_random()]) == {}


def test_resources_of_a_node_do_not_change(cluster):
    with pytest.raises(DeprecationWarning):
        set_resource("custom", 1)


def test_older_places_of_modules_hold_the_same_things():
    from raybook import _raylet, cross_language
    from raybook.experimental import multiprocessing, queue
    from raybook.experimental.state import api, common, exception
    from raybook.util.multiprocessing import Pool
    from raybook.util.queue import Queue
    from raybook.util.state import list_actors
    from raybook.util.state.common import ActorState
    from raybook.util.state.exception import RayStateApiException

    assert queue.Queue is Queue and multiprocessing.Pool is Pool
    assert api.list_actors is list_actors and common.ActorState is ActorState
    assert exception.RayStateApiException is RayStateApiException
    assert _raylet.ObjectRef is ray.ObjectRef and _raylet.ObjectRefGenerator is ray.ObjectRefGenerator
    assert cross_language.java_function is ray.java_function


@pytest.mark.slow
def test_tables_have_their_older_form(cluster):
    from raybook._private import services, state

    @ray.remote
    class Idle:
        def here(self):
            return ray.get_runtime_context().get_actor_id()

    idle = Idle.remote()
    actor_id = ray.get(idle.here.remote())
    row = state.actors(actor_id)
    assert (row["State"], row["ActorClassName"].rpartition(".")[2]) == ("ALIVE", "Idle")
    assert row == state.actors()[actor_id] and state.actors("none") == {}
    here = ray.get_runtime_context().get_node_id()
    assert state.total_resources_per_node()[here]["CPU"] == 2 and here in state.available_resources_per_node()
    assert state.current_node_id() in state.node_ids() == [f"node:{services.get_node_ip_address()}"]
    assert not state.jobs()[-1]["IsDead"]
    ray.kill(idle)


@pytest.mark.parametrize(
    ("host", "address"), [("10.0.0.1", "10.0.0.1:80"), ("::1", "[::1]:80"), ("localhost", "localhost:80")]
)
def test_addresses_are_joined_and_split(host, address):
    assert network_utils.build_address(host, 80) == address
    assert network_utils.parse_address(address) == (host, "80")


def test_text_without_a_port_is_no_address():
    assert network_utils.parse_address("localhost") is network_utils.parse_address("::1") is None
    assert network_utils.is_localhost("localhost") and not network_utils.is_localhost("example.org")
    assert 0 < network_utils.find_free_port() < 65536
