"""Which version of a cell's code actors and tasks run, and what functions drag along, told in a real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernel_process import KernelProcess

PREPARED = """
import raybook as ray
%ray_cluster start --cpus 4 --name fox
@ray.remote
def wait_for(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"
"""
WORKER = """
scale = {scale}
@ray.remote(num_cpus=0)
class Worker:
    def work(self):
        return scale
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess(tmp_path_factory.mktemp("code")) as process:
        outcome = process.run(PREPARED)
        assert outcome.status == "ok", outcome.error
        yield process
        process.run("ray.shutdown()")


@pytest.fixture
def two_old_actors(kernel: KernelProcess) -> Iterator[KernelProcess]:
    """Two actors of a class whose cell has run again since, otherwise."""
    kernel.run(WORKER.format(scale=1))
    made = kernel.run("actors = [Worker.remote() for _ in range(2)]; ray.get([a.work.remote() for a in actors])")
    assert made.status == "ok" and "still run" not in made.text
    yield kernel
    kernel.run("for a in actors: ray.kill(a)\ndel actors, Worker, scale")


def test_the_cell_that_changes_a_class_says_who_still_runs_the_old_one(two_old_actors):
    kernel = two_old_actors
    edited = kernel.run(WORKER.format(scale=1).replace("return scale", "return scale + 1"))
    number = kernel.value("len(In) - 2")
    assert f"2 actors still run v1 of `Worker` (In[{number}] has v2)." in edited.text
    assert "still run" not in kernel.run("1").text, "A hint was given twice."
    status = kernel.run("%ray_cluster status").text
    assert f"2 actors still run v1 of `Worker` (In[{number}] has v2)." in status
    table = kernel.run("%ray_actors Worker --state alive")
    assert table.error == ""
    assert table.bundles[0]["text/plain"].count(f"runs v1 of `Worker`, In[{number}] has v2") == 2


def test_panels_of_every_process_learn_of_it_and_forget_it(two_old_actors):
    kernel = two_old_actors
    kernel.run(WORKER.format(scale=1).replace("return scale", "return -scale"))
    ask = "session_of(get_ipython()).hub.feed.wait_until(lambda view: {}, 10)"
    kernel.run("from raybook_kernel.session import session_of")
    assert kernel.value(ask.format("sum('of `Worker`' in row.stale for row in view.actors) == 2")) is True
    kernel.run(WORKER.format(scale=1))
    assert kernel.value(ask.format("not any(row.stale for row in view.actors)")) is True


def test_a_changed_constant_is_told_of_as_what_it_is(two_old_actors):
    text = two_old_actors.run("scale = 5").text
    assert "2 actors still run v1 of `scale`" in text
    assert "`Worker` was sent with v1 of `scale` and keeps it" in text
    assert "run the cell of `Worker` again" in text


def test_tasks_that_wait_or_run_are_counted_until_they_are_over(kernel, tmp_path):
    gate = tmp_path / "gate"
    kernel.run(f"refs = [wait_for.remote({str(gate)!r}) for _ in range(3)]")
    edited = kernel.run("@ray.remote\ndef wait_for(path):\n    return 'at once'")
    assert "3 tasks still run v1 of `wait_for`" in edited.text
    assert "3 tasks still run v1 of `wait_for`" in kernel.run("%ray_cluster status").text
    gate.touch()
    kernel.run("ray.get(refs)")
    assert "of `wait_for`" not in kernel.run("%ray_cluster status").text


def test_a_large_capture_is_told_of_once_with_what_to_do(kernel):
    text = kernel.run(
        "table = bytes(3_000_000)\n@ray.remote\ndef measure(n):\n    return len(table) + n\n"
        "ray.get([measure.remote(n) for n in range(8)])[0]"
    ).text
    assert "`measure` captures `table` (2.86 MiB)" in text
    assert "used by 8 tasks so far" in text
    assert "table_ref = ray.put(table)" in text
    assert "captures" not in kernel.run("ray.get(measure.remote(1))").text
