"""A node dies: what was on it runs again, is made again, or says why not."""

from __future__ import annotations

import os
import time

import numpy
import pytest

import raybook as ray
from raybook.api.memory import memory_summary
from raybook.cluster_utils import Cluster
from raybook.exceptions import ObjectLostError, ObjectReconstructionFailedError
from tests.many_nodes.conftest import wait_until

pytestmark = pytest.mark.slow
PATIENCE_S = 30
COUNT = 300_000


def test_results_lost_with_a_node_are_made_again_and_before_them_what_they_are_made_of(cluster: Cluster):
    lost = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    def make(number: int) -> numpy.ndarray:
        return numpy.full(COUNT, number)

    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    def add(left: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
        return left + right

    part = make.remote(1)
    both = add.remote(part, make.remote(2))
    alone = make.remote(5)
    assert len(ray.wait([both, alone], num_returns=2, timeout=PATIENCE_S, fetch_local=False)[0]) == 2
    del part
    cluster.add_node(num_cpus=1, resources={"b": 1})
    cluster.remove_node(lost, allow_graceful=False)
    assert (ray.get(both, timeout=PATIENCE_S) == 3).all()
    assert (ray.get(alone, timeout=PATIENCE_S) == 5).all()


def test_what_cannot_be_made_again_says_why(cluster: Cluster):
    lost = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    class Maker:
        def make(self) -> numpy.ndarray:
            return numpy.ones(COUNT)

    @ray.remote(resources={"b": 0.01}, num_cpus=0, max_retries=0)
    def once() -> numpy.ndarray:
        return numpy.ones(COUNT)

    maker = Maker.remote()
    of_actor, of_task = maker.make.remote(), once.remote()
    assert len(ray.wait([of_actor, of_task], num_returns=2, timeout=PATIENCE_S, fetch_local=False)[0]) == 2
    cluster.remove_node(lost, allow_graceful=False)
    with pytest.raises(ObjectLostError, match=f"{lost.node_id}.*actor"):
        ray.get(of_actor, timeout=PATIENCE_S)
    with pytest.raises(ObjectReconstructionFailedError, match="max_retries"):
        ray.get(of_task, timeout=PATIENCE_S)


def test_items_of_generators_are_made_again(cluster: Cluster):
    lost = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    def items():
        for number in range(4):
            yield numpy.full(COUNT, number)

    streamed = list(items.remote())
    dynamic = items.options(num_returns="dynamic").remote()
    collected = list(ray.get(dynamic, timeout=PATIENCE_S))
    assert len(ray.wait([*streamed, *collected], num_returns=8, timeout=PATIENCE_S, fetch_local=False)[0]) == 8
    del streamed[1]
    cluster.add_node(num_cpus=1, resources={"b": 1})
    cluster.remove_node(lost, allow_graceful=False)
    assert [int(ray.get(ref, timeout=PATIENCE_S)[-1]) for ref in streamed] == [0, 2, 3]
    assert [int(ray.get(ref, timeout=PATIENCE_S)[-1]) for ref in collected] == [0, 1, 2, 3]


def test_a_generator_goes_on_on_another_node_with_what_was_lost_of_it(cluster: Cluster):
    lost = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0, _generator_backpressure_num_objects=2)
    def items():
        for number in range(6):
            yield numpy.full(COUNT, number)

    stream = items.remote()
    first = next(stream)
    ray.wait([first], timeout=PATIENCE_S, fetch_local=False)
    cluster.add_node(num_cpus=1, resources={"b": 1})
    cluster.remove_node(lost, allow_graceful=False)
    rest = [int(ray.get(ref, timeout=PATIENCE_S)[-1]) for ref in stream]
    assert rest == [1, 2, 3, 4, 5]
    assert int(ray.get(first, timeout=PATIENCE_S)[-1]) == 0


