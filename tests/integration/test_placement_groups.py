"""Placement groups on one node: tasks and actors live in their bundles, and end with them."""

from __future__ import annotations

import pytest

import raybook
from raybook.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    RayActorError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    WorkerCrashedError,
)
from raybook.util import (
    get_current_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from raybook.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

PATIENCE_S = 20


def inside(group, index: int = -1, captures: bool | None = None) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(group, index, captures)


@pytest.fixture
def make_group(cluster):
    """Makes groups that are gone after the test."""
    groups = []

    def make(bundles, **options):
        groups.append(placement_group(bundles, **options))
        return groups[-1]

    yield make
    for group in groups:
        remove_placement_group(group)


@pytest.fixture
def is_free(cluster, eventually):
    """Waits until all four CPUs and the GPU are free."""

    def wait() -> None:
        eventually(lambda: (found := cluster.available_resources()).get("CPU") == 4 and found.get("GPU") == 1)

    return wait


def test_group_takes_its_resources_and_gives_them_back(cluster, is_free, make_group):
    is_free()
    group = make_group([{"CPU": 2}, {"CPU": 1, "GPU": 1}])
    assert group.wait(PATIENCE_S)
    assert cluster.get(group.ready(), timeout=PATIENCE_S) == group
    left = cluster.available_resources()
    assert left["CPU"] == 1 and "GPU" not in left
    remove_placement_group(group)
    assert placement_group_table(group)["state"] == "REMOVED"
    is_free()


def test_task_in_a_group_runs_beside_a_full_node(cluster, is_free, make_group, gate):
    is_free()
    group = make_group([{"CPU": 1}])
    assert group.wait(PATIENCE_S)

    @cluster.remote
    def hold(gate):
        return cluster.get(gate.wait.remote())

    @cluster.remote(num_cpus=3)
    class Rest:
        def here(self):
            return True

    @cluster.remote
    def work():
        return get_current_placement_group(), raybook.get_runtime_context().get_placement_group_id()

    rest = Rest.remote()
    assert cluster.get(rest.here.remote(), timeout=PATIENCE_S)
    seen, group_id = cluster.get(work.options(scheduling_strategy=inside(group, 0)).remote(), timeout=PATIENCE_S)
    assert seen == group and group_id == group.id.hex()
    outside = work.remote()
    assert cluster.wait([outside], timeout=0.2) == ([], [outside])
    cluster.kill(rest)
    assert cluster.get(outside, timeout=PATIENCE_S) == (None, None)


def test_tasks_of_a_group_share_its_bundles_and_no_more(cluster, is_free, make_group, gate):
    is_free()
    group = make_group([{"CPU": 1}, {"CPU": 1}])

    @cluster.remote(max_retries=0)
    def arrive(gate):
        cluster.get(gate.arrive.remote())
        cluster.get(gate.wait.remote())

    @cluster.remote
    class Occupant:
        def here(self):
            return True

    occupants = [Occupant.options(num_cpus=1, scheduling_strategy=inside(group)).remote() for _ in range(2)]
    assert cluster.get([one.here.remote() for one in occupants], timeout=PATIENCE_S) == [True, True]
    third = Occupant.options(num_cpus=1, scheduling_strategy=inside(group)).remote()
    here = third.here.remote()
    assert cluster.wait([here], timeout=0.3) == ([], [here])
    cluster.kill(occupants[0])
    assert cluster.get(here, timeout=PATIENCE_S)


def test_gpu_of_a_bundle_is_seen_by_its_tasks_only(cluster, is_free, make_group):
    is_free()
    group = make_group([{"GPU": 1, "CPU": 1}])

    @cluster.remote(num_gpus=0.5)
    def gpus():
        return cluster.get_gpu_ids()

    assert cluster.get(gpus.options(scheduling_strategy=inside(group)).remote(), timeout=PATIENCE_S) == [0]
    outside = gpus.remote()
    assert cluster.wait([outside], timeout=0.2) == ([], [outside])
    remove_placement_group(group)
    assert cluster.get(outside, timeout=PATIENCE_S) == [0]


def test_nested_tasks_of_a_capturing_group_run_in_it(cluster, is_free, make_group):
    is_free()
    group = make_group([{"CPU": 1}])

    @cluster.remote
    def child():
        return get_current_placement_group()

    @cluster.remote
    class Child:
        def group(self):
            return get_current_placement_group()

    @cluster.remote
    def parent():
        actor = Child.options(num_cpus=0).remote()
        return (
            cluster.get(child.remote()),
            cluster.get(child.options(placement_group=None).remote()),
            cluster.get(child.options(scheduling_strategy="DEFAULT").remote()),
            cluster.get(actor.group.remote()),
        )

    captured = parent.options(scheduling_strategy=inside(group, captures=True)).remote()
    assert cluster.get(captured, timeout=PATIENCE_S) == (group, None, None, group)
    free = parent.options(scheduling_strategy=inside(group)).remote()
    assert cluster.get(free, timeout=PATIENCE_S) == (None, None, None, None)


def test_child_that_fits_no_bundle_of_its_parents_group_is_refused(cluster, is_free, make_group):
    is_free()
    group = make_group([{"CPU": 1}])

    @cluster.remote(num_cpus=2)
    def large():
        return 1

    @cluster.remote
    def parent():
        return cluster.get(large.remote())

    with pytest.raises(ValueError, match="cannot fit into any bundles"):
        cluster.get(parent.options(scheduling_strategy=inside(group, captures=True)).remote(), timeout=PATIENCE_S)


def test_removed_group_ends_its_running_task_at_once_in_spite_of_retries(cluster, is_free, make_group, gate):
    is_free()
    group = make_group([{"CPU": 1}])

    @cluster.remote
    def hold(gate):
        cluster.get(gate.arrive.remote())
        cluster.get(gate.wait.remote())

    running = hold.options(scheduling_strategy=inside(group)).remote(gate)
    queued = hold.options(num_cpus=1, scheduling_strategy=inside(group, 0)).remote(gate)
    # Both may have arrived: while the first waits for the gate, it lends its CPU to the second.
    assert cluster.get(gate.arrived.remote(1), timeout=PATIENCE_S) >= 1
    remove_placement_group(group)
    for ref in (running, queued):
        with pytest.raises(TaskPlacementGroupRemoved, match="remove_placement_group was called") as caught:
            cluster.get(ref, timeout=PATIENCE_S)
        assert isinstance(caught.value, WorkerCrashedError)
    is_free()


def test_removed_group_ends_its_actors_whether_they_live_or_wait(cluster, is_free, make_group):
    is_free()
    group = make_group([{"CPU": 1}])

    @cluster.remote(num_cpus=1, max_restarts=-1)
    class Occupant:
        def here(self):
            return True

    lives, waits = (Occupant.options(scheduling_strategy=inside(group)).remote() for _ in range(2))
    assert cluster.get(lives.here.remote(), timeout=PATIENCE_S)
    call = waits.here.remote()
    remove_placement_group(group)
    with pytest.raises(ActorPlacementGroupRemoved, match="was removed") as caught:
        cluster.get(call, timeout=PATIENCE_S)
    assert isinstance(caught.value, RayActorError)
    with pytest.raises(ActorPlacementGroupRemoved, match="was removed"):
        # The removal goes through the GCS, and calls go straight to the actor: a few may overtake it.
        for _ in range(1_000):
            cluster.get(lives.here.remote(), timeout=PATIENCE_S)
    is_free()


def test_task_of_a_removed_group_never_starts(cluster, make_group):
    group = make_group([{"CPU": 1}])
    remove_placement_group(group)

    @cluster.remote
    def work():
        return 1

    with pytest.raises(TaskPlacementGroupRemoved):
        cluster.get(work.options(scheduling_strategy=inside(group)).remote(), timeout=PATIENCE_S)


def test_task_and_actor_of_a_pending_group_start_when_it_is_created(cluster, is_free, make_group):
    is_free()
    first, second = make_group([{"CPU": 3}]), make_group([{"CPU": 2}])
    assert first.wait(PATIENCE_S) and not second.wait(0.1)
    assert "waits for room" in placement_group_table(second)["waiting_for"]

    @cluster.remote
    def work():
        return get_current_placement_group()

    @cluster.remote
    class Worker:
        def group(self):
            return get_current_placement_group()

    actor = Worker.options(scheduling_strategy=inside(second, 0)).remote()
    found = [work.options(scheduling_strategy=inside(second)).remote(), actor.group.remote()]
    ready = second.ready()
    assert cluster.wait([*found, ready], num_returns=1, timeout=0.2)[0] == []
    remove_placement_group(first)
    assert cluster.get([*found, ready], timeout=PATIENCE_S) == [second, second, second]


def test_task_of_a_pending_group_fails_when_the_group_is_removed(cluster, make_group):
    group = make_group([{"CPU": 100}])

    @cluster.remote
    def work():
        return 1

    ref = work.options(scheduling_strategy=inside(group)).remote()
    assert cluster.wait([ref], timeout=0.1) == ([], [ref])
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved):
        cluster.get(ref, timeout=PATIENCE_S)


