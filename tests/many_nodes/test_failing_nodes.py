"""Nodes that end, stop for a while, or are held for dead while they live."""

from __future__ import annotations

import os
import signal
import time

import numpy
import pytest

import raybook as ray
from raybook.cluster_utils import Cluster, ClusterNode
from raybook.exceptions import OwnerDiedError
from raybook.io.process import descendants
from raybook.util.placement_group import placement_group, placement_group_table
from tests.many_nodes.conftest import wait_until

pytestmark = pytest.mark.slow
PATIENCE_S = 30
WINDOW_S = 1.5
"""The health check's time-out here (conftest)."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Place:
    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def pid(self) -> int:
        return os.getpid()


@ray.remote(num_cpus=0)
class Keeper:
    def keep(self) -> list:
        self.ref = ray.put(numpy.ones(300_000))
        return [self.ref]


def is_alive(node: ClusterNode) -> bool:
    (row,) = [row for row in ray.nodes() if row["NodeID"] == node.node_id]
    return bool(row["Alive"])


def test_a_node_whose_process_ends_is_dead_long_before_its_silence_could_tell(
    own_world: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAYBOOK_HEALTH_CHECK_TIMEOUT_MS", "60000")
    monkeypatch.setenv("RAYBOOK_HEALTH_CHECK_PERIOD_MS", "10000")
    one = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = one.add_node(num_cpus=1, resources={"b": 1})
        other = one.add_node(num_cpus=1, resources={"b": 1})
        ray.init(address=one.address, namespace="tests")
        actor = Place.options(resources={"b": 1}).remote()
        at = ray.get(actor.node.remote(), timeout=PATIENCE_S)
        dying, living = (lost, other) if at == lost.node_id else (other, lost)
        begin = time.monotonic()
        dying.kill_raylet()
        # Its workers end a moment after it, and may still answer.
        wait_until(
            lambda: ray.get(actor.node.remote(), timeout=PATIENCE_S) == living.node_id,
            "the actor lives on elsewhere",
            20,
        )
        assert time.monotonic() - begin < 20
        (row,) = [row for row in ray.nodes() if row["NodeID"] == dying.node_id]
        assert "nobody listens" in row["DeathReasonMessage"]
    finally:
        ray.shutdown()
        one.shutdown()


def test_a_node_that_stops_for_less_than_the_window_goes_on_as_if_nothing_had_been(cluster: Cluster):
    node = cluster.add_node(num_cpus=1, resources={"b": 1})
    actor = Place.options(resources={"b": 0.1}).remote()
    pid = ray.get(actor.pid.remote(), timeout=PATIENCE_S)
    os.kill(node.pid, signal.SIGSTOP)
    time.sleep(WINDOW_S / 3)
    os.kill(node.pid, signal.SIGCONT)
    time.sleep(WINDOW_S)
    assert is_alive(node)
    assert ray.get(actor.pid.remote(), timeout=PATIENCE_S) == pid


def test_a_node_that_stops_for_longer_is_dead_and_when_it_goes_on_it_ends_with_all_it_ran(cluster: Cluster):
    """Its workers live on meanwhile, and are not listened to: nothing runs twice unseen."""
    node = cluster.add_node(num_cpus=1, resources={"b": 1})
    actor = Place.options(resources={"b": 0.1}).remote()
    old_pid = ray.get(actor.pid.remote(), timeout=PATIENCE_S)
    other = cluster.add_node(num_cpus=1, resources={"b": 1})
    tree = [node.pid, *descendants(node.pid)]
    assert old_pid in tree
    os.kill(node.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: not is_alive(node), "the stopped node is dead", 10 * WINDOW_S)
        assert ray.get(actor.node.remote(), timeout=PATIENCE_S) == other.node_id
        assert os.path.exists(f"/proc/{old_pid}")
    finally:
        os.kill(node.pid, signal.SIGCONT)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in tree[1:]), "all that it ran is gone", 15)
    wait_until(lambda: not node.is_alive(), "the fenced node has left", 15)
    cluster.remove_node(node, allow_graceful=False)


def test_an_object_whose_owner_died_with_its_node_says_which_node_and_why(cluster: Cluster):
    node = cluster.add_node(num_cpus=1, resources={"b": 1})
    keeper = Keeper.options(resources={"b": 0.1}).remote()
    (ref,) = ray.get(keeper.keep.remote(), timeout=PATIENCE_S)
    cluster.remove_node(node, allow_graceful=False)
    with pytest.raises(OwnerDiedError, match=f"its node {node.node_id} died"):
        wait_until(lambda: ray.get(ref, timeout=PATIENCE_S) is None, "the owner is known to be dead", 15)


def test_a_bundle_that_was_lost_with_its_node_is_reserved_on_another(cluster: Cluster):
    first = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    group = placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
    assert group.wait(PATIENCE_S)
    third = cluster.add_node(num_cpus=1)
    cluster.remove_node(first, allow_graceful=False)

    def nodes() -> set[str]:
        row = placement_group_table(group)
        return set(row["bundles_to_node_id"].values()) if row["state"] == "CREATED" else set()

    wait_until(lambda: third.node_id in nodes() and first.node_id not in nodes(), "the bundle has moved", 20)


def test_what_no_node_can_hold_yet_runs_on_the_node_that_joins(cluster: Cluster):
    ref = Place.options(resources={"late": 1}).remote().node.remote()
    assert ray.wait([ref], timeout=0.3)[0] == []
    late = cluster.add_node(num_cpus=1, resources={"late": 1})
    assert ray.get(ref, timeout=PATIENCE_S) == late.node_id
