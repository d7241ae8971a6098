"""The head process: ready in time, in the registry, and gone without a trace, however its owner goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raybook.api import local_cluster
from raybook.base.errors import RaySystemError
from raybook.io import cluster_registry, session_dir
from raybook.io.daemon import source_root
from raybook.io.process import descendants, is_alive, start_time

GONE_WITHIN_S = 5.0

DRIVER = """
import json, sys, threading
from raybook.api.local_cluster import start_local
cluster = start_local(num_cpus=2, persist="persist" in sys.argv, name="driven")
print(json.dumps([cluster.process.pid, cluster.session_dir, cluster.cluster_id]), flush=True)
sys.stdin.read()
"""


BUSY_DRIVER = """
import json, os, subprocess, sys
import raybook as ray
ray.init(num_cpus=2)

@ray.remote
def sleep_and_leave_a_child():
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return child.pid

@ray.remote
class Actor:
    def pid(self):
        return os.getpid()
    def work(self):
        while True:
            sum(range(1000))

actor = Actor.remote()
value = ray.put(b"x" * 5_000_000)
pids = ray.get([sleep_and_leave_a_child.remote(), actor.pid.remote()])
running = actor.work.remote()
record = json.load(open(os.environ["RAYBOOK_REGISTRY_DIR"] + "/" + os.listdir(os.environ["RAYBOOK_REGISTRY_DIR"])[0]))
print(json.dumps([record["head_pid"], record["session_dir"], record["cluster_id"]]), flush=True)
ray.get(running)
"""
"""A kernel in the middle of a cell: an actor computes, an object is in the arena, a task has left a daemon behind."""


@pytest.fixture(autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry and a session base of the test's own (short: a socket's path has 107 characters)."""
    base = Path(f"/tmp/rbt-{os.getpid()}-{time.monotonic_ns() % 10**6}")
    monkeypatch.setenv("RAYBOOK_TMPDIR", str(base))
    monkeypatch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path_factory.mktemp("registry")))
    yield base
    for record in local_cluster.list_clusters():
        local_cluster.stop_cluster(record)
    session_dir.remove(base)


