"""Runtime context, GPUs and state, in a driver, a task and an actor."""

import json

import pytest

from raybook.api.state import list_actors


def test_driver_has_no_task_and_no_gpus(ray):
    context = ray.get_runtime_context()
    assert context.get_task_id() is None and context.get_actor_id() is None and context.get_actor_name() is None
    assert context.get_assigned_resources() == {} and ray.get_gpu_ids() == []
    assert len(context.get_job_id()) == len(context.get_node_id()) == len(context.get_worker_id()) == 16
    assert context.namespace == "tests"


def test_task_sees_itself(ray):
    @ray.remote(num_cpus=2, num_gpus=0.5, name="seen")
    def look():
        context = ray.get_runtime_context()
        return (
            context.get_task_id(),
            context.get_task_name(),
            context.get_assigned_resources(),
            context.get_accelerator_ids()["GPU"],
            ray.get_gpu_ids(),
            context.is_canceled(),
        )

    ref = look.remote()
    assert ray.get(ref) == (ref.task_id().hex(), "seen", {"CPU": 2.0, "GPU": 0.5}, ["0"], [0], False)


def test_actor_sees_itself(ray):
    @ray.remote(max_restarts=1, max_task_retries=1)
    class Look:
        def look(self):
            context = ray.get_runtime_context()
            return (
                context.get_actor_id(),
                context.get_actor_name(),
                context.current_actor,
                context.was_current_actor_reconstructed,
            )

    actor = Look.options(name="watcher").remote()
    assert ray.get(actor.look.remote()) == (actor._actor_id.hex(), "watcher", actor, False)
    ray.kill(actor, no_restart=False)
    # A kill goes through the GCS, and calls go straight to the actor: a few may overtake it.
    assert True in (ray.get(actor.look.remote())[3] for _ in range(1_000))


def test_what_only_an_actor_has_raises_elsewhere(ray):
    context = ray.get_runtime_context()
    with pytest.raises(RuntimeError, match="only available in an actor|inside a method of an actor"):
        context.current_actor  # noqa: B018 - raises.
    with pytest.raises(RuntimeError, match="only available in an actor|inside a method of an actor"):
        context.was_current_actor_reconstructed  # noqa: B018 - raises.
    with pytest.raises(RuntimeError, match="a driver cannot be cancelled"):
        context.is_canceled()


def test_is_canceled_is_refused_in_an_async_actor(ray):
    @ray.remote
    class Look:
        async def look(self):
            return ray.get_runtime_context().is_canceled()

    with pytest.raises(RuntimeError, match="not for async actors"):
        ray.get(Look.remote().look.remote())


def test_resources_are_in_user_numbers(ray):
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["disk"]) == (4.0, 2.0, 3.0)
    assert ray.available_resources() == total
    node = ray.nodes()[0]
    assert node["Alive"] is True and node["Resources"] == total


def test_actors_are_listed_with_their_state(ray):
    @ray.remote
    class A:
        def f(self):
            return 1

    living = A.options(name="living").remote()
    dead = A.remote()
    ray.get([living.f.remote(), dead.f.remote()])
    ray.kill(dead)
    rows = {row["actor_id"]: row for row in list_actors()}
    assert rows[living._actor_id.hex()]["state"] == "ALIVE" and rows[living._actor_id.hex()]["name"] == "living"
    assert rows[dead._actor_id.hex()]["state"] == "DEAD"
    assert "ray.kill" in rows[dead._actor_id.hex()]["death_cause"]


def test_timeline_is_written_as_chrome_events(ray, tmp_path):
    @ray.remote
    def work():
        return 1

    ray.get(work.remote())
    assert ray.timeline(str(tmp_path / "timeline.json")) is None
    events = json.loads((tmp_path / "timeline.json").read_text())
    assert [(event["name"], event["ph"]) for event in events] == [("thread_name", "M"), ("work", "X")]
