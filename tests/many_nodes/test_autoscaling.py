"""Nodes that come and go by themselves: real raylets on this machine, started and ended by the shipped autoscaler."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from tests.many_nodes.conftest import wait_until

import raybook
from raybook.autoscaler.providers import Cluster as ProviderCluster
from raybook.autoscaler.providers.local_processes import LocalProcesses
from raybook.autoscaler.sdk import request_resources
from raybook.base.errors import RaySystemError
from raybook.base.resources import shape_of
from raybook.cluster_utils import AutoscalingCluster, Cluster
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.protocol.messages.daemons import NodeOptions
from raybook.testing.node_provider_contract import NodeProviderContract
from raybook.util.placement_group import placement_group, remove_placement_group

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
    assert "{GPU: 1}: 1+ pending tasks/actors" in shown[0]
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


def test_failed_launches_are_shown_and_tried_again(own_world):
    provider = {"type": "external", "module": "raybook.testing.scripted_provider.FlakyLocalProcesses", "failures": 2}
    # Three nodes would be too many launches for two failures: each failure takes one request.
    cluster = AutoscalingCluster(
        {"CPU": 0}, {"worker": {**WORKER, "max_workers": 1}}, idle_timeout_minutes=10, provider=provider, backoff_s=0.2
    )
    cluster.start()
    try:
        raybook.init(address=cluster.address)
        ref = where.remote(0)
        assert raybook.get(ref, timeout=30)
        assert "the quota of this account is used up" in status(cluster.address)
    finally:
        raybook.shutdown()
        cluster.shutdown()


def test_least_number_of_nodes_is_there_without_work(own_world):
    cluster = AutoscalingCluster(
        {"CPU": 0}, {"worker": {**WORKER, "min_workers": 1}}, idle_timeout_minutes=0.5 / 60
    )
    cluster.start()
    try:
        raybook.init(address=cluster.address)
        wait_until(lambda: workers() == 1, "the least number is there", 20)
        time.sleep(1)
        assert workers() == 1
    finally:
        raybook.shutdown()
        cluster.shutdown()


def test_configuration_that_makes_no_sense_is_refused_before_anything_starts(own_world):
    with pytest.raises(ValueError, match="no 'max_worker'"):
        AutoscalingCluster({"CPU": 1}, {"worker": {"max_worker": 1}})


def test_provider_that_cannot_be_imported_says_so(own_world):
    cluster = AutoscalingCluster({"CPU": 1}, {"worker": WORKER}, provider={"type": "external", "module": "nowhere.Racks"})
    with pytest.raises(RaySystemError, match=r"nowhere\.Racks"):
        cluster.start()


def test_cluster_of_a_script_grows_and_leaves_nothing(own_world):
    raybook.init(num_cpus=1, autoscale={"max_nodes": 2, "node_cpus": 2, "idle_timeout_s": 1.0})
    try:
        assert len(set(raybook.get([where.remote(0.3) for _ in range(20)]))) == 3
        wait_until_alone()
    finally:
        raybook.shutdown()


class TestLocalProcesses(NodeProviderContract):
    """The real provider, beside a head of its own."""

    @pytest.fixture(scope="class")
    def head(self, own_world):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        yield cluster.record
        cluster.shutdown()

    @pytest.fixture
    def provider(self, head):
        kind = NodeType("worker", shape_of(WORKER["resources"]), max_nodes=3)
        options = NodeOptions(-1, head.session_dir, head.token_file, head.address)
        provider = LocalProcesses(ProviderCluster(options, Settings((kind,), 3)))
        yield provider
        provider.close()

    def test_a_node_that_cannot_start_is_a_failure(self, head):
        kind = NodeType("worker", shape_of({"CPU": 1, "object_store_memory": 1}), max_nodes=3)
        options = NodeOptions(-1, head.session_dir, head.token_file, head.address)
        provider = LocalProcesses(ProviderCluster(options, Settings((kind,), 3)))
        provider.create_nodes("worker", 1, "request-1")
        found: list = []
        wait_until(lambda: bool(found.extend(provider.take_failures()) or found), "the failure is told", 20)
        assert found[0].request == "request-1" and "object store needs at least" in found[0].error
        assert provider.non_terminated_nodes() == []
