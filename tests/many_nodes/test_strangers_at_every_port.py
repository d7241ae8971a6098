"""Every socket at which a running cluster of two nodes listens, and what happens to who comes without the token."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import random
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import raybook as ray
from raybook.api import local_cluster, split_cluster
from raybook.io import session_dir
from raybook.io.channel import RemoteError
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.rpc import GrpcChannel
from raybook.io.transport import connect
from raybook.protocol.auth import GREETING_BYTES, REFUSAL, AuthenticationFailed
from raybook.protocol.messages.daemons import NodeAmounts
from raybook.protocol.messages.gcs import ListNodes
from raybook.protocol.messages.node import GetNodeStats
from raybook.protocol.messages.worker import WorkerMessage
from tests.many_nodes.conftest import wait_until
from tests.many_nodes.listening import Door, doors_of, open_files, processes_of_tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

OTHER = b"o" * 32
PATIENCE_S = 60


@ray.remote
def double(number: int) -> int:
    return 2 * number


@ray.remote(resources={"second": 0.01}, num_cpus=0)
class Echo:
    def say(self, number: int) -> int:
        return number


@pytest.fixture(scope="module")
def two_nodes(own_world: None) -> Iterator[ClusterRecord]:
    """A head with all that it can serve, and a second node; this process is connected, and workers of both have worked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBOOK_WORKER_IDLE_MS", "600000")  # What listens goes on listening while it is tried.
        record = split_cluster.start_head(NodeAmounts(num_cpus=2), metrics_port=0, http_port=0, session_port=0)
        node = split_cluster.join(record.address, record.token_file, NodeAmounts(num_cpus=2, custom={"second": 1}))
    ray.init(address=record.address, log_to_driver=False)
    yield record
    ray.shutdown()
    node.process.terminate()
    node.process.wait(10)
    local_cluster.stop_cluster(record)


@pytest.fixture(scope="module")
def echo(two_nodes: ClusterRecord) -> object:
    """An actor on the second node. The jobs server runs, too: somebody has knocked."""
    actor = Echo.remote()
    assert ray.get([double.remote(n) for n in range(20)], timeout=PATIENCE_S) == [2 * n for n in range(20)]
    assert ray.get(actor.say.remote(1), timeout=PATIENCE_S) == 1
    assert answer_to(two_nodes.http_address, "/api/version", {})[0] == 200
    return actor


