"""Placement groups: bundles go where the strategy says, all or none, and nothing stays reserved that nobody holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raybook.base.facts import GROUP_CREATED, GROUP_PENDING, GROUP_REMOVED, GROUP_RESCHEDULING
from raybook.base.resources import shape_of
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.core.cluster import placement_group_events as on
from raybook.core.cluster.placement_groups import GroupRecord, PlacementGroupTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.node.local_resources import LocalResources
from raybook.core.node.resource_pools import ResourcePools
from raybook.core.scheduling.bundles import (
    PACK,
    SPREAD,
    STRATEGIES,
    STRICT_PACK,
    STRICT_SPREAD,
    Placing,
    place_bundles,
)

JOB = b"job....."


def view_of(*nodes: dict, labels: list[dict] | None = None) -> ResourceView:
    view = ResourceView()
    for index, amounts in enumerate(nodes):
        shape = shape_of(amounts)
        view.add(b"node%04d" % index, shape, dict(shape), labels[index] if labels else {})
    return view


def asked(*shapes: dict, selector: dict | None = None) -> dict[int, Bundle]:
    return {index: Bundle(shape_of(shape), selector or {}) for index, shape in enumerate(shapes)}


def spec(group: int = 1, strategy: str = PACK, shapes: tuple = ({"CPU": 1},), **fields) -> PlacementGroupSpec:
    bundles = [Bundle(shape_of(shape)) for shape in shapes]
    return PlacementGroupSpec(b"group%011d" % group, JOB, bundles, strategy, **fields)


# --- Where bundles go. ------------------------------------------------------------------------------------------------


def test_pack_uses_one_node_when_all_fit_there():
    placing = place_bundles(asked({"CPU": 1}, {"CPU": 1}), PACK, view_of({"CPU": 1}, {"CPU": 2}))
    assert set(placing.plan.values()) == {b"node0001"}


def test_pack_uses_more_nodes_when_it_must():
    placing = place_bundles(asked({"CPU": 2}, {"CPU": 2}, {"CPU": 2}), PACK, view_of({"CPU": 4}, {"CPU": 2}))
    assert sorted(placing.plan.values()) == [b"node0000", b"node0000", b"node0001"]


def test_strict_pack_waits_rather_than_use_two_nodes():
    placing = place_bundles(asked({"CPU": 2}, {"CPU": 2}), STRICT_PACK, view_of({"CPU": 2}, {"CPU": 2}))
    assert placing.plan is None and not placing.possible and "2 × {CPU: 2} (STRICT_PACK)" in placing.reason


def test_spread_uses_every_node_first_and_then_shares():
    placing = place_bundles(asked(*[{"CPU": 1}] * 3), SPREAD, view_of({"CPU": 2}, {"CPU": 2}))
    assert sorted(placing.plan.values()) == [b"node0000", b"node0000", b"node0001"]


def test_strict_spread_needs_a_node_for_each_bundle():
    view = view_of({"CPU": 2}, {"CPU": 2})
    assert len(set(place_bundles(asked({"CPU": 1}, {"CPU": 1}), STRICT_SPREAD, view).plan.values())) == 2
    assert place_bundles(asked(*[{"CPU": 1}] * 3), STRICT_SPREAD, view).plan is None


def test_strict_spread_finds_the_one_way_in_which_all_bundles_fit():
    view = view_of({"CPU": 1, "GPU": 1}, {"CPU": 1})
    placing = place_bundles(asked({"CPU": 1}, {"GPU": 1}), STRICT_SPREAD, view)
    assert placing.plan == {0: b"node0001", 1: b"node0000"}


def test_strict_spread_of_a_thousand_equal_bundles_needs_no_deep_recursion():
    view = view_of(*[{"CPU": 1}] * 1_100)
    assert len(set(place_bundles(asked(*[{"CPU": 1}] * 1_050), STRICT_SPREAD, view).plan.values())) == 1_050


def test_bundles_that_are_placed_already_bind_the_others():
    view = view_of({"CPU": 4}, {"CPU": 4})
    taken = {1: b"node0000"}
    assert place_bundles(asked({"CPU": 1}), STRICT_SPREAD, view, taken).plan == {0: b"node0001"}
    assert place_bundles(asked({"CPU": 1}), STRICT_PACK, view, taken).plan == {0: b"node0000"}
    assert place_bundles(asked({"CPU": 1}), PACK, view, taken).plan == {0: b"node0000"}
    assert place_bundles(asked({"CPU": 1}), SPREAD, view, taken).plan == {0: b"node0001"}


def test_bundle_goes_only_where_labels_match():
    view = view_of({"CPU": 4}, {"CPU": 4}, labels=[{"gpu": "T4"}, {"gpu": "A100"}])
    assert place_bundles(asked({"CPU": 1}, selector={"gpu": "A100"}), PACK, view).plan == {0: b"node0001"}
    nowhere = place_bundles(asked({"CPU": 1}, selector={"gpu": "in(B200, H200)"}), PACK, view)
    assert nowhere.plan is None and "gpu=in(B200, H200)" in nowhere.reason


def test_group_that_would_fit_an_empty_cluster_is_told_apart_from_one_that_never_fits():
    view = view_of({"CPU": 2})
    view.reserve(b"node0000", shape_of({"CPU": 2}))
    full, hopeless = place_bundles(asked({"CPU": 1}), PACK, view), place_bundles(asked({"CPU": 3}), PACK, view)
    assert full.plan is None and full.possible and "waits for room" in full.reason
    assert hopeless.plan is None and not hopeless.possible and "even if all of 1 node were empty" in hopeless.reason


# --- The table, scene by scene. ---------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A table over some nodes whose rooms are real. ``late``: what nodes were told and have not been given yet."""

    view: ResourceView
    nodes: dict[bytes, ResourcePools] = field(default_factory=dict)
    late: list = field(default_factory=list)
    answers: list = field(default_factory=list)
    holds: bool = False
    """Nodes get nothing until ``deliver``."""
    request: int = 0

    def __post_init__(self) -> None:
        self.table = PlacementGroupTable(self._place)
        for index in range(len(self.view)):
            node_id = b"node%04d" % index
            self.nodes[node_id] = ResourcePools(LocalResources(self.view.get(node_id).total))

    def _place(self, group, bundles, taken):
        placing = place_bundles(bundles, group.strategy, self.view, taken)
        for index, node_id in (placing.plan or {}).items():
            self.view.reserve(node_id, bundles[index].shape)
        return placing

    def tell(self, *events) -> None:
        for effect in self.table.handle(events, 0):
            if isinstance(effect, (on.PrepareOn, on.CommitOn, on.ReturnOn)):
                self.late.append(effect)
            elif isinstance(effect, (on.AnswerGroup, on.RefuseGroup)):
                self.answers.append(effect)
        self.table.check_invariants()
        while self.late and not self.holds:
            self.deliver(0)

    def deliver(self, at: int) -> None:
        """A node gets one message; a lost node gets nothing."""
        effect = self.late.pop(at)
        pools = self.nodes.get(effect.node_id)
        if pools is None:
            return
        if isinstance(effect, on.PrepareOn):
            why = pools.prepare(effect.group_id, effect.attempt, effect.bundles, effect.commit)
            self.tell(on.PrepareAnswered(effect.group_id, effect.attempt, effect.node_id, not why, why))
        elif isinstance(effect, on.CommitOn):
            pools.commit(effect.group_id, effect.attempt)
        elif effect.removed:
            pools.remove(effect.group_id, effect.attempt, effect.reason)
        else:
            pools.give_back(effect.group_id, effect.attempt, [index for index, _ in effect.bundles])
        pools.check_invariants()

    def create(self, group: PlacementGroupSpec) -> str:
        self.request += 1
        self.tell(on.GroupRequested(self.request, group))
        return self.state(group)

    def state(self, group: PlacementGroupSpec) -> str:
        info = self.table.info(group.group_id)
        return info.state if info else ""

    def report(self) -> None:
        """Every node says what it has free."""
        for node_id, pools in self.nodes.items():
            self.view.report(node_id, pools.root.available)
        self.tell(on.RoomChanged())

    def lose(self, node_id: bytes) -> None:
        self.view.remove(node_id)
        del self.nodes[node_id]
        self.tell(on.GroupNodeLost(node_id, "unplugged"))


