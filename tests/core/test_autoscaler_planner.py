"""What nodes a plan adds, and what it says of what gets none."""

from __future__ import annotations

from raybook.base.resources import GPU, MEMORY, shape_of
from raybook.base.specs import Bundle, LabelChoice
from raybook.core.autoscaler.planner import Plan, Planner
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.core.autoscaler.sketch import Place, Sketch, how_many
from raybook.protocol.messages.scaling import GroupLoad, ShapeCount

CPU1 = shape_of({"CPU": 1})


def node_type(name="worker", most=10, least=0, labels=None, **resources):
    return NodeType(name, shape_of(resources or {"CPU": 2}), labels or {}, least, most)


def planner(*types, nodes=(), counts=None, resting=None, most=100):
    """nodes: (resources, labels) of nodes that are there and empty."""
    sketch, whole = Sketch(), Sketch()
    for index, (resources, labels) in enumerate(nodes):
        for one in (sketch, whole):
            total = shape_of(resources)
            one.add(Place("", total, dict(total), labels, bytes([index])))
    counts = counts or {}
    return Planner(Settings(types, most), counts, counts, resting or {}, sketch, whole)


def launches(plan: Plan):
    return [(launch.node_type, launch.count) for launch in plan.launches]


def group(strategy, *shapes, taken=(), selectors=()):
    bundles = [Bundle(shape_of(shape), selectors[i] if i < len(selectors) else {}) for i, shape in enumerate(shapes)]
    return GroupLoad(b"group-id", strategy, bundles, list(taken))


def test_tasks_get_as_many_nodes_as_hold_them():
    it = planner(node_type(CPU=2))
    it.tasks([ShapeCount(CPU1, 5)])
    assert launches(it.plan) == [("worker", 3)]
    assert it.plan.launches[0].why == "5 × {CPU: 1} do not fit on the nodes there are"
    assert it.plan.unmet == []


def test_tasks_that_fit_on_what_is_there_add_nothing():
    it = planner(node_type(CPU=2), nodes=[({"CPU": 4}, {})])
    it.tasks([ShapeCount(CPU1, 4)])
    assert launches(it.plan) == []
    assert all(place.is_used for place in it._sketch)


def test_largest_number_of_a_type_is_kept_and_said():
    it = planner(node_type(most=3, CPU=2), counts={"worker": 1})
    it.tasks([ShapeCount(CPU1, 100)])
    assert launches(it.plan) == [("worker", 2)]
    assert it.plan.unmet == ["96 tasks or actors of {CPU: 1} wait: there are 3 of type worker, its largest number."]


def test_largest_number_of_the_cluster_is_kept_and_said():
    it = planner(node_type("a", CPU=1), node_type("b", CPU=1, extra=1), most=2)
    it.tasks([ShapeCount(CPU1, 5)])
    assert sum(count for _, count in launches(it.plan)) == 2
    assert "the cluster has its 2 nodes" in it.plan.unmet[0]


def test_what_no_type_can_hold_is_impossible_and_says_what_types_have():
    it = planner(node_type(CPU=2))
    it.tasks([ShapeCount(shape_of({"GPU": 1}), 1)])
    assert launches(it.plan) == []
    assert it.plan.impossible == [
        "1 task or actor of {GPU: 1} waits for ever: no node can hold that, and no node type could (worker has {CPU: 2})."
    ]


def test_what_only_an_existing_node_can_hold_waits_for_it():
    it = planner(node_type(CPU=2), nodes=[({"CPU": 2, "disk": 1}, {})])
    it._sketch.lay(it._sketch.places[0], shape_of({"disk": 1}))
    it.tasks([ShapeCount(shape_of({"disk": 1}), 1)])
    assert it.plan.impossible == []
    assert "room on a node that is there" in it.plan.unmet[0]


def test_gpu_nodes_are_not_taken_for_tasks_without_gpus():
    it = planner(node_type("gpu", CPU=8, GPU=1), node_type("cpu", CPU=2))
    it.tasks([ShapeCount(CPU1, 2)])
    assert launches(it.plan) == [("cpu", 1)]


def test_gpu_tasks_get_gpu_nodes_and_bring_cpu_tasks_along():
    it = planner(node_type("cpu", CPU=2), node_type("gpu", CPU=4, GPU=1))
    it.tasks([ShapeCount(CPU1, 3), ShapeCount(shape_of({"CPU": 1, "GPU": 1}), 1)])
    assert launches(it.plan) == [("gpu", 1)]


def test_the_smaller_of_two_types_that_fit_equally_is_taken():
    it = planner(node_type("big", CPU=16), node_type("small", CPU=1))
    it.tasks([ShapeCount(CPU1, 1)])
    assert launches(it.plan) == [("small", 1)]


def test_the_first_of_two_equal_types_is_taken():
    it = planner(node_type("b", CPU=1), node_type("a", CPU=1))
    it.tasks([ShapeCount(CPU1, 1)])
    assert launches(it.plan) == [("b", 1)]


