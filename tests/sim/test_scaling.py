"""The autoscaler in a world with faults: bounds, idleness and liveness hold for every seed; planted bugs are found."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from raybook.core.autoscaler import fleet, machine
from raybook.core.autoscaler.machine import Autoscaler
from raybook.core.autoscaler.planner import Planner
from raybook.sim.checkers.violation import Violation
from raybook.sim.scaling import Faults, ScalingWorld

EVERYTHING = Faults(refuse=150, lose=150, never_join=150, die=100, list_fails=100, hang=50, terminate_fails=200)
SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_work_is_done_and_all_nodes_go_without_faults(seed):
    world = ScalingWorld(seed)
    world.run()
    assert world.done > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_all_work_is_done_and_all_nodes_go_with_every_fault(seed):
    world = ScalingWorld(seed, EVERYTHING)
    world.run()
    assert world.launches > 3


@settings(
    max_examples=12, deadline=None, derandomize=True, phases=(Phase.generate,), suppress_health_check=list(HealthCheck)
)
@given(  # A world's seed and faults print in one line: there is nothing to shrink.
    st.integers(0, 1 << 32),
    st.builds(Faults, *(st.sampled_from((0, 100, 400)) for _ in Faults.__struct_fields__)),
)
def test_any_mixture_of_faults_is_lived_through(seed, faults):
    ScalingWorld(seed, faults, faulty_ms=40_000, waves=5).run()


def test_the_same_seed_plays_the_same():
    stories = []
    for _ in range(2):
        world = ScalingWorld(3, EVERYTHING)
        world.run()
        stories.append((world.launches, world.done, world.machine.status()))
    assert stories[0] == stories[1]


def found(bug) -> Violation | AssertionError:
    """What the checkers say of a bug, at the first seed that shows it."""
    for seed in range(20):
        with bug():
            try:
                ScalingWorld(seed, EVERYTHING).run()
            except (Violation, AssertionError) as violation:
                return violation
    raise AssertionError("No seed shows this bug.")


PLANTED = {
    "launches ignore the bounds": lambda: mock.patch.object(Planner, "_room", lambda self, node_type: 5),
    "what is being taken down does not count": lambda: mock.patch.object(
        fleet.Fleet, "counts", lambda self, *left_out: _counts(self, (*left_out, fleet.ENDING, fleet.DRAINING))
    ),
    "what was asked for is forgotten": lambda: mock.patch.object(
        fleet.Fleet, "counts", lambda self, *left_out: _counts(self, (*left_out, fleet.ASKED))
    ),
    "a failed type rests for ever": lambda: mock.patch.object(Autoscaler, "_backoff_ms", lambda self, earlier: 1 << 40),
    "deadlines pass unseen": lambda: mock.patch.object(Autoscaler, "_elapse", lambda self: None),
    "the idle time counts from nowhere": lambda: mock.patch.object(
        machine.Settings, "idle_timeout_of", lambda self, node_type: 0
    ),
    "the least number is not kept": lambda: mock.patch.object(Planner, "least", lambda self: None),
    "what the provider has forgotten is remembered": lambda: mock.patch.object(
        Autoscaler, "_vanished", lambda self, instance: None
    ),
}


def _counts(self, left_out):
    counts = {}
    for each in self:
        if each.state not in left_out:
            counts[each.node_type] = counts.get(each.node_type, 0) + 1
    return counts


@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found(name):
    assert found(PLANTED[name])