def test_group_that_fits_is_created_by_one_message_to_one_node():
    scene = Scene(view_of({"CPU": 2}))
    scene.holds = True
    assert scene.create(spec()) != GROUP_CREATED
    (prepare,) = scene.late
    assert prepare.commit
    scene.deliver(0)
    assert scene.state(spec()) == GROUP_CREATED and not scene.late


def test_group_over_two_nodes_is_committed_when_both_have_prepared():
    scene = Scene(view_of({"CPU": 1}, {"CPU": 1}))
    scene.holds = True
    group = spec(strategy=STRICT_SPREAD, shapes=({"CPU": 1}, {"CPU": 1}))
    scene.create(group)
    scene.deliver(0)
    assert scene.state(group) != GROUP_CREATED
    scene.deliver(0)
    assert scene.state(group) == GROUP_CREATED
    assert [type(effect) for effect in scene.late] == [on.CommitOn, on.CommitOn]


def test_one_node_that_cannot_prepare_makes_the_others_give_back():
    scene = Scene(view_of({"CPU": 1}, {"CPU": 1}))
    scene.nodes[b"node0001"].root.allocate("somebody", shape_of({"CPU": 1}))
    group = spec(strategy=STRICT_SPREAD, shapes=({"CPU": 1}, {"CPU": 1}))
    assert scene.create(group) == GROUP_PENDING
    assert scene.nodes[b"node0000"].root.available == shape_of({"CPU": 1})
    assert "could not reserve" in scene.table.info(group.group_id).waiting


