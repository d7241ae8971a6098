"""Panels in a real kernel: they move while the cell blocks, survive interrupts, cost nothing when nothing changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.conftest import SCRIPTED
from tests.kernel.kernel_process import KernelProcess

BLOCKING = """
for n in range(12):
    cluster.source.publish(counted(n))
    time.sleep(0.1)   # The main thread is busy: nothing but the panels' thread can send.
"""


def is_state(data: dict[str, Any]) -> bool:
    """Whether a comm's data brings a view its state."""
    content = data.get("content") or {}
    return data.get("method") == "custom" and ("snapshot" in content or "delta" in content)


def panel_updates(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The comm messages that bring a panel something new: rows for a view, markup for plain widgets."""
    updates = [message for message in messages if message["msg_type"] == "comm_msg"]
    datas = [(message, message["content"]["data"]) for message in updates]
    return [m for m, data in datas if is_state(data) or "raybook-panel" in str(data.get("state", {}).get("value", ""))]


def test_panel_changes_while_the_cell_blocks(kernel):
    kernel.run("%ray_cluster start --name fox")
    outcome = kernel.run(BLOCKING)
    updates = panel_updates(outcome.messages)
    idle_s = outcome.messages[-1]["received_s"]
    early = [m for m in updates if m["received_s"] < idle_s - 0.2]
    assert len(early) >= 3
    assert len({str(m["content"]["data"]) for m in early}) == len(early)


def test_panel_sends_at_most_four_times_a_second_and_small_messages(kernel):
    kernel.run("%ray_cluster start --name fox")
    outcome = kernel.run("player = cluster.source.play(sweep_script(trials=40), 0.02); player.join()")
    updates = panel_updates(outcome.messages)
    sizes = [len(json.dumps(message["content"])) for message in updates]
    by_panel: dict[str, list[float]] = {}
    for message in updates:
        # When the kernel sent it: a busy machine may hand on several at once.
        by_panel.setdefault(message["content"]["comm_id"], []).append(message["header"]["date"].timestamp())
    assert max(sizes) < 32 * 1024
    for times in by_panel.values():
        assert len(times) <= 4 * (times[-1] - times[0]) + 3


def test_last_change_is_shown_after_the_cell_has_ended(kernel):
    kernel.run("%ray_cluster start --name fox")
    kernel.begin("cluster.source.publish(counted(98)); cluster.source.publish(counted(99))")
    message = kernel.listen_until(lambda m: bool(panel_updates([m])) and "'finished': 99" in str(m["content"]))
    assert message["msg_type"] == "comm_msg"


def test_nothing_is_sent_when_nothing_changes(kernel):
    kernel.run("%ray_cluster start --name fox")
    kernel.run("cluster.source.publish(counted(1)); time.sleep(0.6)")
    outcome = kernel.run("for n in range(20): cluster.source.publish(counted(1)); time.sleep(0.05)")
    assert panel_updates(outcome.messages) == []


def test_interrupt_ends_the_cell_and_leaves_panel_and_cluster_alive(kernel):
    kernel.run("%ray_cluster start --name fox")
    cell = kernel.begin("print('waiting', flush=True); time.sleep(60)")
    kernel.listen_until(lambda m: m["msg_type"] == "stream" and "waiting" in m["content"]["text"])
    kernel.interrupt()
    outcome = kernel.wait(cell)
    assert outcome.error.startswith("KeyboardInterrupt")
    assert kernel.value("session.is_connected") is True
    assert len(panel_updates(kernel.run(BLOCKING).messages)) >= 3


def test_worker_lines_come_under_the_cell_that_ran_and_a_flood_is_folded(kernel):
    kernel.run("%ray_cluster start --name fox")
    log = "Fact('log', str(n), {'source': 'stdout', 'pid': 7, 'name': 'square', 'line': f'line {n}'})"
    cell = kernel.begin(f"cluster.source.publish(*[{log} for n in range(1000)]); time.sleep(0.6)")
    outcome = kernel.wait(cell)
    assert outcome.text.startswith("(square pid=7) line 0\n")
    assert outcome.text.count("\n") == 200
    assert all(m["parent_header"]["msg_id"] == cell for m in outcome.of("stream"))
    assert "… 800 more lines from workers are not shown here." in [b["text/plain"] for b in outcome.bundles]


def test_sweep_gets_a_panel_under_its_own_cell(kernel):
    kernel.run("%ray_cluster start --name fox")
    cell = kernel.begin(
        "player = cluster.source.play(sweep_script(trials=4, steps=8), 0.1); player.join(); time.sleep(0.5)"
    )
    outcome = kernel.wait(cell)
    (shown,) = outcome.of("display_data")
    assert shown["parent_header"]["msg_id"] == cell
    assert shown["content"]["data"]["text/plain"] == "RayPanel(tune)"
    (final,) = outcome.of("update_display_data")
    assert final["content"]["transient"]["display_id"] == shown["content"]["transient"]["display_id"]
    assert "4/4 trials" in final["content"]["data"]["text/html"]


@pytest.fixture(scope="module")
def plain_kernel(tmp_path_factory) -> Iterator[KernelProcess]:
    """One whose panels are plain ipywidgets, as in front ends that load no code of a widget's."""
    with KernelProcess(tmp_path_factory.mktemp("plain"), RAYBOOK_RICH_VIEW="0") as process:
        process.run(SCRIPTED)
        yield process


def test_plain_widgets_change_while_the_cell_blocks_and_become_html(plain_kernel):
    plain_kernel.run("%ray_cluster start --name fox")
    updates = panel_updates(plain_kernel.run(BLOCKING).messages)
    assert len({m["content"]["data"]["state"]["value"] for m in updates}) >= 3
    (final,) = plain_kernel.run("%ray_cluster stop").of("update_display_data")
    assert "stopped" in final["content"]["data"]["text/html"]


def test_second_click_on_stop_ends_the_cluster(plain_kernel):
    kernel = plain_kernel
    outcome = kernel.run("%ray_cluster start --name fox")
    (button,) = [
        m for m in outcome.of("comm_open") if m["content"]["data"]["state"].get("description") == "Stop cluster"
    ]
    click = {"method": "custom", "content": {"event": "click"}}
    kernel.send_to_comm(button["content"]["comm_id"], click)
    kernel.listen_until(lambda m: "Click again to stop" in str(m["content"]))
    assert kernel.value("session.is_connected") is True
    kernel.send_to_comm(button["content"]["comm_id"], click)
    final = kernel.listen_until(lambda m: m["msg_type"] == "update_display_data")
    assert "stopped" in final["content"]["data"]["text/html"]
    assert kernel.value("session.is_connected") is False


def test_a_view_that_asks_is_sent_everything_and_its_buttons_are_answered(kernel):
    outcome = kernel.run("%ray_cluster start --name fox")
    (view,) = [m for m in outcome.of("comm_open") if "cluster_id" in m["content"]["data"]["state"]]
    comm_id = view["content"]["comm_id"]
    kernel.run("cluster.source.publish(counted(41)); time.sleep(0.4)")
    kernel.send_to_comm(comm_id, {"method": "custom", "content": {"op": "snapshot"}})
    message = kernel.listen_until(lambda m: "'snapshot'" in str(m["content"]))
    assert "'finished': 41" in str(message["content"])
    press = {"op": "command", "id": 1, "name": "stop", "body": {}}
    kernel.send_to_comm(comm_id, {"method": "custom", "content": press})
    kernel.listen_until(lambda m: m["msg_type"] == "update_display_data" and "stopped" in str(m["content"]))
    assert kernel.value("session.is_connected") is False


def test_the_view_travels_small_enough(kernel):
    outcome = kernel.run("%ray_cluster start --name fox")
    (view,) = [m for m in outcome.of("comm_open") if "cluster_id" in m["content"]["data"]["state"]]
    assert len(view["content"]["data"]["state"]["_esm"]) < 40 * 1024


def test_watch_shows_the_panels_asked_for(kernel):
    kernel.run("%ray_cluster start --name fox")
    kernel.run("import raybook_widgets; cluster.source.publish(counted(5))")
    (bundle,) = kernel.run("raybook_widgets.watch('tasks', 'objects')").bundles
    assert bundle["text/plain"] == "RayPanel(tasks, objects)"
    assert 'data-panel="tasks"' in bundle["text/html"]
    assert "There is no panel 'task'" in kernel.run("raybook_widgets.watch('task')").error


def test_noninteractive_kernel_prints_text_only(tmp_path):
    with KernelProcess(tmp_path, RAYBOOK_NONINTERACTIVE="1") as process:
        process.run(SCRIPTED)
        assert process.run("%ray_cluster start --name fox").bundles == [{"text/plain": "RayPanel(cluster)"}]
        outcome = process.run("cluster.source.publish(counted(7, running=0)); time.sleep(0.6)")
        assert outcome.of("comm_msg", "comm_open", "display_data") == []
        (final,) = process.run("%ray_cluster stop").of("update_display_data")
        assert set(final["content"]["data"]) == {"text/plain"}
        assert "7/7" in final["content"]["data"]["text/plain"]


def test_late_line_of_an_earlier_cells_task_goes_to_that_cell(kernel):
    kernel.run("%ray_cluster start --name fox")
    # The cell outlasts the slack that clocks are given; a task that began just before the next cell could be either's.
    first = kernel.begin("begun = time.time() * 1000; time.sleep(0.02)")
    kernel.wait(first)
    task = "Fact('task', 't', {'name': 'square', 'worker_pid': 7, 'started_ms': begun, 'state': 'RUNNING'})"
    log = "Fact('log', '1', {'source': 'out', 'pid': 7, 'name': '', 'line': 'late'})"
    outcome = kernel.run(f"cluster.source.publish({task}, {log}); time.sleep(0.6)")
    (line,) = outcome.of("stream")
    assert line["content"]["text"] == "(square pid=7) late\n"
    assert line["parent_header"]["msg_id"] == first
