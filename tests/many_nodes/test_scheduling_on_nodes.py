"""Where tasks run in a cluster of several nodes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy
import pytest

import raybook as ray
from raybook.cluster_utils import Cluster
from raybook.exceptions import TaskUnschedulableError
from raybook.util.placement_group import placement_group, remove_placement_group
from raybook.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("three_nodes")]
PATIENCE_S = 30


@ray.remote
def where(seconds: float = 0.0) -> str:
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()


def node_with(resource: str) -> str:
    (node,) = [node["NodeID"] for node in ray.nodes() if resource in node["Resources"]]
    return node


def test_tasks_that_do_not_fit_on_one_node_run_on_others_at_the_same_time(tmp_path: Path):
    @ray.remote
    def meet(number: int) -> str:
        (tmp_path / str(number)).touch()
        deadline = time.monotonic() + PATIENCE_S
        while len(list(tmp_path.iterdir())) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(tmp_path.iterdir())) == 6, "Not all of them run at the same time."
        return ray.get_runtime_context().get_node_id()

    nodes = ray.get([meet.remote(number) for number in range(6)], timeout=PATIENCE_S)
    assert len(set(nodes)) == 3


def test_a_resource_that_one_node_has_brings_the_task_there():
    assert ray.get(where.options(resources={"c": 1}).remote(), timeout=PATIENCE_S) == node_with("c")


def test_spread_uses_every_node_where_the_default_would_use_one():
    @ray.remote(num_cpus=0)
    class Meeting:
        def __init__(self) -> None:
            self.everybody = asyncio.Event()
            self.here = 0

        async def join(self) -> None:
            self.here += 1
            if self.here == 3:
                self.everybody.set()
            await self.everybody.wait()

    @ray.remote(num_cpus=0.1)
    def meet(meeting: object) -> str:
        ray.get(meeting.join.remote())
        return ray.get_runtime_context().get_node_id()

    for strategy, nodes in (("SPREAD", 3), ("DEFAULT", 1)):
        meeting = Meeting.remote()
        refs = [meet.options(scheduling_strategy=strategy).remote(meeting) for _ in range(3)]
        assert len(set(ray.get(refs, timeout=PATIENCE_S))) == nodes, strategy


def test_hard_node_affinity_runs_there_and_soft_to_a_dead_node_elsewhere():
    for node in ray.nodes():
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        found = ray.get(where.options(scheduling_strategy=strategy).remote(), timeout=PATIENCE_S)
        assert found == node["NodeID"]
    gone = "ff" * 8
    soft = NodeAffinitySchedulingStrategy(gone, soft=True)
    assert ray.get(where.options(scheduling_strategy=soft).remote(), timeout=PATIENCE_S)
    with pytest.raises(TaskUnschedulableError, match=gone):
        hard = NodeAffinitySchedulingStrategy(gone, soft=False)
        ray.get(where.options(scheduling_strategy=hard).remote(), timeout=PATIENCE_S)


def test_a_label_selector_chooses_the_node():
    assert ray.get(where.options(label_selector={"zone": "b"}).remote(), timeout=PATIENCE_S) == node_with("b")


def test_a_task_runs_where_its_large_argument_lies():
    @ray.remote(resources={"b": 0.1}, num_cpus=0)
    def make() -> numpy.ndarray:
        return numpy.ones(1_000_000)

    @ray.remote
    def place(array: numpy.ndarray) -> str:
        return ray.get_runtime_context().get_node_id()

    made = make.remote()
    ray.wait([made], timeout=PATIENCE_S)
    assert ray.get(place.remote(made), timeout=PATIENCE_S) == node_with("b")


def test_tasks_of_bundles_run_on_the_nodes_of_their_bundles():
    group = placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
    assert group.wait(PATIENCE_S)
    strategies = [PlacementGroupSchedulingStrategy(group, index) for index in range(3)]
    nodes = [ray.get(where.options(scheduling_strategy=each).remote(), timeout=PATIENCE_S) for each in strategies]
    assert len(set(nodes)) == 3
    anywhere = where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    assert set(ray.get([anywhere.remote() for _ in range(6)], timeout=PATIENCE_S)) <= set(nodes)
    remove_placement_group(group)


def test_nested_tasks_spill_from_whichever_node_they_are_submitted_on():
    @ray.remote(resources={"b": 1})
    def outer() -> list[str]:
        return ray.get([where.remote(0.3) for _ in range(6)])

    assert len(set(ray.get(outer.remote(), timeout=PATIENCE_S))) > 1


def test_a_head_without_cpus_takes_no_work():
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        worker = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address)
        assert set(ray.get([where.remote() for _ in range(4)], timeout=PATIENCE_S)) == {worker.node_id}

        @ray.remote
        class Anywhere:
            def node(self) -> str:
                return ray.get_runtime_context().get_node_id()

        actors = [Anywhere.remote() for _ in range(2)]
        assert set(ray.get([actor.node.remote() for actor in actors], timeout=PATIENCE_S)) == {worker.node_id}
        group = placement_group([{"CPU": 1}])
        assert group.wait(PATIENCE_S)
        inside = where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
        assert ray.get(inside.remote(), timeout=PATIENCE_S) == worker.node_id
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_thousand_small_tasks_over_three_nodes_are_all_right(three_nodes: Cluster):
    if not ray.is_initialized():
        ray.init(address=three_nodes.address, namespace="tests")

    @ray.remote
    def square(x: int) -> int:
        return x * x

    assert ray.get([square.remote(x) for x in range(1_000)], timeout=PATIENCE_S) == [x * x for x in range(1_000)]
