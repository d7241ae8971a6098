"""Autoscaled clusters of other kinds: a provider that fails, a script's own cluster; and the provider of local nodes."""

from __future__ import annotations

import time

import pytest

import raybook
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
        assert len(set(raybook.get([where.remote(0.3) for _ in range(20)]))) == 3
        wait_until(lambda: workers() == 0, "all worker nodes have gone", 20)
    finally:
        raybook.shutdown()


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
