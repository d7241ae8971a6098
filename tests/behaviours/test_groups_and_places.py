"""Placement groups, strategies, labels and amounts: what is placed where, and what is refused."""

import os

import pytest

from raybook.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
)
from raybook.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from raybook.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

PATIENCE_S = 20


@pytest.fixture
def make_group(ray, till):
    """Makes groups that are gone, with what they held, after the test."""
    groups = []
    free = ray.available_resources().get("CPU")

    def make(*args, **kwargs):
        groups.append(placement_group(*args, **kwargs))
        return groups[-1]

    yield make
    for group in groups:
        remove_placement_group(group)
    till(lambda: ray.available_resources().get("CPU") == free)


@pytest.fixture(scope="module")
def ask(ray):
    @ray.remote
    def group_id():
        group = get_current_placement_group()
        return group and group.id.hex()

    return group_id


@pytest.fixture(scope="module")
def where(ray):
    @ray.remote
    def node_id():
        return ray.get_runtime_context().get_node_id()

    return node_id


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        (([],), {}, "Bundles must be a non-empty list"),
        (("x",), {}, "must be a list"),
        ((None,), {}, "must be a list"),
        (({"CPU": 1},), {}, "must be a list"),
        ((({"CPU": 1},),), {}, "must be a list"),
        (([1],), {}, "Bundles must be a non-empty list of resource dictionaries"),
        (([{"CPU": "1"}],), {}, "Bundles must be a non-empty list of resource dictionaries"),
        (([{1: 1}],), {}, "Bundles must be a non-empty list of resource dictionaries"),
        (([{}],), {}, "Bundles cannot be an empty dictionary or resources with only 0 values"),
        (([{"CPU": 1}, {}],), {}, "Bundles cannot be an empty dictionary or resources with only 0 values"),
        (([{"CPU": 0, "GPU": 0}],), {}, "Bundles cannot be an empty dictionary or resources with only 0 values"),
        (([{"CPU": 1}],), {"strategy": "pack"}, "Invalid placement group strategy pack"),
        (([{"CPU": 1}],), {"lifetime": "x"}, "either `None` or 'detached'"),
        (([{"CPU": 1}],), {"bundle_label_selector": []}, "should equal the length of `bundles`"),
        (([{"CPU": 1}],), {"bundle_label_selector": "x"}, "must be a list"),
    ],
)
def test_groups_that_make_no_sense_are_refused(ray, args, kwargs, words):
    with pytest.raises(ValueError, match=words):
        placement_group(*args, **kwargs)


def test_a_group_says_what_it_is(ray, make_group):
    group = make_group([{"CPU": 2}, {"CPU": 1, "custom": 1}], name="told")
    assert ray.get(group.ready(), timeout=PATIENCE_S) == group and group.wait(timeout_seconds=1)
    assert group.bundle_specs == [{"CPU": 2}, {"CPU": 1, "custom": 1}] and group.bundle_count == 2
    assert not group.is_empty and PlacementGroup.empty().is_empty
    found = get_placement_group("told")
    assert found == group and hash(found) == hash(group) and found.id == group.id
    row = placement_group_table(group)
    assert (row["name"], row["state"], row["strategy"]) == ("told", "CREATED", "PACK")
    assert row["placement_group_id"] == group.id.hex() and row["stats"]["scheduling_state"] == "FINISHED"
    assert row["bundles"] == {0: {"CPU": 2}, 1: {"CPU": 1, "custom": 1}}
    assert set(row["bundles_to_node_id"]) == {0, 1} and group.id.hex() in placement_group_table()


@pytest.mark.parametrize("wrong", ["nobody", "", None])
def test_a_group_that_is_not_there_is_a_value_error(ray, wrong):
    with pytest.raises(ValueError):
        get_placement_group(wrong)


def test_tasks_and_actors_run_in_their_bundle(ray, make_group, ask):
    group = make_group([{"CPU": 1}, {"CPU": 1}])
    for index in (-1, 0, 1):
        strategy = PlacementGroupSchedulingStrategy(group, index)
        assert ray.get(ask.options(scheduling_strategy=strategy).remote(), timeout=PATIENCE_S) == group.id.hex()
    old = ask.options(placement_group=group, placement_group_bundle_index=1)
    assert ray.get(old.remote(), timeout=PATIENCE_S) == group.id.hex()
    assert ray.get(ask.remote(), timeout=PATIENCE_S) is None and get_current_placement_group() is None