def test_waiting_group_is_created_when_there_is_room():
    scene = Scene(view_of({"CPU": 1}))
    first, second = spec(1), spec(2)
    assert [scene.create(first), scene.create(second)] == [GROUP_CREATED, GROUP_PENDING]
    assert "waits for room" in scene.table.waiting()[0]
    scene.tell(on.RemovalRequested(first.group_id))
    scene.report()
    assert scene.state(second) == GROUP_CREATED
    assert scene.table.waiting() == []


def test_late_answer_of_an_old_attempt_is_ignored():
    scene = Scene(view_of({"CPU": 1}))
    group = spec()
    scene.holds = True
    scene.create(group)
    scene.tell(on.PrepareAnswered(group.group_id, 1, b"node0000", False, "no"), on.RoomChanged())
    scene.report()
    assert scene.table.info(group.group_id).attempt == 2
    scene.tell(on.PrepareAnswered(group.group_id, 1, b"node0000", True))
    assert scene.state(group) != GROUP_CREATED


def test_removed_group_is_removed_for_ever_and_gives_its_name_back():
    scene = Scene(view_of({"CPU": 1}))
    group = spec(name="x", namespace="ns")
    scene.create(group)
    assert scene.table.by_name("x", "ns").spec.group_id == group.group_id
    scene.tell(on.RemovalRequested(group.group_id, "enough"), on.RemovalRequested(group.group_id, "again"))
    assert scene.state(group) == GROUP_REMOVED and scene.table.by_name("x", "ns") is None
    assert scene.table.info(group.group_id).death == "enough"
    scene.report()
    assert scene.create(spec(2, name="x", namespace="ns")) == GROUP_CREATED


def test_second_group_of_a_taken_name_is_refused():
    scene = Scene(view_of({"CPU": 2}))
    scene.create(spec(1, name="x"))
    scene.create(spec(2, name="x"))
    assert isinstance(scene.answers[-1], on.RefuseGroup) and "'x' exists already" in scene.answers[-1].text
    assert scene.table.info(spec(2).group_id) is None


def test_repeated_request_makes_one_group():
    scene = Scene(view_of({"CPU": 2}))
    scene.create(spec())
    scene.create(spec())
    assert len(scene.table.infos()) == 1 and len(scene.answers) == 2
    assert scene.nodes[b"node0000"].root.available == shape_of({"CPU": 1})


def test_groups_go_with_their_job_or_the_actor_that_made_them_unless_detached():
    scene = Scene(view_of({"CPU": 4}))
    groups = [spec(1), spec(2, creator_actor=b"actor"), spec(3, detached=True)]
    for group in groups:
        scene.create(group)
    scene.tell(on.CreatorActorDied(b"actor", "killed"))
    assert [scene.state(group) for group in groups] == [GROUP_CREATED, GROUP_REMOVED, GROUP_CREATED]
    scene.tell(on.GroupJobEnded(JOB, "its driver left"))
    assert [scene.state(group) for group in groups] == [GROUP_REMOVED, GROUP_REMOVED, GROUP_CREATED]


def test_lost_bundle_finds_another_node_and_the_others_stay():
    scene = Scene(view_of({"CPU": 1}, {"CPU": 1}, {"CPU": 1}))
    group = spec(strategy=STRICT_SPREAD, shapes=({"CPU": 1}, {"CPU": 1}))
    scene.create(group)
    kept, lost = scene.table.info(group.group_id).nodes
    scene.lose(lost)
    info = scene.table.info(group.group_id)
    assert info.state == GROUP_CREATED and info.nodes[0] == kept and info.nodes[1] not in (lost, kept)


