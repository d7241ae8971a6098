"""Eight nodes that work together, and a large object for all of them at once: nobody sends it to all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

import raybook as ray
from raybook.cluster_utils import Cluster
from raybook.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.many_nodes.conftest import wait_until
from tests.many_nodes.transfer_counts import transfer_counts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
PATIENCE_S = 60
READERS = 8
MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster(own_world: None) -> Iterator[Cluster]:
    """A head without CPUs, on which this process puts, and eight nodes that read."""
    one = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 600 * MIB})
    for _ in range(READERS):
        one.add_node(num_cpus=1, object_store_memory=400 * MIB)
    ray.init(address=one.address, log_to_driver=False)
    yield one
    ray.shutdown()
    one.shutdown()


@ray.remote(num_cpus=0, max_retries=0)
def total(array: numpy.ndarray) -> tuple[str, int]:
    return ray.get_runtime_context().get_node_id(), int(array[::4096].sum(dtype=numpy.int64))


def read_on(nodes: list[str], ref: object) -> list[tuple[str, int]]:
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    refs = [total.options(scheduling_strategy=strategy).remote(ref) for strategy in there]
    return ray.get(refs, timeout=PATIENCE_S)


def readers(cluster: Cluster) -> list[str]:
    return sorted(node.node_id for node in cluster.worker_nodes)


def grown(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]], *kinds: str) -> dict[str, int]:
    return {node: sum(after[node][kind] - before[node][kind] for kind in kinds) for node in after}


def test_eight_nodes_run_two_thousand_tasks(cluster: Cluster, tmp_path: Path):
    @ray.remote
    def meet(number: int) -> str:
        # A task that waited in ``get`` would lend its CPU to another.
        (tmp_path / str(number)).touch()
        while len(list(tmp_path.iterdir())) < READERS:
            time.sleep(0.01)
        return ray.get_runtime_context().get_node_id()

    @ray.remote(scheduling_strategy="SPREAD")
    def square(number: int) -> int:
        return number * number

    assert sorted(ray.get([meet.remote(number) for number in range(READERS)], timeout=PATIENCE_S)) == readers(cluster)
    squares = [square.remote(number) for number in range(2_000)]
    assert ray.get(squares, timeout=PATIENCE_S) == [number * number for number in range(2_000)]


def test_eight_nodes_read_256_mib_and_the_first_sends_it_to_three_at_most(cluster: Cluster):
    size = 256 * MIB
    ref = ray.put(numpy.full(size, 3, dtype=numpy.uint8))
    before = transfer_counts(cluster)
    nodes = readers(cluster)
    assert sorted(read_on(nodes, ref)) == [(node, size // 4096 * 3) for node in nodes]

    def sent() -> dict[str, int]:
        return grown(before, transfer_counts(cluster), "sent_bytes", "relayed_bytes")

    # A sender counts when its reader has closed, a moment after the reader has read.
    wait_until(lambda: sum(sent().values()) >= READERS * size, "everything that was read was sent")
    copies = {node: sent_bytes / size for node, sent_bytes in sent().items()}
    head = cluster.head_node.node_id
    assert 0 < copies[head] < 3.1, copies
    assert all(count < 3.1 for count in copies.values()), copies
    assert sum(copies.values()) < READERS + 1, copies


def test_nodes_that_ask_one_after_the_other_take_turns_in_sending(cluster: Cluster):
    size = 16 * MIB
    ref = ray.put(numpy.full(size, 5, dtype=numpy.uint8))
    before = transfer_counts(cluster)
    for node in readers(cluster):
        assert read_on([node], ref) == [(node, size // 4096 * 5)]

    def copies() -> dict[str, int]:
        moved = grown(before, transfer_counts(cluster), "sent_bytes", "relayed_bytes")
        return {node: sent_bytes // size for node, sent_bytes in moved.items()}

    wait_until(lambda: sum(copies().values()) == READERS, "everything that was read was sent")
    assert copies()[cluster.head_node.node_id] <= 2, copies()


def test_a_node_that_dies_while_it_passes_an_object_on_holds_up_nobody(cluster: Cluster):
    size = 128 * MIB
    ref = ray.put(numpy.full(size, 7, dtype=numpy.uint8))
    dying, *others = sorted(cluster.worker_nodes, key=lambda node: node.node_id)
    there = NodeAffinitySchedulingStrategy(dying.node_id, soft=False)
    first = total.options(scheduling_strategy=there).remote(ref)
    ray.wait([first], timeout=PATIENCE_S)
    nodes = [node.node_id for node in others]
    strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    refs = [total.options(scheduling_strategy=strategy).remote(ref) for strategy in strategies]
    cluster.remove_node(dying, allow_graceful=False)
    assert sorted(ray.get(refs, timeout=PATIENCE_S)) == [(node, size // 4096 * 7) for node in nodes]
