"""Fleets: the scheduling machines on many nodes keep their promises, and a decision costs as much on many as on few."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raybook.core.node.local_resources import LocalResources
from raybook.core.scheduling import bundles
from raybook.sim.checkers.violation import Violation
from raybook.sim.fleet.world import Fleet, FleetSetting


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_nodes_that_die_and_join_keep_their_promises(seed: int) -> None:
    fleet = Fleet(seed, FleetSetting(nodes=100, events=20_000)).run()

    assert fleet.deaths and len(fleet.books.waits_ms) > 500


@pytest.mark.slow
def test_a_thousand_nodes_keep_their_promises() -> None:
    Fleet(1, FleetSetting(nodes=1_000, events=25_000)).run()


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_ten_thousand_nodes_and_a_million_events_keep_their_promises() -> None:
    fleet = Fleet(1, FleetSetting(nodes=10_000, events=1_000_000)).run()

    assert fleet.deaths > 20


def test_the_same_seed_gives_the_same_fleet() -> None:
    setting = FleetSetting(nodes=30, events=5_000)
    first, second = Fleet(5, setting).run(), Fleet(5, setting).run()

    assert (first.trace, first.timeline.now_us) == (second.trace, second.timeline.now_us)
    assert Fleet(6, setting).run().trace != first.trace


def amounts_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    """grants: what is free is forgotten to be subtracted."""
    allocate = LocalResources.allocate

    def broken(self: LocalResources, key: object, shape: dict[str, int]) -> object:
        assignment = allocate(self, key, shape)
        if assignment is not None:
            for name, amount in shape.items():
                self.available[name] += amount
        return assignment

    patch.setattr(LocalResources, "allocate", broken)
    patch.setattr(LocalResources, "check_invariants", lambda self: None)
    patch.setattr(LocalResources, "release", lambda self, key: self._holdings.pop(key, None))


def strict_spread_is_packed(patch: pytest.MonkeyPatch) -> None:
    """groups: bundles that may not share a node do."""
    patch.setattr(bundles._Planner, "_one_node_each", bundles._Planner._on_one_node)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checker", "plant"), [("grants", amounts_are_not_compared), ("groups", strict_spread_is_packed)]
)
def test_a_bug_planted_in_a_fleet_is_caught(
    checker: str, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = FleetSetting(nodes=60, events=40_000)
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises(Violation) as found:
            Fleet(3, setting).run()
    assert found.value.checker == checker
