"""The commands that look at a cluster, against a real one: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import raybook as ray
from raybook import cli
from raybook.commands import rows
from raybook.commands.tables import bytes_text, cell

pytestmark = pytest.mark.raybook_only

NAME = "cli-test"


@pytest.fixture
def cluster(shutdown_after_module: None) -> None:
    """One named cluster for all tests here."""
    if not ray.is_initialized() or not run("status", NAME).exit_code == 0:
        ray.shutdown()
        ray.init(num_cpus=2, name=NAME, resources={"licence": 3}, log_to_driver=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def rows_of(*arguments: str) -> list[dict]:
    result = run(*arguments, "--address", NAME, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def make_counter(**options: object):
    @ray.remote
    class Counter:
        def up(self):
            print("one up")
            return os.getpid()

    return Counter.options(**options).remote()


def test_status_tells_what_is_used_of_what_there_is_and_why_work_waits(cluster):
    counter = make_counter(resources={"licence": 2})
    ray.get(counter.up.remote())
    waiting = make_counter(resources={"licence": 2})
    run("list", "nodes", "--address", NAME)  # Waits until the cluster serves others than its driver.
    output = run("status", NAME).output
    assert "licence 2/3" in output
    assert "waiting: " in output and "licence" in output.partition("waiting: ")[2]
    (row,) = json.loads(run("status", NAME, "--format", "json").output)
    assert row["nodes"][0]["resources"]["licence"] == [2, 3] and row["waiting"]
    ray.kill(counter)
    ray.kill(waiting)


def test_actors_are_listed_filtered_and_counted(cluster):
    counter = make_counter(name="the-counter")
    pid = ray.get(counter.up.remote())
    (row,) = rows_of("list", "actors", "--filter", f"pid={pid}", "--filter", "state!=DEAD")
    assert (row["class_name"].rpartition(".")[2], row["name"], row["state"]) == ("Counter", "the-counter", "ALIVE")
    table = run("list", "actors", "--address", NAME).output
    assert "actor_id" in table and row["actor_id"] in table
    assert rows_of("summary", "actors")[0]["ALIVE"] >= 1
    ray.kill(counter)


def test_tasks_that_ended_before_anybody_looked_are_listed_and_counted(cluster):
    @ray.remote
    def cube(x):
        return x**3

    ray.get([cube.remote(n) for n in range(7)])
    found = rows_of("list", "tasks", "--filter", "name=cube")
    assert len(found) == 7 and {row["state"] for row in found} == {"FINISHED"}
    (counts,) = [row for row in rows_of("summary", "tasks") if row["name"] == "cube"]
    assert counts["finished"] == 7


def test_jobs_workers_and_nodes_are_listed(cluster):
    (job,) = rows_of("list", "jobs", "--filter", "state=RUNNING")
    assert job["pid"] == os.getpid()
    counter = make_counter()
    pid = ray.get(counter.up.remote())
    assert pid in [worker["pid"] for worker in rows_of("list", "workers")]
    (node,) = rows_of("list", "nodes")
    assert node["is_head"] and node["resources"]["CPU"][1] == 2


@pytest.mark.slow
def test_environments_and_what_happened_are_listed(cluster, eventually):
    task = ray.remote(max_retries=0)(lambda code: os._exit(code))
    ray.get(ray.remote(lambda: None).options(runtime_env={"env_vars": {"RB_CLI": "1"}}).remote())
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(task.remote(78))
    eventually(lambda: any("exit code 78" in row["message"] for row in rows_of("list", "cluster-events")))
    (made,) = rows_of("list", "runtime-envs")
    assert made["success"] and made["runtime_env"] == {"env_vars": {"RB_CLI": "1"}}
    assert "ERROR" in run("list", "cluster-events", "--address", NAME).output


def test_large_objects_are_listed_with_their_owner_and_vanish_with_their_last_reference(cluster, eventually):
    ref = ray.put(bytes(3_000_000))
    (listed,) = [row for row in rows_of("list", "objects") if row["object_id"] == ref.hex()]
    assert listed["size_bytes"] >= 3_000_000 and listed["owner_pid"] == os.getpid()
    output = run("memory", "--address", NAME).output
    assert "Aggregate object store stats" in output and ref.hex() in output
    assert "Object References" not in run("memory", "--address", NAME, "--stats-only").output
    assert rows_of("summary", "objects")[0]["used_bytes"] >= 3_000_000
    gone = ref.hex()
    del ref
    eventually(lambda: gone not in [row["object_id"] for row in rows_of("list", "objects")])


def test_one_thing_is_shown_whole_by_the_beginning_of_its_id(cluster):
    ref = make_counter().up.remote()
    ray.get(ref)
    (row,) = rows_of("get", "tasks", ref.task_id().hex())
    assert row["state"] == "FINISHED" and row["owner_pid"] == os.getpid()
    shown = run("get", "tasks", ref.task_id().hex()[:20], "--address", NAME)
    assert shown.exit_code == 0 and "owner_pid" in shown.output
    refused = run("get", "nodes", "no-such-node", "--address", NAME)
    assert refused.exit_code == 1 and "raybook list nodes" in refused.output


def test_timeline_is_a_chrome_trace_of_what_ran(cluster, tmp_path: Path):
    @ray.remote
    def traced():
        return None

    ray.get([traced.remote() for _ in range(3)])
    file = tmp_path / "trace.json"
    assert run("timeline", str(file), "--address", NAME).exit_code == 0
    spans = [event for event in json.loads(file.read_text()) if event["name"] == "traced"]
    assert len(spans) == 3 and all(event["ph"] == "X" and event["dur"] >= 0 for event in spans)


def test_logs_are_listed_and_shown_by_pid_without_marks(cluster):
    counter = make_counter()
    pid = ray.get(counter.up.remote())
    files = [row["file"] for row in rows_of("logs")]
    assert "head.log" in files and any(name.startswith("worker-") for name in files)
    shown = run("logs", str(pid), "--address", NAME)
    assert shown.output.splitlines()[-1] == "one up" and "\0" not in shown.output
    assert run("logs", "nothing-like-it", "--address", NAME).exit_code == 1
    ray.kill(counter)


def test_wrong_usage_and_absent_clusters_are_told_in_a_line(cluster):
    assert run("list", "planets").exit_code == 2
    assert run("list", "nodes", "--address", NAME, "--filter", "moon").exit_code == 2
    assert "field" in run("list", "nodes", "--address", NAME, "--filter", "moon=1").output.lower()
    absent = run("list", "nodes", "--address", "no-such-cluster")
    assert absent.exit_code == 1 and "no-such-cluster" in absent.output


def test_filters_compare_as_text_and_the_limit_comes_last():
    found = [{"pid": 1, "state": "ALIVE"}, {"pid": 2, "state": "DEAD"}, {"pid": 3, "state": "ALIVE"}]
    assert [row["pid"] for row in rows.chosen(found, ["state=alive"], 1)] == [1]
    assert [row["pid"] for row in rows.chosen(found, ["state!=ALIVE", "pid=2"], 9)] == [2]


def test_amounts_are_shown_for_people():
    assert [bytes_text(size) for size in (12, 2048, 3 << 30)] == ["12 B", "2.0 KiB", "3.0 GiB"]
    assert cell("resources", {"CPU": [1, 4.0], "memory": [0, 1 << 30]}) == "CPU 1/4, memory 0 B/1.0 GiB"


@pytest.mark.slow
def test_microbenchmark_measures_rows_on_a_cluster_of_its_own(no_cluster):
    done = run("microbenchmark", "small_get", "task_sync", "--seconds", "0.05", "--repeats", "1", "--num-cpus", "1")
    assert done.exit_code == 0, done.output
    assert re.search(r"^small get +[\d,]+ /s$", done.output, re.M) and re.search(
        r"^task sync +[\d,]+ /s$", done.output, re.M
    )
    assert not ray.is_initialized()


def test_microbenchmark_names_the_rows_there_are():
    done = run("microbenchmark", "task_sink")
    assert done.exit_code == 2 and "task_sync" in done.output
