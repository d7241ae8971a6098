"""The event table against the dumb one: a dictionary that is sent whole."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from raybook.base.facts import Fact, FactDelta
from raybook.core.cluster.event_table import EventTable


def row(state: str, **fields: object) -> dict:
    return {"state": state, **fields}


def applied(view: dict, delta: FactDelta) -> dict:
    """What a viewer holds after a delta."""
    view = {} if delta.reset else dict(view)
    for fact in delta.facts:
        if fact.row is None:
            view.pop((fact.kind, fact.key), None)
        else:
            view[(fact.kind, fact.key)] = fact.row
    return view


def test_later_fact_replaces_the_earlier_one_and_moves_the_version():
    table = EventTable(10)
    table.add([Fact("task", "a", row("RUNNING")), Fact("task", "a", row("FINISHED"))])
    assert table.version == 2
    assert table.delta_since(0).facts == [Fact("task", "a", row("FINISHED"))]


def test_delta_contains_only_what_changed_in_order_of_change():
    table = EventTable(10)
    table.add([Fact("task", key, row("RUNNING")) for key in "abc"])
    seen = table.version
    table.add([Fact("task", "c", row("FINISHED")), Fact("task", "a", None)])
    delta = table.delta_since(seen)
    assert not delta.reset
    assert [(fact.key, fact.row) for fact in delta.facts] == [("c", row("FINISHED")), ("a", None)]
    assert table.delta_since(delta.version).facts == []


def test_full_kind_drops_the_oldest_finished_row_and_tells_viewers():
    table = EventTable(2)
    table.add([Fact("task", "old", row("RUNNING")), Fact("task", "done", row("FINISHED"))])
    seen = table.version
    table.add([Fact("task", "new", row("PENDING"))])
    assert [fact.key for fact in table.delta_since(0).facts] == ["old", "new"]
    assert Fact("task", "done", None) in table.delta_since(seen).facts


def test_full_kind_without_finished_rows_drops_the_oldest():
    table = EventTable(2)
    table.add([Fact("log", str(n), {"line": n}) for n in range(3)])
    assert [fact.key for fact in table.delta_since(0).facts] == ["1", "2"]


def test_one_kind_being_full_leaves_other_kinds_alone():
    table = EventTable(1)
    table.add([Fact("node", "n", {"alive": True})] + [Fact("log", str(n), {}) for n in range(5)])
    assert table.rows("node") == [{"alive": True}]


def test_viewer_that_is_too_far_behind_gets_a_snapshot():
    table = EventTable(10, tombstones_max=1)
    table.add([Fact("task", key, row("RUNNING")) for key in "abc"])
    seen = table.version
    table.add([Fact("task", "a", None), Fact("task", "b", None)])
    delta = table.delta_since(seen)
    assert delta.reset
    assert [fact.key for fact in delta.facts] == ["c"]


def test_viewer_of_an_earlier_gcs_gets_a_snapshot():
    table = EventTable(10)
    table.add([Fact("task", "a", row("RUNNING"))])
    assert table.delta_since(999).reset


facts = st.builds(
    Fact,
    st.sampled_from(["task", "log"]),
    st.sampled_from("abcdefg"),
    st.one_of(st.none(), st.builds(row, st.sampled_from(["RUNNING", "FINISHED"]), n=st.integers(0, 9))),
)


@given(st.lists(st.tuples(st.lists(facts, max_size=6), st.sampled_from([0, 1])), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_viewer_ends_with_the_rows_of_a_fresh_snapshot(steps):
    table = EventTable(3, tombstones_max=2)
    views: list[tuple[int, dict]] = [(0, {}), (0, {})]
    for batch, reader in steps:
        table.add(batch)
        table.check_invariants()
        since, view = views[reader]
        delta = table.delta_since(since)
        views[reader] = (delta.version, applied(view, delta))
        assert views[reader][1] == applied({}, table.delta_since(0))
