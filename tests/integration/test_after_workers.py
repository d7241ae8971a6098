"""What is left of workers that are gone: no sockets, no empty logs, no second run of what may run once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import raybook as ray
from raybook.api.context import current_runtime

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.raybook_only, pytest.mark.timeout(30)]


def session() -> Path:
    return Path(current_runtime.cluster.session_dir)


def test_a_killed_worker_leaves_neither_its_socket_nor_empty_logs(eventually):
    @ray.remote(num_cpus=0)
    class Silent:
        def pid(self):
            return os.getpid()

    actors = [Silent.remote() for _ in range(3)]
    pids = ray.get([actor.pid.remote() for actor in actors])
    known = {path.name for path in session().glob("*.s")}
    logs = {path.name for path in (session() / "logs").glob("worker-*")}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    eventually(lambda: len(known & {path.name for path in session().glob("*.s")}) <= len(known) - 3)
    eventually(lambda: len(logs & {path.name for path in (session() / "logs").glob("worker-*")}) <= len(logs) - 6)


def test_what_a_dead_worker_had_printed_stays_on_disk(eventually):
    @ray.remote(num_cpus=0)
    class Speaker:
        def speak(self):
            print("last words", flush=True)
            return os.getpid()

    speaker = Speaker.remote()
    os.kill(ray.get(speaker.speak.remote()), signal.SIGKILL)
    eventually(lambda: any("last words" in path.read_text() for path in (session() / "logs").glob("worker-*.out")))


def test_a_task_that_may_run_once_does_not_run_again_though_answers_before_it_were_unsent(own_cluster, tmp_path):
    own_cluster(num_cpus=1)
    mark = str(tmp_path / "runs")

    @ray.remote
    def step(kind):
        if kind == "die":
            with open(mark, "ab") as file:
                file.write(b".")
            os.kill(os.getpid(), signal.SIGKILL)
        return kind

    for _ in range(20):
        Path(mark).unlink(missing_ok=True)
        ray.get([step.remote("warm") for _ in range(50)])
        once = step.options(max_retries=0)
        refs = [once.remote("live"), *(step.remote("live") for _ in range(5)), once.remote("die")]
        refs += [step.remote("live") for _ in range(5)]
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(refs[6])
        assert Path(mark).read_bytes() == b"."
        assert ray.get(refs[:6] + refs[7:]) == ["live"] * 11