def test_group_is_created_although_idle_leases_hold_the_node(cluster, is_free, make_group):
    is_free()

    @cluster.remote
    def nothing():
        return None

    cluster.get([nothing.remote() for _ in range(20)], timeout=PATIENCE_S)
    assert make_group([{"CPU": 4}]).wait(PATIENCE_S)


def test_group_of_an_ordinary_actor_goes_with_the_job_not_with_the_actor(cluster, is_free):
    is_free()

    @cluster.remote(num_cpus=0)
    class Maker:
        def make(self):
            group = placement_group([{"CPU": 1}])
            assert group.wait(PATIENCE_S)
            return group

    maker = Maker.remote()
    group = cluster.get(maker.make.remote(), timeout=PATIENCE_S)
    cluster.kill(maker)
    with pytest.raises(ActorDiedError):
        cluster.get(maker.make.remote(), timeout=PATIENCE_S)
    assert placement_group_table(group)["state"] == "CREATED"
    remove_placement_group(group)
    is_free()


def test_group_of_a_detached_actor_goes_with_it_unless_it_is_detached_too(cluster, is_free, eventually):
    is_free()

    @cluster.remote(num_cpus=0)
    class Maker:
        def make(self, lifetime):
            group = placement_group([{"CPU": 1}], lifetime=lifetime)
            assert group.wait(PATIENCE_S)
            return group

    maker = Maker.options(lifetime="detached", name="maker-of-groups").remote()
    bound = cluster.get(maker.make.remote(None), timeout=PATIENCE_S)
    detached = cluster.get(maker.make.remote("detached"), timeout=PATIENCE_S)
    cluster.kill(maker)
    eventually(lambda: placement_group_table(bound)["state"] == "REMOVED")
    assert placement_group_table(detached)["state"] == "CREATED"
    assert bound.bundle_specs == [{"CPU": 1}]
    remove_placement_group(detached)


