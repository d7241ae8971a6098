"""Nodes that leave in good order: nothing is lost with them, nothing is done again, and who cannot leave says why."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner, Result

import raybook as ray
from raybook import cli
from raybook.api.scaling import scale
from raybook.api.state import list_actors
from raybook.base.drains import IDLE_TERMINATION, PREEMPTION
from raybook.cluster_utils import Cluster, ClusterNode
from raybook.exceptions import ActorDiedError, ActorUnavailableError
from tests.many_nodes.conftest import wait_until

pytestmark = pytest.mark.slow
PATIENCE_S = 30
COUNT = 300_000


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def is_gone(node: ClusterNode) -> bool:
    return not node.is_alive() and not any(row["Alive"] for row in ray.nodes() if row["NodeID"] == node.node_id)


def row_of(node: ClusterNode) -> dict:
    return next(row for row in ray.nodes() if row["NodeID"] == node.node_id)


def place_of(name: str) -> tuple[str, str]:
    return next((row["state"], row["node_id"]) for row in list_actors() if row["name"] == name)


def answer_of(counter) -> str:
    try:
        return ray.get(counter.up.remote(), timeout=PATIENCE_S)[1]
    except ActorUnavailableError:
        return ""


def test_idle_node_leaves_at_once_and_the_command_line_says_so(cluster: Cluster):
    node = cluster.add_node(num_cpus=1)
    done = run(
        "drain-node", "--address", cluster.address, "--node-id", node.node_id, "--reason", IDLE_TERMINATION,
        "--reason-message", "not needed tonight",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "takes no more work and leaves when it is empty" in done.output
    wait_until(lambda: is_gone(node), "the node is gone")
    assert (
        "drained" in row_of(node)["DeathReasonMessage"] and "not needed tonight" in row_of(node)["DeathReasonMessage"]
    )
    again = run("drain-node", "--address", cluster.address, "--node-id", node.node_id, "--reason", PREEMPTION)
    assert (again.exit_code, "gone already" in again.output) == (0, True)


def test_objects_on_a_node_that_leaves_are_there_afterwards_and_nothing_ran_twice(cluster: Cluster, tmp_path):
    node = cluster.add_node(num_cpus=2, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    def make(number: int) -> numpy.ndarray:
        (tmp_path / f"ran-{number}-{time.monotonic_ns()}").touch()
        return numpy.full(COUNT, number)

    @ray.remote(num_cpus=0)
    class Reader:
        def __init__(self) -> None:
            self.held: list = []

        def hold(self, refs: list) -> int:
            self.held = refs
            return int(ray.get(refs[0], timeout=PATIENCE_S)[0])

        def look(self) -> list:
            return [int(array[7]) for array in ray.get(self.held, timeout=PATIENCE_S)]

    refs = [make.remote(number) for number in range(12)]
    assert len(ray.wait(refs, num_returns=12, timeout=PATIENCE_S)[0]) == 12
    reader = Reader.remote()
    assert ray.get(reader.hold.remote(refs), timeout=PATIENCE_S) == 0
    ray.drain_node(node.node_id, message="spot notice")
    wait_until(lambda: is_gone(node), "the node is gone", PATIENCE_S)
    assert [int(ray.get(ref, timeout=PATIENCE_S)[-1]) for ref in refs] == list(range(12))
    assert ray.get(reader.look.remote(), timeout=PATIENCE_S) == list(range(12))
    assert len(list(tmp_path.iterdir())) == 12, "a task ran again"


def test_tasks_that_run_may_end_and_those_that_wait_run_elsewhere(cluster: Cluster, tmp_path: Path):
    node = cluster.add_node(num_cpus=2)

    @ray.remote(num_cpus=1, max_retries=0)
    def slow(number: int) -> tuple[int, float, str]:
        begun = time.time()
        place = ray.get_runtime_context().get_node_id()
        (tmp_path / place).touch()
        time.sleep(0.4)
        return number, begun, place

    refs = [slow.remote(number) for number in range(15)]
    wait_until(lambda: (tmp_path / node.node_id).exists(), "a task has begun there")
    ray.drain_node(node.node_id)
    drained = time.time()
    answers = ray.get(refs, timeout=PATIENCE_S)
    assert [number for number, _, _ in answers] == list(range(15))
    there = [begun for _, begun, place in answers if place == node.node_id]
    assert there, "nothing ran there: this shows nothing"
    assert max(there) < drained + 0.4, "a task began there when the node took no more work"
    wait_until(lambda: is_gone(node), "the node is gone", PATIENCE_S)


def test_actor_moves_at_no_cost_of_a_restart_and_no_call_of_a_steady_caller_fails(cluster: Cluster):
    node = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0, max_restarts=1)
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def up(self) -> tuple[int, str]:
            self.count += 1
            return self.count, ray.get_runtime_context().get_node_id()

    counter = Counter.options(name="counter").remote()
    assert ray.get(counter.up.remote(), timeout=PATIENCE_S) == (1, node.node_id)
    other = cluster.add_node(num_cpus=1, resources={"b": 1})
    ray.drain_node(node.node_id)
    answers = []
    deadline = time.monotonic() + PATIENCE_S
    while (not answers or answers[-1][1] == node.node_id) and time.monotonic() < deadline:
        answers += ray.get([counter.up.remote() for _ in range(3)], timeout=PATIENCE_S)
    assert answers[-1][1] == other.node_id
    wait_until(lambda: is_gone(node), "the node is gone", PATIENCE_S)
    assert ray.get(ray.get_actor("counter").up.remote(), timeout=PATIENCE_S)[1] == other.node_id
    cluster.remove_node(other, allow_graceful=False)
    third = cluster.add_node(num_cpus=1, resources={"b": 1})
    wait_until(lambda: place_of("counter") == ("ALIVE", third.node_id), "it lives on the third node", PATIENCE_S)
    # It lives, so its one restart was still there. This process hears of it a moment after the cluster.
    wait_until(lambda: answer_of(counter) == third.node_id, "it answers from there")


def test_node_leaves_at_the_deadline_of_a_spot_notice_with_what_could_not_end(cluster: Cluster):
    node = cluster.add_node(num_cpus=1, resources={"b": 1})

    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    class Rooted:
        def node(self) -> str:
            return ray.get_runtime_context().get_node_id()

    rooted = Rooted.remote()
    assert ray.get(rooted.node.remote(), timeout=PATIENCE_S) == node.node_id
    refused = run("drain-node", "--address", cluster.address, "--node-id", node.node_id, "--reason", IDLE_TERMINATION)
    assert refused.exit_code == 1 and "not idle: it has 1 × actor" in refused.output
    started = time.monotonic()
    done = run(
        "drain-node", "--address", cluster.address, "--node-id", node.node_id[:12], "--reason", PREEMPTION,
        "--reason-message", "spot notice", "--deadline-remaining-seconds", "2", "--format", "json",
    )  # fmt: skip
    assert json.loads(done.output)["accepted"], done.output
    status = run("status", cluster.address).output
    assert "drains: it is taken away: spot notice" in status and "waits for 1 × actor" in status
    assert ray.get(rooted.node.remote(), timeout=PATIENCE_S) == node.node_id, "until then it serves"
    wait_until(lambda: is_gone(node), "the node is gone", PATIENCE_S)
    assert 1.5 < time.monotonic() - started < PATIENCE_S
    with pytest.raises(ActorDiedError, match="spot notice"):
        ray.get(rooted.node.remote(), timeout=PATIENCE_S)


def test_what_cannot_be_drained_says_why(cluster: Cluster):
    head = next(row["NodeID"] for row in ray.nodes() if row["IsHeadNode"])
    with pytest.raises(RuntimeError, match="head node"):
        ray.drain_node(head)
    with pytest.raises(ValueError, match="There is no node"):
        ray.drain_node("ab" * 14)
    with pytest.raises(ValueError, match="in hex"):
        ray.drain_node("nonsense")
    with pytest.raises(ValueError, match="reason must be one of"):
        ray.drain_node(head, reason="BOREDOM")
    for words, said in (
        (("--node-id", "zz", "--reason", PREEMPTION), "Invalid hex ID of a node"),
        (("--node-id", "abcdef012345", "--reason", PREEMPTION), "no node with an id that begins with abcdef012345"),
        (("--node-id", head, "--reason", "BOREDOM"), "is not one of"),
        (("--node-id", head, "--reason", PREEMPTION, "--deadline-remaining-seconds", "-1"), "not in the range"),
        (("--reason", PREEMPTION), "Missing option '--node-id'"),
    ):
        done = run("drain-node", "--address", cluster.address, *words)
        assert done.exit_code == 2 and said in done.output, done.output


def test_cluster_is_scaled_up_and_down_and_work_goes_on(cluster: Cluster):
    @ray.remote(num_cpus=1, max_retries=0)
    def where() -> str:
        time.sleep(0.05)
        return ray.get_runtime_context().get_node_id()

    assert scale(3) == 3
    assert len(set(ray.get([where.remote() for _ in range(40)], timeout=PATIENCE_S))) == 3
    refs = [where.remote() for _ in range(40)]
    said: list[str] = []
    assert scale(1, said.append) == 1
    assert "Draining 2" in said[0]
    assert len(ray.get(refs, timeout=PATIENCE_S)) == 40
    with pytest.raises(ValueError, match="one node at least"):
        scale(0)
