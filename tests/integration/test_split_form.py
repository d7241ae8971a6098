"""The split form: GCS and raylets as processes of their own, over gRPC, driven by the command line."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import raybook as ray
from raybook import cli
from raybook.api import local_cluster
from raybook.cluster_utils import ClusterNode
from raybook.io import session_dir
from raybook.io.process import descendants, is_alive, start_time
from raybook.io.rpc import GrpcChannel
from raybook.job_submission import JobStatus, JobSubmissionClient
from raybook.protocol.messages import gcs as messages

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry and a session base of the test's own."""
    base = Path(f"/tmp/rbt-{os.getpid()}-{time.monotonic_ns() % 10**6}")
    monkeypatch.setenv("RAYBOOK_TMPDIR", str(base))
    monkeypatch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path / "registry"))
    monkeypatch.setenv("RAYBOOK_HEALTH_CHECK_PERIOD_MS", "200")
    monkeypatch.setenv("RAYBOOK_HEALTH_CHECK_TIMEOUT_MS", "1500")
    yield base
    for record in local_cluster.list_clusters():
        local_cluster.stop_cluster(record)
    for folder in base.iterdir() if base.exists() else ():
        for pid, started in session_dir.claimants(folder):
            local_cluster._end_process(pid, started, 3)
    session_dir.remove(base)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def start_head(*arguments: str) -> local_cluster.ClusterRecord:
    result = run("start", "--head", "--port", "0", "--num-cpus", "2", "--name", "split", *arguments)
    assert result.exit_code == 0, result.output
    (record,) = local_cluster.list_clusters()
    return record


def ask(record: local_cluster.ClusterRecord, *requests: Any) -> list[Any]:
    """Call the cluster's GCS over gRPC."""

    async def main() -> list[Any]:
        channel = GrpcChannel("Gcs", record.address, Path(record.token_file).read_bytes(), timeout_s=5)
        try:
            return [await channel.call(type(request).__name__, request) for request in requests]
        finally:
            await channel.close()

    return asyncio.run(main())


def alive_nodes(record: local_cluster.ClusterRecord) -> list[messages.NodeInfo]:
    return [node for node in ask(record, messages.ListNodes())[0].nodes if node.alive]


def wait_until(holds: Callable[[], bool], within_s: float = 8.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "It did not become true in time."
        time.sleep(0.02)


def whole_tree(record: local_cluster.ClusterRecord) -> list[tuple[int, int]]:
    """Every process of a cluster's session, by names that cannot be reused."""
    roots = session_dir.claimants(Path(record.session_dir))
    below = [pid for root, _ in roots for pid in descendants(root)]
    return roots + [(pid, started) for pid in below if (started := start_time(pid)) is not None]


def test_started_head_is_three_processes_that_answer_over_grpc_and_stop_leaves_nothing(own_world):
    record = start_head("--resources", '{"licence": 2}')
    tree = whole_tree(record)
    assert len(session_dir.claimants(Path(record.session_dir))) == 3  # GCS, its keeper, raylet.
    (node,) = alive_nodes(record)
    assert (node.is_head, node.resources_total["licence"]) == (True, 20_000)
    output = run("status").output
    assert re.search(r"split .*persistent.*\n.*1 nodes, 0 actors.*\n.*used .*licence 0/2", output), output
    assert local_cluster.find_cluster(record.address).node_socket == node.socket_address
    assert run("stop").output == "Ended cluster split.\n"
    wait_until(lambda: [pid for pid, started in tree if is_alive(pid, started)] == [], 3)
    assert list(own_world.iterdir()) == []
    assert local_cluster.list_clusters() == []
    assert run("status").output == "No cluster is running on this machine.\n"


def test_second_node_joins_and_leaves_with_the_cluster(own_world):
    record = start_head()
    joined = run("start", "--address", record.address, "--num-cpus", "3")
    assert joined.exit_code == 0, joined.output
    assert sorted(node.resources_total["CPU"] for node in alive_nodes(record)) == [20_000, 30_000]
    assert run("stop", "split").exit_code == 0
    wait_until(lambda: list(own_world.iterdir()) == [])


def test_every_node_fetches_the_folders_of_an_environment(own_world, tmp_path):
    record = start_head()
    joined = run("start", "--address", record.address, "--num-cpus", "1", "--resources", '{"there": 1}')
    assert joined.exit_code == 0, joined.output
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "rb_far.py").write_text("WORD = 'far'\n")
    # More than a piece, and nothing that compresses.
    (tmp_path / "project" / "noise").write_bytes(os.urandom(9 << 20))

    class Looker:
        def look(self) -> tuple[str, int, str]:
            import rb_far

            return rb_far.WORD, os.path.getsize("noise"), ray.get_runtime_context().get_node_id()

    ray.init(address="split")
    try:
        remote = ray.remote(Looker).options(runtime_env={"working_dir": str(tmp_path / "project")})
        actors = [remote.remote(), remote.options(resources={"there": 1}).remote()]
        here, there = ray.get([actor.look.remote() for actor in actors], timeout=30)
    finally:
        ray.shutdown()
    assert here[:2] == there[:2] == ("far", 9 << 20)
    assert here[2] != there[2]


