"""Sidebar and panes in a real JupyterLab: clusters that others started, and buttons that work while a cell runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

import raybook as ray
from raybook.observe import find_cluster
from tests.browser.pace import assert_within, limit_ms
from tests.jupyter_process import REPOSITORY

SIDEBAR_GOAL_MS = 2_000
PICTURES = REPOSITORY / "test-results"
SLOW_MS = 90_000
PANES = ("overview", "actors", "objects", "nodes", "tune", "logs")
SAID = {"actors": "Counter", "logs": "hello from", "objects": "4.77 MiB"}
HOSTILE = "<img src=x onerror=console.error('escaped-not')>"


@pytest.fixture
def registry(jupyterlab) -> Iterator[None]:
    """Clusters of this process are those that JupyterLab sees."""
    before = os.environ.get("RAYBOOK_REGISTRY_DIR")
    os.environ["RAYBOOK_REGISTRY_DIR"] = str(jupyterlab.registry)
    yield
    ray.shutdown()
    del os.environ["RAYBOOK_REGISTRY_DIR"]
    if before is not None:
        os.environ["RAYBOOK_REGISTRY_DIR"] = before


def show_sidebar(lab) -> Locator:
    lab.page.locator(".jp-SideBar .lm-TabBar-tab[data-id='raybook-sidebar']").click()
    sidebar = lab.page.locator("#raybook-sidebar")
    expect(sidebar).to_be_visible(timeout=SLOW_MS)
    return sidebar


def open_pane(lab, name: str) -> Locator:
    lab.page.locator(f"#raybook-sidebar button[data-pane='{name}']").click()
    pane = lab.page.locator(f"#raybook-{name}-current .raybook-view")
    expect(pane).to_be_visible(timeout=SLOW_MS)
    return pane


def serve_gRPC(name: str) -> Any:
    end = time.monotonic() + 20
    while (record := find_cluster(name)) is None or not record.address:
        assert time.monotonic() < end, "The head serves no gRPC."
        time.sleep(0.05)
    return record


@ray.remote
def wait_for_ever() -> None:
    while True:
        time.sleep(0.01)


def test_sidebar_shows_a_cluster_of_another_process_within_two_seconds_and_a_pane_cancels_on_it(open_lab, registry):
    lab = open_lab("moving_panel.ipynb")
    sidebar = show_sidebar(lab)
    expect(sidebar.locator("li")).to_have_count(0)

    ray.init(num_cpus=2, name=HOSTILE)
    row = sidebar.locator("li", has_text=HOSTILE)
    started = time.monotonic()
    expect(row).to_be_visible(timeout=limit_ms(SIDEBAR_GOAL_MS))
    assert_within(
        "the sidebar's row after the cluster's start", (time.monotonic() - started) * 1_000, goal_ms=SIDEBAR_GOAL_MS
    )
    expect(row.locator("[data-fact='life']")).to_have_text("Ends with a script")

    serve_gRPC(HOSTILE)
    refs = [wait_for_ever.options(name=HOSTILE).remote() for _ in range(3)]
    pane = open_pane(lab, "tasks")
    expect(pane).to_contain_text(HOSTILE, timeout=SLOW_MS)
    assert lab.page.locator("img[src='x']").count() == 0
    lab.picture(PICTURES / "pane_tasks.png")

    pane.locator("[role='row'] button[data-command='cancel'], .rb-row button[data-command='cancel']").first.click()
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ray.wait(refs, timeout=60)[0][0])

    row.locator("button[data-command='stop']").click()
    lab.page.locator(".jp-Dialog button", has_text="Stop").click()
    expect(row).to_have_count(0, timeout=SLOW_MS)
    expect(sidebar.locator("[role='status']")).to_have_text("The cluster has ended.", timeout=SLOW_MS)
    expect(pane).to_contain_text("has ended", timeout=SLOW_MS)


def test_every_pane_opens_and_comes_back_with_the_layout(open_lab, registry):
    ray.init(num_cpus=2, name="heron")
    serve_gRPC("heron")

    class Counter:
        def add(self) -> int:
            print("hello from", HOSTILE)
            return 1

    counter = ray.remote(Counter).options(name=HOSTILE).remote()
    ray.get(counter.add.remote())
    held = ray.put(bytes(5_000_000))
    lab = open_lab("moving_panel.ipynb")
    show_sidebar(lab)
    for name in PANES:
        pane = open_pane(lab, name)
        if name in SAID:
            expect(pane).to_contain_text(SAID[name], timeout=SLOW_MS)
        lab.picture(PICTURES / f"pane_{name}_light.png")
    lab.use_theme("JupyterLab Dark")
    for name in PANES:
        lab.page.locator(f".lm-DockPanel-tabBar .lm-TabBar-tab[data-id='raybook-{name}-current']").click()
        expect(lab.page.locator(f"#raybook-{name}-current .raybook-view")).to_be_visible(timeout=SLOW_MS)
        lab.picture(PICTURES / f"pane_{name}_dark.png")

    # The page is opened anew: the panes are where they were, and live.
    lab.wait_until_layout_is_saved(*(f"raybook-panes:{name}-" for name in PANES))
    lab.reopen()
    for name in PANES:
        expect(lab.page.locator(f".lm-TabBar-tab[data-id='raybook-{name}-current']")).to_have_count(1, timeout=SLOW_MS)
    ray.get(counter.add.remote())
    lab.page.locator(".lm-TabBar-tab[data-id='raybook-overview-current']").click()
    expect(lab.page.locator("#raybook-overview-current")).to_contain_text("2 of 2 done", timeout=SLOW_MS)
    del held
