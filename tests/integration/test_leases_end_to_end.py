"""Leases as users meet them: turns, room for others, and every task run once."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import raybook as ray

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    yield ray
    ray.shutdown()


def wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([pidfd], [], [], 20)
    os.close(pidfd)
    assert ended, f"process {pid} has not ended"


def test_no_task_runs_twice_when_leases_change_hands_beside_a_busy_thread(cluster, tmp_path: Path) -> None:
    ray.init(num_cpus=2)
    path = str(tmp_path / "runs")

    def note(number: int) -> int:
        descriptor = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"%d\n" % number)
        os.close(descriptor)
        return number

    small = ray.remote(note)
    large = ray.remote(num_cpus=1.5)(note)
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    # It holds the interpreter lock, so that the I/O thread finds replies and the news of their leases' ends together.
    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for number in range(0, 60, 3):
            ray.get([small.remote(number), large.remote(number + 1), small.remote(number + 2)])
    finally:
        stop.set()
        thread.join()
    runs = Counter(Path(path).read_text().split())
    assert len(runs) == 60 and set(runs.values()) == {1}


def test_tasks_of_a_process_that_serves_one_each_run_once(cluster, tmp_path: Path) -> None:
    ray.init(num_cpus=2)
    path = str(tmp_path / "runs")

    @ray.remote(max_calls=1)
    def note(number: int) -> int:
        descriptor = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"%d\n" % os.getpid())
        os.close(descriptor)
        return number

    assert ray.get([note.remote(number) for number in range(12)]) == list(range(12))
    runs = Counter(Path(path).read_text().split())
    assert len(runs) == 12 and set(runs.values()) == {1}


def test_another_class_gets_its_turn_beside_a_long_backlog(cluster) -> None:
    ray.init(num_cpus=1)

    @ray.remote
    def grind(number: int) -> int:
        time.sleep(0.02)
        return number

    @ray.remote(num_cpus=0.5)
    def other() -> str:
        return "other"

    backlog = [grind.remote(number) for number in range(150)]
    began = time.monotonic()
    assert ray.get(other.remote()) == "other"
    waited_s = time.monotonic() - began
    unfinished = ray.wait(backlog, num_returns=len(backlog), timeout=0)[1]
    assert len(unfinished) > 50, f"it waited {waited_s:.1f} s, until the backlog was done"
    assert ray.get(backlog) == list(range(150))


def test_an_actor_starts_beside_a_long_backlog(cluster) -> None:
    ray.init(num_cpus=1)

    @ray.remote
    def grind(number: int) -> int:
        time.sleep(0.02)
        return number

    @ray.remote
    class Counter:
        def count(self) -> int:
            return 1

    backlog = [grind.remote(number) for number in range(150)]
    counter = Counter.remote()
    assert ray.get(counter.count.remote()) == 1
    assert len(ray.wait(backlog, num_returns=len(backlog), timeout=0)[1]) > 50
    assert ray.get(backlog) == list(range(150))


def test_tasks_a_hundred_deep_end_on_one_cpu(cluster) -> None:
    ray.init(num_cpus=1)

    @ray.remote
    def nest(depth: int) -> int:
        return depth and 1 + ray.get(nest.remote(depth - 1))

    assert ray.get(nest.remote(100)) == 100


def test_what_is_available_is_right_soon_after_work_ended(cluster) -> None:
    ray.init(num_cpus=2)

    @ray.remote
    def pause() -> dict:
        time.sleep(0.05)
        return ray.available_resources()

    seen = ray.get(pause.remote())
    assert seen.get("CPU", 0) == 1
    assert ray.available_resources()["CPU"] == 2


def test_a_worker_that_owns_objects_is_not_ended_for_being_idle(cluster, monkeypatch) -> None:
    monkeypatch.setenv("RAYBOOK_WORKER_IDLE_MS", "100")
    ray.init(num_cpus=1)

    @ray.remote
    def nest(depth: int) -> list:
        return [ray.put(depth), os.getpid()] + (ray.get(nest.remote(depth - 1)) if depth else [])

    @ray.remote
    def empty_nest(depth: int) -> list:
        return [os.getpid()] + (ray.get(empty_nest.remote(depth - 1)) if depth else [])

    found = ray.get(nest.remote(3))
    refs, owners = found[::2], found[1::2]
    others = [pid for pid in ray.get(empty_nest.remote(6)) if pid not in owners]
    assert others
    # Those who own nothing end; by then those who do have been asked as well.
    for pid in others[:-1]:
        wait_for_end(pid)
    assert ray.get(refs) == [3, 2, 1, 0]
