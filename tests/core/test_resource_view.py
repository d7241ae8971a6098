"""The index of nodes: what it finds is what a walk over all nodes finds, and it looks at few."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from raybook.base.label_selector import matches
from raybook.base.resources import fits
from raybook.base.specs import Bundle
from raybook.core.cluster import resource_view
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.cluster.room_index import bin_of
from raybook.core.scheduling import bundles as bundles_module
from raybook.core.scheduling.bundles import STRATEGIES, place_bundles

CPU = 10_000
AMOUNTS = st.dictionaries(st.sampled_from(["CPU", "GPU", "memory"]), st.integers(0, 9).map(lambda n: n * 3_333))
LABELS = st.dictionaries(st.sampled_from(["zone", "kind"]), st.sampled_from(["a", "b"]))
SELECTORS = st.dictionaries(st.sampled_from(["zone", "kind"]), st.sampled_from(["a", "b", "c", "!a", "in(a, b)", "*"]))


def node(number: int) -> bytes:
    return b"node%04d" % number


@given(st.tuples(st.integers(0, 1 << 45), st.integers(0, 1 << 45)))
@settings(max_examples=50)
def test_larger_amounts_never_have_smaller_bins(pair):
    low, high = sorted(pair)
    assert bin_of(low) <= bin_of(high)
    assert (bin_of(low) == 0) == (low == 0)


def test_whole_cpus_have_bins_of_their_own():
    assert len({bin_of(count * CPU) for count in range(1, 51)}) == 50


@given(
    st.lists(st.tuples(st.integers(0, 12), AMOUNTS, AMOUNTS, LABELS), max_size=20),
    st.lists(
        st.one_of(
            st.tuples(st.just("report"), st.integers(0, 12), AMOUNTS),
            st.tuples(st.just("reserve"), st.integers(0, 12), AMOUNTS),
            st.tuples(st.just("give_back"), st.integers(0, 12), AMOUNTS),
            st.tuples(st.just("remove"), st.integers(0, 12), st.just({})),
        ),
        max_size=20,
    ),
    AMOUNTS,
    SELECTORS,
)
@settings(max_examples=100, deadline=None)
def test_what_is_found_is_what_a_walk_over_all_nodes_finds(added, moves, request, selector):
    view = ResourceView()
    for number, total, free, labels in added:
        view.add(node(number), total, {name: min(free.get(name, 0), amount) for name, amount in total.items()}, labels)
    for move, number, amounts in moves:
        amounts = {name: amount for name, amount in amounts.items() if amount}
        getattr(view, move)(node(number), *(() if move == "remove" else (amounts,)))
    view.check_invariants()
    request = {name: amount for name, amount in request.items() if amount}

    def wanted(has) -> set[bytes]:
        return {each.node_id for each in view if fits(request, has(each)) and matches(selector, each.labels)}

    free, able = wanted(lambda each: each.available), wanted(lambda each: each.total)
    assert {each.node_id for each in view.with_room(request, 100, selector)} == free
    assert {each.node_id for each in view.able(request, 100, selector)} == able
    assert len(view.with_room(request, 1, selector)) == min(1, len(free))


def test_who_looks_at_few_sees_others_the_next_time():
    view = ResourceView()
    for number in range(100):
        view.add(node(number), {"CPU": CPU}, {"CPU": CPU}, {})
    seen = {each.node_id for _ in range(10) for each in view.with_room({"CPU": CPU}, 10)}
    assert len(seen) == 100


def test_the_emptiest_nodes_come_first():
    view = ResourceView()
    for number in range(100):
        view.add(node(number), {"CPU": 64 * CPU}, {"CPU": number % 33 * CPU}, {})
    found = [each.available["CPU"] // CPU for each in view.with_room({"CPU": CPU}, 6)]
    assert found == [32, 32, 32, 31, 31, 31]


def test_a_report_says_whether_more_is_free_than_was_believed():
    view = ResourceView()
    view.add(node(1), {"CPU": 4 * CPU}, {"CPU": 2 * CPU}, {})
    assert not view.report(node(1), {"CPU": 2 * CPU})
    assert not view.report(node(1), {"CPU": CPU})
    assert view.report(node(1), {"CPU": 3 * CPU})
    view.reserve(node(1), {"CPU": 3 * CPU})
    assert view.report(node(1), {"CPU": 3 * CPU})
    assert not view.report(node(2), {"CPU": CPU})


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a node was compared with a request."""
    count = [0]

    def counting(request, free):
        count[0] += 1
        return fits(request, free)

    monkeypatch.setattr(resource_view, "fits", counting)
    monkeypatch.setattr(bundles_module, "fits", counting)
    return count


def full_view(nodes: int, free: int) -> ResourceView:
    view = ResourceView()
    for number in range(nodes):
        has_room = number >= nodes - free
        view.add(node(number), {"CPU": 4 * CPU, "memory": number + 1}, {"CPU": 4 * CPU if has_room else CPU // 2}, {})
    return view


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_group_is_placed_with_as_many_looks_on_many_nodes_as_on_few(strategy: str, looks: list[int]):
    taken = {}
    for nodes in (100, 5_000):
        view = full_view(nodes, free=4)
        looks[0] = 0
        bundles = {index: Bundle({"CPU": CPU}) for index in range(3)}
        assert place_bundles(bundles, strategy, view).plan is not None
        taken[nodes] = looks[0]
    assert taken[5_000] == taken[100] < 100


def test_the_last_room_of_thousands_of_nodes_is_found_at_once(looks: list[int]):
    view = full_view(5_000, free=1)
    assert [each.node_id for each in view.with_room({"CPU": 2 * CPU}, 8)] == [node(4_999)]
    assert looks[0] == 1
    assert view.able({"CPU": 5 * CPU}, 8) == []
    assert looks[0] == 1