@pytest.mark.parametrize("index", [2, 3, -2, 100])
def test_a_bundle_that_is_not_there_is_refused(make_group, ask, index):
    group = make_group([{"CPU": 1}, {"CPU": 1}])
    with pytest.raises(ValueError, match=f"placement group bundle index {index} is invalid"):
        ask.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)).remote()


def test_a_bundle_index_needs_a_group(ray, ask):
    with pytest.raises(ValueError, match="bundle index must be -1"):
        ask.options(placement_group_bundle_index=1).remote()


def test_what_fits_no_bundle_is_refused(ray, make_group, ask):
    @ray.remote
    class Large:
        pass

    group = make_group([{"CPU": 1}, {"CPU": 1, "custom": 1}])
    strategy = PlacementGroupSchedulingStrategy(group)
    for request in ({"num_cpus": 3}, {"resources": {"absent": 1}}, {"num_gpus": 1}):
        with pytest.raises(ValueError, match="cannot fit into any bundles for the placement group"):
            ask.options(scheduling_strategy=strategy, **request).remote()
        with pytest.raises(ValueError, match="Cannot schedule .*Large with the placement group"):
            Large.options(scheduling_strategy=strategy, **request).remote()


def test_a_group_and_a_strategy_exclude_each_other(make_group, ask):
    group = make_group([{"CPU": 1}])
    with pytest.raises(ValueError, match="scheduling_strategy"):
        ask.options(placement_group=group, scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote()


def test_children_follow_into_the_group_only_where_it_captures_them(ray, make_group, ask):
    @ray.remote(num_cpus=1)
    class Parent:
        def children(self):
            outside = PlacementGroupSchedulingStrategy(None)
            children = [ask, *(ask.options(scheduling_strategy=strategy) for strategy in ("DEFAULT", outside))]
            return ray.get([child.remote() for child in (*children, ask.options(placement_group=None))])

        def captures(self):
            return ray.get_runtime_context().should_capture_child_tasks_in_placement_group

    group = make_group([{"CPU": 2}])
    for captures, first in ((True, group.id.hex()), (False, None)):
        strategy = PlacementGroupSchedulingStrategy(group, 0, captures)
        parent = Parent.options(scheduling_strategy=strategy).remote()
        assert ray.get(parent.children.remote(), timeout=PATIENCE_S) == [first, None, None, None]
        assert ray.get(parent.captures.remote()) == captures
        ray.kill(parent)


def test_a_group_waits_for_room_and_then_runs_what_waited_for_it(ray, make_group, ask):
    first, second = make_group([{"CPU": 6}]), make_group([{"CPU": 5}], name="second")
    assert first.wait(PATIENCE_S) and not second.wait(0.1)
    row = placement_group_table(second)
    assert (row["state"], row["stats"]["scheduling_state"]) == ("PENDING", "NO_RESOURCES")
    ref = ask.options(scheduling_strategy=PlacementGroupSchedulingStrategy(second)).remote()
    with pytest.raises(GetTimeoutError):
        ray.get([ref, second.ready()], timeout=0.1)
    remove_placement_group(first)
    assert ray.get(ref, timeout=PATIENCE_S) == second.id.hex()


@pytest.mark.parametrize(
    ("bundles", "strategy"),
    [([{"CPU": 100}], "PACK"), ([{"CPU": 1}, {"CPU": 1}], "STRICT_SPREAD"), ([{"no": 1}], "SPREAD")],
)
def test_a_group_that_can_never_fit_stays_pending_and_says_why(make_group, bundles, strategy):
    group = make_group(bundles, strategy=strategy)
    assert not group.wait(0.05)
    row = placement_group_table(group)
    assert (row["state"], row["stats"]["scheduling_state"]) == ("PENDING", "INFEASIBLE") and row["waiting_for"]


def test_removing_a_group_ends_what_is_in_it(ray, make_group, ask):
    @ray.remote(num_cpus=1)
    class Inside:
        def ok(self):
            return 1

    group = make_group([{"CPU": 2}])
    strategy = PlacementGroupSchedulingStrategy(group)
    actor = Inside.options(scheduling_strategy=strategy).remote()
    assert ray.get(actor.ok.remote(), timeout=PATIENCE_S) == 1
    remove_placement_group(group)
    with pytest.raises(ActorDiedError, match="actor died"):
        for _ in range(1_000):  # A call or two may still be answered while its process is being ended.
            ray.get(actor.ok.remote(), timeout=PATIENCE_S)
    assert placement_group_table(group)["state"] == "REMOVED"
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved):
        ray.get(ask.options(scheduling_strategy=strategy).remote(), timeout=PATIENCE_S)
    with pytest.raises(TaskPlacementGroupRemoved):
        ray.get(group.ready(), timeout=PATIENCE_S)
    assert not group.wait(1)


