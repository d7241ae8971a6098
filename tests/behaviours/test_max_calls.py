"""max_calls: a process ends after so many tasks, and takes nothing with it that somebody still needs."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest


def test_a_process_runs_so_many_tasks(ray):
    @ray.remote(max_calls=2)
    def pid():
        return os.getpid()

    assert len({ray.get(pid.remote()) for _ in range(4)}) == 2


@pytest.mark.slow
def test_references_from_a_process_that_has_done_its_calls_stay_good(ray):
    @ray.remote
    def child():
        import time

        time.sleep(0.05)
        return 0

    @ray.remote(max_calls=1, max_retries=0)
    def parent():
        return [child.remote(), ray.put(np.zeros(100_000)), ray.put(5)]

    for child_ref, large, small in ray.get([parent.remote() for _ in range(12)], timeout=30):
        assert ray.get(child_ref, timeout=20) == 0
        assert ray.get(large, timeout=20).size == 100_000
        assert ray.get(small, timeout=20) == 5


def test_such_a_process_holds_no_resources_and_ends_when_nobody_needs_it(ray, till):
    @ray.remote(max_calls=1, num_gpus=1)
    def work():
        return os.getpid(), ray.put(1)

    kept = [ray.get(work.remote(), timeout=20) for _ in range(4)]
    assert [ray.get(ref, timeout=20) for _, ref in kept] == [1] * 4
    pids = [pid for pid, _ in kept]
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids)
    del kept
    gc.collect()
    till(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_a_child_that_nobody_asks_for_is_still_run(ray, attempts, till, tmp_path):
    @ray.remote
    def child():
        attempts("child")

    @ray.remote(max_calls=1)
    def parent():
        child.remote()

    ray.get(parent.remote())
    till((tmp_path / "child").exists)
