"""Where actors go: packing, spreading, waiting; and the index of nodes against a plain list."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from raybook.base.config import Config
from raybook.base.resources import fits
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.node_resources import Machine, node_resources
from raybook.core.scheduling.policy import choose_node

CPU = 10_000


def node(number: int) -> bytes:
    return b"node%04d" % number


def view_of(*cpus: int, free: list[int] | None = None) -> ResourceView:
    view = ResourceView()
    for number, count in enumerate(cpus):
        available = count if free is None else free[number]
        view.add(node(number), {"CPU": count * CPU}, {"CPU": available * CPU}, {})
    return view


def chosen(view: ResourceView, request: dict[str, int], strategy: str = "", refused: dict | None = None):
    return choose_node(request, strategy, view, random.Random(1).randrange, refused or {})


def test_actors_pack_the_oldest_node_to_half_and_then_spread():
    view = view_of(4, 4)
    placed = []
    for _ in range(8):
        choice = chosen(view, {"CPU": CPU})
        view.reserve(choice.node_id, {"CPU": CPU})
        placed.append(choice.node_id)
    assert placed[0] == node(0)
    assert sorted(placed) == [node(0)] * 4 + [node(1)] * 4


def test_node_with_room_now_is_preferred_to_a_full_one():
    view = view_of(8, 2, free=[0, 2])
    assert chosen(view, {"CPU": CPU}).node_id == node(1)


def test_full_cluster_queues_at_the_least_loaded_node():
    view = view_of(4, 4, free=[0, 1])
    assert chosen(view, {"CPU": 2 * CPU}).node_id == node(1)


def test_queued_placements_alternate_between_equally_full_nodes():
    view = view_of(1, 1, free=[0, 0])
    placed = []
    for _ in range(4):
        choice = chosen(view, {"CPU": CPU})
        view.reserve(choice.node_id, {"CPU": CPU})
        placed.append(choice.node_id)
    assert placed == [node(0), node(1), node(0), node(1)]


def test_infeasible_request_says_what_the_cluster_has():
    choice = chosen(view_of(2, 4), {"CPU": 8 * CPU})
    assert choice.node_id is None
    assert "needs {CPU: 8}" in choice.reason
    assert "{CPU: 4}" in choice.reason


def test_unknown_resource_is_infeasible_not_an_error():
    assert "needs {TPU: 1}" in chosen(view_of(2), {"TPU": CPU}).reason


def test_empty_cluster_says_so():
    assert "no node yet" in chosen(ResourceView(), {"CPU": CPU}).reason


def test_spread_takes_the_emptiest_node():
    view = view_of(4, 4, free=[3, 4])
    assert chosen(view, {"CPU": CPU}).node_id == node(0)
    assert chosen(view, {"CPU": CPU}, "spread").node_id == node(1)


def test_node_affinity_is_kept_hard_and_relaxed_soft():
    view = view_of(2, 2)
    assert chosen(view, {"CPU": CPU}, f"node:{node(1).hex()}").node_id == node(1)
    gone = node(9).hex()
    assert "not in the cluster" in chosen(view, {"CPU": CPU}, f"node:{gone}").reason
    assert chosen(view, {"CPU": CPU}, f"node:{gone}:soft").node_id == node(0)


def test_refusing_node_is_not_asked_again():
    assert chosen(view_of(2, 2), {"CPU": CPU}, refused={node(0): "draining"}).node_id == node(1)
    reason = chosen(view_of(2), {"CPU": CPU}, refused={node(0): "draining"}).reason
    assert "draining" in reason


def test_the_one_feasible_node_of_a_thousand_is_found():
    view = view_of(*[1] * 999, 64)
    assert chosen(view, {"CPU": 32 * CPU}).node_id == node(999)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4), st.integers(0, 2)), max_size=40),
    st.lists(st.integers(0, 20), max_size=10),
    st.integers(0, 5),
    st.integers(0, 2),
    st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_choice_agrees_with_a_plain_list_about_what_is_feasible(added, removed, cpus, gpus, seed):
    view, plain = ResourceView(), {}
    for number, cpu, gpu in added:
        total = {"CPU": cpu * CPU, "GPU": gpu * CPU}
        view.add(node(number), total, total, {})
        plain[node(number)] = total
    for number in removed:
        view.remove(node(number))
        plain.pop(node(number), None)
    view.check_invariants()
    request = {name: amount * CPU for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    choice = choose_node(request, "", view, random.Random(seed).randrange)
    feasible = [node_id for node_id, total in plain.items() if fits(request, total)]
    assert choice.node_id in feasible if feasible else choice.node_id is None


def test_node_offers_what_the_machine_has_unless_told_otherwise():
    machine = Machine(cpus=2, gpus=1, memory_bytes=10_000_000_000)
    offered = node_resources(Config(), machine, num_gpus=0, custom={"licence": 2})
    assert offered == {
        "CPU": 2 * CPU,
        "memory": 7_000_000_000,
        "object_store_memory": 3_000_000_000,
        "licence": 2 * CPU,
    }


def test_node_with_nonsense_amounts_is_refused():
    machine = Machine(cpus=2, gpus=0, memory_bytes=10_000_000_000)
    with pytest.raises(ValueError, match="object store needs at least"):
        node_resources(Config(), machine, object_store_bytes=1)
    with pytest.raises(ValueError, match="option of its own"):
        node_resources(Config(), machine, custom={"CPU": 3})
    with pytest.raises(ValueError, match="CPU cannot be negative"):
        node_resources(Config(), machine, num_cpus=-1)
