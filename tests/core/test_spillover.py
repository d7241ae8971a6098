"""Spillover, scenes: how a client's demand is laid out over the nodes, and laid out anew."""

from __future__ import annotations

from raybook.base.resources import shape_of
from raybook.base.specs import SchedulingClass
from raybook.base.strategies import SPREAD, GroupTarget, NodeTarget, near_node
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.node import spillover as so

HERE, B, C = b"here----", b"node-b--", b"node-c--"
DRIVER = b"driver--"


class Scene:
    """Three nodes unless said otherwise. ``tell`` returns node → count of every part that was set."""

    def __init__(self, here: dict | None = None, b: dict | None = None, c: dict | None = None) -> None:
        self.view = ResourceView()
        self.free = shape_of(here if here is not None else {"CPU": 2})
        self.view.add(HERE, dict(self.free), dict(self.free), {"zone": "a"})
        for node_id, amounts in ((B, b if b is not None else {"CPU": 2}), (C, c if c is not None else {"CPU": 2})):
            if amounts:
                self.view.add(node_id, shape_of(amounts), shape_of(amounts), {"zone": node_id.decode()[5]})
        self.machine = so.Spillover(HERE, self.view, lambda: dict(self.free))
        self.effects: list = []

    def tell(self, *events) -> dict[bytes, int]:
        self.effects = self.machine.handle(events)
        self.machine.check_invariants()
        return {effect.node_id: effect.count for effect in self.effects if isinstance(effect, so.SetDemandAt)}

    def demand(self, count: int, strategy: str = "", labels: tuple = (), class_key: int = 0, fallbacks=(), **amounts):
        shape = shape_of(amounts or {"CPU": 1})
        what = SchedulingClass(tuple(sorted(shape.items())), strategy=strategy, labels=labels, fallbacks=fallbacks)
        return self.tell(so.DemandStated(DRIVER, class_key, what, count, "f"))


def test_what_has_room_here_stays_here():
    assert Scene().demand(2) == {HERE: 2}


def test_what_has_no_room_here_goes_to_nodes_that_have_it():
    assert Scene().demand(5) == {HERE: 2, B: 2, C: 1}


def test_what_has_room_nowhere_queues_here():
    assert Scene().demand(9) == {HERE: 5, B: 2, C: 2}


def test_what_this_node_can_never_hold_goes_to_one_that_can():
    scene = Scene(b={"CPU": 2, "disk": 1})
    assert scene.demand(1, CPU=1, disk=1) == {B: 1}


def test_what_no_node_can_ever_hold_stays_here_and_is_told_after_another_look():
    scene = Scene()
    assert scene.demand(1, CPU=100) == {}
    assert scene.tell(so.ViewChanged()) == {}
    assert scene.tell(so.ViewChanged()) == {HERE: 1}


def test_what_a_node_can_hold_that_has_just_joined_goes_there():
    scene = Scene()
    assert scene.demand(1, CPU=8) == {}
    scene.view.add(b"node-d--", shape_of({"CPU": 8}), shape_of({"CPU": 8}), {})
    assert scene.tell(so.ViewChanged()) == {b"node-d--": 1}


def test_what_queues_here_leaves_when_another_node_has_room():
    scene = Scene(here={"CPU": 1}, b={"CPU": 1}, c={})
    scene.view.report(B, {})
    scene.free = {}
    assert scene.demand(2) == {HERE: 2}
    scene.view.report(B, shape_of({"CPU": 1}))
    assert scene.tell(so.ViewChanged()) == {B: 1, HERE: 1}


def test_a_grant_lowers_the_part_of_its_node_and_its_room_until_the_next_report():
    scene = Scene(here={"CPU": 1}, b={"CPU": 1}, c={})
    assert scene.demand(2) == {HERE: 1, B: 1}
    assert scene.tell(so.GrantPassed(DRIVER, 0, B)) == {}
    assert dict(scene.machine.parts_of(DRIVER, 0)) == {HERE: 1}
    assert scene.demand(3) == {HERE: 3}


def test_a_withdrawn_demand_is_withdrawn_everywhere():
    scene = Scene()
    scene.demand(5)
    assert scene.demand(0) == {HERE: 0, B: 0, C: 0}
    assert not scene.machine.is_waiting()


def test_a_grant_of_a_withdrawn_part_is_taken_off_another_one():
    scene = Scene(here={"CPU": 1}, b={"CPU": 1}, c={})
    scene.demand(2)
    scene.demand(1)
    assert scene.tell(so.GrantPassed(DRIVER, 0, B)) == {HERE: 0}


