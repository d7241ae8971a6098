"""State API and metrics: what can be asked of a cluster by code."""

from __future__ import annotations

import os
import pickle

import pytest

import raybook as ray
from raybook.api.observed import LOOK_S, fact_rows
from raybook.util.metrics import Counter, Gauge, Histogram
from raybook.util.state import (
    get_actor,
    get_node,
    get_task,
    list_actors,
    list_cluster_events,
    list_jobs,
    list_nodes,
    list_objects,
    list_runtime_envs,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
)
from raybook.util.state.exception import RayStateApiException

pytestmark = pytest.mark.usefixtures("four_cpus")


@ray.remote
class Keeper:
    def pid(self):
        return os.getpid()


@ray.remote
def fine():
    return os.getpid()


@ray.remote
def broken():
    raise ValueError("broken")


@pytest.fixture(scope="module")
def keeper(four_cpus):
    handle = Keeper.options(name="keeper").remote()
    ray.get(handle.pid.remote())
    return handle


# --- State --------------------------------------------------------------------


def test_actors_are_listed_with_rays_fields(keeper):
    [row] = list_actors(filters=[("name", "=", "keeper")], detail=True)
    assert (row.class_name, row.state, row.is_detached) == ("Keeper", "ALIVE", False)
    assert row.pid == row["pid"] == row.get("pid") == ray.get(keeper.pid.remote())
    assert get_actor(row.actor_id) == row
    assert get_actor("00" * 16) is None


def test_details_are_left_out_unless_asked_for(keeper):
    [row] = list_actors(filters=[("name", "=", "keeper")])
    assert row.num_restarts is None and row.state == "ALIVE"


def test_filters_compare_as_text_without_case(keeper):
    pid = str(ray.get(keeper.pid.remote()))
    assert list_actors(filters=[("state", "=", "alive"), ("pid", "=", pid)])[0].name == "keeper"
    assert all(row.name != "keeper" for row in list_actors(filters=[("name", "!=", "KEEPER")]))


@pytest.mark.parametrize(
    "wrong",
    [{"filters": [("colour", "=", "red")]}, {"filters": [("name", ">", "a")]}, {"limit": 10_001}, {"limit": -1}],
)
def test_filters_and_limits_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError):
        list_actors(**wrong)


def test_nodes_are_listed():
    [node] = list_nodes(detail=True)
    assert node.state == "ALIVE" and node.is_head_node and node.resources_total["CPU"] == 4
    assert get_node(node.node_id) == node


def test_tasks_that_ended_are_listed_newest_first(keeper):
    pid = ray.get(fine.remote())
    with pytest.raises(ValueError):
        ray.get(broken.remote())
    ray.get(keeper.pid.remote())
    rows = list_tasks(limit=3, detail=True)
    assert sorted(row.end_time_ms for row in rows) == [row.end_time_ms for row in reversed(rows)]
    rows.sort(key=lambda row: row.type + row.name)
    assert [(row.name, row.type, row.state) for row in rows] == [
        ("Keeper.pid", "ACTOR_TASK", "FINISHED"),
        ("broken", "NORMAL_TASK", "FAILED"),
        ("fine", "NORMAL_TASK", "FINISHED"),
    ]
    assert rows[2].worker_pid == pid and rows[2].end_time_ms >= rows[2].start_time_ms > 0
    assert {row.pid: row.worker_id for row in list_workers()}[pid] == rows[2].worker_id
    assert [event["state"] for event in rows[1].events] == ["PENDING_ARGS_AVAIL", "RUNNING", "FAILED"]
    assert [event["created_ms"] for event in rows[2].events] == sorted(event["created_ms"] for event in rows[2].events)


def test_a_task_is_found_by_its_ref():
    ref = fine.remote()
    ray.get(ref)
    row = get_task(ref)
    assert row.name == "fine" and row.task_id == ref.task_id().hex()


def states_of(name):
    return sorted(row.state for row in list_tasks(filters=[("name", "=", name)]))