def test_group_whose_lost_bundle_fits_nowhere_is_rescheduled_when_a_node_joins():
    scene = Scene(view_of({"CPU": 1}, {"CPU": 1}))
    group = spec(strategy=STRICT_SPREAD, shapes=({"CPU": 1}, {"CPU": 1}))
    scene.create(group)
    scene.lose(b"node0001")
    assert scene.state(group) == GROUP_RESCHEDULING
    node, why, never = scene.table.node_for(group.group_id, 0)
    assert node is None and GROUP_RESCHEDULING in why and not never
    scene.view.add(b"node0009", shape_of({"CPU": 1}), shape_of({"CPU": 1}), {})
    scene.nodes[b"node0009"] = ResourcePools(LocalResources(shape_of({"CPU": 1})))
    scene.tell(on.RoomChanged())
    assert scene.state(group) == GROUP_CREATED
    assert "gone" in scene.table.story(group.group_id)


def test_whoever_takes_any_bundle_takes_them_in_turns():
    scene = Scene(view_of({"CPU": 1}, {"CPU": 1}))
    group = spec(strategy=STRICT_SPREAD, shapes=({"CPU": 1}, {"CPU": 1}))
    scene.create(group)
    turns = [scene.table.node_for(group.group_id, -1)[0] for _ in range(4)]
    assert turns == [*scene.table.info(group.group_id).nodes] * 2


def test_gcs_that_starts_anew_calls_off_attempts_and_keeps_groups():
    created = GroupRecord(spec(1), GROUP_CREATED, 1, [b"node0000"])
    trying = GroupRecord(spec(2), "PREPARING", 3, [b"node0000"], {b"node0000": False}, [0])
    scene = Scene(view_of({"CPU": 2}))
    effects = scene.table.load([created, trying], 0)
    scene.table.check_invariants()
    assert any(isinstance(effect, on.ReturnOn) and effect.attempt == 3 for effect in effects)
    assert scene.state(spec(1)) == GROUP_CREATED
    scene.tell(on.RoomChanged())
    assert scene.state(spec(2)) == GROUP_CREATED


def test_waiting_groups_beyond_a_round_of_tries_get_their_turn():
    scene = Scene(view_of({"CPU": 1}))
    for number in range(1, 100):
        scene.create(spec(number, shapes=({"CPU": 9},)))
    scene.nodes[b"node0000"].root.allocate("somebody", shape_of({"CPU": 1}))
    scene.report()
    last = spec(200)
    assert scene.create(last) == GROUP_PENDING
    scene.nodes[b"node0000"].root.release("somebody")
    scene.report()
    scene.report()
    assert scene.state(last) == GROUP_CREATED


# --- Any order of everything. -----------------------------------------------------------------------------------------

SHAPES = [{"CPU": 1}, {"CPU": 2}, {"CPU": 1, "GPU": 0.5}, {"GPU": 1}]


