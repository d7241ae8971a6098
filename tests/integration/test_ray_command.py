"""``raybook-ray``: the command lines that KubeRay writes, the pages that its probes and operator ask, and its secret."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from raybook.api import local_cluster
from raybook.commands.ray_command import main, redis_store
from raybook.protocol.auth import TOKEN_BYTES, token_of_words
from tests.integration.test_split_form import alive_nodes, own_world, wait_until

__all__ = ["own_world"]

SECRET = "a-secret-of-the-operator"
BAD_SECRET = "another"
START_S = 60.0
"""Of a head or worker, on a machine that has much else to do."""
pytestmark = pytest.mark.timeout(240)


def environment(secret: str = SECRET) -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_TOKEN": secret}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Pod:
    """``ray start --block``, as a container runs it."""

    def __init__(self, *arguments: str, secret: str = SECRET) -> None:
        words = [sys.executable, "-m", "raybook.commands.ray_command", "start", *arguments]
        self.process = subprocess.Popen(
            words, env=environment(secret), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(START_S)
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


@pytest.fixture
def head(own_world: Path) -> Iterator[dict[str, int]]:
    """A head, started as KubeRay starts it, but for ports and addresses that this machine shares with other tests."""
    ports = {"gcs": free_port(), "dashboard": free_port(), "agent": free_port()}
    pod = Pod(
        "--head", "--block", f"--dashboard-agent-listen-port={ports['agent']}", "--dashboard-host=0.0.0.0",
        "--memory=1073741824", "--metrics-export-port=0", "--num-cpus=0", "--no-monitor", f"--port={ports['gcs']}",
        f"--dashboard-port={ports['dashboard']}", "--ray-client-server-port=0", "--node-ip-address=127.0.0.1",
        '--resources={"licence":2}',
    )  # fmt: skip
    try:
        wait_until(lambda: bool(local_cluster.list_clusters()) or pod.process.poll() is not None, START_S)
        assert pod.process.poll() is None, pod.process.stdout.read().decode()  # type: ignore[union-attr]
        yield ports
    finally:
        assert pod.end() == 0


def ask(port: int, page: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{page}", headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def health_check(port: int, secret: str = SECRET) -> int:
    words = [sys.executable, "-m", "raybook.commands.ray_command", "health-check", "--address", f"127.0.0.1:{port}"]
    return subprocess.run(words, env=environment(secret), capture_output=True, timeout=60).returncode


@pytest.mark.slow
def test_a_head_and_a_worker_start_by_the_operators_command_lines(head: dict[str, int]) -> None:
    worker_agent = free_port()
    worker = Pod(
        f"--address=127.0.0.1:{head['gcs']}", "--block", f"--dashboard-agent-listen-port={worker_agent}",
        "--memory=1073741824", "--metrics-export-port=0", "--num-cpus=1",
    )  # fmt: skip
    (record,) = local_cluster.list_clusters()
    try:
        wait_until(lambda: len(alive_nodes(record)) == 2, START_S)
        totals = [node.resources_total for node in alive_nodes(record)]
        assert sorted(total.get("CPU", 0) for total in totals) == [0, 10_000]
        assert [total["licence"] for total in totals if "licence" in total] == [20_000]
        assert ask(worker_agent, "/api/local_raylet_healthz") == (200, "success")
    finally:
        assert worker.end() == 0
    assert health_check(head["gcs"]) == 0


@pytest.mark.slow
def test_probes_and_the_operator_are_answered(head: dict[str, int]) -> None:
    told = {"X-Ray-Authorization": f"Bearer {SECRET}"}

    assert ask(head["agent"], "/api/local_raylet_healthz") == (200, "success")
    assert ask(head["agent"], "/api/jobs/")[0] == 404
    assert ask(head["dashboard"], "/api/gcs_healthz") == (200, "success")
    assert json.loads(ask(head["dashboard"], "/api/authentication_mode")[1]) == {"authentication_mode": "token"}
    assert ask(head["dashboard"], "/api/jobs/")[0] == 401
    assert ask(head["dashboard"], "/api/jobs/", headers={"X-Ray-Authorization": f"Bearer {BAD_SECRET}"})[0] == 401
    assert ask(head["dashboard"], "/api/jobs/", headers=told)[0] == 200
    assert ask(head["dashboard"], "/api/jobs/", headers={"Authorization": f"Bearer {SECRET}"})[0] == 200
    status, text = ask(head["dashboard"], "/api/serve/applications/", headers=told)
    assert status == 200 and json.loads(text)["applications"] == {}


@pytest.mark.slow
def test_health_is_refused_to_another_secret_and_where_nothing_listens(head: dict[str, int]) -> None:
    assert health_check(head["gcs"], BAD_SECRET) == 1
    assert health_check(free_port()) == 1


def test_nothing_starts_without_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)

    result = CliRunner().invoke(main, ["start", "--head", "--block"])

    assert result.exit_code == 2 and "without the cluster's secret" in result.output


def test_a_secret_of_any_length_is_a_token() -> None:
    assert len(token_of_words("x")) == len(token_of_words(SECRET)) == TOKEN_BYTES
    assert token_of_words("x") != token_of_words("y")


@pytest.mark.parametrize(
    ("environ", "store"),
    [
        ({}, ""),
        ({"RAY_REDIS_ADDRESS": "redis:6379"}, "redis://redis:6379"),
        ({"RAY_REDIS_ADDRESS": "redis://redis:6379", "REDIS_PASSWORD": "p"}, "redis://:p@redis:6379"),
    ],
)
def test_the_operators_redis_becomes_the_store(environ: dict[str, str], store: str) -> None:
    assert redis_store(environ) == store


def test_commands_that_look_are_raybooks() -> None:
    assert {"start", "stop", "status", "health-check", "job", "list", "serve"} <= set(main.commands)