def test_killed_node_is_declared_dead_and_the_cluster_goes_on(own_world, monkeypatch):
    monkeypatch.setenv(
        "RAYBOOK_HEALTH_CHECK_TIMEOUT_MS", "60000"
    )  # Its closed port says so, long before its silence does.
    record = start_head()
    output = run("start", "--address", record.address, "--num-cpus", "3").output
    pid = int(re.search(r"pid (\d+)", output).group(1))
    assert len(alive_nodes(record)) == 2
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(alive_nodes(record)) == 1)
    dead = [node for node in ask(record, messages.ListNodes())[0].nodes if not node.alive]
    assert "nobody listens" in dead[0].death_reason
    assert "1 dead" in run("status").output


def gcs_of(record: local_cluster.ClusterRecord) -> int | None:
    return ClusterNode(
        "", record.head_pid, record.node_socket, record.session_dir, True, record.address
    ).gcs_server_pid()


def kill_gcs(record: local_cluster.ClusterRecord) -> int:
    """The pid of what was killed."""
    pid = gcs_of(record)
    assert pid is not None and pid != record.head_pid
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_for_another_gcs(record: local_cluster.ClusterRecord, than: int) -> None:
    """Until one answers that is not the one that was killed."""
    wait_until(lambda: gcs_of(record) not in (None, than))

    def answers() -> bool:
        try:
            return bool(ask(record, messages.ListNodes()))
        except ConnectionError:
            return False

    wait_until(answers)


def test_killed_gcs_comes_back_from_its_file_and_the_node_finds_it_again(own_world):
    record = start_head()
    ask(record, messages.KvPut("ns", b"key", b"value"))
    (node,) = alive_nodes(record)
    wait_for_another_gcs(record, kill_gcs(record))
    value, status = ask(record, messages.KvGet("ns", b"key"), messages.ClusterStatus())
    assert value.value == b"value" and status.cluster_id.hex() == record.cluster_id
    assert [n.node_id for n in status.nodes if n.alive] == [node.node_id]
    # Each report of a node renews its row, so a newer version means that the raylet has found the new process.
    seen = ask(record, messages.GetFacts())[0].version
    wait_until(lambda: ask(record, messages.GetFacts())[0].version > seen)
    assert [n.node_id for n in alive_nodes(record)] == [node.node_id]
    assert run("stop").exit_code == 0
    wait_until(lambda: list(own_world.iterdir()) == [])


def test_tasks_and_actors_go_on_without_a_gcs_and_one_that_died_meanwhile_lives_again():
    record = start_head()
    ray.init(address="split", namespace="ns")

    @ray.remote
    def square(x: int) -> int:
        return x * x

    @ray.remote(max_restarts=1)
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def increase(self) -> int:
            self.count += 1
            return self.count

        def pid(self) -> int:
            return os.getpid()

    try:
        kept = Counter.options(name="kept", lifetime="detached").remote()
        lost = Counter.options(name="lost", lifetime="detached").remote()
        assert ray.get([kept.increase.remote(), lost.increase.remote()]) == [1, 1]
        victim = ray.get(lost.pid.remote())
        # Its keeper starts it again within a second; until then there is none.
        keeper = session_dir.claimants(Path(record.session_dir))[0][0]
        os.kill(keeper, signal.SIGSTOP)
        killed = kill_gcs(record)
        assert ray.get([kept.increase.remote() for _ in range(3)], timeout=5) == [2, 3, 4]
        assert ray.get([square.remote(i) for i in range(4)], timeout=5) == [0, 1, 4, 9]
        os.kill(victim, signal.SIGKILL)
        made_meanwhile = Counter.remote().increase.remote()
        os.kill(keeper, signal.SIGCONT)
        wait_for_another_gcs(record, killed)
        assert ray.get(ray.get_actor("kept").increase.remote(), timeout=10) == 5
        assert ray.get(made_meanwhile, timeout=10) == 1
        wait_until(lambda: state_of(record, "lost") == ("ALIVE", 1))
        assert ray.get(ray.get_actor("lost").increase.remote(), timeout=10) == 1
    finally:
        ray.shutdown()
    local_cluster.stop_cluster(record)


