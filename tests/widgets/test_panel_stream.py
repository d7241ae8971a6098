"""What a reader of a panel is sent: a snapshot, then differences, in messages of bounded size."""

from __future__ import annotations

import json

import msgspec
import pytest

from raybook.base.facts import Fact
from raybook.observe import PANELS, Feed, PanelFilter, PanelState, PanelStream, panel_state
from raybook.observe.__main__ import generated
from raybook.testing.scripted_facts import ScriptedFacts, sweep_script
from tests.widgets.test_view import REPOSITORY


class Reader:
    """Does what labextension/src/core/state.ts does, and counts bytes."""

    def __init__(self) -> None:
        self.state = PanelState({}, {})
        self.version = 0
        self.largest = 0

    def take(self, message: dict) -> None:
        self.largest = max(self.largest, len(json.dumps(message)))
        if "snapshot" in message:
            self.state, body = PanelState({}, {}), message["snapshot"]
        else:
            assert message["since"] == self.version
            body = message["delta"]
        self.version = message["version"]
        self.state.values.update(body["values"])
        for table, keys in body.get("gone", {}).items():
            for key in keys:
                del self.state.tables[table][key]
        for table, rows in body["tables"].items():
            self.state.tables.setdefault(table, {}).update(rows)


def told(feed: Feed, panel: str, wanted: PanelFilter | None = None) -> dict:
    """What there is to be shown, as a reader should know it in the end."""
    state = msgspec.to_builtins(panel_state(panel, feed, wanted or PanelFilter()))
    return {name: rows for name, rows in state["tables"].items() if rows}


def known(reader: Reader) -> dict:
    return {name: rows for name, rows in reader.state.tables.items() if rows}


def task_fact(number: int, **fields: object) -> Fact:
    key = f"{number:032x}"
    row = {"task_id": key, "name": "square", "state": "FINISHED", "started_ms": number, "ended_ms": number + 5}
    return Fact("task", key, {**row, **fields})


def test_generated_files_of_the_front_end_are_those_of_this_schema():
    for name, text in generated().items():
        assert (REPOSITORY / "labextension" / name).read_text() == text, "Run: python -m raybook.observe labextension/"


@pytest.mark.parametrize("panel", PANELS)
def test_messages_in_order_give_the_state_they_were_made_from(panel, monkeypatch):
    # Rates are of the last seconds: with the clock going on they would be others at the second look.
    monkeypatch.setattr("raybook.observe.subscribe.time.time", lambda: 1_000.0)
    source = ScriptedFacts()
    feed = Feed(source, "brave-fox")
    stream, reader = PanelStream(panel, bytes_max=4_000), Reader()
    for facts in sweep_script(trials=9, steps=5):
        source.publish(*facts)
        message = stream.message(feed, now_ms=1.0)
        if message is not None:
            reader.take(message)
    for _ in range(200):
        if not stream.has_more:
            break
        reader.take(stream.message(feed, now_ms=1.0))
    assert known(reader) == told(feed, panel)
    assert reader.state.values["cluster_name"] == "brave-fox"


def test_a_message_stays_within_its_budget_and_the_rest_follows():
    source = ScriptedFacts()
    source.publish(*(task_fact(number) for number in range(2_000)))
    feed = Feed(source)
    stream, reader, messages = PanelStream("tasks", bytes_max=30_000), Reader(), 0
    while messages == 0 or stream.has_more:
        reader.take(stream.message(feed))
        messages += 1
    assert reader.largest < 32 * 1024
    assert len(reader.state.tables["tasks"]) == 2_000
    assert messages > 5


def test_only_the_row_that_changed_travels():
    source = ScriptedFacts()
    source.publish(*(task_fact(number) for number in range(50)))
    feed = Feed(source)
    stream = PanelStream("tasks")
    stream.message(feed)
    source.publish(task_fact(7, state="FAILED", error="<b>boom</b>"))
    message = stream.message(feed)
    assert [row["error"] for row in message["delta"]["tables"]["tasks"].values()] == ["<b>boom</b>"]
    assert stream.message(feed) is None


def test_a_row_that_went_is_named():
    source = ScriptedFacts()
    source.publish(task_fact(1), task_fact(2))
    feed = Feed(source)
    stream = PanelStream("tasks")
    stream.message(feed)
    source.publish(Fact("task", f"{1:032x}", None))
    assert stream.message(feed)["delta"]["gone"] == {"tasks": [f"{1:032x}"]}


def test_one_row_larger_than_a_message_does_not_hold_up_the_others():
    source = ScriptedFacts()
    source.publish(*(task_fact(number, error="x" * 290) for number in range(3)))
    feed = Feed(source)
    stream, reader = PanelStream("tasks", bytes_max=10), Reader()
    for _ in range(3):
        reader.take(stream.message(feed))
    assert len(reader.state.tables["tasks"]) == 3
    assert not stream.has_more


