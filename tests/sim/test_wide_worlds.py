"""Seeded worlds of several nodes, which die and join, and are cut off from each other or from the GCS: no promise breaks."""

from __future__ import annotations

from collections import Counter

import pytest

from raybook.protocol.messages.neighbours import ClientEnded
from raybook.sim.cases import make_chaos_world, make_world
from raybook.sim.chaos import draw_chaos, victim
from raybook.sim.faults import Fault, describe, parse_schedule
from raybook.sim.world import Setting, World

BATCH = 10


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 20, BATCH))
def test_nothing_breaks_on_several_nodes_when_nothing_goes_wrong(first: int) -> None:
    for seed in range(first, first + BATCH):
        make_world(seed, calm=True, wide=True).run()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 40, BATCH))
def test_lost_nodes_and_cut_networks_break_no_promise(first: int) -> None:
    for seed in range(first, first + BATCH):
        make_world(seed, wide=True).run()


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("first", range(40, 2_040, 200))
def test_thousands_of_seeds_of_several_nodes_break_no_promise(first: int) -> None:
    for seed in range(first, first + 200):
        make_world(seed, wide=True).run()


@pytest.mark.slow
def test_wide_worlds_do_everything_that_several_nodes_do() -> None:
    kinds: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    died = 0
    for seed in range(25):
        world = make_world(seed, wide=True).run()
        kinds.update(world.network.kinds)
        ends.update(world.ledger.ends)
        died += len(world.dead_nodes)

    assert {
        "Greet",
        "FromClient",
        "ToClient",
        "ClientEnded",
        "FetchObject",
        "ObjectFetched",
        "NodeGone",
    } <= kinds.keys()
    assert {"DropCopies", "GetObject", "AddBorrows", "SpillWanted"} <= kinds.keys()
    assert {"value", "made again", "group CREATED"} <= ends.keys()
    assert died > 10


def test_the_same_seed_gives_the_same_trace_on_several_nodes() -> None:
    first, second = make_world(3, wide=True).run(), make_world(3, wide=True).run()

    assert (first.network.trace, first.timeline.happened) == (second.network.trace, second.timeline.happened)


def test_nothing_passes_between_two_places_until_the_cut_is_healed() -> None:
    world = World(0, Setting(steps=0, nodes=2))
    here, there = world.nodes
    heard: list[object] = []
    world.network.watch = lambda port, message: heard.append((port.listener.place, type(message).__name__))
    world.advance(2_000_000)
    world.network.cut(here, there)
    sender = world.nodes[here].abroad
    assert sender is not None and sender.send(there, ClientEnded(b"somebody"))

    world.advance(1_000_000)
    assert (here, "ClientEnded") not in heard
    world.network.heal(here, there)
    world.advance(1_000_000)
    assert (here, "ClientEnded") in heard


def test_a_node_that_is_cut_off_for_long_is_held_for_dead_and_ends_when_it_hears_of_that() -> None:
    world = World(0, Setting(steps=1, nodes=2), (Fault(100, "lone", 14_000),))
    world.run()

    (node,) = world.dead_nodes.values()
    assert world.ledger.dead_nodes[node.node_id].startswith("it has not answered")


def test_a_task_without_retries_runs_once_when_its_answer_is_lost_and_its_lease_asked_back() -> None:
    """A connection broke while the worker answered; a second later the idle worker's lease was asked back, and the owner
    took the task for one that had never begun."""
    schedule = parse_schedule("30 ms: lose 635; 78 ms: crash 1")
    world = make_world(146, wide=True, steps=5, schedule=schedule).run()

    assert world.ledger.ends.get("WorkerCrashedError", 0) == 1


# Drains


@pytest.mark.slow
def test_nodes_that_are_drained_take_nothing_along() -> None:
    """The checker looks when they leave: no object of somebody who lives, nobody at work, and nothing granted since."""
    ends: Counter[str] = Counter()
    for seed in range(3, 12):
        world = make_world(seed, wide=True, schedule=parse_schedule("20 ms: drain 1; 60 ms: drain 2")).run()
        ends.update(world.ledger.ends)
        drained = [reason for reason in world.ledger.dead_nodes.values() if "it was drained" in reason]
        assert drained and not ends["made again"], "Nothing was lost, so nothing is made again."

    assert ends["node drained"] > 10 and ends["object moved"] > 10
    assert ends["drained too late"] < ends["node drained"] / 2


# Chaos


def test_the_kills_of_a_seed_are_the_same_everywhere_and_read_back_as_they_are_printed() -> None:
    schedule = draw_chaos(7, 60)

    assert schedule == draw_chaos(7, 60) != draw_chaos(8, 60)
    assert parse_schedule(describe(schedule)) == schedule
    assert Counter(fault.kind for fault in schedule).keys() == {"kill", "node", "gcs"}


def test_leaving_out_one_kind_of_kills_does_not_change_the_others() -> None:
    without = draw_chaos(7, 60, ("kill", "node"))

    assert without == tuple(fault for fault in draw_chaos(7, 60) if fault.kind != "gcs")


def test_a_shorter_run_has_the_first_kills_of_a_longer_one() -> None:
    assert draw_chaos(7, 20) == tuple(fault for fault in draw_chaos(7, 60) if fault.at_ms < 20_000)


def test_victims_are_numbered_over_nodes_first() -> None:
    assert victim(0, "abc") == ("a", 0)
    assert victim(7, "abc") == ("b", 2)


@pytest.mark.slow
def test_the_chaos_of_a_seed_is_played_in_virtual_time() -> None:
    world = make_chaos_world(3, 20).run()

    assert world.faults.schedule == draw_chaos(3, 20)
    assert world.dead_nodes and world.ledger.ends.get("made again", 0) > 0
