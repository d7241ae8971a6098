"""Tasks that take each other's results, end to end: values, failures, cancelling, retries, lost workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(60)]


def warm(function: Any, *args: object) -> None:
    """Run it until it is measured, so that what comes next is pipelined."""
    for _ in range(3):
        ray.get(function.remote(*args))


def test_a_long_chain_of_small_results_ends_with_the_right_value():
    @ray.remote
    def add_one(value):
        return value + 1

    warm(add_one, 0)
    ref = add_one.remote(0)
    for _ in range(1999):
        ref = add_one.remote(ref)
    assert ray.get(ref) == 2000


@pytest.mark.parametrize("size", [10, 5_000, 50_000, 400_000])
def test_a_chain_of_arrays_ends_with_the_right_values(size: int):
    @ray.remote
    def add_one(array):
        return array + 1

    warm(add_one, np.zeros(size))
    ref = add_one.remote(np.zeros(size))
    for _ in range(29):
        ref = add_one.remote(ref)
    assert (ray.get(ref) == 30).all()


def test_a_chain_of_results_with_references_inside_keeps_what_they_refer_to():
    @ray.remote
    def wrap(box):
        return [ray.put(ray.get(box[0]) + 1)]

    first = [ray.put(0)]
    warm(wrap, first)
    ref = wrap.remote(first)
    for _ in range(9):
        ref = wrap.remote(ref)
    assert ray.get(ray.get(ref)[0]) == 10


def test_a_chain_through_one_return_of_several():
    @ray.remote(num_returns=2)
    def step(value):
        return -1, value + 1

    for _ in range(3):
        ray.get(step.remote(0))
    value = 0
    for _ in range(100):
        _, value = step.remote(value)
    assert ray.get(value) == 100


def test_an_error_early_in_a_chain_is_what_its_end_raises(tmp_path: Path):
    @ray.remote
    def step(value, log, fails=False):
        with open(log, "a") as file:
            file.write(".")
        if fails:
            raise ValueError("the third is wrong")
        return value

    log = str(tmp_path / "runs")
    warm(step, 0, str(tmp_path / "warm"))
    ref = step.remote(0, log)
    for index in range(20):
        ref = step.remote(ref, log, index == 1)
    with pytest.raises(ValueError, match="the third is wrong"):
        ray.get(ref)
    assert Path(log).read_text() == "..."


def test_a_step_that_is_tried_again_hands_its_second_result_on(tmp_path: Path):
    @ray.remote(max_retries=2, retry_exceptions=True)
    def step(value, mark=""):
        if mark and not os.path.exists(mark):
            Path(mark).touch()
            raise RuntimeError("not yet")
        return value + 1

    warm(step, 0)
    ref = step.remote(0)
    for index in range(20):
        ref = step.remote(ref, str(tmp_path / "mark") if index == 10 else "")
    assert ray.get(ref) == 21


def test_a_chain_survives_the_death_of_the_worker_that_runs_it(tmp_path: Path):
    @ray.remote(max_retries=2)
    def step(value, mark=""):
        if mark and not os.path.exists(mark):
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return value + 1

    warm(step, 0)
    ref = step.remote(0)
    for index in range(20):
        ref = step.remote(ref, str(tmp_path / "mark") if index == 10 else "")
    assert ray.get(ref) == 21


def test_cancelling_the_middle_of_a_chain_ends_all_that_comes_after_it(tmp_path: Path):
    gate = tmp_path / "gate"

    @ray.remote
    def step(value, gate=""):
        deadline = time.monotonic() + 20
        while gate and not os.path.exists(gate) and time.monotonic() < deadline:
            time.sleep(0.005)
        return value + 1

    warm(step, 0)
    refs = [step.remote(0, str(gate))]
    for _ in range(10):
        refs.append(step.remote(refs[-1]))
    ray.cancel(refs[5])
    gate.touch()
    assert ray.get(refs[4]) == 5
    for ref in refs[5:]:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref)


def test_a_chain_that_turns_slow_lets_other_tasks_run(tmp_path: Path):
    gate = tmp_path / "gate"

    @ray.remote
    def step(value, gate=None):
        while gate and not gate.exists():
            time.sleep(0.005)
        return value + 1

    warm(step, 0)
    chain = step.remote(0, gate)
    for _ in range(10):
        chain = step.remote(chain)
    try:
        assert ray.get([step.remote(0) for _ in range(20)], timeout=20) == [1] * 20
    finally:
        gate.touch()
    assert ray.get(chain) == 11


def test_an_object_taken_twice_by_one_task_runs_it_once(tmp_path: Path):
    @ray.remote
    def slow():
        time.sleep(0.1)
        return 1

    @ray.remote
    def both(left, right, log):
        with open(log, "a") as file:
            file.write(".")
        return left + right

    log = tmp_path / "runs"
    ref = slow.remote()
    assert ray.get(both.remote(ref, ref, str(log))) == 2
    # A second run would have been pushed beside the first, so it is over before what is submitted now.
    assert ray.get(both.remote(ref, ref, str(log))) == 2
    assert log.read_text() == ".."