def test_waiting_and_running_tasks_are_listed_and_counted(make_gate, eventually):
    gate = make_gate()

    @ray.remote(num_cpus=4)
    def hold():
        ray.get(gate.wait.remote())

    @ray.remote
    def after(held):
        return held

    held = [hold.remote() for _ in range(3)]
    last = after.remote(held[0])
    # One runs, on all CPUs; it waits in `get`, which lends them to the next.
    eventually(lambda: states_of("hold") == ["RUNNING"] * 3)
    assert states_of("after") == ["PENDING_ARGS_AVAIL"]
    counts = summarize_tasks()["cluster"]["summary"]["hold"]["state_counts"]
    assert counts == {"RUNNING": 3}
    ray.get(gate.open.remote())
    ray.get([*held, last])
    summary = summarize_tasks()["cluster"]
    assert summary["summary"]["hold"]["state_counts"] == {"FINISHED": 3}
    assert summary["summary_by"] == "func_name" and summary["total_tasks"] >= 3


def test_tasks_of_other_owners_are_listed_with_who_submitted_them():
    @ray.remote
    def outer():
        return ray.get(fine.options(name="inner").remote()), ray.get_runtime_context().get_task_id()

    _, outer_id = ray.get(outer.remote())
    [row] = list_tasks(filters=[("name", "=", "inner")], detail=True)
    assert row.state == "FINISHED" and row.parent_task_id == outer_id


def test_a_failed_task_is_listed_with_the_kind_and_the_text_of_its_error():
    with pytest.raises(ValueError):
        ray.get(broken.options(name="broken here").remote())
    [row] = list_tasks(filters=[("name", "=", "broken here")], detail=True)
    assert (row.state, row.error_type) == ("FAILED", "TASK_EXECUTION_EXCEPTION") and "broken" in row.error_message


def test_actors_are_summed_up_by_class(keeper):
    summary = summarize_actors()["cluster"]
    assert summary["summary"]["Keeper"]["state_counts"]["ALIVE"] == 1
    assert summary["total_actors"] >= 1


def test_known_processes_and_jobs_are_listed(keeper):
    by_pid = {row.pid: row for row in list_workers()}
    assert by_pid[os.getpid()].worker_type == "DRIVER"
    assert by_pid[ray.get(keeper.pid.remote())].worker_type == "WORKER"
    assert [row.job_id for row in list_jobs()] == [ray.get_runtime_context().get_job_id()]


def test_large_objects_are_listed_with_their_size_and_owner():
    ref = ray.put(bytes(2_000_000))
    (found,) = [row for row in list_objects() if row.object_id == ref.hex()]
    assert found.object_size >= 2_000_000 and found.pid == os.getpid()
    assert summarize_objects()["cluster"]["total_size_mb"] >= 1.9


def test_another_cluster_cannot_be_asked():
    with pytest.raises(RayStateApiException, match="connected to"):
        list_nodes(address="10.0.0.1:6379")


# --- Metrics ------------------------------------------------------------------


def published(name):
    return [row for row in fact_rows("metric", look_s=LOOK_S)["metric"] if row["name"] == name]


def test_counts_of_all_processes_are_published():
    hits = Counter("hits", description="How often.", tag_keys=("who",))
    hits.inc(tags={"who": "driver"})

    @ray.remote
    def hit():
        hits.inc(2, tags={"who": "task"})

    ray.get([hit.remote() for _ in range(10)])
    rows = published("hits")
    assert sum(row["value"] for row in rows if row["tags"] == {"who": "task"}) == 20
    assert [row["value"] for row in rows if row["tags"] == {"who": "driver"}] == [1]
    assert {row["type"] for row in rows} == {"counter"}


def test_two_objects_of_one_name_are_one_metric():
    for _ in range(3):
        pickle.loads(pickle.dumps(Counter("shared"))).inc()
    assert [row["value"] for row in published("shared")] == [3]


