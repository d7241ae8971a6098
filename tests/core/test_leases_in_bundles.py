"""Leases in placement groups: requests draw from their bundle and nothing else, and end with it."""

from __future__ import annotations

import pytest

from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.base.resources import shape_of
from raybook.base.specs import Bundle, PlacementGroupSpec, SchedulingClass
from raybook.base.strategies import GroupTarget
from raybook.core.node import lease_events as le
from raybook.core.node.bundle_keeper import outdated
from raybook.core.node.lease_manager import LeaseManager
from raybook.core.node.local_resources import LocalResources
from raybook.protocol.messages.gcs import PlacementGroupInfo

HERE = b"here"

GROUP = b"g" * 16
DRIVER = b"driver--"


class Scene:
    """A node with workers. ``tell`` returns the effects and keeps the invariants checked."""

    def __init__(self, workers: int = 0, labels: dict | None = None, **amounts: float) -> None:
        self.machine = LeaseManager(LocalResources(shape_of(amounts)), 4, labels)
        self.now_ms = 1_000
        for number in range(workers):
            self.tell(le.WorkerReady(b"w%d" % number))

    def tell(self, *events) -> list:
        effects = self.machine.handle(events, self.now_ms)
        self.machine.check_invariants()
        return effects

    def reserve(self, *shapes: dict, attempt: int = 1, commit: bool = True) -> str:
        event = le.BundlesRequested(GROUP, attempt, [(i, shape_of(s)) for i, s in enumerate(shapes)], commit)
        self.tell(event)
        return event.why_refused

    def demand(self, count: int = 1, index: int | None = -1, class_key: int = 0, labels: dict | None = None, **amounts):
        strategy = "" if index is None else GroupTarget(GROUP, index).encode()
        shape = tuple(sorted(shape_of(amounts or {"CPU": 1}).items()))
        what = SchedulingClass(shape, strategy=strategy, labels=tuple((labels or {}).items()))
        return self.tell(le.DemandSet(DRIVER, class_key, what, count, "f"))


def only(effects: list, kind: type):
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def none_of(effects: list, kind: type) -> bool:
    return not any(isinstance(effect, kind) for effect in effects)


def test_task_of_a_group_draws_from_its_bundle_while_the_node_is_full():
    scene = Scene(workers=2, CPU=1)
    scene.reserve({"CPU": 1})
    assert none_of(scene.demand(index=None, class_key=1), le.Grant)
    grant = only(scene.demand(), le.Grant)
    assert grant.assignment.strategy == GroupTarget(GROUP).encode()


def test_task_of_a_group_does_not_use_the_node_outside_it():
    scene = Scene(workers=2, CPU=4)
    scene.reserve({"CPU": 1})
    only(scene.demand(count=2), le.Grant)
    assert scene.machine.resources.available == shape_of({"CPU": 3})
    assert "free in its placement group: {CPU: 0}" in scene.machine.waiting()[0]


def test_request_waits_for_its_bundle_and_the_group_is_followed():
    scene = Scene(workers=1, CPU=2)
    effects = scene.demand(index=0)
    assert only(effects, le.FollowGroup).group_id == GROUP
    assert "wait for a bundle of placement group" in scene.machine.waiting()[0]
    scene.reserve({"CPU": 1}, commit=False)
    only(scene.tell(le.BundlesCommitted(GROUP, 1)), le.Grant)


def test_task_without_resources_lives_in_its_group_too():
    scene = Scene(workers=1, CPU=1)
    scene.reserve({"CPU": 1})
    grant = only(scene.demand(num=0), le.Grant)
    assert grant.assignment.resources == {}
    effects = scene.tell(le.GroupRemoved(GROUP, 1, "a test"))
    assert only(effects, le.KillWorker).worker == grant.worker