def test_spread_goes_in_turns_over_all_nodes():
    assert Scene().demand(6, SPREAD) == {HERE: 2, B: 2, C: 2}
    scene = Scene()
    first = {key: list(scene.demand(1, SPREAD, class_key=key)) for key in range(3)}
    assert sorted(node for nodes in first.values() for node in nodes) == sorted([HERE, B, C])


def test_a_named_node_gets_it_all_whether_it_has_room_or_not():
    assert Scene().demand(7, NodeTarget(C).encode()) == {C: 7}


def test_a_named_node_that_is_not_there_refuses_unless_it_is_soft():
    scene = Scene()
    assert scene.demand(1, NodeTarget(b"gone----").encode()) == {}
    assert scene.tell(so.ViewChanged()) == {} == scene.tell(so.ViewChanged())
    (refusal,) = scene.effects
    assert refusal.code == "TaskUnschedulableError" and "soft=True" in refusal.text
    assert Scene().demand(1, NodeTarget(b"gone----", soft=True).encode()) == {HERE: 1}


def test_a_named_node_that_has_just_joined_is_waited_for():
    scene = Scene()
    assert scene.demand(2, NodeTarget(b"fresh---").encode()) == {}
    scene.view.add(b"fresh---", shape_of({"CPU": 2}), shape_of({"CPU": 2}), {})
    assert scene.tell(so.ViewChanged()) == {b"fresh---": 2}


def test_the_first_fallback_that_a_node_meets_takes_the_place_of_labels_that_none_meets():
    fallbacks = ((("zone", "y"),), (("zone", "c"),), (("zone", "a"),))
    assert Scene().demand(1, labels=(("zone", "x"),), fallbacks=fallbacks) == {C: 1}
    assert Scene().demand(1, labels=(("zone", "b"),), fallbacks=fallbacks) == {B: 1}


def test_labels_choose_the_nodes():
    assert Scene().demand(2, labels=(("zone", "c"),)) == {C: 2}
    assert Scene().demand(3, labels=(("zone", "!a"),)) == {B: 2, C: 1}


def test_near_a_node_means_there_first():
    assert Scene().demand(1, near_node(C)) == {C: 1}
    assert Scene().demand(3, near_node(C)) == {C: 2, HERE: 1}


def test_a_node_near_the_arguments_is_waited_for_shortly_when_it_looks_busy():
    scene = Scene()
    scene.view.report(C, {})
    assert scene.demand(1, near_node(C)) == {C: 1}
    assert scene.tell(so.ViewChanged()) == {}
    assert scene.tell(so.ViewChanged()) == {}
    assert scene.tell(so.ViewChanged()) == {C: 0, HERE: 1}


def test_a_bundle_is_looked_for_here_until_its_place_is_known():
    scene = Scene()
    group = b"g" * 16
    target = GroupTarget(group, 1).encode()
    assert scene.demand(2, target) == {HERE: 2}
    assert scene.tell(so.GroupPlaced(group, [HERE, B])) == {HERE: 0, B: 2}


def test_any_bundle_means_all_nodes_of_the_group():
    scene = Scene()
    group = b"g" * 16
    scene.tell(so.GroupPlaced(group, [B, C]))
    assert scene.demand(4, GroupTarget(group).encode()) == {B: 2, C: 2}


def test_a_part_that_could_not_be_delivered_queues_here():
    scene = Scene(here={"CPU": 1}, b={"CPU": 1}, c={})
    scene.demand(2)
    assert scene.tell(so.PartUndelivered(DRIVER, 0, B)) == {HERE: 2}


def test_the_parts_of_a_dead_node_go_elsewhere():
    scene = Scene(here={"CPU": 1})
    scene.free = {}
    assert scene.demand(2) == {B: 2}
    scene.view.remove(B)
    assert scene.tell(so.ViewChanged()) == {B: 0, C: 2}


def test_two_demands_of_one_pass_do_not_count_on_the_same_room():
    scene = Scene(here={"CPU": 1}, b={"CPU": 1}, c={})
    scene.free = {}
    scene.view.report(B, {})
    scene.demand(1, class_key=0)
    scene.demand(1, class_key=1)
    scene.view.report(B, shape_of({"CPU": 1}))
    assert scene.tell(so.ViewChanged()) == {HERE: 0, B: 1}


def test_tasks_that_ask_for_nothing_stay_here():
    assert Scene().demand(1_000, CPU=0) == {HERE: 1_000}


