"""Autoscaled clusters of other kinds: a provider that fails, a script's own cluster; and the provider of local nodes."""

from __future__ import annotations

import os
import time

import pytest

import raybook
from raybook.api.scaling import scale
from raybook.autoscaler.providers import Cluster as ProviderCluster
from raybook.autoscaler.providers.local_processes import LocalProcesses
from raybook.base.resources import shape_of
from raybook.cluster_utils import AutoscalingCluster, Cluster
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.protocol.messages.daemons import NodeOptions
from raybook.testing.node_provider_contract import NodeProviderContract
from tests.many_nodes.conftest import wait_until
from tests.many_nodes.test_autoscaling import WORKER, status, where, workers

pytestmark = pytest.mark.slow


def test_failed_launches_are_shown_and_tried_again_and_the_least_number_stays(own_world):
    provider = {"type": "external", "module": "raybook.testing.scripted_provider.FlakyLocalProcesses", "failures": 2}
    cluster = AutoscalingCluster(
        {"CPU": 0},
        {"worker": {**WORKER, "min_workers": 1, "max_workers": 1}},
        idle_timeout_minutes=0.5 / 60,
        provider=provider,
        backoff_s=0.2,
    )
    cluster.start()
    try:
        raybook.init(address=cluster.address)
        assert raybook.get(where.remote(0), timeout=30)
        assert "the quota of this account is used up" in status(cluster.address)
        time.sleep(1)
        assert workers() == 1
    finally:
        raybook.shutdown()
        cluster.shutdown()


def test_configuration_that_makes_no_sense_is_refused_before_anything_starts():
    with pytest.raises(ValueError, match="no 'max_worker'"):
        AutoscalingCluster({"CPU": 1}, {"worker": {"max_worker": 1}})


def test_cluster_of_a_script_grows_and_leaves_nothing(own_world):
    raybook.init(num_cpus=1, autoscale={"max_nodes": 2, "node_cpus": 2, "idle_timeout_s": 1.0})
    try:
        assert len(set(raybook.get([where.remote(0.3) for _ in range(50)]))) == 3
        wait_until(lambda: workers() == 0, "all worker nodes have gone", 20)
    finally:
        raybook.shutdown()


@pytest.mark.timeout(120)
def test_nodes_that_were_asked_for_by_number_stay_beside_those_that_come_and_go(own_world):
    """``%ray_cluster scale`` on an autoscaled cluster."""
    raybook.init(num_cpus=1, autoscale={"max_nodes": 1, "node_cpus": 4, "idle_timeout_s": 0.5})
    try:
        assert scale(2) == 2, "Right after the start, when the head has only begun to listen to other nodes."
        (mine,) = [node["NodeID"] for node in raybook.nodes() if node["Alive"] and not node["IsHeadNode"]]
        in_four = where.options(num_cpus=4)
        (came,) = set(raybook.get([in_four.remote(0) for _ in range(2)], timeout=30))
        assert came != mine
        wait_until(lambda: workers() == 1, "the autoscaler's node has gone", 20)
        assert [node["NodeID"] for node in raybook.nodes() if node["Alive"] and not node["IsHeadNode"]] == [mine]

        assert scale(1) == 1
        assert workers() == 0
        assert raybook.get(in_four.remote(0), timeout=30) not in (mine, came)
    finally:
        raybook.shutdown()


@raybook.remote
def held_open(folder: str, number: int) -> str:
    """Says that it runs, and does until there is a file "gate"."""
    open(os.path.join(folder, str(number)), "w").close()
    while not os.path.exists(os.path.join(folder, "gate")):
        time.sleep(0.02)
    return raybook.get_runtime_context().get_node_id()


@pytest.mark.timeout(120)
def test_killed_gcs_finds_its_autoscaler_again_with_the_nodes_it_had(own_world, tmp_path):
    worker = {**WORKER, "min_workers": 1, "max_workers": 2}
    cluster = AutoscalingCluster({"CPU": 0}, {"worker": worker}, idle_timeout_minutes=0.5 / 60)
    cluster.start()
    try:
        raybook.init(address=cluster.address)
        before = raybook.get(where.remote(0), timeout=30)
        cluster._cluster.head_node.kill_gcs_server()
        wait_until(lambda: workers_are_told() == 1, "the new GCS knows the node", 20)

        refs = [held_open.remote(str(tmp_path), number) for number in range(3)]
        wait_until(lambda: len(os.listdir(tmp_path)) == 3, "another node has come for what waited", 20)
        (tmp_path / "gate").touch()
        places = set(raybook.get(refs, timeout=30))
        assert before in places and len(places) == 2, "The node that was there has gone on."
        wait_until(lambda: workers() == 1, "the node that is not needed any more has gone", 20)
        assert "worker" in status(cluster.address)
    finally:
        raybook.shutdown()
        cluster.shutdown()


def workers_are_told() -> int:
    """-1 while the GCS is away."""
    try:
        return workers()
    except (ConnectionError, raybook.exceptions.RayError):
        return -1


@pytest.fixture(scope="module")
def head(own_world):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster.record
    cluster.shutdown()


def local_processes(head, **resources) -> LocalProcesses:
    kind = NodeType("worker", shape_of(resources), max_nodes=3)
    options = NodeOptions(-1, head.session_dir, head.token_file, head.address)
    return LocalProcesses(ProviderCluster(options, Settings((kind,), 3)))


class TestLocalProcesses(NodeProviderContract):
    """The real provider, beside a head of its own."""

    @pytest.fixture
    def provider(self, head):
        provider = local_processes(head, **WORKER["resources"])
        yield provider
        provider.close()


def test_a_local_node_that_cannot_start_is_a_failure(head):
    provider = local_processes(head, CPU=1, object_store_memory=1)
    provider.create_nodes("worker", 1, "request-1")
    found: list = []
    wait_until(lambda: bool(found.extend(provider.take_failures()) or found), "the failure is told", 20)
    assert found[0].request == "request-1"
    assert "object store needs at least" in found[0].error
    assert provider.non_terminated_nodes() == []