def test_group_made_in_a_task_can_be_used_and_removed_by_the_driver(cluster, is_free):
    is_free()

    @cluster.remote(num_cpus=0)
    def make():
        return placement_group([{"CPU": 1}], name="made-inside")

    group = cluster.get(make.remote(), timeout=PATIENCE_S)
    assert group.wait(PATIENCE_S)
    assert cluster.get(group.ready(), timeout=PATIENCE_S).bundle_count == 1
    assert raybook.util.get_placement_group("made-inside") == group
    remove_placement_group(group)
    is_free()


def test_strict_spread_over_more_bundles_than_nodes_stays_pending(cluster, make_group):
    group = make_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    assert not group.wait(0.1)
    row = placement_group_table(group)
    assert row["state"] == "PENDING" and "STRICT_SPREAD" in row["waiting_for"]


def test_creating_and_removing_many_groups_leaves_nothing(cluster, is_free):
    for _ in range(5):
        groups = [placement_group([{"CPU": 0.01}]) for _ in range(100)]
        assert all(group.wait(PATIENCE_S) for group in groups)
        for group in groups:
            remove_placement_group(group)
    is_free()


# --- Nodes and labels. ------------------------------------------------------------------------------------------------


def test_node_affinity_to_this_node_runs_here(cluster):
    @cluster.remote
    def where():
        return cluster.get_runtime_context().get_node_id()

    (node,) = cluster.nodes()
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    assert cluster.get(where.options(scheduling_strategy=strategy).remote(), timeout=PATIENCE_S) == node["NodeID"]


def test_hard_affinity_to_a_node_that_is_not_there_fails_and_soft_affinity_runs_elsewhere(cluster):
    @cluster.remote
    def work():
        return 1

    @cluster.remote
    class Worker:
        def work(self):
            return 1

    hard, soft = (NodeAffinitySchedulingStrategy("0123456789abcdef", soft=soft) for soft in (False, True))
    with pytest.raises(TaskUnschedulableError, match="0123456789abcdef"):
        cluster.get(work.options(scheduling_strategy=hard).remote(), timeout=PATIENCE_S)
    actor = Worker.options(scheduling_strategy=hard).remote()
    with pytest.raises(ActorUnschedulableError, match="0123456789abcdef"):
        cluster.get(actor.work.remote(), timeout=PATIENCE_S)
    assert cluster.get(work.options(scheduling_strategy=soft).remote(), timeout=PATIENCE_S) == 1
    assert cluster.get(Worker.options(scheduling_strategy=soft).remote().work.remote(), timeout=PATIENCE_S) == 1


def test_labels_and_accelerator_types_choose_nodes(own_cluster):
    own_cluster(num_cpus=2, labels={"zone": "a"}, resources={"accelerator_type:A100": 1})

    @raybook.remote
    def work():
        return raybook.get_runtime_context().get_node_labels()["zone"]

    @raybook.remote
    class Worker:
        def work(self):
            return "actor"

    fitting = {"zone": "in(a, b)", "gpu": "!T4"}
    assert raybook.get(work.options(label_selector=fitting).remote(), timeout=PATIENCE_S) == "a"
    assert raybook.get(work.options(accelerator_type="A100").remote(), timeout=PATIENCE_S) == "a"
    assert raybook.get(Worker.options(label_selector=fitting).remote().work.remote(), timeout=PATIENCE_S) == "actor"
    other = {"zone": "!a"}
    refs = [work.options(label_selector=other).remote(), Worker.options(label_selector=other).remote().work.remote()]
    refs.append(work.options(accelerator_type="H200").remote())
    assert raybook.wait(refs, timeout=0.3) == ([], refs)
