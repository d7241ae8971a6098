"""Panel state: what travels to a browser is what has changed, and putting it together gives the whole again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybook.base.facts import Fact
from raybook.observe import WIDE_CAPS, Filter, apply_delta, panel_state, state_delta
from raybook.testing.scripted_facts import sweep_script
from tests.widgets.pictures import group, view_of


def task(name: str, state: str = "RUNNING", **fields) -> Fact:
    return Fact("task", name, {"task_id": name, "name": f"f_{name}", "state": state, "started_ms": 1_000, **fields})


def line(number: int, text: str, source: str = "out", name: str = "") -> Fact:
    return Fact("log", f"n1:{number:012d}", {"source": source, "pid": 7, "name": name, "line": text})


@pytest.mark.parametrize("panel", ["overview", "nodes", "tasks", "actors", "objects", "tune", "logs", "all"])
def test_deltas_of_a_whole_sweep_add_up_to_its_last_state(panel):
    facts, shown, last = [], {}, {}
    for step, more in enumerate(sweep_script(trials=4, steps=4)):
        facts += more
        last = panel_state(view_of(*facts, caps=WIDE_CAPS), panel, now_ms=step)
        shown = apply_delta(shown, state_delta(shown, last))

    assert {name: rows.keys() for name, rows in shown.items()} == {n: rows.keys() for n, rows in last.items() if rows}
    assert state_delta(shown, last) == {}


KEYS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2))


@given(st.dictionaries(st.sampled_from("xyz"), KEYS), st.dictionaries(st.sampled_from("xyz"), KEYS))
def test_a_delta_takes_any_state_to_any_other(old, new):
    after = apply_delta(old, state_delta(old, new))
    assert {name: rows for name, rows in after.items() if rows} == {name: rows for name, rows in new.items() if rows}


def test_time_going_by_is_no_change():
    before = panel_state(view_of(task("a"), group("f", running=1)), "tasks", now_ms=1)
    after = panel_state(view_of(task("a"), group("f", running=1)), "tasks", now_ms=2)
    assert state_delta(before, after) == {}
    assert before["tasks"]["a"].duration_ms is None


def test_a_row_that_is_gone_is_said_to_be():
    before = panel_state(view_of(task("a"), task("b")), "tasks")
    after = panel_state(view_of(task("b")), "tasks")
    assert state_delta(before, after) == {"tasks": {"a": None}}


def test_tasks_are_filtered_by_state_and_text():
    view = view_of(task("a"), task("b", "FAILED", error="ValueError: <bad>"), task("c", "FINISHED"))
    assert list(panel_state(view, "tasks", wanted=Filter(states=["FAILED"]))["tasks"]) == ["b"]
    assert list(panel_state(view, "tasks", wanted=Filter(text="valueerror"))["tasks"]) == ["b"]
    assert len(panel_state(view, "tasks", wanted=Filter(limit=2))["tasks"]) == 2


def test_lines_are_filtered_by_level_source_and_who_printed_them():
    lines = [
        line(1, "fine"),
        line(2, "ERROR: bad", "err"),
        line(3, "WARNING hm", "err", "Actor"),
        line(4, "fine", name="Actor"),
    ]
    view = view_of(*lines, caps=WIDE_CAPS)

    def shown(**wanted):
        return [row.line for row in panel_state(view, "logs", wanted=Filter(**wanted))["logs"].values()]

    assert shown(level="error") == ["ERROR: bad"]
    assert shown(level="warning") == ["ERROR: bad", "WARNING hm"]
    assert shown(source="out") == ["fine", "fine"]
    assert shown(actor="Actor") == ["WARNING hm", "fine"]
    assert shown(node="n2") == []
    assert shown(limit=1) == ["fine"]


def test_lines_are_in_no_view_that_did_not_ask():
    assert view_of(line(1, "x")).logs == []


def test_a_panel_there_is_none_of_is_refused_by_name():
    with pytest.raises(ValueError, match="no panel 'taks'"):
        panel_state(view_of(), "taks")