def answer_to(address: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def guard_of(door: Door, record: ClusterRecord) -> str:
    """How a socket keeps strangers out; AssertionError when it does not."""
    if isinstance(door.address, str):
        path = Path(door.address)
        assert path.is_absolute(), f"{door} has no place in a folder of ours"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, f"{door} can be opened by others"
        folder = path.parent.stat()
        assert stat.S_IMODE(folder.st_mode) == 0o700 and folder.st_uid == os.getuid(), (
            f"{path.parent} is open to others"
        )
        if path.name == "http.sock":
            return "folder"
        assert refuses_frames(door), f"{door} took a stranger in"
        return "frames, folder"
    host, port = door.address
    assert host == "127.0.0.1", f"{door} listens at {host}, and nobody asked for that"
    address = f"{host}:{port}"
    if address in (record.metrics_address, record.http_address):
        assert refuses_http(address), f"{door} answered a stranger"
        return "http"
    if door.is_framed():
        assert refuses_frames(door), f"{door} took a stranger in"
        return "frames"
    assert refuses_calls(address), f"{door} answered a stranger"
    return "calls"


def refuses_frames(door: Door) -> bool:
    name = f"unix:{door.address}" if isinstance(door.address, str) else "tcp:{}:{}".format(*door.address)
    with pytest.raises(AuthenticationFailed, match="refused our token"):
        connect(name, OTHER, WorkerMessage, 10)
    with door.connect() as sock:
        sock.sendall(random.Random(3).randbytes(64))
        said = b""
        try:
            while part := sock.recv(4096):
                said += part
        except ConnectionResetError:
            pass
    return said[GREETING_BYTES:] in (REFUSAL, b"")


def refuses_calls(address: str) -> bool:
    async def ask() -> list[str]:
        refusals = []
        for name, request in (("Gcs", ListNodes()), ("Raylet", GetNodeStats())):
            channel = GrpcChannel(name, address, OTHER, 5.0)
            try:
                await channel.call(type(request).__name__, request)
            except RemoteError as error:
                refusals.append(error.code)
            finally:
                await channel.close()
        return refusals

    return asyncio.run(ask()) == ["AuthenticationError"] * 2


ASK = r"""
exec 3<>/dev/tcp/${0/:/\/}
printf "GET $1 HTTP/1.1\r\nHost: $0\r\nConnection: close\r\n\r\n" >&3
head -1 <&3
"""
"""For bash, which every user of a machine may run; our interpreter may lie where others cannot."""


def refuses_http(address: str) -> bool:
    """Other users of this machine, and pages of other sites; this user needs no token at loopback."""
    for path in ("/metrics", "/api/jobs/"):
        if answer_to(address, path, {"Origin": "http://evil.example"})[0] != 403:
            return False
        if answer_to(address, path, {"Host": "evil.example"})[0] != 403:
            return False
        if os.getuid() == 0:
            asked = subprocess.run(
                ["bash", "-c", ASK, address, path],
                user="nobody", group="nogroup", cwd="/", capture_output=True, text=True, timeout=30,
            )  # fmt: skip
            assert asked.stdout.startswith("HTTP/1.1 401"), asked
    return True


def test_every_listening_socket_refuses_who_does_not_know_the_token(two_nodes: ClusterRecord, echo: object):
    doors = doors_of(processes_of_tests())
    guards = [guard_of(door, two_nodes) for door in doors]
    # A head's GCS, two raylets, two gateways; processes of workers and drivers, each with a Unix socket and a port.
    assert guards.count("calls") == 3, list(zip(doors, guards, strict=True))
    assert guards.count("http") == 2
    assert guards.count("frames") >= 4
    assert guards.count("frames, folder") >= guards.count("frames")
    assert ray.get(echo.say.remote(2), timeout=PATIENCE_S) == 2


def noise(seed: int) -> list[bytes]:
    """What strangers say: nothing, too little, too much, and words of other protocols."""
    rng = random.Random(seed)
    return [
        b"",
        b"\x00",
        rng.randbytes(63),
        rng.randbytes(64),
        rng.randbytes(10_000),
        b"\xff\xff\xff\xff" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /api/jobs/ HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(500),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(300),
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ]


def storm(doors: list[Door]) -> list[socket.socket]:
    """Strangers at every door: some that stay, and others that are gone again."""
    staying = []
    for door in doors:
        for said in noise(7):
            sock = door.connect()
            sock.settimeout(1)
            staying.append(sock)
            with contextlib.suppress(ConnectionError, TimeoutError):
                sock.sendall(said)
        for said in noise(8)[:4]:
            with door.connect() as sock, contextlib.suppress(ConnectionError):
                sock.sendall(said)
    return staying


def test_noise_and_half_open_connections_at_every_port_hold_up_nobody_and_leave_nothing(
    two_nodes: ClusterRecord, echo: object
):
    me = os.getpid()
    pids = [pid for pid in processes_of_tests() if pid != me]
    doors = doors_of(pids)
    strangers = storm(doors)
    # They stay; work goes on beside them.
    refs = [double.remote(n) for n in range(200)]
    calls = [echo.say.remote(n) for n in range(50)]
    assert ray.get(refs, timeout=PATIENCE_S) == [2 * n for n in range(200)]
    assert ray.get(calls, timeout=PATIENCE_S) == list(range(50))
    assert len(ray.nodes()) == 2
    held = open_files(pids)
    for sock in strangers:
        sock.close()
    wait_until(lambda: sum(open_files(pids).values()) <= sum(held.values()) - len(doors), "strangers are forgotten", 20)
    # Connections that work makes stay open, so what counts is that more strangers do not mean more files.
    before = _settled(pids)
    for _ in range(2):
        for sock in storm(doors):
            sock.close()

    def grown() -> dict[int, int]:
        now = open_files(pids)
        return {pid: now[pid] - count for pid, count in before.items() if now.get(pid, 0) > count}

    wait_until(lambda: not grown(), f"no process has more files open: {grown()}", 20)
    assert [pid for pid in _daemons(two_nodes) if pid in open_files([pid])] == _daemons(two_nodes)
    assert ray.get(double.remote(4), timeout=PATIENCE_S) == 8


def _settled(pids: list[int]) -> dict[int, int]:
    """Open files, once they are the same for a second."""
    known: list[dict[int, int]] = []
    wait_until(
        lambda: known.append(open_files(pids)) or len(known) > 50 and known[-1] == known[-50], "all is quiet", 20
    )
    return known[-1]


def _daemons(record: ClusterRecord) -> list[int]:

    return sorted(pid for pid, _ in session_dir.claimants(Path(record.session_dir)))


def test_a_flood_of_silent_connections_at_one_port_does_not_stop_a_new_driver(two_nodes: ClusterRecord, echo: object):
    doors = [door for door in doors_of(processes_of_tests()) if isinstance(door.address, str)]
    (raylet,) = [door for door in doors if door.address == two_nodes.node_socket.removeprefix("unix:")]
    silent = [raylet.connect() for _ in range(300)]
    program = (
        "import raybook as ray\n"
        f"ray.init(address={two_nodes.address!r}, log_to_driver=False)\n"
        "@ray.remote\ndef f(): return 5\nprint(ray.get(f.remote(), timeout=30))\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("5"), done.stderr
    assert time.monotonic() - began < 30
    for sock in silent:
        sock.close()
