"""Lists for requests that single resources do not answer: what is in them is what a walk finds, and few are looked at."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from raybook.base.resources import fits
from raybook.core.cluster import joint_room, resource_view
from raybook.core.cluster.resource_view import LOOKS_MAX, ResourceView

CPU = 10_000
BOTH = {"CPU": 3 * CPU, "GPU": CPU}
NODES = 3 * LOOKS_MAX


def node(number: int) -> bytes:
    return b"node%04d" % number


def view_without_both(nodes: int = NODES) -> ResourceView:
    """Every node has CPUs or GPUs free, none has both."""
    view = ResourceView()
    total = {"CPU": 8 * CPU, "GPU": CPU}
    for number in range(nodes):
        view.add(node(number), total, {"CPU": 8 * CPU, "GPU": 0} if number % 2 else {"CPU": 2 * CPU, "GPU": CPU}, {})
    return view


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    count = [0]

    def counting(request, free):
        count[0] += 1
        return fits(request, free)

    monkeypatch.setattr(resource_view, "fits", counting)
    return count


def ask_until_all_were_looked_at(view: ResourceView) -> None:
    for _ in range(NODES // LOOKS_MAX + 2):
        assert view.with_room(BOTH, 8) == []


def test_what_many_have_by_halves_and_none_has_is_asked_for_without_a_look(looks: list[int]):
    view = view_without_both()
    ask_until_all_were_looked_at(view)
    looks[0] = 0
    assert view.with_room(BOTH, 8) == [] and looks[0] == 0


def test_whoever_gains_what_was_lacking_is_found_by_one_look(looks: list[int]):
    view = view_without_both()
    ask_until_all_were_looked_at(view)
    looks[0] = 0
    view.report(node(4), {"CPU": 3 * CPU, "GPU": CPU})
    assert [each.node_id for each in view.with_room(BOTH, 8)] == [node(4)]
    assert looks[0] <= 3
    view.reserve(node(4), {"CPU": CPU})
    assert view.with_room(BOTH, 8) == []
    view.give_back(node(4), {"CPU": CPU})
    assert [each.node_id for each in view.with_room(BOTH, 8)] == [node(4)]


def test_a_node_that_left_and_came_back_with_less_is_not_found():
    view = view_without_both()
    ask_until_all_were_looked_at(view)
    view.report(node(4), {"CPU": 3 * CPU, "GPU": CPU})
    assert view.with_room(BOTH, 8)
    view.remove(node(4))
    view.add(node(4), {"CPU": CPU}, {"CPU": CPU}, {})
    assert view.with_room(BOTH, 8) == []


def test_what_no_node_can_ever_hold_is_certain_at_every_question_and_cheap_after_the_first(looks: list[int]):
    view = ResourceView()
    for number in range(2 * NODES):
        view.add(node(number), {"CPU": 8 * CPU} if number % 2 else {"CPU": CPU, "GPU": CPU}, {}, {})
    assert view.able(BOTH, 8) == []
    looks[0] = 0
    assert view.able(BOTH, 8) == [] and looks[0] == 0
    view.add(b"both", BOTH, {}, {})
    assert [each.node_id for each in view.able(BOTH, 8)] == [b"both"]


def test_who_has_it_is_named_in_turns():
    view = view_without_both()
    ask_until_all_were_looked_at(view)
    for number in range(0, 20, 2):
        view.report(node(number), {"CPU": 3 * CPU, "GPU": CPU})
    named = {each.node_id for _ in range(5) for each in view.with_room(BOTH, 2)}
    assert len(named) == 10


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, 9), st.integers(0, 4), st.integers(0, 2)),
        st.tuples(st.just("add"), st.integers(0, 9), st.integers(0, 4), st.integers(0, 2)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0), st.just(0)),
        st.tuples(st.just("ask"), st.integers(0, 2), st.integers(1, 9), st.just(0)),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(MOVES, st.sampled_from((2, 7, 100)))
def test_a_list_finds_in_the_end_what_a_walk_over_all_nodes_finds(moves, log_max: int):
    """Whatever is forgotten of the log, and with three looks a question."""
    old = resource_view.LOOKS_MAX, joint_room.LOG_MAX, joint_room.LISTS_MAX
    resource_view.LOOKS_MAX, joint_room.LOG_MAX, joint_room.LISTS_MAX = 3, log_max, 2
    try:
        view = ResourceView()
        shapes = [{"CPU": 3 * CPU, "GPU": CPU}, {"CPU": CPU, "GPU": 2 * CPU}, {"CPU": 4 * CPU, "GPU": 2 * CPU}]
        for number in range(10):
            view.add(node(number), {"CPU": 4 * CPU, "GPU": 2 * CPU}, {"CPU": 4 * CPU, "GPU": 0}, {})
        for number in range(3):
            assert view.with_room(shapes[number], 1) == []
        for what, number, cpus, gpus in moves:
            amounts = {"CPU": cpus * CPU, "GPU": gpus * CPU}
            if what == "add":
                view.add(node(number), {"CPU": 4 * CPU, "GPU": 2 * CPU}, amounts, {})
            elif what == "report":
                view.report(node(number), amounts)
            elif what == "remove":
                view.remove(node(number))
            else:
                assert all(fits(shapes[number], each.available) for each in view.with_room(shapes[number], cpus))
        for shape in shapes:
            right = {each.node_id for each in view if fits(shape, each.available)}
            named: set[bytes] = set()
            for _ in range(40):
                named |= {each.node_id for each in view.with_room(shape, 10)}
            assert named == right
    finally:
        resource_view.LOOKS_MAX, joint_room.LOG_MAX, joint_room.LISTS_MAX = old