def state_of(record: local_cluster.ClusterRecord, name: str) -> tuple[str, int]:
    rows = ask(record, messages.ListActors())[0].actors
    return next((row.state, row.incarnation) for row in rows if row.name == name)


def test_stop_without_a_name_leaves_owned_clusters_alone():
    cluster = local_cluster.start_local(num_cpus=1, name="mine")
    output = run("stop").output
    assert "Left 1 alone" in output
    assert cluster.is_running()
    assert run("stop", "mine").exit_code == 0
    assert not cluster.is_running()
    cluster.stop()


def test_stop_ends_every_node_that_has_joined_from_this_machine(tmp_path, monkeypatch):
    """On a machine whose head is elsewhere: here, one with another registry."""
    head = start_head()
    monkeypatch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path / "of another machine"))
    for _ in range(2):
        joined = run("start", "--address", head.address, "--token-file", head.token_file, "--num-cpus", "1")
        assert joined.exit_code == 0, joined.output
    (record,) = local_cluster.list_clusters()
    nodes = local_cluster.joined_nodes(record)
    assert len(nodes) == 2 and record.cluster_id == head.cluster_id

    os.kill(nodes[0].head_pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(nodes[0].head_pid, nodes[0].head_start_time))
    (record,) = local_cluster.list_clusters()
    assert record.head_pid == nodes[1].head_pid, "Drivers here find the cluster through the node that is left."
    joined = run("start", "--address", head.address, "--token-file", head.token_file, "--num-cpus", "1")
    assert joined.exit_code == 0, joined.output

    output = run("stop").output

    assert f"Ended 2 nodes of the cluster at {head.address}" in output
    assert local_cluster.list_clusters() == [] and run("stop").output.startswith("No cluster is running")
    monkeypatch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path / "registry"))
    (living,) = local_cluster.list_clusters()
    assert living.head_pid == head.head_pid, "The head goes on."


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["start"], "either --head"),
        (["start", "--head", "--address", "h:1"], "either --head"),
        (["start", "--head", "--resources", "{"], "no JSON"),
        (["start", "--head", "--resources", "[]"], "JSON object"),
        (["start", "--address", "127.0.0.1:1"], "pass --token-file"),
        (["stop", "x", "--all"], "Name a cluster, or say --all"),
        (["start", "--head", "--num-cpus", "-1"], "not in the range"),
    ],
)
def test_wrong_usage_says_what_to_do(arguments, text):
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in result.output


def test_unknown_cluster_and_taken_port_fail_with_a_reason(own_world):
    assert run("status", "nowhere").exit_code == 1
    assert "There is no cluster at 'nowhere'" in run("stop", "nowhere").output
    record = start_head()
    result = run("start", "--head", "--port", record.address.rpartition(":")[2])
    assert result.exit_code == 1
    assert "Cannot listen at" in result.output and "--port" in result.output
    assert len(local_cluster.list_clusters()) == 1
    assert [folder.name for folder in own_world.iterdir()] == [Path(record.session_dir).name]


def test_jobs_of_a_started_head_go_on_when_the_gcs_is_killed(own_world, tmp_path):
    record = start_head("--num-cpus", "1", "--dashboard-port", "0")
    client = JobSubmissionClient(f"http://{record.http_address}")
    gate = tmp_path / "gate"
    job = client.submit_job(entrypoint=f"while [ ! -e {gate} ]; do sleep 0.02; done; echo done")
    wait_until(lambda: client.get_job_status(job) is JobStatus.RUNNING)

    wait_for_another_gcs(record, kill_gcs(record))
    gate.touch()

    again = JobSubmissionClient(record.session_dir)
    wait_until(lambda: again.get_job_status(job).is_terminal())
    assert again.get_job_info(job).status is JobStatus.SUCCEEDED and again.get_job_logs(job) == "done\n"
    # At the same port, too, once the killed one's server has let go of it.
    wait_until(lambda: is_answered(record.http_address))


def is_answered(address: str) -> bool:
    try:
        return JobSubmissionClient(f"http://{address}").get_version() is not None
    except (ConnectionError, RuntimeError, OSError):
        return False