def test_affinity_binds_to_a_node_and_softly_lets_go(ray, where):
    here = ray.get_runtime_context().get_node_id()
    gone = "0" * (len(here) - 1) + "1"

    @ray.remote
    class Bound:
        def ok(self):
            return 1

    for node, soft in ((here, False), (here, True), (gone, True)):
        strategy = NodeAffinitySchedulingStrategy(node, soft=soft)
        assert ray.get(where.options(scheduling_strategy=strategy).remote(), timeout=PATIENCE_S) == here
    hard = NodeAffinitySchedulingStrategy(gone, soft=False)
    with pytest.raises(TaskUnschedulableError):
        ray.get(where.options(scheduling_strategy=hard).remote(), timeout=PATIENCE_S)
    with pytest.raises(ActorUnschedulableError):
        ray.get(Bound.options(scheduling_strategy=hard).remote().ok.remote(), timeout=PATIENCE_S)


def test_affinity_is_checked_where_it_is_made(ray):
    here = ray.get_runtime_context().get_node_id()
    with pytest.raises(ValueError, match="Invalid node_id"):
        NodeAffinitySchedulingStrategy("x", soft=False)
    with pytest.raises(TypeError):
        NodeAffinitySchedulingStrategy(here)
    with pytest.raises(ValueError, match="_spill_on_unavailable cannot be set when soft is False"):
        NodeAffinitySchedulingStrategy(here, soft=False, _spill_on_unavailable=True)
    with pytest.raises(ValueError, match="_fail_on_unavailable cannot be set when soft is True"):
        NodeAffinitySchedulingStrategy(here, soft=True, _fail_on_unavailable=True)
    assert NodeAffinitySchedulingStrategy(bytes.fromhex(here), soft=True).node_id == here
    with pytest.raises(ValueError):
        ray.remote(lambda: 1).options(scheduling_strategy="RANDOM")


NODE = "ray.io/node-id"


@pytest.mark.parametrize(
    ("hard", "soft"),
    [
        ({NODE: "here"}, None),
        ({NODE: Exists()}, None),
        ({"absent": NotIn("a")}, None),
        ({"absent": DoesNotExist()}, None),
        ({}, {"absent": In("a")}),
        ({NODE: Exists()}, {"absent": Exists()}),
    ],
)
def test_label_strategies_choose_a_node_that_meets_them(ray, where, hard, soft):
    here = ray.get_runtime_context().get_node_id()
    strategy = NodeLabelSchedulingStrategy(
        {key: In(here) if value == "here" else value for key, value in hard.items()}, soft=soft
    )
    assert ray.get(where.options(scheduling_strategy=strategy).remote(), timeout=PATIENCE_S) == here

    @ray.remote
    class Placed:
        def ok(self):
            return 1

    assert ray.get(Placed.options(scheduling_strategy=strategy).remote().ok.remote(), timeout=PATIENCE_S) == 1


