"""What the cluster and the running code tell of themselves: state API, runtime context, logs, threads."""

import os

import pytest

from raybook.exceptions import ActorDiedError
from raybook.util.placement_group import placement_group, remove_placement_group
from raybook.util.state import (
    StateApiClient,
    get_actor,
    get_task,
    list_actors,
    list_cluster_events,
    list_jobs,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_tasks,
)
from raybook.util.state.common import ListApiOptions, StateResource
from raybook.util.state.exception import RayStateApiException

PATIENCE_S = 20


@pytest.fixture(scope="module")
def actors(ray):
    """One named actor that lives, one that was killed, one whose init raised."""

    @ray.remote(num_cpus=0)
    class Told:
        def pid(self):
            return os.getpid()

    @ray.remote(num_cpus=0)
    class Broken:
        def __init__(self):
            raise ValueError("no luck")

        def ok(self):
            pass

    living, killed, broken = Told.options(name="told").remote(), Told.remote(), Broken.remote()
    ray.get([living.pid.remote(), killed.pid.remote()], timeout=PATIENCE_S)
    ray.kill(killed)
    with pytest.raises(ActorDiedError):
        ray.get(broken.ok.remote(), timeout=PATIENCE_S)
    return living, killed, broken


def test_actors_are_listed_with_rays_columns(actors):
    living, _, _ = actors
    (row,) = list_actors(filters=[("name", "=", "told")])
    assert row.actor_id == living._actor_id.hex() and row.class_name == "actors.<locals>.Told"
    assert (row.state, row.ray_namespace, row["state"]) == ("ALIVE", "behaviours", "ALIVE")
    assert row.is_detached is None and row.death_cause is None
    (row,) = list_actors(filters=[("name", "=", "told")], detail=True)
    assert row.is_detached is False and row.num_restarts == 0 and row.required_resources == {}


def test_a_dead_actor_tells_why_and_which_process_it_was(actors):
    _, killed, broken = actors
    row = get_actor(killed._actor_id.hex())
    cause = row.death_cause["actor_died_error_context"]
    assert row.state == "DEAD" and cause["reason"] == "RAY_KILL" and cause["pid"] == row.pid > 0
    assert "killed by `ray.kill`" in cause["error_message"] and not cause["never_started"]
    cause = get_actor(broken._actor_id.hex()).death_cause["creation_task_failure_context"]
    assert "no luck" in cause["error_message"]


def test_filters_match_as_text_and_name_columns_in_any_case(ray, actors):
    living, _, _ = actors
    pid = ray.get(living.pid.remote())
    for filters in (
        [("STATE", "=", "alive")],
        [("pid", "=", pid)],
        [("pid", "=", str(pid))],
        [("state", "!=", "DEAD")],
    ):
        assert living._actor_id.hex() in {row.actor_id for row in list_actors(filters=filters)}
    assert len(list_actors(limit=1)) == 1 and list_actors(limit=0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"filters": [("colour", "=", "red")]},
        {"filters": [("state", ">", "x")]},
        {"filters": [("state", "contains", "x")]},
        {"filters": "x"},
        {"filters": [("a", "b")]},
        {"limit": -1},
        {"limit": 100_000},
    ],
)
def test_questions_that_cannot_be_are_refused(ray, wrong):
    with pytest.raises((RayStateApiException, ValueError)):
        list_actors(**wrong)


def test_tasks_are_listed_by_name_and_by_function(ray, actors):
    @ray.remote
    def counted():
        return 1

    ray.get([counted.remote(), counted.options(name="special").remote()], timeout=PATIENCE_S)
    (row,) = list_tasks(filters=[("name", "=", "special")])
    assert (row.func_or_class_name, row.type, row.state) == ("counted", "NORMAL_TASK", "FINISHED")
    assert get_task(row.task_id).task_id == row.task_id
    kinds = {(row.name, row.type, row.state) for row in list_tasks(limit=1000)}
    assert ("Told.pid", "ACTOR_TASK", "FINISHED") in kinds
    assert ("told:Told.__init__", "ACTOR_CREATION_TASK", "FINISHED") in kinds
    assert ("Broken.__init__", "ACTOR_CREATION_TASK", "FAILED") in kinds
    summary = summarize_tasks()["cluster"]
    assert summary["summary"]["special"]["state_counts"] == {"FINISHED": 1}
    assert summary["total_actor_scheduled"] >= 3
    assert summarize_actors()["cluster"]["summary"]["actors.<locals>.Told"]["state_counts"] == {"ALIVE": 1, "DEAD": 1}


