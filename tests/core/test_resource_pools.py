"""Resource pools: bundles are cut out of the node whole, keep their GPUs, and come back when the last holder lets go."""

from __future__ import annotations

from raybook.base.resources import shape_of
from raybook.base.strategies import GroupTarget, NodeTarget, group_target, node_target
from raybook.core.node.local_resources import LocalResources
from raybook.core.node.resource_pools import ResourcePools

GROUP = b"g" * 16
ANY = GroupTarget(GROUP)


def pools_of(**amounts: float) -> ResourcePools:
    return ResourcePools(LocalResources(shape_of(amounts)))


def bundles(*shapes: dict) -> list:
    return [(index, shape_of(shape)) for index, shape in enumerate(shapes)]


def test_bundles_are_reserved_all_or_none():
    pools = pools_of(CPU=3)
    refusal = pools.prepare(GROUP, 1, bundles({"CPU": 2}, {"CPU": 2}), commit=True)
    assert "bundle 1 asks for {CPU: 2}" in refusal
    assert pools.root.available == shape_of({"CPU": 3})
    assert pools.prepare(GROUP, 2, bundles({"CPU": 2}, {"CPU": 1}), commit=True) == ""
    assert pools.root.available["CPU"] == 0
    pools.check_invariants()


def test_nothing_draws_from_a_bundle_before_its_commit():
    pools = pools_of(CPU=2)
    pools.prepare(GROUP, 1, bundles({"CPU": 1}), commit=False)
    assert pools.allocate("t", shape_of({"CPU": 1}), GroupTarget(GROUP, 0)) is None
    pools.commit(GROUP, 1)
    assert pools.allocate("t", shape_of({"CPU": 1}), GroupTarget(GROUP, 0)).resources == shape_of({"CPU": 1})


def test_index_minus_one_draws_from_any_bundle_with_room():
    pools = pools_of(CPU=3)
    pools.prepare(GROUP, 1, bundles({"CPU": 1}, {"CPU": 2}), commit=True)
    assert pools.allocate("two", shape_of({"CPU": 2}), ANY)
    assert pools.allocate("one", shape_of({"CPU": 1}), ANY)
    assert pools.allocate("more", shape_of({"CPU": 1}), ANY) is None
    pools.check_invariants()


def test_gpus_stay_with_their_bundle():
    pools = pools_of(CPU=4, GPU=2)
    pools.prepare(GROUP, 1, bundles({"GPU": 1}, {"GPU": 0.5}), commit=True)
    whole = pools.allocate("a", shape_of({"GPU": 1}), GroupTarget(GROUP, 0))
    share = pools.allocate("b", shape_of({"GPU": 0.5}), GroupTarget(GROUP, 1))
    outside = pools.allocate("c", shape_of({"GPU": 0.5}))
    assert whole.instances["GPU"] == [[0, 10_000]]
    assert share.instances["GPU"] == [[1, 5_000]] == outside.instances["GPU"]
    assert pools.allocate("d", shape_of({"GPU": 0.5})) is None
    pools.check_invariants()


def test_cpu_of_a_waiting_task_is_lent_inside_its_bundle_only():
    pools = pools_of(CPU=1)
    pools.prepare(GROUP, 1, bundles({"CPU": 1}), commit=True)
    pools.allocate("parent", shape_of({"CPU": 1}), ANY)
    pools.pool_of("parent").block_cpu("parent")
    assert pools.allocate("stranger", shape_of({"CPU": 1})) is None
    assert pools.allocate("child", shape_of({"CPU": 1}), ANY)


def test_amounts_of_a_removed_group_come_back_with_its_last_holder():
    pools = pools_of(CPU=2)
    pools.prepare(GROUP, 1, bundles({"CPU": 1}, {"CPU": 1}), commit=True)
    pools.allocate("t", shape_of({"CPU": 1}), GroupTarget(GROUP, 1))
    assert pools.remove(GROUP, 1, "removed by a test") == ["t"]
    assert pools.root.available == shape_of({"CPU": 1})
    assert pools.allocate("late", {}, ANY) is None
    pools.check_invariants()
    pools.release("t")
    assert pools.root.available == shape_of({"CPU": 2})
    pools.check_invariants()


def test_late_prepare_of_a_called_off_attempt_is_refused():
    pools = pools_of(CPU=2)
    pools.give_back(GROUP, 1, [0])
    assert "called off" in pools.prepare(GROUP, 1, bundles({"CPU": 1}), commit=False)
    assert pools.prepare(GROUP, 2, bundles({"CPU": 1}), commit=False) == ""


def test_late_prepare_of_a_removed_group_is_refused():
    pools = pools_of(CPU=2)
    pools.remove(GROUP, 0, "its job ended")
    assert "its job ended" in pools.prepare(GROUP, 1, bundles({"CPU": 1}), commit=True)
    assert pools.root.available == shape_of({"CPU": 2})


def test_late_return_of_an_old_attempt_leaves_a_newer_one_alone():
    pools = pools_of(CPU=2)
    pools.prepare(GROUP, 5, bundles({"CPU": 1}), commit=True)
    assert pools.give_back(GROUP, 4, [0]) == []
    assert pools.has_bundle(GroupTarget(GROUP, 0))


def test_request_larger_than_every_bundle_is_missing_something_for_ever():
    pools = pools_of(CPU=4)
    pools.prepare(GROUP, 1, bundles({"CPU": 1}, {"CPU": 2}), commit=True)
    assert pools.missing_for_ever(shape_of({"CPU": 3}), ANY) == shape_of({"CPU": 1})
    assert pools.missing_for_ever(shape_of({"CPU": 2}), ANY) == {}
    assert pools.missing_for_ever(shape_of({"CPU": 9}), GroupTarget(b"elsewhere", 0)) == {}


def test_strategies_survive_their_encoding():
    for target in (GroupTarget(GROUP, 3), GroupTarget(GROUP, -1, captures=True)):
        assert group_target(target.encode()) == target
    for node in (NodeTarget(b"12345678"), NodeTarget(b"12345678", soft=True)):
        assert node_target(node.encode()) == node
    assert group_target("") is None and group_target("node:00") is None and node_target("spread") is None