class Crowd(Scene):
    """This node and a thousand others with two CPUs each."""

    def __init__(self, free: int = 2) -> None:
        super().__init__(b={}, c={})
        self.others = [b"n%07d" % number for number in range(1_000)]
        for node_id in self.others:
            self.view.add(node_id, shape_of({"CPU": 2}), shape_of({"CPU": free} if free else {}), {"zone": "z"})


def test_of_a_thousand_nodes_as_many_are_asked_as_are_needed():
    parts = Crowd().demand(40)
    assert parts.pop(HERE) == 2
    assert sum(parts.values()) == 38 and all(count == 2 for count in parts.values())


def test_two_demands_of_one_pass_share_a_thousand_nodes():
    scene = Crowd()
    scene.free = {}
    scene.demand(100, class_key=0)
    scene.demand(100, class_key=1)
    scene.tell(so.ViewChanged())
    asked: dict[bytes, int] = {}
    for key in (0, 1):
        for node_id, count in scene.machine.parts_of(DRIVER, key).items():
            asked[node_id] = asked.get(node_id, 0) + count
    assert sum(asked.values()) == 200 and max(asked.values()) == 2


def test_spread_over_a_thousand_nodes_takes_other_nodes_each_time():
    scene = Crowd()
    first, second = scene.demand(300, SPREAD, class_key=0), scene.demand(300, SPREAD, class_key=1)
    assert set(first.values()) == set(second.values()) == {1}
    assert len(first.keys() & second.keys()) < 50
    assert sum(scene.demand(2_002, SPREAD, class_key=2).values()) == 2_002


def test_what_has_room_on_none_of_a_thousand_nodes_queues_here_and_leaves_when_one_has():
    scene = Crowd(free=0)
    scene.free = {}
    assert scene.demand(3) == {HERE: 3}
    scene.view.report(scene.others[700], shape_of({"CPU": 2}))
    assert scene.tell(so.ViewChanged()) == {HERE: 1, scene.others[700]: 2}


def test_what_only_others_of_a_thousand_can_hold_queues_at_one_of_them_until_there_is_room():
    scene = Crowd(free=0)
    scene.view.remove(HERE)
    (node_id,) = scene.demand(3)
    assert node_id in scene.others
    assert scene.tell(so.ViewChanged()) == {}
    scene.view.report(scene.others[700], shape_of({"CPU": 2}))
    parts = scene.tell(so.ViewChanged())
    assert parts[scene.others[700]] == 2


def test_a_label_of_few_among_a_thousand_nodes_is_looked_up():
    scene = Crowd()
    for number in range(3):
        scene.view.add(b"gpu%05d" % number, shape_of({"CPU": 2}), shape_of({"CPU": 2}), {"kind": "gpu"})
    assert set(scene.demand(6, labels=(("kind", "gpu"),))) == {b"gpu%05d" % number for number in range(3)}


def test_near_one_of_a_thousand_nodes_means_there_first():
    scene = Crowd()
    assert scene.demand(3, near_node(scene.others[500])) == {scene.others[500]: 2, HERE: 1}


def test_a_demand_for_very_many_nodes_is_laid_out_in_steps_and_the_next_begins_when_one_was_granted():
    scene = Crowd()
    scene.free = {}
    parts = scene.demand(500)
    queued = parts.pop(HERE)
    assert set(parts.values()) == {2} and len(parts) <= so.ALL_LOOKED_AT and queued == 500 - sum(parts.values())

    for node_id in parts:
        scene.tell(so.GrantPassed(DRIVER, 0, node_id))
    assert set(scene.machine.parts_of(DRIVER, 0)) == {HERE, *parts}
    for node_id in parts:
        scene.tell(so.GrantPassed(DRIVER, 0, node_id))

    second = dict(scene.machine.parts_of(DRIVER, 0))
    assert not second.keys() & parts.keys() and second.pop(HERE) < queued and set(second.values()) == {2}
    scene.machine.check_invariants()


def test_a_demand_that_this_node_cannot_hold_goes_on_in_steps_too():
    scene = Crowd()
    scene.view.remove(HERE)
    granted = 0
    parts = scene.demand(500)
    while parts:
        assert len(parts) <= so.ALL_LOOKED_AT
        for node_id in [node_id for node_id, count in parts.items() for _ in range(min(2, count))]:
            scene.tell(so.GrantPassed(DRIVER, 0, node_id))
            granted += 1
        parts = dict(scene.machine.parts_of(DRIVER, 0))
    assert granted == 500