def test_the_end_of_a_cluster_is_a_message():
    source = ScriptedFacts()
    feed = Feed(source)
    stream = PanelStream("overview")
    stream.message(feed)
    feed.end("STOPPED")
    assert stream.message(feed)["delta"]["values"] == {"cluster_state": "STOPPED"}


def test_tasks_are_filtered_where_they_are_known():
    source = ScriptedFacts()
    source.publish(task_fact(1, name="load"), task_fact(2, name="Train"), task_fact(3, name="train", state="FAILED"))
    feed = Feed(source)
    names = [row.name for row in panel_state("tasks", feed, PanelFilter(text="TRAIN")).tables["tasks"].values()]
    assert sorted(names) == ["Train", "train"]
    (failed,) = panel_state("tasks", feed, PanelFilter(state="FAILED")).tables["tasks"].values()
    assert failed.name == "train"
    assert len(panel_state("tasks", feed, PanelFilter(rows_max=2)).tables["tasks"]) == 2


def test_log_lines_know_their_level_and_are_filtered_by_it():
    source = ScriptedFacts()
    lines = ["2026-01-01 ERROR disk full", "WARN: slow", "all is well", "INFO start", "terror is no level"]
    source.publish(*(Fact("log", f"n1:{n}", {"line": line, "name": "A"}) for n, line in enumerate(lines)))
    feed = Feed(source)
    rows = panel_state("logs", feed, PanelFilter()).tables["logs"].values()
    assert [row.level for row in rows] == ["ERROR", "WARNING", "", "INFO", ""]
    assert {row.node_id for row in rows} == {"n1"}
    (error,) = panel_state("logs", feed, PanelFilter(level="ERROR")).tables["logs"].values()
    assert error.line == lines[0]


def test_a_node_names_who_holds_its_gpus():
    source = ScriptedFacts()
    gpus = [{"index": 0, "utilization": 0.25, "memory_used_bytes": 1, "memory_total_bytes": 4}]
    held = {"actor_id": "a1", "class_name": "Trainer", "state": "ALIVE", "node_id": "n1", "resources": {"GPU": 0.5}}
    source.publish(
        Fact("node", "n1", {"node_id": "n1", "gpus": gpus}),
        Fact("actor", "a1", held),
        Fact("actor", "a2", {**held, "actor_id": "a2", "state": "DEAD"}),
    )
    (node,) = panel_state("nodes", Feed(source), PanelFilter()).tables["nodes"].values()
    assert [(holder.name, holder.resources) for holder in node.holders] == [("Trainer", {"GPU": 0.5})]
    assert [gpu.utilization for gpu in node.gpus] == [0.25]


def test_an_unknown_panel_is_refused_by_name():
    with pytest.raises(ValueError, match="no panel 'taks'. Panels are: overview, tasks"):
        PanelStream("taks")


def test_a_training_run_is_read_from_what_train_tells():
    source = ScriptedFacts()
    row = {
        "name": "mnist",
        "state": "RUNNING",
        "workers": [{"rank": 0, "node": "n1", "pid": 7, "gpus": [0]}, "odd"],
        "metric_name": "loss",
        "metrics": {"loss": 0.25, "odd": "x"},
        "history": [1.0, 0.5, 0.25],
        "step_ms": None,
    }
    source.publish(Fact("train_run", "r1", row), Fact("train_run", "r2", {"workers": 3}))
    runs = panel_state("train", Feed(source), PanelFilter()).tables["trains"]
    assert list(runs) == ["r2", "r1"], "the newest first"
    assert (runs["r1"].value, runs["r1"].workers[0].gpus, runs["r1"].step_ms) == (0.25, ["0"], 0.0)
    assert runs["r2"].workers == []


def test_deployments_are_read_from_what_serve_tells():
    source = ScriptedFacts()
    replicas = [
        {"replica_id": "a", "state": "RUNNING", "qps": 10.0, "p50_ms": 2.0, "p95_ms": 5.0, "errors": 1, "requests": 40},
        {"replica_id": "b", "state": "RUNNING", "qps": 20.0, "p50_ms": 4.0, "p95_ms": 9.0, "requests": 2},
    ]
    decisions = [{"before": 1, "after": 2, "reason": "a queue of 12"}]
    part = {"status": "HEALTHY", "replicas": replicas, "decisions": decisions, "target_num_replicas": 2}
    source.publish(
        Fact("serve", "app", {"name": "app", "status": "RUNNING", "deployments": {"Echo": part}}),
        Fact("serve", "gone", {"name": "gone", "status": "DELETED", "deployments": {}}),
        Fact("serve", "bad", {"name": "bad", "status": "DEPLOY_FAILED", "message": "no module", "deployments": {}}),
    )
    echo, bad = panel_state("serve", Feed(source), PanelFilter()).tables["deployments"].values()
    assert (echo.qps, echo.p50_ms, echo.p95_ms, echo.requests, echo.errors) == (30.0, 3.0, 9.0, 42, 1)
    assert echo.decisions == ["1 → 2: a queue of 12"]
    assert (bad.app, bad.app_status, bad.message) == ("bad", "DEPLOY_FAILED", "no module")