def test_a_gauge_has_the_last_value_and_a_histogram_its_buckets():
    level = Gauge("level", tag_keys=("where",)).set_default_tags({"where": "here"})
    spread = Histogram("spread", boundaries=[1, 10])
    for value in (0.5, 1, 5, 50):
        level.set(value)
        spread.observe(value)
    [row] = published("level")
    assert row["value"] == 50 and row["tags"] == {"where": "here"}
    [row] = published("spread")
    assert row["buckets"] == [2, 3, 4] and row["count"] == 4 and row["value"] == 56.5


def test_a_metric_whose_name_is_none_is_warned_of_and_published_nowhere():
    with pytest.warns(UserWarning, match="Invalid metric name: 2much"):
        much = Counter("2much")
    much.inc()
    kept = Counter("kept")
    kept.inc()
    assert len(published("kept")) == 1
    assert [row for row in fact_rows("metric")["metric"] if row["name"] == "2much"] == []


def test_a_gauge_that_is_set_to_nothing_stays_as_it_is():
    level = Gauge("unmoved")
    level.set(3)
    level.set(None)
    [row] = published("unmoved")
    assert row["value"] == 3


def test_wrong_metrics_and_values_are_refused():
    with pytest.raises(ValueError, match="Empty name"):
        Counter("")
    with pytest.raises(TypeError, match="tag_keys"):
        Counter("name", tag_keys="who")
    with pytest.raises(ValueError, match="boundaries"):
        Histogram("name")
    counter = Counter("name", tag_keys=("who",))
    with pytest.raises(ValueError, match="value must be >0"):
        counter.inc(0, tags={"who": "me"})
    with pytest.raises(ValueError, match="Missing value for tag key"):
        counter.inc()
    with pytest.raises(ValueError, match="Unrecognized tag key"):
        counter.set_default_tags({"where": "here"})
    counter.inc(tags={"who": "me", "where": "is not declared, and dropped"})
    with pytest.raises(TypeError, match="Tag values must be str"):
        counter.inc(tags={"who": 1})
    with pytest.raises(TypeError, match="int or float"):
        counter.inc("1", tags={"who": "me"})


# What nodes tell


@pytest.fixture
def broken_env(tmp_path):
    return {"working_dir": f"file://{tmp_path}/absent.zip", "env_vars": {"RB_MARK": tmp_path.name}}


def test_environments_are_listed_with_how_they_went(four_cpus, broken_env, eventually):
    task = ray.remote(lambda: None)
    ray.get(task.options(runtime_env={"env_vars": broken_env["env_vars"]}).remote())
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError):
        ray.get(task.options(runtime_env=broken_env).remote())

    def mine():
        rows = list_runtime_envs(detail=True, limit=1000)
        return [row for row in rows if row.runtime_env["env_vars"] == broken_env["env_vars"]]

    eventually(lambda: len(mine()) == 2)
    good, bad = sorted(mine(), key=lambda row: not row.success)
    assert (good.success, good.error) == (True, None) and good.creation_time_ms >= 0
    assert bad.success is False and "absent.zip" in bad.error
    assert good.node_id == ray.get_runtime_context().get_node_id()
    assert all(row.success for row in list_runtime_envs(filters=[("success", "=", True)]))
    eventually(lambda: any("absent.zip" in event.message for event in list_cluster_events()))


def test_a_worker_that_died_is_an_event_and_one_that_ended_on_purpose_is_none(four_cpus, eventually):
    def end(code):
        import os

        os._exit(code)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(ray.remote(max_retries=0)(end).remote(77))

    def ended():
        return [event for event in list_cluster_events(detail=True) if "exit code 77" in event.message]

    eventually(ended)
    (event,) = ended()
    assert (event.severity, event.source_type) == ("ERROR", "RAYLET") and event.custom_fields["pid"] > 0
    assert int(event.time) > 1_600_000_000_000

    @ray.remote
    class Leaver:
        def leave(self):
            ray.actor.exit_actor()

    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(Leaver.remote().leave.remote())
    assert not any("on purpose" in event.message for event in list_cluster_events())
