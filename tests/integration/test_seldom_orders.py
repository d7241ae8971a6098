"""Orders of events that the simulator found, on real processes: crashes in a pipeline, ends of workers, one CPU for two."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import raybook as ray

pytestmark = pytest.mark.timeout(40)


@pytest.mark.slow
def test_a_task_that_crashes_among_many_runs_once_and_fails_no_other(own_cluster: Callable, tmp_path: Path) -> None:
    own_cluster(num_cpus=1)
    runs = tmp_path / "runs"

    @ray.remote(max_retries=0)
    def work(number: int) -> int:
        if number == 7:
            with open(runs, "a") as file:
                file.write("x")
            os._exit(1)
        return number

    ray.get([work.remote(0) for _ in range(50)])
    refs = [work.remote(number) for number in range(12)]
    ends = []
    for ref in refs:
        try:
            ends.append(ray.get(ref))
        except ray.exceptions.WorkerCrashedError:
            ends.append(None)

    assert ends == [None if number == 7 else number for number in range(12)]
    assert runs.read_text() == "x"


@pytest.mark.slow
def test_an_actor_does_not_keep_the_cpu_that_its_argument_needs(own_cluster: Callable) -> None:
    own_cluster(num_cpus=1)

    @ray.remote
    def first() -> int:
        return 1

    @ray.remote
    def second(number: int) -> int:
        return ray.get(first.remote()) + number

    @ray.remote(num_cpus=1)
    class Keeper:
        def __init__(self, value: int) -> None:
            self.value = value

        def get(self) -> int:
            return self.value

    keepers = [Keeper.remote(second.remote(second.remote(1)))]

    assert ray.get(keepers[0].get.remote(), timeout=20) == 3


@pytest.mark.slow
def test_a_worker_that_is_used_up_stays_while_others_need_what_it_put(cluster: object) -> None:
    @ray.remote(max_calls=1)
    def make() -> list:
        return [ray.put("kept"), os.getpid()]

    inner, pid = ray.get(make.remote())
    other = ray.get(make.remote())[1]

    assert other != pid, "it serves nobody any more"
    assert ray.get(inner) == "kept"


@pytest.mark.slow
def test_a_worker_that_is_used_up_answers_before_it_ends_also_when_a_third_owner_must_know(cluster: object) -> None:
    @ray.remote(max_calls=1, max_retries=0)
    def look(box: list) -> str:
        return ray.get(box[0])

    @ray.remote
    def between(box: list) -> list:
        return ray.get([look.remote(box) for _ in range(3)])

    assert ray.get(between.remote([ray.put("seen")])) == ["seen"] * 3
