"""The notebook on the real runtime: start, work, watch, fail, hand over and stop, with nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kernel.kernel_process import KernelProcess

pytestmark = pytest.mark.slow

DEFINITIONS = """
import raybook as ray, time

@ray.remote
def square(x):
    time.sleep(0.1)
    print("squaring", x)
    return x * x

@ray.remote
def fails(x):
    return x / 0
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[KernelProcess]:
    # With plain widgets: what they say is in their messages as it is read; tests/kernel has the rich view's.
    with KernelProcess(tmp_path, RAYBOOK_RICH_VIEW="0") as process:
        yield process


def children_of(kernel: KernelProcess) -> list[psutil.Process]:
    return psutil.Process(kernel.pid).children(recursive=True)


def test_cluster_works_in_a_notebook_and_is_gone_after_stop(kernel):
    kernel.run(DEFINITIONS)
    started = kernel.run("%ray_cluster start --cpus 2 --name fox")
    assert started.error == ""
    assert [bundle["text/plain"] for bundle in started.bundles] == ["RayPanel(cluster)"]

    outcome = kernel.run("print(sum(ray.get([square.remote(n) for n in range(30)])))")

    assert "8555" in outcome.text
    texts = {str(m["content"]["data"]["state"]["value"]) for m in panel_updates(outcome)}
    assert len([text for text in texts if 'data-panel="tasks"' in text]) >= 3
    stopped = kernel.run("%ray_cluster stop")
    assert "Stopped fox." in stopped.text
    (final,) = [m["content"]["data"] for m in stopped.of("update_display_data")]
    assert "30 / 30" in final["text/html"]
    assert "30/30" in final["text/plain"]
    assert "No cluster is running" in kernel.run("%ray_cluster status").text
    _, alive = psutil.wait_procs(children_of(kernel), timeout=5)
    assert alive == []


def test_nodes_come_under_a_cell_with_the_reason_and_go_again(kernel):
    kernel.run(DEFINITIONS)
    started = kernel.run("%ray_cluster start --cpus 1 --name fox --autoscale 0:1 --node-cpus 2 --idle 1")
    assert started.error == ""
    outcome = kernel.run("print(sum(ray.get([square.remote(n) for n in range(40)])))")
    assert "20540" in outcome.text
    shown = "".join(str(m["content"]["data"]["state"]["value"]) for m in panel_updates(outcome))
    assert "node: 1 of 0 to 1" in shown
    assert "Adds 1 × node, because" in shown
    looks = (kernel.run("time.sleep(0.1)\n%ray_cluster status").text for _ in range(100))
    assert any("Remove" in text and "1 node" in text for text in looks)
    kernel.run("%ray_cluster stop")
    _, alive = psutil.wait_procs(children_of(kernel), timeout=5)
    assert alive == []


def test_every_worker_line_comes_once_with_its_task_and_process(kernel):
    kernel.run(DEFINITIONS)
    kernel.run("%ray_cluster start --cpus 2 --name fox")
    outcome = kernel.run("refs = [square.remote(n) for n in range(8)]; ray.get(refs); time.sleep(1)")
    lines = [line for line in outcome.text.splitlines() if "squaring" in line]
    assert sorted(int(line.split()[-1]) for line in lines) == list(range(8))
    assert all(line.startswith("(square pid=") for line in lines)


def test_error_of_a_task_shows_the_cells_lines(kernel):
    kernel.run(DEFINITIONS)
    kernel.run("%ray_cluster start --cpus 1 --name fox")
    outcome = kernel.run("ray.get(fails.remote(1))")
    (error,) = outcome.of("error")
    shown = "\n".join(error["content"]["traceback"])
    assert "Cell In[" in shown
    assert "return x / 0" in shown
    assert "interactiveshell" not in shown
    assert "raybook/" not in shown
    assert "8" in kernel.run("print(8)").text


def test_context_of_init_shows_the_live_panel_and_shutdown_makes_it_final(kernel):
    kernel.run(DEFINITIONS)
    shown = kernel.run("ray.init(num_cpus=1)")
    assert [bundle["text/plain"] for bundle in shown.bundles] == ["RayPanel(cluster)"]
    final = kernel.run("ray.get(square.remote(2)); ray.shutdown()").of("update_display_data")
    assert ["stopped" in message["content"]["data"]["text/plain"] for message in final] == [True]


