"""The contract: placement groups, strategies, and what the cluster says of itself."""

from __future__ import annotations

import threading

import pytest

from raybook.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from raybook.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy
from raybook.util.state import list_actors, list_nodes, list_placement_groups, list_tasks, summarize_tasks
from tests.contracts.engines.contract import PATIENCE_S


@pytest.fixture
def group(engine):
    made = placement_group([{"CPU": 1}, {"CPU": 1, "disk": 1}], strategy="PACK", name="contract-group")
    yield made
    remove_placement_group(made)


@pytest.fixture
def eventually():
    """For what no message announces: ask again until it is so."""

    def ask(question):
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.1)):
            if question():
                return
            pause.wait(0.1)
        raise AssertionError("it did not come true")

    return ask


def test_a_group_is_made_and_says_what_it_is(engine, get, group):
    assert group.wait(PATIENCE_S) and get(group.ready()) == group
    assert group.bundle_specs == [{"CPU": 1}, {"CPU": 1, "disk": 1}]
    assert get_placement_group("contract-group") == group
    assert placement_group_table(group)["state"] == "CREATED"


def test_tasks_and_actors_run_in_a_group(engine, ray, get, group):
    @ray.remote
    def where():
        return get_current_placement_group().id.hex()

    @ray.remote
    class Inside:
        def where(self):
            return get_current_placement_group().id.hex()

    strategy = PlacementGroupSchedulingStrategy(group, 1)
    assert get(where.options(scheduling_strategy=strategy, resources={"disk": 1}).remote()) == group.id.hex()
    assert get(Inside.options(scheduling_strategy=strategy).remote().where.remote()) == group.id.hex()


def test_a_group_that_was_removed_gives_its_resources_back(engine, ray, eventually):
    made = placement_group([{"disk": 1}])
    assert made.wait(PATIENCE_S)
    remove_placement_group(made)
    eventually(lambda: placement_group_table(made)["state"] == "REMOVED")
    eventually(lambda: ray.available_resources().get("disk") == 2)


def test_a_bundle_that_is_not_there_is_refused(engine, ray, group):
    @ray.remote
    def task():
        pass

    with pytest.raises(ValueError, match="bundle index 7"):
        task.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, 7)).remote()


def test_a_task_runs_on_the_node_that_was_named(engine, ray, get):
    @ray.remote
    def where():
        return ray.get_runtime_context().get_node_id()

    (node,) = {node["NodeID"] for node in ray.nodes()}
    assert get(where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()) == node
    assert get(where.options(scheduling_strategy="SPREAD").remote()) == node


def test_nodes_and_resources_are_told(engine, ray):
    (node,) = ray.nodes()
    assert node["Alive"] and node["Resources"]["CPU"] == 4
    resources = ray.cluster_resources()
    assert (resources["CPU"], resources["GPU"], resources["disk"]) == (4, 2, 2)
    assert set(ray.available_resources()) <= {*resources}


def test_nodes_actors_and_groups_are_listed(engine, ray, get, group):
    @ray.remote
    class Listed:
        def ready(self):
            pass

    actor = Listed.options(name="listed").remote()
    get([actor.ready.remote(), group.ready()])
    (row,) = list_actors(filters=[("name", "=", "listed"), ("state", "=", "ALIVE")])
    assert row.actor_id == actor._actor_id.hex() and row.state == "ALIVE" and row.class_name.endswith("Listed")
    assert group.id.hex() in {row.placement_group_id for row in list_placement_groups()}
    (node,) = list_nodes()
    assert node.state == "ALIVE" and node.resources_total["CPU"] == 4


def test_tasks_are_listed_with_what_became_of_them(engine, ray, get, eventually):
    @ray.remote
    def listed():
        return 1

    @ray.remote
    def fails():
        raise ValueError("boom")

    get([listed.options(name="told_of").remote() for _ in range(2)])
    with pytest.raises(ValueError):
        get(fails.options(name="told_of").remote())

    def states():
        return sorted(row.state for row in list_tasks(filters=[("name", "=", "told_of")]))

    eventually(lambda: states() == ["FAILED", "FINISHED", "FINISHED"])
    assert summarize_tasks()["cluster"]["summary"]["told_of"]["state_counts"]["FINISHED"] == 2


def test_panels_see_nodes_tasks_actors_and_the_store(engine, ray, get):
    from raybook.observe import Feed

    @ray.remote
    def seen():
        return 1

    @ray.remote
    class Seen:
        def ready(self):
            pass

    feed = Feed(engine_of())
    actor = Seen.remote()
    get([seen.options(name="seen_by_panels").remote() for _ in range(3)] + [actor.ready.remote()])

    def is_there(view):
        groups = {row.name: row.finished for row in view.task_groups}
        actors = {row.actor_id: row.state for row in view.actors}
        return (
            groups.get("seen_by_panels") == 3
            and actors.get(actor._actor_id.hex()) == "ALIVE"
            and any(node.alive for node in view.nodes)
            and view.store_total.capacity_bytes > 0
            and any(resource.name == "CPU" and resource.total == 4 for resource in view.resources)
        )

    try:
        assert feed.wait_until(is_there, PATIENCE_S), feed.view()
    finally:
        feed.end()


def engine_of():
    from raybook.api.context import started_engine

    return started_engine()