def test_removed_group_ends_what_runs_in_it_and_refuses_what_waits():
    scene = Scene(workers=1, CPU=1)
    scene.reserve({"CPU": 1})
    grant = only(scene.demand(count=2), le.Grant)
    effects = scene.tell(le.GroupRemoved(GROUP, 1, "nobody needs it"))
    lost, refused = only(effects, le.LeaseLostEffect), only(effects, le.Refuse)
    assert lost.died and lost.lease_id == grant.lease_id
    assert lost.code == refused.code == "TaskPlacementGroupRemoved"
    assert "nobody needs it" in lost.reason and "nobody needs it" in refused.text
    assert scene.machine.resources.available == {"CPU": 0}
    assert none_of(scene.tell(le.WorkerDied(grant.worker, "signal 9")), le.LeaseLostEffect)
    assert scene.machine.resources.available == shape_of({"CPU": 1})
    assert scene.machine.waiting() == []


def test_demand_for_a_removed_group_is_refused_at_once():
    scene = Scene(workers=1, CPU=1)
    scene.tell(le.GroupRemoved(GROUP, 0, "a test"))
    assert only(scene.demand(), le.Refuse).class_key == 0
    assert none_of(scene.demand(index=None, class_key=1), le.Refuse)


def test_idle_leases_are_asked_back_when_bundles_find_no_room():
    scene = Scene(workers=1, CPU=1)
    grant = only(scene.demand(index=None), le.Grant)
    event = le.BundlesRequested(GROUP, 1, [(0, shape_of({"CPU": 1}))], True)
    question = only(scene.tell(event), le.AskRevoke)
    assert event.why_refused and question.worker == grant.worker
    scene.tell(le.RevokeAnswered(question.worker, question.epoch, idle=True))
    assert scene.reserve({"CPU": 1}, attempt=2) == ""


def test_only_leases_of_the_same_group_are_asked_back_for_a_request_in_it():
    scene = Scene(workers=3, CPU=2)
    scene.reserve({"CPU": 1})
    outside = only(scene.demand(index=None, class_key=1), le.Grant)
    inside = only(scene.demand(index=0), le.Grant)
    effects = scene.demand(index=-1, class_key=2)
    assert only(effects, le.AskRevoke).worker == inside.worker != outside.worker


def test_request_larger_than_every_bundle_is_infeasible_and_says_so():
    scene = Scene(workers=1, CPU=4)
    scene.reserve({"CPU": 1})
    told = only(scene.demand(CPU=2), le.Infeasible)
    assert "its placement group has in one bundle {CPU: 1}" in told.text


def test_bundle_that_moves_away_ends_its_holder_like_a_crash():
    scene = Scene(workers=1, CPU=1)
    scene.reserve({"CPU": 1})
    scene.demand()
    lost = only(scene.tell(le.BundlesReturned(GROUP, 1, [0], "it moved")), le.LeaseLostEffect)
    assert lost.died and lost.code == ""


def test_request_for_labels_this_node_lacks_waits_and_says_so():
    scene = Scene(workers=1, CPU=2, labels={"gpu": "T4"})
    told = only(scene.demand(index=None, labels={"gpu": "A100"}), le.Infeasible)
    assert "gpu=A100" in told.text and "T4" in told.text
    only(scene.demand(index=None, class_key=1, labels={"gpu": "!A100"}), le.Grant)


@pytest.mark.parametrize(
    ("state", "nodes", "expected"),
    [
        (GROUP_CREATED, [HERE, HERE], None),
        (GROUP_CREATED, [HERE, b"there"], le.BundlesReturned(b"group", 3, [1], "Its bundle moved away.")),
        (GROUP_REMOVED, [b"", b""], le.GroupRemoved(b"group", 3, "it was removed")),
        ("PREPARING", [HERE, b"there"], None),
    ],
)
def test_what_a_gcs_that_was_started_anew_says_of_a_group_decides_about_its_bundles_here(state, nodes, expected):
    spec = PlacementGroupSpec(b"group", b"job", [Bundle({"CPU": 1})] * 2)
    row = PlacementGroupInfo(spec, state, nodes, attempt=3, death="it was removed" if state == GROUP_REMOVED else "")

    assert outdated(b"group", [0, 1], HERE, row) == expected


def test_bundles_of_a_group_that_nobody_knows_are_given_back():
    event = outdated(b"group", [0], HERE, None)

    assert isinstance(event, le.GroupRemoved) and event.group_id == b"group"