def test_persistent_cluster_is_found_used_and_stopped_by_another_kernel(tmp_path):
    with KernelProcess(tmp_path) as first:
        assert first.run("%load_ext raybook").error == ""
        assert first.run("%ray_cluster start --cpus 1 --name keep --persist").error == ""
        left = first.run("import raybook; raybook.shutdown()").of("update_display_data")
        assert "left" in left[0]["content"]["data"]["text/plain"]
    with KernelProcess(tmp_path) as second:
        second.run(DEFINITIONS)
        assert "keep" in second.run("%ray_cluster status").text
        assert second.complete("%ray_cluster connect k") == ["keep"]
        assert second.run("%ray_cluster connect keep").error == ""
        assert "49" in second.run("print(ray.get(square.remote(7)))").text
        assert "Stopped keep." in second.run("%ray_cluster stop").text
        assert "No cluster is running" in second.run("%ray_cluster status").text


def test_cluster_of_several_nodes_is_scaled_watched_and_gone_with_its_kernel(kernel):
    kernel.run(DEFINITIONS)
    assert kernel.run("%ray_cluster start --nodes 2 --cpus 1 --name herd").error == ""
    shown = kernel.run("%ray_cluster nodes").text.splitlines()
    assert [line.split()[0] for line in shown[1:]][:1] == ["head"] and len(shown) == 3
    assert "49" in kernel.run("print(ray.get(square.remote(7)))").text
    assert "herd has 3 nodes." in kernel.run("%ray_cluster scale 3").text
    assert "herd has 1 node." in kernel.run("%ray_cluster scale 1").text
    assert "leaving" not in kernel.run("%ray_cluster nodes").text
    assert "64" in kernel.run("print(ray.get(square.remote(8)))").text
    # What panels show comes four times a second.
    told = (kernel.run("%ray_cluster status").text for _ in range(20))
    assert any("1 node," in text and "leaving" not in text for text in told)
    kernel.run("from raybook.observe import living_clusters")
    kernel.run("folder = living_clusters()[0].session_dir")
    assert "Stopped herd." in kernel.run("%ray_cluster stop").text
    assert "True" in kernel.run("import os; print(not os.path.exists(folder))").text
    refused = kernel.run("%ray_cluster start --cpus 1\n%ray_cluster scale 2")
    assert "was started for one node" in refused.error


def test_results_of_a_killed_kernel_are_there_for_the_next_one(tmp_path):
    with KernelProcess(tmp_path) as first:
        first.run(DEFINITIONS)
        started = first.run("%ray_cluster start --cpus 1 --name keep --persist")
        assert started.error == ""
        assert "Session('main', new, kept 24 h without a client)" in started.text
        first.run("ref = square.remote(6); ray.current_session().keep('answer', square.remote(7))")
        assert "36" in first.run("print(ray.get(ref))").text
        first.kill()
    with KernelProcess(tmp_path) as second:
        second.run(DEFINITIONS)
        connected = second.run("%ray_cluster connect keep --persist")
        assert connected.error == ""
        assert "Session('main', resumed" in connected.text
        assert "answer" in connected.text and "square" in connected.text
        second.run("session = ray.current_session()")
        assert "49" in second.run("print(ray.get(session.get('answer')))").text
        assert "[36]" in second.run("print([ray.get(session.get(r.id)) for r in session.list() if not r.name])").text
        assert "Did you mean --persist other?" in second.run("%ray_cluster connect keep other").error
        assert "Stopped keep." in second.run("%ray_cluster stop").text


def test_cluster_whose_head_is_killed_is_shown_as_lost_and_can_be_replaced(kernel):
    kernel.run(DEFINITIONS)
    kernel.run("%ray_cluster start --cpus 1 --name fox")
    kernel.run("from raybook.observe import living_clusters; import os, psutil")
    outcome = kernel.run("head = psutil.Process(living_clusters()[0].head_pid); head.kill(); _ = head.wait(5)")
    (final,) = outcome.of("update_display_data")
    assert "(lost)" in final["content"]["data"]["text/plain"]
    assert kernel.run("ray.get(square.remote(1))").of("error"), "A lost cluster must not be replaced unasked."
    assert kernel.run("%ray_cluster start --cpus 1 --name bear").error == ""
    assert "9" in kernel.run("print(ray.get(square.remote(3)))").text


def panel_updates(outcome):
    return [m for m in outcome.of("comm_msg") if "raybook-panel" in str(m["content"]["data"].get("state", {}))]
