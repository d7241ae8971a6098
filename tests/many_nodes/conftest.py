"""Clusters of several nodes on this machine, each a raylet of its own, in folders and a registry of the tests' own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import raybook
from raybook.cluster_utils import Cluster
from raybook.io.process import descendants, is_alive, start_time


@pytest.fixture(scope="session", autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    base = Path(f"/tmp/rbm-{os.getpid()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBOOK_TMPDIR", str(base))
        patch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path_factory.mktemp("registry")))
        patch.setenv("RAYBOOK_HEALTH_CHECK_PERIOD_MS", "200")
        patch.setenv("RAYBOOK_HEALTH_CHECK_TIMEOUT_MS", "1500")
        yield
        wait_until(lambda: not _living(), "every process of every cluster is gone", 5)
        base.mkdir(exist_ok=True)
        assert list(base.iterdir()) == [], "a session folder was left behind"
        base.rmdir()


@pytest.fixture(scope="module")
def three_nodes(own_world: None) -> Iterator[Cluster]:
    """The head with two CPUs, "b" and "c" with two each and a resource of their own name. This process is connected."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    cluster.add_node(num_cpus=2, resources={"b": 1}, labels={"zone": "b"})
    cluster.add_node(num_cpus=2, resources={"c": 1}, labels={"zone": "c"})
    raybook.init(address=cluster.address, namespace="tests")
    yield cluster
    raybook.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def lone_head(own_world: None) -> Iterator[Cluster]:
    """Only a head, with one CPU."""
    one = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield one
    one.shutdown()


@pytest.fixture
def cluster(lone_head: Cluster) -> Iterator[Cluster]:
    """A cluster for one test that loses parts: only the head, and this process connected. The head is the module's; what a
    test adds to it is gone before the next one."""
    raybook.init(address=lone_head.address, namespace="tests")
    yield lone_head
    raybook.shutdown()
    for node in list(lone_head.worker_nodes):
        lone_head.remove_node(node, allow_graceful=False)
    raybook.init(address=lone_head.address, namespace="tests")
    wait_until(lambda: sum(row["Alive"] for row in raybook.nodes()) == 1, "only the head is there")
    wait_until(lambda: raybook.available_resources().get("CPU", 0) == 1, "nothing runs on it")
    raybook.shutdown()


def _living() -> list[int]:
    started = {pid: start_time(pid) for pid in descendants(os.getpid())}
    return [pid for pid, moment in started.items() if moment is not None and is_alive(pid, moment)]


def wait_until(holds: Callable[[], bool], what: str, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"It is not true after {within_s:g} s that {what}."
        time.sleep(0.02)
