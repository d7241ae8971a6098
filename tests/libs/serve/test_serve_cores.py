"""What decides beside autoscaling: rolling updates, the choice of a replica, routes, statuses, names."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from raybook.serve.core.choice import choose
from raybook.serve.core.names import DeploymentID, ReplicaID
from raybook.serve.core.rolling_update import Census, Step, batch_of, plan_step
from raybook.serve.core.routes import RouteTable, check_prefix, conflict
from raybook.serve.core.statuses import ApplicationStatus, DeploymentStatus, status_of_application


@dataclass
class Replica:
    load: int = 0
    limit: int = 5
    models: frozenset[str] = field(default_factory=frozenset)
    is_near: bool = False


def test_a_new_deployment_starts_all_its_replicas():
    assert plan_step(Census(3, 0, 0, 0, 0), 1, True) == Step(start=3)


def test_too_many_replicas_are_stopped():
    assert plan_step(Census(1, 0, 3, 0, 0), 1, True) == Step(stop_new=2)


def test_an_update_of_one_replica_starts_the_new_one_and_keeps_the_old_one():
    assert plan_step(Census(1, 0, 0, 1, 0), 1, True) == Step(start=1)
    assert plan_step(Census(1, 1, 0, 1, 0), 1, True) == Step()


def test_the_old_one_stops_once_the_new_one_runs():
    assert plan_step(Census(1, 0, 1, 1, 0), 1, True) == Step(stop_old=1)


def test_without_room_an_old_one_makes_it():
    assert plan_step(Census(2, 0, 0, 2, 0), 1, False) == Step(stop_old=1)


def test_a_new_version_that_never_starts_takes_no_old_one_down():
    assert plan_step(Census(5, 1, 0, 5, 0), 1, True) == Step()


@pytest.mark.parametrize("has_room", [True, False])
@pytest.mark.parametrize("target", [1, 2, 5, 10])
def test_every_update_ends_with_new_replicas_only_and_serves_all_the_time(target, has_room):
    batch = batch_of(target, 0.2, 0)
    starting = running = 0
    old = target
    least = target
    for _ in range(200):
        step = plan_step(Census(target, starting, running, old, 0), batch, has_room)
        old -= step.stop_old
        running += starting
        starting = step.start
        least = min(least, old + running)
        assert old + running + starting <= target + batch
        if running == target and old == 0 and starting == 0:
            break
    else:
        pytest.fail("the update did not end")
    assert least >= target - (0 if has_room else batch)


def test_a_full_replica_is_no_candidate():
    full, free = Replica(load=5), Replica(load=4)
    assert choose([full, free], "", random.Random(1).randrange) is free
    assert choose([full], "", random.Random(1).randrange) is None


def test_of_two_the_less_loaded_one_is_taken():
    busy, idle = Replica(load=3), Replica(load=1)
    assert all(choose([busy, idle], "", random.Random(seed).randrange) is idle for seed in range(20))


def test_a_model_is_looked_for_where_it_is_loaded():
    having, empty = Replica(load=3, models=frozenset({"m"})), Replica()
    assert choose([having, empty], "m", random.Random(1).randrange) is having


def test_a_new_model_goes_where_the_fewest_are():
    two, one = Replica(models=frozenset("ab")), Replica(models=frozenset("c"), load=1)
    assert choose([two, one], "m", random.Random(1).randrange) is one


def test_the_nearer_replica_is_preferred():
    far, near = Replica(), Replica(load=2, is_near=True)
    assert choose([far, near], "", random.Random(1).randrange) is near


def test_two_choices_spread_requests_evenly():
    replicas = [Replica(limit=10**6) for _ in range(10)]
    draw = random.Random(3).randrange
    for _ in range(10_000):
        choose(replicas, "", draw).load += 1
    assert max(each.load for each in replicas) - min(each.load for each in replicas) < 20


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b/c", "/a/b"), ("/a/b", "/a/b"), ("/a/bc", "/a"), ("/a", "/a"), ("/x", "/"), ("/", "/")],
)
def test_the_longest_prefix_wins_at_borders_of_segments(path, expected):
    table = RouteTable({"/": "root", "/a": "one", "/a/b": "two"})
    assert table.match(path)[0] == expected


def test_a_path_of_nobody_matches_nothing():
    assert RouteTable({"/a": "one"}).match("/ab") is None


@pytest.mark.parametrize("prefix", ["a", "/a/", "/{a}", 3])
def test_what_is_no_prefix_is_refused(prefix):
    with pytest.raises(ValueError, match="Invalid route_prefix"):
        check_prefix(prefix)


def test_a_prefix_belongs_to_one_application():
    assert conflict("b", "/x", [("a", "/x"), ("b", "/x")]) == "a"
    assert conflict("a", "/x", [("a", "/x"), ("b", "/y")]) == ""
    assert conflict("b", None, [("a", None)]) == ""


def test_an_application_is_as_well_as_its_worst_deployment():
    healthy, failed = DeploymentStatus.HEALTHY, DeploymentStatus.DEPLOY_FAILED
    assert status_of_application([healthy, failed], False) is ApplicationStatus.DEPLOY_FAILED
    assert status_of_application([healthy, DeploymentStatus.UPSCALING], False) is ApplicationStatus.RUNNING
    assert status_of_application([DeploymentStatus.UPDATING], False) is ApplicationStatus.DEPLOYING
    assert status_of_application([healthy], True) is ApplicationStatus.DELETING
    assert ApplicationStatus.RUNNING == "RUNNING"


def test_the_name_of_a_replica_tells_whose_it_is():
    replica = ReplicaID("ab12", DeploymentID("model", "app"))
    assert replica.to_full_id_str() == "SERVE_REPLICA::app#model#ab12"
    assert ReplicaID.from_full_id_str(replica.to_full_id_str()) == replica
    with pytest.raises(ValueError, match="is not the name of a replica"):
        ReplicaID.from_full_id_str("model#ab12")
