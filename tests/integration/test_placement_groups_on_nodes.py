"""Placement groups over several raylets of the split form: spread, lost with a node, kept over the death of the GCS."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

import raybook as ray
from raybook.util import get_placement_group, placement_group, placement_group_table, remove_placement_group
from raybook.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from tests.integration.test_split_form import kill_gcs, own_world, run, start_head, wait_for_another_gcs, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_world", "session_over")]
_FIXTURES = own_world
PATIENCE_S = 20


@pytest.fixture
def session_over(own_world) -> Iterator[None]:
    yield
    ray.shutdown()


def add_node(address: str) -> int:
    """Start one more raylet of two CPUs; its pid."""
    result = run("start", "--address", address, "--num-cpus", "2")
    assert result.exit_code == 0, result.output
    return int(re.search(r"pid (\d+)", result.output).group(1))


def actor_in(group, index: int):
    @ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
    class Occupant:
        def node(self) -> str:
            return ray.get_runtime_context().get_node_id()

    return Occupant.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)).remote()


def test_group_is_spread_and_finds_another_node_when_one_dies():
    record = start_head()
    second = add_node(record.address)
    ray.init(address="split", namespace="ns")
    group = placement_group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")
    assert group.wait(PATIENCE_S)
    places = placement_group_table(group)["bundles_to_node_id"]
    assert len(set(places.values())) == 2
    actors = [actor_in(group, index) for index in range(2)]
    assert ray.get([actor.node.remote() for actor in actors], timeout=PATIENCE_S) == [places[0], places[1]]

    lost = next(index for index, node in places.items() if node != ray.get_runtime_context().get_node_id())
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: placement_group_table(group)["state"] == "RESCHEDULING")
    assert "1 × {CPU: 2} (STRICT_SPREAD)" in placement_group_table(group)["waiting_for"]
    add_node(record.address)
    assert group.wait(PATIENCE_S)
    again = placement_group_table(group)["bundles_to_node_id"]
    assert again[1 - lost] == places[1 - lost] and again[lost] not in places.values()
    assert ray.get(actors[lost].node.remote(), timeout=PATIENCE_S) == again[lost]

    remove_placement_group(group)
    wait_until(lambda: ray.available_resources().get("CPU") == 4)


def test_group_outlives_the_gcs_and_can_be_removed_by_the_next_one():
    record = start_head()
    ray.init(address="split", namespace="ns")
    group = placement_group([{"CPU": 1}], name="kept")
    assert group.wait(PATIENCE_S)
    actor = actor_in(group, 0)
    here = ray.get(actor.node.remote(), timeout=PATIENCE_S)
    killed = kill_gcs(record)
    assert ray.get(actor.node.remote(), timeout=PATIENCE_S) == here
    wait_for_another_gcs(record, killed)
    found = get_placement_group("kept")
    assert found == group and placement_group_table(found)["state"] == "CREATED"
    remove_placement_group(found)
    wait_until(lambda: ray.available_resources().get("CPU") == 2)
    ray.shutdown()
    assert run("stop").exit_code == 0
