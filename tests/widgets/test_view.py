"""From facts to a view: sums, caps, the best trial, and odd rows that must not blank a panel."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from raybook.base.facts import Fact
from raybook.observe import Caps, View, json_schema, scaling_lines, view_text
from raybook_widgets import render_section
from tests.widgets.pictures import actor, experiment, group, trial, view_of

REPOSITORY = Path(__file__).resolve().parents[2]


def test_sums_include_the_rows_that_caps_leave_out():
    view = view_of(*(group(f"f{n}", finished=10, running=1) for n in range(30)), caps=Caps(task_groups=5))
    assert len(view.task_groups) == 5
    assert view.task_groups_hidden == 25
    assert view.tasks_total.finished == 300
    assert view.tasks_total.running == 30


def test_cap_keeps_what_is_at_work_in_the_order_of_first_appearance():
    facts = [group(f"old{n}", finished=1000) for n in range(5)] + [group("new", running=1)]
    view = view_of(*facts, caps=Caps(task_groups=3))
    assert [row.name for row in view.task_groups] == ["old0", "old1", "new"]


def test_resources_are_summed_over_living_nodes_only():
    row = {"resources_total": {"CPU": 4.0, "GPU": 1.0}, "resources_available": {"CPU": 1.5, "GPU": 1.0}}
    view = view_of(
        Fact("node", "n1", {"alive": True, **row}),
        Fact("node", "n2", {"alive": True, **row}),
        Fact("node", "n3", {"alive": False, **row}),
    )
    assert [(r.name, r.used, r.total) for r in view.resources] == [("CPU", 5.0, 8.0), ("GPU", 0.0, 2.0)]


def test_scaling_is_shown_in_lines_with_the_last_reason():
    row = {
        "bounds": ["node: 2 of 0 to 3"],
        "pending": ["1 × node, starting for 0.4 s"],
        "decisions": ["older", "Adds 1 × node, because 2 × {CPU: 1} do not fit on the nodes there are."],
        "failures": ["1 × node: <no quota>"],
        "unmet": [],
        "notes": ["n1 is idle for 3.0 s; it goes after 60 s."],
        "trouble": "",
    }
    view = view_of(Fact("autoscaler", "autoscaler", row))
    assert scaling_lines(view) == [
        "  nodes: node: 2 of 0 to 3; 1 × node, starting for 0.4 s",
        "  Adds 1 × node, because 2 × {CPU: 1} do not fit on the nodes there are.",
        "  failed: 1 × node: <no quota>",
        "  n1 is idle for 3.0 s; it goes after 60 s.",
    ]
    assert "&lt;no quota&gt;" in render_section("cluster", view)
    assert scaling_lines(view_of(Fact("autoscaler", "autoscaler", {"bounds": 7}))) == ["  nodes: "]


def test_best_trial_is_the_highest_or_the_lowest_as_the_mode_says():
    rows = [trial("t1", last=0.9), trial("t2", last=0.4)]
    assert view_of(*rows).experiments[0].best_trial_id == "t1"
    lowest = [trial("t1", last=0.9, mode="min"), trial("t2", last=0.4, mode="min")]
    assert view_of(*lowest).experiments[0].best_trial_id == "t2"


def test_best_trial_that_the_sweep_names_is_believed():
    view = view_of(experiment(best_trial="t2", best_value=0.97), trial("t1", last=0.9), trial("t2", last=0.4))
    (sweep,) = view.experiments
    assert (sweep.best_trial_id, sweep.best_value) == ("t2", 0.97)
    assert [row.best for row in sweep.trials] == [False, True]


def test_trial_that_has_not_reported_is_never_the_best():
    view = view_of(trial("t1", last=None), trial("t2", last=float("nan")))
    assert view.experiments[0].best_trial_id == ""
    assert view.experiments[0].best_value is None


def test_capped_trials_keep_the_best_and_the_running_ones():
    rows = [trial(f"t{n:02d}", state="TERMINATED", last=1.0 - n / 100) for n in range(30)]
    rows += [trial("u", state="RUNNING", last=0.1)]
    (sweep,) = view_of(*rows, caps=Caps(trials=4)).experiments
    assert [row.trial_id for row in sweep.trials] == ["t00", "t28", "t29", "u"]
    assert sweep.trials_hidden == 27


def test_sweep_is_finished_when_all_its_trials_have_ended():
    ended = [trial("t1", state="TERMINATED"), trial("t2", state="ERROR")]
    assert view_of(experiment(total=2), *ended).experiments[0].state == "FINISHED"
    assert view_of(experiment(total=3), *ended).experiments[0].state == "RUNNING"


def test_trials_without_an_experiment_fact_still_show():
    (sweep,) = view_of(trial("t1", last=0.5)).experiments
    assert sweep.name == "digits"
    assert sweep.metric == "accuracy"


def test_odd_rows_read_as_nothing_instead_of_failing():
    view = view_of(
        group("f", pending="many", mean_us=None, finished=True),
        actor("a", pid="x", restarts=[1], state=None),
        Fact("node", "n", {"resources_total": None}),
        Fact("store", "n", {"used_bytes": float("nan")}),
        Fact("object", "o", {}),
        trial("t", last="high", history="abc", config=7, iteration=None),
        Fact("task", "x", {"started_ms": "soon"}),
        Fact("a kind of tomorrow", "k", {"x": 1}),
    )
    assert view.task_groups[0].total == 0
    assert view.actors[0].pid == 0
    assert view.experiments[0].trials[0].value is None


def test_row_lengths_are_bounded_whatever_users_call_things():
    long = "n" * 100_000
    view = view_of(group(long, running=1), actor("a", class_name=long, name=long), trial("t", config={long: long}))
    assert len(msgspec.json.encode(view)) < 4_000


def test_view_is_valid_by_its_own_schema_and_survives_json():
    view = view_of(group("f", finished=3), actor("a"), trial("t1", last=0.9, history=[0.1, 0.9]), experiment(total=4))
    assert msgspec.json.decode(msgspec.json.encode(view), type=View) == view


def test_exported_schema_is_the_one_of_this_code():
    exported = json.loads((REPOSITORY / "labextension" / "schema" / "observe.json").read_text())
    assert exported == json_schema(), "Run: python -m raybook.observe labextension/"


def test_dead_actors_of_a_sweep_do_not_crowd_out_the_living():
    facts = [actor(f"d{n}", state="DEAD") for n in range(20)] + [actor("alive")]
    view = view_of(*facts)
    assert [row.actor_id for row in view.actors] == ["d17", "d18", "d19", "alive"]
    assert view.actors_hidden == 17
    assert view.actors_by_state == {"ALIVE": 1, "DEAD": 20}


def test_function_submitted_by_several_processes_is_one_row():
    facts = [Fact("task_group", f"f#{n}", {"name": "f", "finished": 10, "mean_us": 100.0 * n}) for n in range(1, 3)]
    (row,) = view_of(*facts).task_groups
    assert (row.name, row.finished, row.mean_us) == ("f", 20, 150.0)


def test_sweep_run_twice_under_one_name_keeps_its_trials_apart():
    view = view_of(
        experiment("run-1", total=1),
        experiment("run-2", total=1),
        trial("t1", experiment_id="run-1", last=0.5),
        trial("t2", experiment_id="run-2", last=0.7),
    )
    assert [(e.experiment_id, [t.trial_id for t in e.trials]) for e in view.experiments] == [
        ("run-2", ["t2"]),
        ("run-1", ["t1"]),
    ]


def test_old_code_is_told_of_living_actors_only():
    facts = [actor("a1"), actor("a2", state="DEAD"), actor("a3")]
    facts += [Fact("code", key, {"actor_id": key, "stale": "runs v1 of `f`, In[7] has v2"}) for key in ("a1", "a2")]
    view = view_of(*facts)
    assert {row.actor_id: row.stale for row in view.actors} == {
        "a1": "runs v1 of `f`, In[7] has v2",
        "a2": "",
        "a3": "",
    }
    assert "old code: runs v1 of `f`, In[7] has v2" in view_text(view)
    assert "old code" in render_section("actors", view)


def progress(key: str, done: float, **fields: object) -> Fact:
    return Fact("progress", key, {"desc": key, "done": done, "total": 10, "unit": "it", "state": "RUNNING", **fields})


def test_progress_bars_stand_below_the_functions_in_the_order_they_began():
    view = view_of(group("f", running=1), progress("load", 4), progress("train", 10, state="FINISHED"))
    text = view_text(view, ("tasks",)).splitlines()
    assert "████████░░░░░░░░░░░░ 4/10 it" in text[2] and text[2].split()[0] == "load"
    assert "10/10 it" in text[3]
    assert "4/10 it" in render_section("tasks", view)


def test_a_bar_that_nobody_closed_ends_with_its_task():
    facts = [progress("load", 4, task_id="t1"), Fact("task", "t1", {"task_id": "t1", "name": "f", "state": "FAILED"})]
    (bar,) = view_of(*facts).progress
    assert bar.over
    assert "4/10 it, ended" in view_text(view_of(*facts))


def test_of_many_bars_those_that_move_and_the_last_that_ended_are_shown():
    ended = [progress(f"old{n}", 10, state="FINISHED") for n in range(5)]
    view = view_of(*ended, *(progress(f"new{n}", n) for n in range(15)))
    assert [bar.name for bar in view.progress] == ["old2", "old3", "old4", *(f"new{n}" for n in range(12))]
    assert view.progress_hidden == 3
    assert "and 3 more progress bars" in view_text(view)
    assert "and 3 more progress bars" in render_section("tasks", view)
