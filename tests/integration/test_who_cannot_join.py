"""Nodes and drivers that cannot join: wrong token, wrong version, wrong address, a port in use. Each is told why and what
to do, and the cluster goes on."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raybook import cli
from raybook.api import local_cluster
from raybook.api.local_cluster import ClusterRecord
from raybook.base.versions import OWN, Versions
from raybook.io import rpc, session_dir
from raybook.io.channel import RemoteError
from raybook.io.rpc import GrpcChannel
from raybook.protocol.messages.gcs import ListNodes, NodeInfo, RegisterNode
from raybook.testing.fake_driver import FakeDriver

pytestmark = [pytest.mark.slow, pytest.mark.raybook_only]


@pytest.fixture(scope="module", autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = Path(f"/tmp/rbw-{os.getpid()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBOOK_TMPDIR", str(base))
        patch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path_factory.mktemp("registry")))
        yield base
        for record in local_cluster.list_clusters():
            local_cluster.stop_cluster(record)
        assert not base.exists() or list(base.iterdir()) == [], "a session folder was left behind"
        session_dir.remove(base)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture(scope="module")
def head(own_world: Path) -> ClusterRecord:
    result = run("start", "--head", "--port", "0", "--num-cpus", "1", "--name", "the-head", "--dashboard-port", "0")
    assert result.exit_code == 0, result.output
    (record,) = local_cluster.list_clusters()
    return record


def call(record: ClusterRecord, request: Any) -> Any:
    async def ask() -> Any:
        channel = GrpcChannel("Gcs", record.address, Path(record.token_file).read_bytes(), 5.0)
        try:
            return await channel.call(type(request).__name__, request)
        finally:
            await channel.close()

    return asyncio.run(ask())


def alive(record: ClusterRecord) -> int:
    return len([node for node in call(record, ListNodes()).nodes if node.alive])


def said(result: Result) -> str:
    """On one line, whatever the log put between."""
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output.partition("Its log ends:")[0]
    return " ".join(result.output.split())


def test_a_node_with_another_clusters_token_is_refused(head: ClusterRecord, tmp_path: Path):
    (tmp_path / "token").write_bytes(b"o" * 32)
    text = said(run("start", "--address", head.address, "--token-file", str(tmp_path / "token"), "--num-cpus", "1"))
    assert f"Gcs at {head.address} refused the token: it is another cluster's" in text
    assert "--token-file" in text
    assert alive(head) == 1


def test_an_address_where_nobody_listens_is_named_with_what_to_check(head: ClusterRecord):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    text = said(run("start", "--address", address, "--token-file", head.token_file, "--num-cpus", "1"))
    assert f"Gcs at {address} did not answer" in text and "Nobody listens there: check host and port" in text


def test_an_address_of_something_else_is_named(head: ClusterRecord):
    with socket.create_server(("127.0.0.1", 0)) as other:
        stop = threading.Event()

        def answer() -> None:
            other.settimeout(0.1)
            while not stop.is_set():
                try:
                    sock, _ = other.accept()
                except TimeoutError:
                    continue
                with sock:
                    sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            text = said(run("start", "--address", address, "--token-file", head.token_file, "--num-cpus", "1"))
        finally:
            stop.set()
            thread.join()
    assert f"Gcs at {address} did not answer" in text


def test_a_node_of_another_version_is_told_the_difference_in_two_columns(
    head: ClusterRecord, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rpc, "OWN", Versions(OWN.protocol + 1, "3.9.1", "9.9.9"))
    with pytest.raises(RemoteError) as refused:
        call(head, RegisterNode(NodeInfo(b"n" * 16)))
    text = str(refused.value)
    assert re.search(r"the node +this cluster", text), text
    assert re.search(rf"python +3\.9\.1 +{re.escape(OWN.python)} +differs", text), text
    assert re.search(rf"raybook +9\.9\.9 +{re.escape(OWN.raybook)} +differs", text), text
    assert re.search(rf"protocol +{OWN.protocol + 1} +{OWN.protocol} +differs", text), text
    assert f"pip install raybook=={OWN.raybook}" in text
    monkeypatch.undo()
    assert alive(head) == 1


def test_who_only_asks_may_have_another_python(head: ClusterRecord, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rpc, "OWN", Versions(OWN.protocol, "3.13.1", OWN.raybook))
    assert alive(head) == 1


def test_a_driver_of_another_version_is_told_the_difference(head: ClusterRecord):
    async def join(**fields: Any) -> str:
        driver = FakeDriver(head.node_socket, Path(head.token_file).read_bytes(), **fields)
        try:
            return getattr(await driver.join(), "reason", "")
        finally:
            driver.close()

    for fields in ({"python_version": "3.9.1"}, {"protocol_version": 77}):
        assert re.search(r"(?s)the driver +this cluster.*differs", asyncio.run(join(**fields)))


def test_an_id_that_a_living_node_has_is_refused_and_that_node_lives_on(head: ClusterRecord):
    (known,) = call(head, ListNodes()).nodes
    twin = NodeInfo(known.node_id, raylet_address="127.0.0.1:1", hostname="twin")
    with pytest.raises(
        RemoteError, match=rf"{known.node_id.hex()} is taken: the node at {known.raylet_address}.*of its own"
    ):
        call(head, RegisterNode(twin))
    (still,) = call(head, ListNodes()).nodes
    assert (still.raylet_address, still.alive) == (known.raylet_address, True)


@pytest.mark.parametrize("option", ["--port", "--metrics-export-port", "--dashboard-port"])
def test_a_port_in_use_is_named_with_the_option_that_chooses_another(own_world: Path, option: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"--port": "0", "--dashboard-port": "0", option: port}
        words = [word for pair in ports.items() for word in pair]
        text = said(run("start", "--head", "--num-cpus", "1", "--name", "second", *words))
    assert f"Cannot listen at 127.0.0.1:{port}: another process does" in text
    assert f"choose another port with {option}" in text
    assert [record.name for record in local_cluster.list_clusters() if record.name == "second"] == []


def test_a_host_that_is_no_address_of_this_machine_is_named(own_world: Path):
    text = said(run("start", "--head", "--num-cpus", "1", "--port", "0", "--host", "192.0.2.1"))
    assert "192.0.2.1" in text and "no address of this machine" in text


def test_half_of_the_tls_options_is_wrong_usage(own_world: Path, tmp_path: Path):
    result = run("start", "--head", "--port", "0", "--tls-cert", str(tmp_path / "c"))
    assert result.exit_code == 1 and "--tls-key and --tls-ca was not given" in result.output


def test_everybody_who_was_refused_left_nothing(head: ClusterRecord, own_world: Path):
    deadline = time.monotonic() + 5
    while [path for path in own_world.iterdir() if str(path) != head.session_dir]:
        assert time.monotonic() < deadline, list(own_world.iterdir())
        time.sleep(0.05)
    assert alive(head) == 1
