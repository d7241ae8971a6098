"""From a scripted source of facts to the messages a panel sends, without a kernel."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from raybook.base.facts import Fact
from raybook.observe import Feed
from raybook.testing.scripted_facts import ScriptedFacts, sweep_script
from raybook_widgets import SECTIONS, Hub, Preferences
from raybook_widgets.view_widget import ViewWidget
from tests.widgets.pictures import experiment, group, trial


class Shell:
    """A shell without a kernel: remembers what was displayed."""

    exit_now = False
    parent_header: dict[str, Any] = {}

    def __init__(self) -> None:
        self.shown: list[tuple[dict[str, Any], str, bool]] = []
        self.display_pub = self

    def publish(self, data: dict[str, Any], transient: dict[str, Any], update: bool = False) -> None:
        self.shown.append((data, transient["display_id"], update))


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def source():
    scripted = ScriptedFacts()
    yield scripted
    scripted.close()


@pytest.fixture
def hub(shell):
    made = Hub(shell, Preferences())
    made.note_change = lambda: None  # The thread sleeps: ticks are made by hand.
    yield made
    made.close()


def test_tick_of_plain_widgets_sends_only_the_sections_that_changed(shell, source, request):
    hub = Hub(shell, Preferences(rich_view=False))
    request.addfinalizer(hub.close)
    hub.note_change = lambda: None
    hub.attach(Feed(source, "fox"))
    hub.show()
    source.publish(group("f", finished=1))
    assert hub.tick() == 1
    source.publish(group("f", finished=2), trial("t", last=0.5))
    assert hub.tick() == 2
    assert hub.tick() == 0


def test_tick_sends_one_message_with_the_rows_that_changed(hub, source, monkeypatch):
    sent = []
    monkeypatch.setattr(ViewWidget, "tell", lambda widget, message: sent.append(message))
    hub.attach(Feed(source, "fox"))
    source.publish(group("f", finished=1))
    hub.show()
    source.publish(group("f", finished=2), trial("t", last=0.5))
    assert hub.tick() == 1
    assert hub.tick() == 0
    snapshot, delta = sent
    assert snapshot["snapshot"]["tables"]["task_groups"]["f"]["finished"] == 1
    assert set(delta["delta"]["tables"]) == {"task_groups", "experiments", "trials"}


def test_a_panel_of_one_sweep_is_sent_that_sweep_alone(hub, shell, source, monkeypatch):
    sent = []
    monkeypatch.setattr(ViewWidget, "tell", lambda widget, message: sent.append(message))
    shell.parent_header = {"msg_id": "cell-1"}
    hub.attach(Feed(source, "fox"))
    hub.cell_started()
    source.publish(experiment(total=1), trial("t1", last=0.5))
    source.publish(experiment("run-2", name="other"), trial("t2", last=0.5, experiment="other"))
    hub.tick()
    (snapshot,) = [message["snapshot"] for message in sent if "snapshot" in message]
    assert len(snapshot["tables"]["experiments"]) == 1
    assert len(snapshot["tables"]["trials"]) == 1


def test_a_page_that_comes_later_is_sent_everything_again(hub, source, monkeypatch):
    sent = []
    monkeypatch.setattr(ViewWidget, "tell", lambda widget, message: sent.append(message))
    hub.attach(Feed(source, "fox"))
    source.publish(group("f", finished=1))
    panel = hub.show()
    panel._surface._start_over()
    assert [set(message) & {"snapshot", "delta"} for message in sent] == [{"snapshot"}, {"snapshot"}]
    assert sent[0]["snapshot"] == sent[1]["snapshot"]


def test_a_button_is_answered_also_when_its_command_fails(hub, source, monkeypatch):
    sent = []
    monkeypatch.setattr(ViewWidget, "tell", lambda widget, message: sent.append(message))

    def fails(body):
        raise RuntimeError(f"no cell {body['cell']}")

    hub.commands = {"cancel": fails}
    hub.attach(Feed(source, "fox"))
    surface = hub.show()._surface
    sent.clear()
    surface._act({"op": "command", "id": 3, "name": "cancel", "body": {"cell": "In[3]"}})
    surface._act({"op": "command", "id": 4, "name": "scale", "body": {}})
    assert sent == [
        {"op": "said", "id": 3, "ok": False, "said": "RuntimeError: no cell In[3]"},
        {"op": "said", "id": 4, "ok": False, "said": "This kernel cannot do that."},
    ]


def test_an_output_names_its_cluster_and_cell_for_pages_that_reach_it_past_the_kernel(hub, shell, source):
    shell.parent_header = {"header": {"msg_id": "cell-1"}}
    hub.channel.kernel_id = "k1"
    hub.attach(Feed(source, "fox"), cluster_id="c1")
    hub.cell_started("In[3]")
    hub.show(("tasks", "tune"))
    hub.detach("LEFT")
    told = {
        "schema_version": 1,
        "cluster_id": "c1",
        "run_id": "",
        "panels": ["tasks", "tune"],
        "cell": "In[3]",
        "kernel_id": "k1",
    }
    assert shell.shown[0][0]["application/vnd.raybook.view+json"] == told
    assert shell.shown[-1][0]["application/vnd.raybook.view+json"] == told, "it lives on"
    hub.attach(Feed(source, "fox"), cluster_id="c1")
    hub.show()
    hub.detach("STOPPED")
    assert set(shell.shown[-1][0]) == {"text/plain", "text/html"}


def test_final_panel_is_shown_once_with_the_last_numbers(hub, shell, source):
    hub.attach(Feed(source, "fox"))
    hub.show()
    source.publish(group("square", finished=41))
    hub.tick()
    source.publish(group("square", finished=42))
    hub.detach()
    hub.detach()
    updates = [(data, display_id) for data, display_id, update in shell.shown if update]
    assert len(updates) == 1
    (data, display_id) = updates[0]
    assert display_id == shell.shown[0][1]
    assert "42/42" in data["text/plain"]
    assert "42 / 42" in data["text/html"]
    assert set(data) == {"text/plain", "text/html"}


def test_first_display_has_a_plain_text_that_never_differs(hub, shell, source):
    hub.attach(Feed(source, "fox"))
    source.publish(group("square", finished=41))
    hub.show()
    hub.show(("tasks", "tune"))
    assert [data["text/plain"] for data, _, _ in shell.shown] == ["RayPanel(cluster)", "RayPanel(tasks, tune)"]


def test_noninteractive_panel_is_text_at_the_start_and_at_the_end(shell, source):
    hub = Hub(shell, Preferences(interactive=False))
    hub.attach(Feed(source, "fox"))
    hub.show()
    source.publish(group("square", finished=3))
    hub.tick()
    hub.detach()
    hub.close()
    assert [set(data) for data, _, _ in shell.shown] == [{"text/plain"}, {"text/plain"}]
    assert "3/3" in shell.shown[-1][0]["text/plain"]


def test_sweep_that_begins_in_a_cell_gets_a_panel_under_it_and_its_final_state(hub, shell, source):
    shell.parent_header = {"msg_id": "cell-1"}
    hub.attach(Feed(source, "fox"))
    hub.cell_started()
    source.publish(experiment(total=1), trial("t1", last=0.5))
    hub.tick()
    assert [data["text/plain"] for data, _, _ in shell.shown] == ["RayPanel(tune)"]
    source.publish(trial("t1", last=0.75, state="TERMINATED"))
    hub.tick()
    assert shell.shown[-1][2]
    assert "best accuracy 0.75" in shell.shown[-1][0]["text/plain"]
    assert hub.panels == ()


def bar(key: str, **fields: object) -> Fact:
    return Fact("progress", key, {"desc": key, "done": 1, "total": 4, "state": "RUNNING", **fields})


def test_progress_bars_that_begin_in_a_cell_share_one_panel_under_it(hub, shell, source):
    source.publish(bar("before"))
    hub.attach(Feed(source, "fox"))
    hub.tick()
    assert shell.shown == []
    for cell in ("cell-1", "cell-2"):
        shell.parent_header = {"msg_id": cell}
        hub.cell_started()
        source.publish(bar(f"load in {cell}"))
        hub.tick()
        source.publish(bar(f"train in {cell}"))
        hub.tick()
        hub.cell_ended()
    assert [data["text/plain"] for data, _, is_update in shell.shown if not is_update] == ["RayPanel(tasks)"] * 2


def test_without_a_panel_no_view_is_made_of_what_happens(hub, shell, source, monkeypatch):
    hub.attach(Feed(source, "fox"))
    hub.tick()
    hub.cell_started()
    monkeypatch.setattr(hub, "view", lambda: pytest.fail("A view was made for nobody."))
    for count in range(5):
        source.publish(group("f", finished=count))
        hub.tick()
    monkeypatch.undo()
    shell.parent_header = {"msg_id": "cell-1"}
    hub.cell_started()
    source.publish(experiment(total=1), trial("t1", last=0.5))
    hub.tick()
    assert len(hub.panels) == 1


def test_trials_that_report_make_no_view_for_nobody(hub, shell, source, monkeypatch):
    hub.attach(Feed(source, "fox"))
    source.publish(experiment(total=1), trial("t1", last=0.1))
    hub.tick()
    assert hub.panels == ()
    monkeypatch.setattr(hub, "view", lambda: pytest.fail("A view was made for nobody."))
    for step in range(5):
        source.publish(trial("t1", last=step / 10))
        hub.tick()


def test_sweep_of_before_we_looked_gets_no_panel(hub, shell, source):
    source.publish(experiment(total=1), trial("t1", last=0.5))
    hub.attach(Feed(source, "fox"))
    hub.cell_started()
    source.publish(trial("t1", last=0.6))
    hub.tick()
    assert shell.shown == []


def test_panels_shown_again_and_again_do_not_multiply(hub, source):
    hub.attach(Feed(source, "fox"))
    for _ in range(20):
        hub.show(("tasks",))
    assert len(hub.panels) == 12


def test_view_of_an_ended_feed_keeps_the_last_picture_without_rates(source):
    feed = Feed(source, "fox")
    source.publish(group("f", finished=1))
    source.publish(group("f", finished=500))
    assert feed.view().moving
    feed.end()
    source.publish(group("f", finished=900))
    view = feed.view()
    assert view.task_groups[0].finished == 500
    assert view.cluster_state == "STOPPED"
    assert not view.moving


def test_waiting_for_a_view_wakes_at_the_delta_that_makes_it_true(source):
    feed = Feed(source)
    source.publish(group("f", running=1))
    waiter_is_right: list[bool] = []
    thread = threading.Thread(
        target=lambda: waiter_is_right.append(feed.wait_until(lambda view: not view.tasks_total.running, 10))
    )
    thread.start()
    source.publish(group("f", finished=1))
    thread.join(5)
    assert waiter_is_right == [True]
    assert not feed.wait_until(lambda view: view.tasks_total.running > 0, 0.01)


def test_views_taken_while_facts_pour_in_are_whole(source):
    feed = Feed(source)
    player = source.play(sweep_script(trials=8, steps=10), 0.0)
    seen = [feed.view() for _ in range(200)]
    player.join(10)
    assert [view.facts_version for view in seen] == sorted(view.facts_version for view in seen)
    assert all(len(sweep.trials) == 8 for view in seen for sweep in view.experiments)


def test_sections_are_stacked_in_one_order_however_they_are_asked_for(hub, shell, source):
    hub.attach(Feed(source))
    panel = hub.show(("tune", "tasks"))
    assert panel.sections == ("tasks", "tune")
    assert repr(hub.show(SECTIONS)) == "RayPanel(cluster)"
