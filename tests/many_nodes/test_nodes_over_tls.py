"""Nodes that speak TLS with each other: work and objects go over it, and who has no certificate is no node."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

import raybook as ray
from raybook.api import local_cluster, split_cluster
from raybook.base.errors import RaySystemError
from raybook.base.tls_files import TlsFiles
from raybook.cluster_utils import Cluster
from raybook.commands.ask import ask
from raybook.io.certificates import make_authority, make_member
from raybook.io.cluster_registry import list_records, registry_dir
from raybook.io.transport import connect
from raybook.protocol.messages.daemons import NodeAmounts
from raybook.protocol.messages.gcs import ListNodes
from raybook.protocol.messages.worker import WorkerMessage
from tests.many_nodes.listening import doors_of, processes_of_tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATIENCE_S = 60
COUNT = 6_250_000
"""Numbers of an object of 50 MB."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def member(folder: Path) -> TlsFiles:
    make_authority(folder / "ours")
    return make_member(folder / "ours", "node")


@pytest.fixture(scope="module")
def safe(own_world: None, member: TlsFiles) -> Iterator[Cluster]:
    """Two nodes, made as Ray's variables say, and this process connected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USE_TLS", "1")
        patch.setenv("RAY_TLS_SERVER_CERT", member.cert)
        patch.setenv("RAY_TLS_SERVER_KEY", member.key)
        patch.setenv("RAY_TLS_CA_CERT", member.ca)
        patch.setenv("RAYBOOK_WORKER_IDLE_MS", "600000")  # What listens goes on listening while it is tried.
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        cluster.add_node(num_cpus=2, resources={"second": 1})
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@ray.remote(resources={"second": 0.01}, num_cpus=0)
def where() -> str:
    return ray.get_runtime_context().get_node_id()


@ray.remote(resources={"second": 0.01}, num_cpus=0)
def make() -> numpy.ndarray:
    return numpy.arange(COUNT)


@ray.remote(resources={"second": 0.01}, num_cpus=0)
def total(array: numpy.ndarray) -> int:
    return int(array.sum())


@ray.remote(resources={"second": 0.01}, num_cpus=0)
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def up(self) -> int:
        self.count += 1
        return self.count


def test_tasks_and_actors_on_the_other_node_are_reached(safe: Cluster):
    here = ray.get_runtime_context().get_node_id()
    places = ray.get([where.remote() for _ in range(50)], timeout=PATIENCE_S)
    assert len(set(places)) == 1 and places[0] != here
    counter = Counter.remote()
    assert ray.get([counter.up.remote() for _ in range(200)], timeout=PATIENCE_S) == list(range(1, 201))


def test_fifty_megabytes_come_whole_both_ways(safe: Cluster):
    array = ray.get(make.remote(), timeout=PATIENCE_S)
    assert array.nbytes == 50_000_000 and (array[::1000] == numpy.arange(0, COUNT, 1000)).all()
    assert int(array[-1]) == COUNT - 1
    assert ray.get(total.remote(ray.put(numpy.ones(COUNT, dtype=int))), timeout=PATIENCE_S) == COUNT


def test_no_port_of_the_cluster_says_a_word_in_the_clear(safe: Cluster):
    ray.get(where.remote(), timeout=PATIENCE_S)
    ports = [door for door in doors_of(processes_of_tests()) if not isinstance(door.address, str)]
    assert len(ports) >= 7
    assert [door for door in ports if door.is_framed()] == []


def test_the_commands_that_look_find_the_certificates(safe: Cluster):
    (record,) = [record for record in list_records(registry_dir()) if record.address == safe.address]
    (nodes,) = ask(record, ListNodes())
    assert len([node for node in nodes.nodes if node.alive]) == 2


@pytest.mark.parametrize("who", ["without TLS", "of another authority", "out of date"])
def test_a_node_with_no_certificate_of_the_authority_cannot_join_and_is_told_why(
    safe: Cluster, folder: Path, member: TlsFiles, who: str
):
    tls: TlsFiles | None = None
    if who == "of another authority":
        make_authority(folder / "theirs")
        stranger = make_member(folder / "theirs", "stranger")
        tls = TlsFiles(stranger.cert, stranger.key, member.ca)
    elif who == "out of date":
        tls = make_member(folder / "ours", "expired", days=-1)
    (record,) = [record for record in list_records(registry_dir()) if record.address == safe.address]
    with pytest.raises(RaySystemError, match="could not be started.*TLS|certificate|tls-"):
        split_cluster.join(safe.address, record.token_file, NodeAmounts(num_cpus=1), tls=tls)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    assert ray.get(where.remote(), timeout=PATIENCE_S)
    assert os.path.exists(record.session_dir)


CLIENT = """
import numpy, raybook as ray
ray.init("ray://{address}", token_file="{token}", log_to_driver=False)
@ray.remote
def double(array):
    return 2 * array
array = ray.get(double.remote(ray.put(numpy.arange(500_000))), timeout=60)
print(int(array[-1]), len(ray.nodes()))
"""


def test_a_driver_on_a_machine_without_a_node_comes_in_over_tls_and_only_so(own_world: None, member: TlsFiles):
    variables = {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": member.cert,
        "RAY_TLS_SERVER_KEY": member.key,
        "RAY_TLS_CA_CERT": member.ca,
    }
    record = split_cluster.start_head(NodeAmounts(num_cpus=1), session_port=0, metrics_port=None, tls=member)
    try:
        program = CLIENT.format(address=record.session_address, token=record.token_file)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **variables}, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        assert done.stdout.split() == ["999998", "1"], done.stderr
        with pytest.raises(ConnectionError, match="TLS"):
            connect(f"tcp:{record.session_address}", Path(record.token_file).read_bytes(), WorkerMessage, 1.0)
    finally:
        local_cluster.stop_cluster(record)