def test_results_of_an_actor_that_may_be_called_again_are_made_again(cluster: Cluster):
    lost = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0, max_restarts=-1, max_task_retries=2)
    class Maker:
        def make(self, number: int) -> numpy.ndarray:
            return numpy.full(COUNT, number)

    maker = Maker.remote()
    refs = [maker.make.remote(number) for number in range(3)]
    assert len(ray.wait(refs, num_returns=3, timeout=PATIENCE_S, fetch_local=False)[0]) == 3
    cluster.add_node(num_cpus=1, resources={"b": 1})
    cluster.remove_node(lost, allow_graceful=False)
    assert [int(ray.get(ref, timeout=PATIENCE_S)[-1]) for ref in refs] == [0, 1, 2]


def test_tasks_that_ran_on_a_lost_node_run_again_elsewhere(cluster: Cluster):
    lost = cluster.add_node(num_cpus=2)

    @ray.remote(num_cpus=1)
    def slow(number: int) -> tuple[int, str]:
        time.sleep(1)
        return number, ray.get_runtime_context().get_node_id()

    refs = [slow.remote(number) for number in range(3)]
    wait_until(lambda: ray.available_resources().get("CPU", 0) == 0, "all three nodes' CPUs are busy")
    cluster.remove_node(lost, allow_graceful=False)
    answers = ray.get(refs, timeout=PATIENCE_S)
    assert [number for number, _ in answers] == [0, 1, 2]
    assert lost.node_id not in {node for _, node in answers}


def test_an_actor_with_restarts_lives_on_another_node(cluster: Cluster):
    lost = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0, max_restarts=1, max_task_retries=2)
    class Where:
        def node(self) -> str:
            return ray.get_runtime_context().get_node_id()

    actor = Where.remote()
    assert ray.get(actor.node.remote(), timeout=PATIENCE_S) == lost.node_id
    other = cluster.add_node(num_cpus=1, resources={"b": 1})
    cluster.remove_node(lost, allow_graceful=False)
    assert ray.get(actor.node.remote(), timeout=PATIENCE_S) == other.node_id


def test_a_node_that_leaves_in_good_order_is_not_in_the_cluster_any_more(cluster: Cluster):
    node = cluster.add_node(num_cpus=1)
    assert ray.cluster_resources()["CPU"] == 2
    cluster.remove_node(node)
    wait_until(lambda: ray.cluster_resources()["CPU"] == 1, "the node is gone")
    assert [row["Alive"] for row in ray.nodes() if row["NodeID"] == node.node_id] == [False]


def test_result_whose_file_on_disk_is_damaged_is_made_again(own_world: None, monkeypatch: pytest.MonkeyPatch):
    """What was put, and what must not run twice, is lost with its file, and says so."""
    monkeypatch.setenv("RAYBOOK_OBJECT_STORE_BYTES_MIN", str(1 << 20))
    one = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 24 << 20})
    ray.init(address=one.address, namespace="tests")
    try:

        @ray.remote
        def make(number: int) -> numpy.ndarray:
            return numpy.full(COUNT, number)

        kept = [make.remote(number) for number in range(4)]
        once = make.options(max_retries=0).remote(7)
        assert len(ray.wait([*kept, once], num_returns=5, timeout=PATIENCE_S, fetch_local=False)[0]) == 5
        put = ray.put(numpy.full(COUNT, 9))
        filler = [ray.put(numpy.full(COUNT, number)) for number in range(16)]
        paths = {row["object_id"]: row["path"] for row in memory_summary()}
        assert all(paths[ref.hex()] for ref in (*kept, once, put)), "the store was large enough for all"
        for path in {paths[ref.hex()] for ref in (*kept, once, put)}:
            os.truncate(path, 4096)

        assert [int(ray.get(ref, timeout=PATIENCE_S)[5]) for ref in kept] == [0, 1, 2, 3]
        for lost in (once, put):
            with pytest.raises(ObjectLostError, match="was cut to 4096 bytes"):
                ray.get(lost, timeout=PATIENCE_S)
        assert len(filler) == 16
    finally:
        ray.shutdown()
        one.shutdown()