def test_labels_choose_the_type():
    it = planner(node_type("east", labels={"zone": "east"}), node_type("west", labels={"zone": "west"}))
    it.tasks([ShapeCount(CPU1, 1, {"zone": "in(west, north)"})])
    assert launches(it.plan) == [("west", 1)]


def test_fallback_labels_are_tried_where_no_node_could_meet_the_first():
    it = planner(node_type("east", labels={"zone": "east"}))
    it.tasks([ShapeCount(CPU1, 1, {"zone": "west"}, [LabelChoice({"zone": "east"})])])
    assert launches(it.plan) == [("east", 1)]


def test_a_type_that_rests_is_left_out_with_the_reason():
    it = planner(node_type("a"), node_type("b", CPU=2, x=1), resting={"a": "a rests"})
    it.tasks([ShapeCount(CPU1, 1), ShapeCount(shape_of({"CPU": 2, "y": 1}), 1)])
    assert launches(it.plan) == [("b", 1)]
    alone = planner(node_type("a"), resting={"a": "a rests"})
    alone.tasks([ShapeCount(CPU1, 1)])
    assert alone.plan.unmet == ["1 task or actor of {CPU: 1} waits: a rests."]


def test_least_number_is_launched_whatever_waits():
    it = planner(node_type(least=2), counts={"worker": 1})
    it.least()
    assert launches(it.plan) == [("worker", 1)]
    assert it.plan.launches[0].is_urgent


def test_request_counts_what_is_there_in_all_and_not_what_is_free():
    it = planner(node_type(CPU=2), nodes=[({"CPU": 4}, {})])
    it._sketch.lay(it._sketch.places[0], shape_of({"CPU": 4}))
    it.request([Bundle(CPU1)] * 5)
    assert launches(it.plan) == [("worker", 1)]


def test_nodes_added_for_a_request_are_free_for_tasks():
    it = planner(node_type(CPU=2))
    it.request([Bundle(CPU1)] * 4)
    it.tasks([ShapeCount(CPU1, 4)])
    assert launches(it.plan) == [("worker", 2)]


def test_strict_spread_gets_a_node_for_each_bundle():
    it = planner(node_type(CPU=4), nodes=[({"CPU": 4}, {})])
    it.group(group("STRICT_SPREAD", {"CPU": 1}, {"CPU": 1}, {"CPU": 1}))
    assert launches(it.plan) == [("worker", 2)]


def test_strict_spread_does_not_use_nodes_that_have_another_bundle_of_it():
    it = planner(node_type(CPU=4), nodes=[({"CPU": 4}, {})])
    it.group(group("STRICT_SPREAD", {"CPU": 1}, taken=[b"\x00"]))
    assert launches(it.plan) == [("worker", 1)]


def test_strict_pack_needs_a_type_that_holds_all_of_it():
    it = planner(node_type("small", CPU=2), node_type("big", CPU=4))
    it.group(group("STRICT_PACK", {"CPU": 2}, {"CPU": 2}))
    assert launches(it.plan) == [("big", 1)]


def test_pack_and_spread_find_room_together():
    for strategy in ("PACK", "SPREAD"):
        it = planner(node_type(CPU=4), nodes=[({"CPU": 1}, {})])
        it.group(group(strategy, *[{"CPU": 1}] * 5))
        assert launches(it.plan) == [("worker", 1)]


def test_a_group_that_cannot_be_whole_adds_nothing():
    it = planner(node_type(most=2, CPU=1))
    it.group(group("STRICT_SPREAD", *[{"CPU": 1}] * 3))
    assert launches(it.plan) == []
    assert "1 bundle of placement group 67726f75702d (STRICT_SPREAD) of {CPU: 1} waits" in it.plan.unmet[0]
    it.tasks([ShapeCount(CPU1, 2)])
    assert launches(it.plan) == [("worker", 2)], "what the group had taken was given back"


def test_selectors_of_bundles_choose_the_type():
    it = planner(node_type("a"), node_type("b", labels={"disk": "ssd"}))
    it.group(group("PACK", {"CPU": 1}, selectors=[{"disk": "ssd"}]))
    assert launches(it.plan) == [("b", 1)]


def test_parts_of_gpus_do_not_lie_across_devices():
    assert how_many(shape_of({"GPU": 2}), shape_of({"GPU": 0.6})) == 2
    assert how_many(shape_of({"GPU": 1.5}), shape_of({"GPU": 0.5})) == 3
    assert how_many(shape_of({"GPU": 3}), shape_of({"GPU": 2})) == 1
    assert how_many({}, {}) > 1000
    assert how_many({GPU: 1}, {MEMORY: 1}) == 0


def test_a_hundred_thousand_equal_tasks_are_planned_at_once():
    it = planner(node_type(most=20_000, CPU=4), most=20_000)
    it.tasks([ShapeCount(CPU1, 100_000)])
    assert launches(it.plan) == [("worker", 20_000)]
    assert it.plan.unmet[0].startswith("20000 tasks")


def test_what_asks_for_nothing_needs_a_node_and_no_more():
    it = planner(node_type(CPU=1))
    it.tasks([ShapeCount({}, 50)])
    assert launches(it.plan) == [("worker", 1)]