def wait_until(holds: Callable[[], bool], within_s: float = GONE_WITHIN_S) -> float:
    """Seconds until it held; fails when it does not in time."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, "It did not become true in time."
        time.sleep(0.01)
    return time.monotonic() - began


def processes_of(folder: str) -> list[int]:
    """Processes whose command line, environment, open files or mappings mention a session."""
    found = []
    cluster = Path(folder).name
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if cluster.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
                continue
            for link in (entry / "fd").iterdir():
                target = os.readlink(link)
                if cluster in target:
                    found.append(int(entry.name))
                    break
        except OSError:
            continue
    return found


def named(*pids: int) -> list[tuple[int, int]]:
    """Processes by names that cannot be reused."""
    return [(pid, started) for pid in pids if (started := start_time(pid)) is not None]


def living(processes: list[tuple[int, int]]) -> list[int]:
    """Those that run. An orphan's zombie waits for init's next look and is none of ours."""
    return [pid for pid, started in processes if is_alive(pid, started)]


def arenas_of(processes: list[tuple[int, int]]) -> list[int]:
    """Which of these processes hold one of our memory segments."""
    holders = []
    for pid in living(processes):
        try:
            if "memfd:raybook" in Path(f"/proc/{pid}/maps").read_text():
                holders.append(pid)
        except OSError:
            continue
    return holders


class Driver:
    """A process that started a cluster and waits."""

    def __init__(self, *flags: str, script: str = DRIVER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": source_root()},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "The driver could not start a cluster."
        self.head_pid, self.session_dir, self.cluster_id = json.loads(line)
        self.head_started = start_time(self.head_pid) or 0
        self.tree = named(self.head_pid, *descendants(self.head_pid))

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        self.process.communicate()


def test_started_cluster_is_in_the_registry_and_gone_after_stop(own_world):
    cluster = local_cluster.start_local(num_cpus=2, name="mine")
    (record,) = local_cluster.list_clusters()
    assert (record.name, record.cluster_id, record.head_pid) == ("mine", cluster.cluster_id, cluster.process.pid)
    assert record.owner.pid == os.getpid()
    assert record.resources["CPU"] == 2.0
    for address in ("auto", "mine", cluster.cluster_id, cluster.node_socket):
        assert local_cluster.find_cluster(address).node_socket == cluster.node_socket
    tree = named(*descendants(cluster.process.pid))
    cluster.stop()
    cluster.stop()
    assert not cluster.is_running()
    assert local_cluster.list_clusters() == []
    assert list(own_world.iterdir()) == []
    assert living(tree) == []


def test_session_folder_and_token_are_for_this_user_only():
    cluster = local_cluster.start_local(num_cpus=1)
    assert Path(cluster.session_dir).stat().st_mode & 0o777 == 0o700
    assert (Path(cluster.session_dir) / session_dir.TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    cluster.stop()


def test_killed_driver_takes_its_cluster_along():
    driver = Driver()
    assert arenas_of(driver.tree)
    driver.kill()
    wait_until(lambda: not is_alive(driver.head_pid, driver.head_started))
    wait_until(lambda: not Path(driver.session_dir).exists())
    assert processes_of(driver.session_dir) == []
    assert living(driver.tree) == []
    assert arenas_of(driver.tree) == []
    assert local_cluster.list_clusters() == []


def test_driver_killed_in_mid_run_leaves_no_worker_no_memory_and_no_child_of_a_worker():
    driver = Driver(script=BUSY_DRIVER)
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in living(driver.tree)]
    assert "sleep" in names
    assert len(arenas_of(driver.tree)) >= 2
    driver.kill()
    wait_until(lambda: living(driver.tree) == [] and not Path(driver.session_dir).exists())
    assert arenas_of(driver.tree) == []
    assert processes_of(driver.session_dir) == []


def test_stuck_head_is_ended_by_its_watchdog_when_the_driver_dies():
    driver = Driver()
    zygotes = driver.tree[1:]
    # A loop that cannot run: the raylet's stop waits for a zygote that is stopped.
    for pid, _ in zygotes:
        os.kill(pid, signal.SIGSTOP)
    driver.kill()
    wait_until(lambda: not is_alive(driver.head_pid, driver.head_started))
    wait_until(lambda: living(driver.tree) == [])
    assert not Path(driver.session_dir).exists()


def test_killed_head_leaves_no_process_and_the_next_start_sweeps_its_folder(own_world):
    driver = Driver()
    os.kill(driver.head_pid, signal.SIGKILL)
    wait_until(lambda: processes_of(driver.session_dir) == [driver.process.pid] or not processes_of(driver.session_dir))
    driver.kill()
    assert local_cluster.list_clusters() == []
    assert Path(driver.session_dir).exists()
    cluster = local_cluster.start_local(num_cpus=1)
    wait_until(lambda: not Path(driver.session_dir).exists())
    cluster.stop()
    assert list(own_world.iterdir()) == []


def test_interrupt_of_the_whole_group_does_not_reach_the_head():
    cluster = local_cluster.start_local(num_cpus=1)
    assert os.getpgid(cluster.process.pid) != os.getpgid(0)
    os.kill(cluster.process.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.process.wait(0.1)
    cluster.stop()
    assert cluster.process.returncode == 0


def test_persistent_cluster_outlives_its_driver_and_is_stopped_by_its_record():
    driver = Driver("persist")
    driver.kill()
    (record,) = local_cluster.list_clusters()
    assert (record.persist, record.owner) == (True, None)
    assert is_alive(driver.head_pid, driver.head_started)
    local_cluster.stop_cluster(record)
    assert not is_alive(driver.head_pid, driver.head_started)
    assert processes_of(driver.session_dir) == []
    assert local_cluster.list_clusters() == []


def test_registry_record_gets_the_grpc_address_a_little_later():
    cluster = local_cluster.start_local(num_cpus=1)
    wait_until(lambda: local_cluster.list_clusters()[0].address != "")
    address = local_cluster.list_clusters()[0].address
    assert local_cluster.find_cluster(address).cluster_id == cluster.cluster_id
    cluster.stop()


def test_taken_cluster_name_is_refused():
    cluster = local_cluster.start_local(num_cpus=1, name="mine")
    with pytest.raises(ValueError, match="'mine' is running already"):
        local_cluster.start_local(num_cpus=1, name="mine")
    cluster.stop()


def test_finding_nothing_lists_what_is_there():
    with pytest.raises(ConnectionError, match=r"No cluster is running on this machine.*init\(\)"):
        local_cluster.find_cluster("auto")
    cluster = local_cluster.start_local(num_cpus=1, name="mine")
    with pytest.raises(ConnectionError, match=f"no cluster at 'yours'(.|\n)*mine.*{cluster.cluster_id}"):
        local_cluster.find_cluster("yours")
    cluster.stop()


def test_head_that_cannot_start_says_why_and_leaves_nothing(own_world):
    with pytest.raises(RaySystemError, match="object store needs at least"):
        local_cluster.start_local(num_cpus=1, object_store_memory=1)
    assert list(own_world.iterdir()) == []
    assert cluster_registry.list_records(cluster_registry.registry_dir()) == []


def test_head_whose_owner_is_gone_already_does_not_stay(monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    started = start_time(dead.pid)
    dead.wait()
    monkeypatch.setattr(local_cluster, "start_time", lambda pid: started)
    monkeypatch.setattr(local_cluster.os, "getpid", lambda: dead.pid)
    with pytest.raises(RaySystemError, match="could not be started"):
        local_cluster.start_local(num_cpus=1)
