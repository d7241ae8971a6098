"""The magics that look, explain, cancel and run cells elsewhere, in a real kernel on a real cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.kernel_process import KernelProcess

PREPARED = """
import raybook as ray, threading, time
%ray_cluster start --cpus 2 --gpus 1 --name fox
@ray.remote
def square(x):
    print("squaring", x)
    return x * x
@ray.remote
def wait_for(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"
@ray.remote(num_gpus=1, num_cpus=0)
class Trainer:
    def step(self):
        return 1
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess(tmp_path_factory.mktemp("working")) as process:
        outcome = process.run(PREPARED)
        assert outcome.status == "ok", outcome.error
        yield process
        process.run("ray.shutdown()")


@pytest.fixture
def gate(kernel: KernelProcess, tmp_path: Path) -> Iterator[Path]:
    """Tasks of ``wait_for`` wait until it is there."""
    path = tmp_path / "gate"
    yield path
    path.touch()
    kernel.run("%ray_cancel --all --force")


def shown(outcome) -> str:
    return "".join(bundle.get("text/plain", "") for bundle in outcome.bundles)


def test_tasks_are_a_table_that_can_be_kept(kernel):
    kernel.run("ray.get([square.remote(n) for n in range(3)])")
    outcome = kernel.run("%ray_tasks square --state finished")
    assert outcome.error == ""
    assert shown(outcome).splitlines()[0].split() == [
        "Task",
        "State",
        "Ran",
        "Worker",
        "Attempt",
        "From",
        "Error",
        "Id",
    ]
    assert "FINISHED" in shown(outcome)
    assert "<table" in outcome.bundles[0]["text/html"]
    kernel.run("rows = %ray_tasks square")
    assert kernel.value("len(rows) >= 3 and rows[0]['name'].endswith('square')") is True


def test_what_ran_is_replayed_with_another_number_of_workers(kernel):
    kernel.run("ray.get([square.remote(n) for n in range(4)])")
    text = kernel.run("%ray_timeline --what-if workers=8 square").text
    # Among lines that workers print meanwhile.
    assert "Recorded: " in text and "With 8 at once: " in text
    assert "nothing to replay" in kernel.run("%ray_timeline --what-if workers=8 nothing_of_this_name").error
    assert "workers=N, such as workers=8" in kernel.run("%ray_timeline --what-if many").error
    assert kernel.complete("%ray_timeline --wh") == ["--what-if"]


def test_a_hostile_name_is_escaped(kernel):
    kernel.run("ray.get(square.options(name='<script>alert(1)</script>').remote(1))")
    html = kernel.run("%ray_tasks script").bundles[0]["text/html"]
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_actors_tell_what_they_hold(kernel):
    kernel.run("trainer = Trainer.remote(); ray.get(trainer.step.remote())")
    outcome = kernel.run("%ray_actors Trainer --state alive")
    assert "1 GPU" in shown(outcome)
    kernel.run("del trainer")


def test_memory_names_the_variable_that_holds_an_object(kernel):
    kernel.run("big = ray.put(bytes(3_000_000))")
    assert any("big" in line and "2.86 MiB" in line for line in shown(kernel.run("%ray_memory")).splitlines())
    kernel.run("del big")


def test_logs_show_what_workers_wrote(kernel):
    kernel.run("ray.get(square.remote(41))")
    deadline = time.monotonic() + 5
    while "squaring 41" not in (text := kernel.run("%ray_logs --tail 20").text):
        assert time.monotonic() < deadline, text
    assert "(pid=" in text


def test_timeline_writes_a_trace(kernel, tmp_path):
    path = tmp_path / "trace.json"
    outcome = kernel.run(f"_ = %ray_timeline {path}")
    assert outcome.error == ""
    assert any(event["name"].endswith("square") for event in json.loads(path.read_text()))


def test_why_names_what_is_short_and_who_holds_it(kernel):
    kernel.run("trainer = Trainer.remote(); ray.get(trainer.step.remote())")
    kernel.run("starved = square.options(num_gpus=1).remote(3)")
    text = kernel.run("%ray_why starved").text
    assert "It needs 1 GPU: 0 of 1 are free, held by actor `Trainer` (1)." in text
    kernel.run("%ray_cancel starved")
    kernel.run("del trainer, starved")


def test_what_the_same_cell_has_just_submitted_is_known(kernel, gate):
    submitted = f"fresh = wait_for.options(name='fresh').remote({str(gate)!r})\n"
    assert "`fresh`" in kernel.run(submitted + "%ray_why fresh").text
    assert (
        "Cancelled 2 tasks of `fresh`."
        in kernel.run(submitted.replace("fresh =", "second =") + "%ray_cancel fresh").text
    )


def test_why_says_that_an_object_is_ready(kernel):
    kernel.run("ready = square.remote(3); ray.get(ready)")
    assert "it is ready" in kernel.run("%ray_why ready").text


def test_cancel_without_a_name_ends_what_the_last_cell_submitted(kernel, gate):
    kernel.run(f"kept = wait_for.remote({str(gate)!r})")
    kernel.run(f"lost = [wait_for.remote({str(gate)!r}) for _ in range(3)]")
    assert "Cancelled 3 tasks of In[" in kernel.run("%ray_cancel").text
    outcome = kernel.run("ray.get(lost[2])")
    assert "TaskCancelledError" in outcome.error
    gate.touch()
    assert kernel.value("ray.get(kept)") == "done"


def test_cancel_takes_a_name_of_tasks(kernel, gate):
    kernel.run(f"named = wait_for.options(name='sweep').remote({str(gate)!r})")
    assert "Cancelled 1 task of `sweep`." in kernel.run("%ray_cancel sweep").text


def interrupted_get(kernel, gate: Path) -> str:
    """What a cell says that waits for two tasks and is interrupted once both have been submitted."""
    message_id = kernel.begin(
        f"refs = [wait_for.remote({str(gate)!r}) for _ in range(2)]\nprint('waits')\nray.get(refs)"
    )
    kernel.listen_until(lambda message: "waits" in message["content"].get("text", ""))
    kernel.interrupt()
    outcome = kernel.wait(message_id)
    assert "KeyboardInterrupt" in outcome.error
    return outcome.text


def test_an_interrupt_ends_the_wait_and_leaves_the_work(kernel, gate):
    assert "The wait is over, the work goes on: 2 `wait_for` of In[" in interrupted_get(kernel, gate)
    gate.touch()
    assert kernel.value("ray.get(refs)") == ["done", "done"]


def test_a_second_interrupt_soon_after_cancels_what_the_cell_submitted(kernel, gate):
    interrupted_get(kernel, gate)
    kernel.interrupt()
    kernel.listen_until(lambda message: "Cancelled 2 tasks of In[" in message["content"].get("text", ""))
    assert "TaskCancelledError" in kernel.run("ray.get(refs)").error


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%ray_tasks --state done", "UsageError: --state: one of PENDING_ARGS_AVAIL, "),
        ("%ray_tasks --limit none", "UsageError: --limit: a number such as 20 is needed, got 'none'."),
        ("%ray_why nothing_there", "UsageError: There is no variable and no unfinished task 'nothing_there'."),
        ("%ray_cancel json", "UsageError: There is no variable and no unfinished task 'json'."),
        ("%ray_logs zz", "UsageError: No worker of this node has pid or id 'zz'."),
        ("%tune_watch", "UsageError: No sweep has run on this cluster yet."),
        ("%ray_timeline /nowhere/at/all.json", "UsageError: [Errno 2] No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(kernel, line, expected):
    outcome = kernel.run(line)
    assert outcome.error.startswith(expected)


def test_help_lists_the_options(kernel):
    assert "--state STATE" in kernel.run("%ray_tasks --help").text


def test_a_cell_runs_as_a_task_and_its_names_come_back(kernel):
    kernel.run("base = 20; import os as operating")
    outcome = kernel.run("%%ray_task --name crunch\nimport os\nanswer = base + 22\nwhere = os.getpid()\nanswer * 2")
    assert outcome.error == ""
    assert "Ships base." in outcome.text
    assert shown(outcome) == "84"
    assert kernel.value("answer") == 42
    assert kernel.value("where != operating.getpid()") is True


def test_only_the_names_asked_for_come_back(kernel):
    kernel.run("%%ray_task --out kept\nkept = 1\ndropped = 2")
    assert kernel.value("kept") == 1
    assert kernel.value("'dropped' in globals()") is False
    assert "the cell does not bind 'missing'" in kernel.run("%%ray_task --out missing\nkept = 1").error


def test_large_inputs_are_told_with_their_size(kernel):
    kernel.run("table = bytes(5 << 20)")
    assert "Ships table (5.00 MiB)." in kernel.run("%%ray_task\nlen(table)").text


def test_an_input_that_cannot_be_sent_is_named(kernel):
    kernel.run("lock = threading.Lock()")
    assert "The cell reads `lock`" in kernel.run("%%ray_task\nlock.acquire()").error


def test_an_error_names_the_line_of_the_cell(kernel):
    outcome = kernel.run("%%ray_task\nfine = 1\nfine / 0")
    assert "ZeroDivisionError" in outcome.error
    trace = "\n".join(line for message in outcome.of("error") for line in message["content"]["traceback"])
    assert "line 3" in trace


def test_a_background_cell_returns_a_reference(kernel):
    kernel.run("background = get_ipython().run_cell_magic('ray_task', '--background', 'six = 6')")
    assert kernel.value("ray.get(background)[0]") == {"six": 6}


def test_a_cell_runs_on_every_node(kernel):
    assert kernel.run("%%ray_all\n6 * 7").bundles[0]["text/plain"].endswith(": 42}")


def test_a_reference_among_the_inputs_stays_a_reference(kernel):
    kernel.run("held = ray.put([1, 2])")
    assert shown(kernel.run("%%ray_task\nimport raybook\nsum(raybook.get(held))")) == "3"