class GroupWorld(RuleBasedStateMachine):
    """Messages to nodes are late and overtake one another between nodes; nodes are lost and join."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(view_of(*[{"CPU": 3, "GPU": 1}] * 3))
        self.scene.holds = True
        self.number = 0
        self.joined = 0

    @rule(strategy=st.sampled_from(STRATEGIES), shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4))
    def create(self, strategy: str, shapes: list) -> None:
        self.number += 1
        self.scene.create(spec(self.number, strategy, tuple(shapes)))

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def remove(self, data) -> None:
        number = data.draw(st.integers(1, self.number))
        self.scene.tell(on.RemovalRequested(spec(number).group_id))

    @precondition(lambda self: self.scene.late)
    @rule(data=st.data())
    def deliver(self, data) -> None:
        """Each node hears its messages in order; who hears first is anybody's guess."""
        node = data.draw(st.sampled_from(list(dict.fromkeys(effect.node_id for effect in self.scene.late))))
        self.scene.deliver(next(at for at, effect in enumerate(self.scene.late) if effect.node_id == node))

    @rule()
    def report(self) -> None:
        self.scene.report()

    @precondition(lambda self: len(self.scene.nodes) > 1)
    @rule(data=st.data())
    def lose_node(self, data) -> None:
        self.scene.lose(data.draw(st.sampled_from(sorted(self.scene.nodes))))

    @rule()
    def node_joins(self) -> None:
        self.joined += 1
        node_id = b"more%04d" % self.joined
        total = shape_of({"CPU": 3, "GPU": 1})
        self.scene.view.add(node_id, total, dict(total), {})
        self.scene.nodes[node_id] = ResourcePools(LocalResources(total))
        self.scene.tell(on.RoomChanged())

    @invariant()
    def strategies_hold(self) -> None:
        for info in self.scene.table.infos():
            placed = [node for node in info.nodes if node]
            if info.spec.strategy == STRICT_SPREAD:
                assert len(set(placed)) == len(placed)
            if info.spec.strategy == STRICT_PACK:
                assert len(set(placed)) <= 1

    @invariant()
    def all_or_nothing_in_the_end(self) -> None:
        """When every message has arrived, exactly the bundles of created groups are reserved, each where it belongs."""
        if self.scene.late:
            return
        for node_id, pools in self.scene.nodes.items():
            expected = shape_of({"CPU": 3, "GPU": 1})
            for info in self.scene.table.infos():
                for bundle, node in zip(info.spec.bundles, info.nodes, strict=True):
                    if node == node_id:
                        assert info.state in (GROUP_CREATED, GROUP_RESCHEDULING)
                        for name, amount in bundle.shape.items():
                            expected[name] -= amount
            assert pools.root.available == expected, f"{node_id} leaks or lacks a reservation."

    def teardown(self) -> None:
        """Without news from outside, a cluster that is told everything comes to rest, and then gives everything back."""
        self.scene.holds = False
        self.scene.tell(on.RoomChanged())
        for number in range(1, self.number + 1):
            self.scene.tell(on.RemovalRequested(spec(number).group_id))
        for pools in self.scene.nodes.values():
            assert pools.root.available == pools.root.total, "A removed group left something reserved."


GroupWorld.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
test_any_order_of_everything = GroupWorld.TestCase


def test_a_node_with_more_room_is_of_use_only_to_groups_of_which_a_bundle_fits_on_it():
    tried: list[bytes] = []
    room = {b"node0001": 1, b"node0002": 0}

    def place(group, bundles, taken):
        tried.append(group.group_id)
        return Placing(None, "no room")

    table = PlacementGroupTable(place, fits_on=lambda bundle, node_id: bundle.shape["CPU"] <= room[node_id] * 10_000)
    for number, cpus in ((1, 1), (2, 2)):
        spec = PlacementGroupSpec(b"g" * 15 + bytes([number]), b"job", [Bundle({"CPU": cpus * 10_000})])
        table.handle([on.GroupRequested(number, spec)], 0)
    small, large = tried
    tried.clear()

    table.handle([on.RoomChanged(b"node0001")], 1)
    table.handle([on.RoomChanged(b"node0002")], 2)
    assert tried == [small]
    table.handle([on.RoomChanged()], 3)
    assert tried == [small, small, large]


def test_a_node_with_more_room_is_of_use_to_a_group_on_one_node_only_if_all_of_it_fits():
    tried: list[int] = []
    room = {b"node0001": 1, b"node0002": 2}

    def place(group, bundles, taken):
        tried.append(len(bundles))
        return Placing(None, "no room")

    table = PlacementGroupTable(place, fits_on=lambda bundle, node_id: bundle.shape["CPU"] <= room[node_id] * 10_000)
    spec = PlacementGroupSpec(b"g" * 16, b"job", [Bundle({"CPU": 10_000}), Bundle({"CPU": 10_000})], STRICT_PACK)
    table.handle([on.GroupRequested(1, spec)], 0)

    table.handle([on.RoomChanged(b"node0001")], 1)
    assert tried == [2]
    table.handle([on.RoomChanged(b"node0002")], 2)
    assert tried == [2, 2]


def test_a_group_of_a_job_that_has_ended_is_refused_unless_it_is_detached():
    table = PlacementGroupTable(lambda spec, bundles, taken: Placing(dict.fromkeys(bundles, b"node0001")))
    table.handle([on.GroupJobEnded(b"job", "its node is gone.")], 0)
    spec = PlacementGroupSpec(b"g" * 16, b"job", [Bundle({"CPU": 1})])

    (refusal,) = table.handle([on.GroupRequested(1, spec)], 1)
    assert isinstance(refusal, on.RefuseGroup) and "its node is gone" in refusal.text

    spec.detached = True
    assert not any(isinstance(each, on.RefuseGroup) for each in table.handle([on.GroupRequested(2, spec)], 2))
