"""What a cluster that does nothing costs: the kernel counts how often its processes wake up."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

import pytest

import raybook as ray
from raybook.api.context import current_runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
idle = importlib.import_module("idle")

pytestmark = [pytest.mark.raybook_only, pytest.mark.timeout(60)]

LOOK_S = 2.0


@pytest.mark.slow
def test_an_idle_cluster_hardly_wakes_up_and_its_actors_do_not(own_cluster, eventually):
    own_cluster(num_cpus=2)

    @ray.remote(num_cpus=0)
    class Resident:
        def here(self):
            return None

    actors = [Resident.remote() for _ in range(10)]
    ray.get([actor.here.remote() for actor in actors] + [ray.remote(lambda: None).remote() for _ in range(20)])
    head_pid = current_runtime.cluster.process.pid
    # Whoever has just worked looks a few times more before it rests.
    eventually(lambda: idle.measure(0.5, head_pid)["worker"][2] < 10)

    figures = idle.measure(LOOK_S, head_pid)

    assert figures["worker"][0] >= 10
    assert figures["worker"][2] < 12, "idle workers wake up more than once a second each"
    assert figures["head"][2] < 45 and figures["driver"][2] < 6 and figures["zygote"][2] < 1
    assert sum(cpu for _, cpu, _ in figures.values()) < 0.05
    assert sum(idle.pss_mb(pid) for pid, role in idle.roles(head_pid).items() if role in ("head", "zygote")) < 150


@pytest.mark.slow
def test_a_worker_at_rest_answers_at_once_and_a_short_tasks_answer_does_not_wait_for_the_long_one_behind_it(
    own_cluster, tmp_path
):
    own_cluster(num_cpus=1)

    @ray.remote
    def work(gate=None):
        while gate and not gate.exists():
            time.sleep(0.005)
        return gate is not None

    ray.get([work.remote() for _ in range(50)])
    time.sleep(2.5)
    gate = tmp_path / "gate"
    short, long = work.remote(), work.remote(gate)
    assert ray.get(short, timeout=10) is False
    gate.touch()
    assert ray.get(long, timeout=10) is True
