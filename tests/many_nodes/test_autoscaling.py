"""Nodes that come and go by themselves: real raylets on this machine, started and ended by the shipped autoscaler."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import raybook
from raybook.autoscaler.sdk import request_resources
from raybook.cluster_utils import AutoscalingCluster
from raybook.util.placement_group import placement_group, remove_placement_group
from tests.many_nodes.conftest import wait_until

pytestmark = pytest.mark.slow

STORE = 80 * 1024 * 1024
IDLE_MINUTES = 1.5 / 60
WORKER = {"resources": {"CPU": 2, "memory": 1 << 28, "object_store_memory": STORE}, "min_workers": 0, "max_workers": 3}


@pytest.fixture(scope="module")
def scaled(own_world):
    """A head with one CPU, up to three workers with two, which go when they have been idle for 1.5 s."""
    cluster = AutoscalingCluster({"CPU": 1}, {"worker": WORKER}, idle_timeout_minutes=IDLE_MINUTES)
    cluster.start()
    raybook.init(address=cluster.address, namespace="tests")
    yield cluster
    raybook.shutdown()
    cluster.shutdown()


def workers() -> int:
    return sum(node["Alive"] and not node["IsHeadNode"] for node in raybook.nodes())


def wait_until_alone() -> None:
    wait_until(lambda: workers() == 0, "all worker nodes have gone", 20)


@raybook.remote
def where(seconds: float) -> str:
    time.sleep(seconds)
    return raybook.get_runtime_context().get_node_id()


def test_three_nodes_come_for_a_hundred_tasks_and_go_when_they_are_done(scaled):
    refs = [where.remote(0.15) for _ in range(100)]
    wait_until(lambda: workers() == 3, "three nodes have come", 20)
    places = raybook.get(refs)
    assert len(set(places)) == 4
    wait_until_alone()


def test_strict_spread_group_makes_a_node_for_each_bundle(scaled):
    group = placement_group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
    raybook.get(group.ready(), timeout=20)
    assert workers() == 3
    remove_placement_group(group)
    wait_until_alone()


def test_requested_resources_hold_nodes_without_tasks(scaled):
    request_resources(bundles=[{"CPU": 2}] * 2)
    wait_until(lambda: workers() == 2, "two nodes have come", 20)
    time.sleep(2 * IDLE_MINUTES * 60)
    assert workers() == 2
    request_resources(num_cpus=0)
    wait_until_alone()


def test_actors_that_found_the_node_full_begin_on_new_ones(scaled):
    @raybook.remote(num_cpus=1)
    class Sitter:
        def node(self) -> str:
            return raybook.get_runtime_context().get_node_id()

        def was_moved(self) -> bool:
            return raybook.get_runtime_context().was_current_actor_reconstructed

    sitters = [Sitter.remote() for _ in range(4)]
    assert len(set(raybook.get([sitter.node.remote() for sitter in sitters], timeout=20))) >= 2
    assert not any(raybook.get([sitter.was_moved.remote() for sitter in sitters]))
    for sitter in sitters:
        raybook.kill(sitter)
    wait_until_alone()


def test_results_on_a_node_that_goes_are_still_there(scaled):
    @raybook.remote(num_cpus=2)
    def large() -> bytes:
        return bytes(2_000_000)

    ref = large.remote()
    raybook.wait([ref], timeout=20)
    wait_until_alone()
    assert len(raybook.get(ref)) == 2_000_000


def test_status_shows_nodes_demand_and_what_can_never_run(scaled):
    @raybook.remote(num_gpus=1)
    def never() -> None: ...

    ref = never.remote()
    refs = [where.remote(0.1) for _ in range(40)]
    wait_until(lambda: workers() >= 1, "a node has come", 20)
    shown: list[str] = []

    def is_told() -> bool:
        shown[:] = [status(scaled.address)]
        return "no node type could" in shown[0]

    wait_until(is_told, "status says what can never run", 10)
    assert "{CPU: 1, GPU: 1}: 1+ pending tasks/actors" in shown[0]
    assert "Adds " in shown[0] and " × worker, because " in shown[0]
    raybook.cancel(ref)
    raybook.get(refs)
    wait_until_alone()


def status(address: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "raybook.cli", "status", address], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
