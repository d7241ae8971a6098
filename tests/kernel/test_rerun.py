"""``%ray_rerun``: a failed task, its function and its arguments, in the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernel_process import KernelProcess

PREPARED = """
import raybook as ray
%ray_cluster start --cpus 2 --name fox
scale = 10
@ray.remote
def divide(values, by=1):
    return sum(values) * scale // by
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess(tmp_path_factory.mktemp("rerun")) as process:
        outcome = process.run(PREPARED)
        assert outcome.status == "ok", outcome.error
        yield process
        process.run("ray.shutdown()")


def test_before_anything_failed_it_says_so_in_a_line(kernel):
    outcome = kernel.run("%ray_rerun")
    assert "No task that this notebook submitted has raised an error" in outcome.error


def test_the_traceback_of_a_task_says_how_to_run_it_here(kernel):
    outcome = kernel.run("ray.get(divide.remote(ray.put([1, 2, 3]), by=0))")
    assert "ZeroDivisionError" in outcome.error
    assert "%ray_rerun runs this task in the kernel" in outcome.traceback


def test_it_runs_here_with_the_arguments_it_had_and_raises_here(kernel):
    outcome = kernel.run("%ray_rerun")
    assert "return sum(values) * scale // by" in outcome.traceback
    assert "ZeroDivisionError" in outcome.error and "ray::" not in outcome.traceback
    found = kernel.run("print(rerun.args, rerun.kwargs, rerun.function.__name__)")
    assert found.text.strip() == "([1, 2, 3],) {'by': 0} divide"
    # What %debug needs.
    frames = kernel.run("import sys, traceback; print(traceback.extract_tb(sys.last_value.__traceback__)[-1].name)")
    assert frames.text.strip() == "divide"


def test_a_task_is_chosen_by_name_and_only_brought(kernel):
    kernel.run("@ray.remote\ndef other():\n    raise KeyError('x')\nray.get(other.remote())")
    outcome = kernel.run("%ray_rerun divide --bring")
    assert outcome.error == ""
    assert kernel.value("rerun.function(*rerun.args, by=3)") == 20
    assert "did you mean" in kernel.run("%ray_rerun divid").error.lower()
