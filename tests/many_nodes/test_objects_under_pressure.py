"""Full stores and objects of other nodes: copies make room, originals go to disk, who cannot be served is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy
import pytest

import raybook as ray
from raybook.api.memory import memory_summary
from raybook.cluster_utils import Cluster, ClusterNode
from raybook.exceptions import GetTimeoutError, ObjectLostError, ObjectStoreFullError
from tests.many_nodes.conftest import wait_until
from tests.many_nodes.transfer_counts import transfer_counts

pytestmark = pytest.mark.slow
PATIENCE_S = 30
MIB = 1 << 20
STORE = 24 * MIB


class Pair:
    """Two small stores: here, with this process, and "b"."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("RAYBOOK_OBJECT_STORE_BYTES_MIN", str(MIB))
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
        self.far: ClusterNode = self.cluster.add_node(num_cpus=1, resources={"b": 1}, object_store_memory=STORE * 4)
        ray.init(address=self.cluster.address, log_to_driver=False)

    def end(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def pair(own_world: None) -> Iterator[Pair]:
    with pytest.MonkeyPatch.context() as patch:
        one = Pair(patch)
        yield one
        one.end()


@pytest.fixture
def dying(own_world: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """For one test that loses a node. Asked for by the last tests of this file, when nobody needs ``pair`` any more."""
    ray.shutdown()
    one = Pair(monkeypatch)
    yield one
    one.end()


@ray.remote(resources={"b": 0.01}, num_cpus=0)
def far(number: int, mib: int = 4) -> numpy.ndarray:
    return numpy.full(mib * MIB, number, dtype=numpy.uint8)


def test_copies_make_room_for_more_than_the_store_holds(pair: Pair):
    refs = [far.remote(number) for number in range(12)]
    for _ in range(2):
        for number, ref in enumerate(refs):
            array = ray.get(ref, timeout=PATIENCE_S)
            assert (array == number).all()
            del array
    assert transfer_counts(pair.cluster)[pair.cluster.head_node.node_id]["evicted"] >= 12


def test_a_put_takes_the_room_of_copies_that_are_still_referred_to(pair: Pair):
    """No view looks at them: they are fetched again when they are wanted."""
    refs = [far.remote(number) for number in range(4)]
    for ref in refs:
        ray.get(ref, timeout=PATIENCE_S)
    put = [ray.put(numpy.full(4 * MIB, number, dtype=numpy.uint8)) for number in range(4)]
    assert all(row["path"] == "" for row in memory_summary() if row["object_id"] in {ref.hex() for ref in put}), (
        "What was put went to disk beside copies that could have gone."
    )
    assert [int(ray.get(ref, timeout=PATIENCE_S)[-1]) for ref in (*refs, *put)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_get_of_more_than_fits_is_told_and_what_was_there_stays_right(pair: Pair):
    refs = [far.remote(number) for number in range(8)]
    with pytest.raises(ObjectStoreFullError) as caught:
        ray.get(refs, timeout=PATIENCE_S)
    text = str(caught.value)
    assert f"lies on node {pair.far.node_id}" in text and "a copy of it does not fit here" in text
    assert "because processes look at the values" in text
    assert "The largest store of the cluster's 2 nodes holds 96.0 MiB" in text
    del caught
    assert [int(ray.get(ref, timeout=PATIENCE_S)[0]) for ref in refs] == list(range(8))


def test_an_object_larger_than_this_store_can_be_read_where_it_lies(pair: Pair):
    ref = far.remote(9, 32)
    with pytest.raises(ObjectStoreFullError, match="larger than the whole store.*let a task read it"):
        ray.get(ref, timeout=PATIENCE_S)

    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    def last(array: numpy.ndarray) -> int:
        return int(array[-1])

    assert ray.get(last.remote(ref), timeout=PATIENCE_S) == 9


def test_what_went_to_disk_on_another_node_is_read_from_there(pair: Pair):
    """Its own store has no room for it, and needs none."""
    refs = [far.remote(number, 8) for number in range(16)]
    assert len(ray.wait(refs, num_returns=16, timeout=PATIENCE_S, fetch_local=False)[0]) == 16
    paths = [row["path"] for row in memory_summary() if row["object_id"] in {ref.hex() for ref in refs}]
    assert any(paths), "the store of the other node was large enough for all"
    for number, ref in enumerate(refs):
        array = ray.get(ref, timeout=PATIENCE_S)
        assert (array == number).all()
        del array


def test_a_get_that_has_no_time_for_the_bytes_says_what_it_waits_for(pair: Pair):
    ref = far.remote(1, 16)
    ray.wait([ref], timeout=PATIENCE_S, fetch_local=False)
    pid = pair.far.pid
    os.kill(pid, 19)
    try:
        begin = time.monotonic()
        with pytest.raises(GetTimeoutError, match=f"lies on node {pair.far.node_id}, and no copy of it is here yet"):
            ray.get(ref, timeout=0.3)
        assert time.monotonic() - begin < 1.4, "Longer than that, and the node counts as dead."
    finally:
        os.kill(pid, 18)
    assert int(ray.get(ref, timeout=PATIENCE_S)[0]) == 1


def test_what_went_to_disk_on_a_node_that_dies_is_made_again(dying: Pair):
    refs = [far.remote(number, 8) for number in range(16)]
    assert len(ray.wait(refs, num_returns=16, timeout=PATIENCE_S, fetch_local=False)[0]) == 16
    on_disk = [row["object_id"] for row in memory_summary() if row["path"]]
    dying.cluster.add_node(num_cpus=1, resources={"b": 1}, object_store_memory=STORE * 4)
    dying.cluster.remove_node(dying.far, allow_graceful=False)
    number, ref = next((number, ref) for number, ref in enumerate(refs) if ref.hex() in on_disk)
    assert (ray.get(ref, timeout=PATIENCE_S) == number).all()


def test_wait_brings_what_is_ready_and_get_finds_it_here(dying: Pair):
    refs = [far.remote(number) for number in range(3)]
    assert len(ray.wait(refs, num_returns=3, timeout=PATIENCE_S)[0]) == 3
    head = dying.cluster.head_node.node_id
    wait_until(lambda: transfer_counts(dying.cluster)[head]["pulled"] == 3, "all three have come")
    dying.far.kill_raylet()
    assert [int(ray.get(ref, timeout=PATIENCE_S)[0]) for ref in refs] == [0, 1, 2]


def test_the_last_copy_of_what_cannot_be_made_again_stays_and_serves_others(dying: Pair):
    @ray.remote(resources={"b": 0.01}, num_cpus=0, max_retries=0)
    def once() -> numpy.ndarray:
        return numpy.full(4 * MIB, 6, dtype=numpy.uint8)

    @ray.remote(resources={"c": 0.01}, num_cpus=0)
    def last(array: numpy.ndarray) -> int:
        return int(array[-1])

    read, unread = once.remote(), once.remote()
    assert int(ray.get(read, timeout=PATIENCE_S)[0]) == 6
    ray.wait([unread], timeout=PATIENCE_S, fetch_local=False)
    dying.cluster.add_node(num_cpus=1, resources={"c": 1})
    dying.cluster.remove_node(dying.far, allow_graceful=False)
    with pytest.raises(ObjectLostError):
        ray.get(unread, timeout=PATIENCE_S)
    filler = [ray.put(numpy.zeros(4 * MIB, dtype=numpy.uint8)) for _ in range(8)]
    assert ray.get(last.remote(read), timeout=PATIENCE_S) == 6
    assert int(ray.get(read, timeout=PATIENCE_S)[-1]) == 6
    del filler
