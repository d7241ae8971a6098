"""Buttons while a cell runs, in a real JupyterLab: no kernel message takes part, so they work behind `[*]`."""

from __future__ import annotations

import re
import time
from typing import Any

import psutil
import pytest
from playwright.sync_api import expect

from raybook.observe import living_clusters
from tests.browser.shared_lab import copy_notebooks
from tests.jupyter_process import REPOSITORY, JupyterProcess

SLOW_MS = 90_000
GONE_WITHIN_S = 30.0


def cluster_of(jupyter: Any) -> Any:
    (record,) = living_clusters(jupyter.registry)
    return record


def run_until_it_waits(lab) -> None:
    lab.run_all()
    badge = lab.page.locator(".jp-CodeCell .raybook-gutter")
    expect(badge).to_have_text("▶2", timeout=SLOW_MS)
    expect(badge).to_have_attribute("title", "2 running, 2 waiting on the cluster")
    assert lab.page.locator(".jp-InputPrompt", has_text="[*]").count() == 1


@pytest.mark.timeout(300)
def test_cancel_keep_and_stop_work_while_the_cell_runs(open_lab, jupyterlab):
    lab = open_lab("endless.ipynb")
    lab.page.locator(".jp-SideBar .lm-TabBar-tab[data-id='raybook-sidebar']").click()
    run_until_it_waits(lab)
    row = lab.page.locator("#raybook-sidebar li", has_text="heron")
    expect(row.locator("[data-fact='life']")).to_have_text("Ends with endless.ipynb")
    lab.chip.click()
    lab.picture(lab.results / "chip_menu.png")
    lab.page.locator(".raybook-menu .lm-Menu-item", has_text="Keep it").click()
    expect(row.locator("[data-fact='life']")).to_have_text("Stays until it is stopped", timeout=SLOW_MS)
    assert lab.page.locator(".jp-InputPrompt", has_text="[*]").count() == 1

    lab.page.locator("#raybook-sidebar button[data-pane='tasks']").click()
    pane = lab.page.locator("#raybook-tasks-current .raybook-view")
    expect(pane).to_contain_text("step", timeout=SLOW_MS)
    pane.locator("button[data-command='cancel']").first.click()
    clicked = time.monotonic()
    expect(lab.page.locator(".jp-CodeCell .jp-OutputArea", has_text="TaskCancelledError")).to_be_visible(
        timeout=SLOW_MS
    )
    print(f"the cell ended {time.monotonic() - clicked:.2f} s after the click")
    assert lab.page.locator(".jp-InputPrompt", has_text="[*]").count() == 0
    expect(lab.page.locator(".raybook-gutter")).to_have_count(0, timeout=SLOW_MS)

    row.locator("button[data-command='stop']").click()
    lab.page.locator(".jp-Dialog button", has_text="Stop").click()
    expect(row).to_have_count(0, timeout=SLOW_MS)
    assert living_clusters(jupyterlab.registry) == []


@pytest.mark.timeout(300)
def test_a_kernel_that_is_restarted_in_the_middle_takes_its_cluster_along(open_lab, jupyterlab):
    lab = open_lab("endless.ipynb")
    run_until_it_waits(lab)
    record = cluster_of(jupyterlab)
    family = [psutil.Process(record.head_pid), *psutil.Process(record.head_pid).children(recursive=True)]

    status, kernels = jupyterlab.get("api/kernels", token=jupyterlab.token)
    assert jupyterlab.post(f"api/kernels/{kernels[0]['id']}/restart", token=jupyterlab.token)[0] == 200

    _, alive = psutil.wait_procs(family, timeout=GONE_WITHIN_S)
    assert alive == []
    expect(lab.chip).to_have_text("raybook: cluster ended", timeout=SLOW_MS)


@pytest.fixture
def notebook_7(tmp_path):
    """Notebook 7 over a copy of the notebooks, at "/" as most people have it."""
    copy_notebooks(tmp_path / "notebooks")
    with JupyterProcess(tmp_path, app="notebook") as process:
        yield process


NOTEBOOKS_OWN = "Cannot read properties of undefined (reading 'schema')"
"""Notebook 7.6 says so of its own settings, also without any extension."""
NUMBERS = re.compile(r"^raybook: 2 CPU")


@pytest.mark.timeout(300)
def test_notebook_7_has_the_chip_and_a_pane_beside_the_page(browser, notebook_7):
    jupyterlab = notebook_7
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{jupyterlab.url.removesuffix('tree')}notebooks/endless.ipynb?token={jupyterlab.token}")
    chip = page.locator(".raybook-chip")
    expect(chip).to_have_text("raybook: no cluster", timeout=SLOW_MS)

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
    expect(chip).to_have_text(NUMBERS, timeout=SLOW_MS)
    chip.click()
    page.locator(".raybook-menu .lm-Menu-item", has_text="Open tasks").click()
    pane = page.locator(".raybook-pane .raybook-view")
    expect(pane).to_contain_text("step", timeout=SLOW_MS)
    page.screenshot(path=REPOSITORY / "test-results" / "notebook7.png")
    context.close()
    assert [error for error in errors if NOTEBOOKS_OWN not in error] == []