def test_states_of_tasks_that_wait_fail_and_run(ray, till):
    @ray.remote
    def bad():
        raise ValueError("bad")

    @ray.remote(num_cpus=100)
    def never():
        pass

    @ray.remote
    def after(x):
        pass

    with pytest.raises(ValueError):
        ray.get(bad.remote(), timeout=PATIENCE_S)
    waiting = never.remote()
    dependent = after.remote(waiting)
    rows = {row.name: row for row in list_tasks(detail=True, limit=1000)}
    assert (rows["bad"].state, rows["bad"].error_type) == ("FAILED", "TASK_EXECUTION_EXCEPTION")
    assert "ValueError: bad" in rows["bad"].error_message
    assert rows["never"].state == "PENDING_NODE_ASSIGNMENT" and rows["after"].state == "PENDING_ARGS_AVAIL"
    ray.cancel(waiting)
    ray.wait([dependent], timeout=PATIENCE_S)


def test_what_waits_in_vain_is_an_event(ray):
    @ray.remote(num_cpus=100)
    class Large:
        pass

    large = Large.options(name="too-large").remote()
    assert ray.get_actor("too-large") == large
    assert any("too-large" in event.message and event.severity == "WARNING" for event in list_cluster_events())
    ray.kill(large)


def test_other_things_are_listed(ray):
    (node,) = list_nodes(detail=True)
    assert node.is_head_node and node.state == "ALIVE" and node.node_id == ray.get_runtime_context().get_node_id()
    assert {row.worker_type for row in list_workers()} >= {"DRIVER"}
    assert [job.job_id for job in list_jobs()] == [ray.get_runtime_context().get_job_id()]
    group = placement_group([{"CPU": 1}], name="listed")
    assert group.wait(PATIENCE_S)
    (row,) = list_placement_groups(detail=True, filters=[("name", "=", "listed")])
    assert row.bundles[0]["unit_resources"] == {"CPU": 1} and row.bundles[0]["bundle_id"]["bundle_index"] == 0
    remove_placement_group(group)
    ref = ray.put(b"x" * 200_000)
    assert ref.hex() in {row.object_id for row in list_objects(limit=1000)}


def test_the_client_asks_what_the_functions_ask(actors):
    client = StateApiClient()
    options = ListApiOptions(limit=10, filters=[("name", "=", "told")], detail=True)
    (row,) = client.list(StateResource.ACTORS, options)
    assert client.get("actors", row.actor_id).actor_id == row.actor_id
    assert client.summary(StateResource.TASKS)["total_tasks"] >= 0


def test_the_context_of_a_task_names_it_and_its_function(ray):
    def look():
        context = ray.get_runtime_context()
        return context.get_task_name(), context.get_task_function_name(), context.get(), context.get_task_id()

    name, function, known, task_id = ray.get(ray.remote(look).options(name="named").remote(), timeout=PATIENCE_S)
    assert name == "named" and function.endswith("look") and function != "look"
    assert known["task_id"].hex() == task_id and known["job_id"].hex() == ray.get_runtime_context().get_job_id()
    assert "actor_id" not in known and "task_id" not in ray.get_runtime_context().get()


def test_the_context_of_an_actor_names_it(ray):
    @ray.remote
    class Look:
        def look(self):
            context = ray.get_runtime_context()
            return (
                context.get_actor_name(),
                context.get_actor_id(),
                context.get_assigned_resources(),
                context.get_task_name(),
                context.get_task_function_name(),
            )

    look = Look.options(name="looked").remote()
    name, actor_id, held, task, function = ray.get(look.look.remote(), timeout=PATIENCE_S)
    assert (name, actor_id, held, task) == ("looked", look._actor_id.hex(), {}, "Look.look")
    assert function.endswith("Look.look")


@pytest.mark.parametrize(("cpus", "threads"), [(1, "1"), (2, "2"), (0.5, "1"), (0, "1")])
def test_numerical_libraries_get_as_many_threads_as_the_task_has_cpus(ray, cpus, threads):
    if "OMP_NUM_THREADS" in os.environ:
        pytest.skip("OMP_NUM_THREADS is set for this whole run, and then it stays")

    @ray.remote(num_cpus=cpus)
    def ask():
        return os.environ.get("OMP_NUM_THREADS")

    assert ray.get(ask.remote(), timeout=PATIENCE_S) == threads
