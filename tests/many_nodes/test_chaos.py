"""Workers and nodes are killed under load, and every result is right."""

import pytest

from tests.many_nodes.chaos import run


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_result_is_right_while_workers_and_nodes_are_killed():
    report = run(seconds=15, seed=7)
    assert report.killed and report.rebuilt, str(report)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_three_minutes_of_kills_leave_every_result_right(seed: int):
    report = run(seconds=60, seed=seed)
    assert report.tasks >= 20_000 and report.rebuilt, str(report)
