"""Workers, nodes and the GCS are killed under load, and every result is right."""

import pytest

from raybook.sim.cases import make_chaos_world, violation_of
from tests.many_nodes.chaos import plan, run

SECONDS = 60


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_result_is_right_while_workers_nodes_and_the_gcs_are_killed():
    report = run(SECONDS, seed=7)
    print(report)
    assert not report.complaint(), str(report)
    assert report.gcs_kills >= 2, str(report)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_three_minutes_of_kills_leave_every_result_of_twenty_thousand_tasks_right(seed: int):
    report = run(seconds=180, seed=seed)
    assert report.tasks >= 20_000 and not report.complaint(), str(report)


def test_same_seed_means_the_same_kills():
    kills = plan(7, SECONDS)
    assert kills == plan(7, SECONDS) != plan(8, SECONDS)
    assert {kill.kind for kill in kills} == {"kill", "node", "gcs"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 10))])
def test_same_kills_leave_every_result_right_in_virtual_time(seed: int):
    violation = violation_of(make_chaos_world(seed, SECONDS))
    assert violation is None, str(violation)
