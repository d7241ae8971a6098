"""Placement groups at the call site: what is accepted, what is refused and with which words, what options become."""

from __future__ import annotations

import pickle
import sys

import pytest

import raybook
from raybook.api.options import actor_options, task_options
from raybook.base.strategies import GroupTarget
from raybook.exceptions import TaskPlacementGroupRemoved
from raybook.util import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from raybook.util.placement_group import PlacementGroup
from raybook.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from raybook.util.state import get_placement_group as get_state
from raybook.util.state import list_placement_groups


@pytest.fixture
def group(ray) -> PlacementGroup:
    return placement_group([{"CPU": 1}, {"CPU": 1, "GPU": 1}])


@pytest.mark.parametrize(
    ("bundles", "words"),
    [
        ([], "empty list"),
        ({"CPU": 1}, "must be a list, got <class 'dict'>"),
        ("CPU", "must be a list, got <class 'str'>"),
        ([1], "Bundles must be a non-empty list of resource dictionaries"),
        ([{"CPU": 1}, {}], "Bundles cannot be an empty dictionary or resources with only 0 values: bundle 1"),
        ([{"CPU": 0}], "Bundles cannot be an empty dictionary"),
        ([{"CPU": -1}], "cannot be negative"),
        ([{"CPU": 0.00001}], "cannot go beyond 0.0001"),
        ([{"GPU": 1.5}], "whole GPUs"),
    ],
)
def test_bundles_that_make_no_sense_are_refused(ray, bundles, words):
    with pytest.raises(ValueError, match=words):
        placement_group(bundles)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "DIAGONAL"}, "PACK, SPREAD, STRICT_PACK, STRICT_SPREAD"),
        ({"topology_strategy": {"ray.io/node-id": "DIAGONAL"}}, "PACK, SPREAD, STRICT_PACK, STRICT_SPREAD"),
        ({"topology_strategy": {"rack": "PACK"}}, "not by 'rack'"),
        ({"topology_strategy": {}, "strategy": "PACK"}, "cannot both be specified"),
        ({"lifetime": "forever"}, "`None` or 'detached'"),
        ({"bundle_label_selector": [{}, {}]}, "should equal the length of `bundles`"),
        ({"bundle_label_selector": [{"zone": "in("}]}, "is no condition"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(ray, arguments, words):
    with pytest.raises(ValueError, match=words):
        placement_group([{"CPU": 1}], **arguments)


@pytest.mark.parametrize(
    ("arguments", "strategy"),
    [
        ({"strategy": None}, "PACK"),
        ({"topology_strategy": {}}, "PACK"),
        ({"topology_strategy": {"ray.io/node-id": "STRICT_SPREAD"}}, "STRICT_SPREAD"),
    ],
)
def test_a_strategy_may_be_left_open_or_be_a_topologys(ray, arguments, strategy):
    group = placement_group([{"CPU": 1}], **arguments)
    assert placement_group_table(group)["strategy"] == strategy
    remove_placement_group(group)


def test_group_tells_its_bundles(group):
    assert group.bundle_specs == [{"CPU": 1}, {"CPU": 1, "GPU": 1}]
    assert group.bundle_count == 2 and not group.is_empty
    assert PlacementGroup.empty().is_empty


def test_group_that_fits_is_created_and_its_ref_becomes_the_group(ray, group):
    assert group.wait(1) is True
    assert ray.get(group.ready()) == group
    assert placement_group_table(group)["state"] == "CREATED"


def test_group_without_room_is_pending_and_the_table_says_for_what_it_waits(ray):
    big = placement_group([{"CPU": 10_000}])
    assert big.wait(0) is False
    row = placement_group_table(big)
    assert row["state"] == "PENDING" and "{CPU: 10000}" in row["waiting_for"]


def test_ref_of_a_group_that_is_removed_before_it_is_created_raises(ray):
    big = placement_group([{"CPU": 10_000}])
    ref = big.ready()
    remove_placement_group(big)
    with pytest.raises(TaskPlacementGroupRemoved, match="before it was created"):
        ray.get(ref)


def test_group_is_found_by_name_until_it_is_removed(ray):
    group = placement_group([{"CPU": 1}], name="trial-7")
    assert get_placement_group("trial-7") == group
    with pytest.raises(ValueError, match="'trial-7' exists already"):
        placement_group([{"CPU": 1}], name="trial-7")
    remove_placement_group(group)
    with pytest.raises(ValueError, match="Failed to look up placement group with name: trial-7"):
        get_placement_group("trial-7")


def test_table_of_all_groups_is_keyed_by_id(group):
    assert placement_group_table()[group.id.hex()]["bundles"] == {0: {"CPU": 1}, 1: {"CPU": 1, "GPU": 1}}


def test_state_api_lists_groups_and_finds_one(group):
    row = get_state(group.id.hex())
    assert row.state == "CREATED" and row.bundles[1]["unit_resources"] == {"CPU": 1, "GPU": 1}
    assert [found.placement_group_id for found in list_placement_groups(filters=[("state", "=", "CREATED")])] == [
        group.id.hex()
    ]
    assert list_placement_groups(filters=[("state", "!=", "CREATED")]) == []


def test_handle_travels_and_stays_equal(group):
    copy = pickle.loads(pickle.dumps(group))
    assert copy == group and hash(copy) == hash(group) and copy.bundle_specs == group.bundle_specs
    assert repr(group) == f"PlacementGroup({group.id.hex()})"


def test_module_may_be_called_like_the_function_of_its_name(ray):
    module = sys.modules["raybook.util.placement_group"]
    assert module([{"CPU": 1}]).wait(1)
    assert module.placement_group is raybook.util.placement_group or raybook.util.placement_group is module


# --- Options. ---------------------------------------------------------------------------------------------------------


def test_strategy_becomes_the_bundle_of_the_scheduling_class(group):
    strategy = PlacementGroupSchedulingStrategy(group, 1, True)
    record = task_options({"scheduling_strategy": strategy}, "f")
    assert record.scheduling_class.strategy == GroupTarget(group.id, 1, captures=True).encode()
    actor = actor_options({"scheduling_strategy": PlacementGroupSchedulingStrategy(group)}, "A", {}, {}, False)
    assert actor.strategy == GroupTarget(group.id, -1).encode()


@pytest.mark.parametrize("index", [2, 3, -2])
def test_bundle_that_is_not_there_is_refused(group, index):
    strategy = PlacementGroupSchedulingStrategy(group, index)
    with pytest.raises(ValueError, match=f"bundle index {index} is invalid"):
        task_options({"scheduling_strategy": strategy}, "f")


def test_bundle_index_without_a_group_must_be_minus_one(ray):
    with pytest.raises(ValueError, match="bundle index must be -1"):
        task_options({"placement_group_bundle_index": 0}, "f")


def test_task_larger_than_every_bundle_is_refused(group):
    options = {"num_cpus": 2, "scheduling_strategy": PlacementGroupSchedulingStrategy(group)}
    words = (
        r"Cannot schedule f with the placement group because the resource request {CPU: 2} cannot fit into any bundles"
    )
    with pytest.raises(ValueError, match=words):
        task_options(options, "f")


def test_actor_that_needs_a_cpu_to_start_is_refused_where_no_bundle_has_one(ray):
    group = placement_group([{"GPU": 1}])
    options = {"scheduling_strategy": PlacementGroupSchedulingStrategy(group)}
    with pytest.raises(ValueError, match="requires 1 CPU for creation"):
        actor_options(options, "A", {}, {}, False)
    assert actor_options({**options, "num_cpus": 0}, "A", {}, {}, False).resources == {}


def test_old_option_works_with_a_note(group):
    with pytest.warns(DeprecationWarning, match="use scheduling_strategy=PlacementGroupSchedulingStrategy"):
        record = task_options({"placement_group": group, "placement_group_bundle_index": 0}, "f")
    assert record.scheduling_class.strategy == GroupTarget(group.id, 0).encode()


def test_old_and_new_option_together_are_refused(group):
    with pytest.raises(ValueError, match="not both"):
        task_options({"placement_group": group, "scheduling_strategy": "SPREAD"}, "f")


def test_strategy_of_something_else_than_a_group_is_refused():
    with pytest.raises(ValueError, match="must be an instance of PlacementGroup"):
        PlacementGroupSchedulingStrategy("group")


def test_label_selector_and_accelerator_type_become_part_of_the_class():
    record = task_options({"label_selector": {"zone": "!in(a, b)"}, "accelerator_type": "A100"}, "f")
    assert record.scheduling_class.labels == (("zone", "!in(a, b)"),)
    assert dict(record.scheduling_class.resources)["accelerator_type:A100"] == 10


def test_malformed_label_selector_is_refused_at_the_call_site():
    with pytest.raises(ValueError, match="is no condition"):
        raybook.remote(label_selector={"zone": "in("})(lambda: None)
