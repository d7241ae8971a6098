"""The zygote: what a forked worker finds around itself, and who dies when."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import raybook as ray
from raybook.io.process import is_alive, start_time
from raybook.io.transport import FramedSocket
from raybook.protocol.messages.zygote import (
    ForkWorker,
    KillProcess,
    WorkerExited,
    WorkerForked,
    WorkerOptions,
    ZygoteMessage,
    ZygoteReady,
)
from raybook.raylet.zygote_client import start_zygote

PROBE = "raybook.testing.probe_worker"


class Peer:
    """The raylet's side of a zygote, blocking."""

    def __init__(self) -> None:
        self.handle = start_zygote(worker_main=PROBE)
        self.framed = FramedSocket(self.handle.sock, ZygoteMessage)
        self.pending: list = []

    def expect(self, kind: type, timeout_s: float = 20.0):
        deadline = time.monotonic() + timeout_s
        while True:
            for index, message in enumerate(self.pending):
                if isinstance(message, kind):
                    return self.pending.pop(index)
            ready, _, _ = select.select([self.framed.fd], [], [], deadline - time.monotonic())
            assert ready, f"no {kind.__name__} within {timeout_s} s; got {self.pending}"
            self.pending += self.framed.receive()

    def fork(self, folder: Path, start_id: int, **environment: str) -> int:
        options = WorkerOptions(
            "unix:/nowhere", b"", bytes([start_id]) * 8, str(folder), str(folder / f"w{start_id}"), 0, environment
        )
        self.framed.queue(ForkWorker(start_id, options))
        assert self.framed.flush()
        forked = self.expect(WorkerForked)
        assert forked.start_id == start_id
        return forked.pid


def report_of(folder: Path, start_id: int) -> dict:
    deadline = time.monotonic() + 10
    path = folder / f"w{start_id}.out"
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().endswith("\n"):
            return json.loads(path.read_text())
        select.select([], [], [], 0.005)
    raise AssertionError("the worker reported nothing")


def wait_until_gone(pid: int, started: int) -> None:
    deadline = time.monotonic() + 10
    while is_alive(pid, started):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        select.select([], [], [], 0.005)


@pytest.fixture
def zygote():
    peer = Peer()
    peer.expect(ZygoteReady)
    yield peer
    peer.handle.close()


def test_a_forked_worker_has_its_own_group_name_signals_and_files(zygote, tmp_path):
    pid = zygote.fork(tmp_path, 1, SAID="hello")
    report = report_of(tmp_path, 1)
    assert report["pid"] == report["group"] == pid
    assert report["parent"] == zygote.handle.process.pid
    assert report["comm"] == "ray::IDLE"
    assert report["variable"] == "hello"
    assert report["pythonpath"] == os.environ.get("PYTHONPATH")
    assert report["safepath"] == os.environ.get("PYTHONSAFEPATH")
    assert report["openblas"] == os.environ.get("OPENBLAS_NUM_THREADS")
    assert report["main"] == []
    assert report["sigint"] == signal.SIG_IGN
    assert report["sigchld"] == signal.SIG_DFL
    assert report["threads"] == 1
    # 0, 1, 2 and the descriptor of the listing itself: no socket of the zygote came along.
    assert report["fds"][:3] == [0, 1, 2] and len(report["fds"]) == 4
    assert (tmp_path / "w1.err").read_text() == "to stderr\n"


@pytest.mark.slow
def test_what_is_to_be_imported_ahead_is_there_in_every_worker_and_what_cannot_be_is_left_out(monkeypatch):
    monkeypatch.setenv("RAYBOOK_WORKER_PRELOAD", "sched, no_such_module,graphlib")
    ray.init(num_cpus=1)
    try:
        loaded = ray.remote(lambda: sorted({"sched", "graphlib", "no_such_module", "chunk"} & set(sys.modules)))
        assert ray.get(loaded.remote()) == ["graphlib", "sched"]
    finally:
        ray.shutdown()


def test_two_forks_draw_different_random_numbers(zygote, tmp_path):
    zygote.fork(tmp_path, 1)
    zygote.fork(tmp_path, 2)
    first, second = report_of(tmp_path, 1), report_of(tmp_path, 2)
    assert first["random"] != second["random"]
    assert first["numpy"] != second["numpy"]


def test_an_exit_code_is_reported(zygote, tmp_path):
    pid = zygote.fork(tmp_path, 1, ends="7")
    exited = zygote.expect(WorkerExited)
    assert exited.pid == pid
    assert os.waitstatus_to_exitcode(exited.status) == 7
    assert exited.rss_bytes_max > 1_000_000


def test_an_exception_of_the_worker_ends_in_its_log_and_in_code_1(zygote, tmp_path):
    zygote.fork(tmp_path, 1, raises="1")
    assert os.waitstatus_to_exitcode(zygote.expect(WorkerExited).status) == 1
    assert "ValueError: as asked" in (tmp_path / "w1.err").read_text()


def test_a_killed_worker_is_reported_with_its_signal(zygote, tmp_path):
    pid = zygote.fork(tmp_path, 1)
    report_of(tmp_path, 1)
    zygote.framed.queue(KillProcess(pid, signal.SIGTERM))
    zygote.framed.flush()
    exited = zygote.expect(WorkerExited)
    assert (exited.pid, os.waitstatus_to_exitcode(exited.status)) == (pid, -signal.SIGTERM)


def test_killing_an_unknown_pid_does_nothing(zygote, tmp_path):
    zygote.framed.queue(KillProcess(os.getpid(), signal.SIGKILL))
    zygote.framed.flush()
    assert zygote.fork(tmp_path, 1) > 0


def test_closing_the_socket_ends_zygote_and_workers(zygote, tmp_path):
    pids = [zygote.fork(tmp_path, number) for number in (1, 2, 3)]
    started = {pid: start_time(pid) for pid in pids}
    zygote.handle.close()
    assert zygote.handle.process.returncode == 0
    for pid in pids:
        wait_until_gone(pid, started[pid])


def test_workers_die_with_a_killed_zygote(zygote, tmp_path):
    pid = zygote.fork(tmp_path, 1)
    started = start_time(pid)
    zygote.handle.process.kill()
    wait_until_gone(pid, started)


def test_zygote_and_workers_die_with_the_process_that_started_it(tmp_path):
    script = (
        "import os, sys, time\n"
        "from raybook.raylet.zygote_client import start_zygote\n"
        "handle = start_zygote(worker_main='raybook.testing.probe_worker')\n"
        "print(handle.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    try:
        pid = int(starter.stdout.readline())
        started = start_time(pid)
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
    wait_until_gone(pid, started)


def test_a_fork_touches_few_pages(zygote, tmp_path):
    zygote.fork(tmp_path, 1)
    zygote.fork(tmp_path, 2)
    # An import or a copy on the way to a worker's first line shows here as pages, whatever else the machine does.
    assert report_of(tmp_path, 2)["faults"] < 1500