@pytest.mark.parametrize(
    "hard", [{"absent": Exists()}, {NODE: NotIn("here")}, {NODE: DoesNotExist()}, {"absent": In("a")}]
)
def test_a_label_strategy_that_no_node_meets_waits(ray, where, hard):
    here = ray.get_runtime_context().get_node_id()
    wanted = {key: NotIn(here) if isinstance(value, NotIn) else value for key, value in hard.items()}
    ref = where.options(scheduling_strategy=NodeLabelSchedulingStrategy(wanted)).remote()
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.1)
    ray.cancel(ref)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NodeLabelSchedulingStrategy({}),
        lambda: NodeLabelSchedulingStrategy(None),
        lambda: NodeLabelSchedulingStrategy(1),
        lambda: NodeLabelSchedulingStrategy({"a": 1}),
        lambda: NodeLabelSchedulingStrategy({1: In("a")}),
        lambda: NodeLabelSchedulingStrategy({}, soft=1),
        lambda: In(),
        lambda: In(1),
        lambda: NotIn(),
    ],
)
def test_label_strategies_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_a_fallback_is_tried_where_no_node_meets_the_selector(ray, where):
    here = ray.get_runtime_context().get_node_id()
    options = {
        "label_selector": {"absent": "a"},
        "fallback_strategy": [{"label_selector": {"absent": "b"}}, {"label_selector": {NODE: here}}],
    }
    assert ray.get(where.options(**options).remote(), timeout=PATIENCE_S) == here

    @ray.remote
    class Placed:
        def ok(self):
            return 1

    assert ray.get(Placed.options(**options).remote().ok.remote(), timeout=PATIENCE_S) == 1


@pytest.mark.parametrize("condition", ["{}", "in({}, other)", "!other", "!in(other, another)"])
def test_selectors_of_every_form_match(ray, where, condition):
    here = ray.get_runtime_context().get_node_id()
    selector = {NODE: condition.format(here)}
    assert ray.get(where.options(label_selector=selector).remote(), timeout=PATIENCE_S) == here


@pytest.mark.parametrize(
    "options", [{"num_cpus": 100}, {"resources": {"absent": 1}}, {"label_selector": {"absent": "a"}}]
)
def test_what_no_node_can_run_waits(ray, where, options):
    ref = where.options(**options).remote()
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.1)
    ray.cancel(ref)


@pytest.fixture(scope="module")
def held(ray):
    def look():
        context = ray.get_runtime_context()
        return (
            context.get_assigned_resources(),
            context.get_accelerator_ids()["GPU"],
            ray.get_gpu_ids(),
            os.environ.get("CUDA_VISIBLE_DEVICES"),
        )

    @ray.remote
    class Holder:
        def look(self):
            return look()

    return ray.remote(look), Holder


@pytest.mark.parametrize(
    ("options", "task", "actor"),
    [
        ({}, {"CPU": 1}, {}),
        ({"num_cpus": 2}, {"CPU": 2}, {"CPU": 2}),
        ({"num_cpus": 0.5}, {"CPU": 0.5}, {"CPU": 0.5}),
        ({"num_cpus": 0}, {}, {}),
        ({"resources": {"custom": 0.5}}, {"CPU": 1, "custom": 0.5}, {"CPU": 1, "custom": 0.5}),
        ({"num_gpus": 2}, {"CPU": 1, "GPU": 2}, {"CPU": 1, "GPU": 2}),
        ({"num_gpus": 0.5}, {"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 0.5}),
    ],
)
def test_tasks_and_actors_hold_what_they_asked_for(ray, held, options, task, actor):
    function, holder = held
    amounts, ids, indices, visible = ray.get(function.options(**options).remote(), timeout=PATIENCE_S)
    assert amounts == task
    count = -(-options.get("num_gpus", 0) // 1)
    assert len(ids) == len(indices) == count and ids == [str(index) for index in indices]
    if count:
        assert visible == ",".join(ids)
    living = holder.options(**options).remote()
    assert ray.get(living.look.remote(), timeout=PATIENCE_S)[0] == actor
    ray.kill(living)


def test_shares_of_a_gpu_lie_together_and_the_one_too_many_waits(ray, held, till):
    _, holder = held
    till(lambda: ray.available_resources().get("GPU") == 2)
    holders = [holder.options(num_cpus=0, num_gpus=0.5).remote() for _ in range(4)]
    found = [look[2] for look in ray.get([each.look.remote() for each in holders], timeout=PATIENCE_S)]
    assert sorted(found) == [[0], [0], [1], [1]]
    fifth = holder.options(num_cpus=0, num_gpus=0.5).remote()
    ref = fifth.look.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.1)
    ray.kill(holders[0])
    assert len(ray.get(ref, timeout=PATIENCE_S)[2]) == 1
    for each in (fifth, *holders):
        ray.kill(each)
