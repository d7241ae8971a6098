"""Views under cells in a real JupyterLab over a real cluster: they move, act and survive while the kernel is busy."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.browser.lab_page import LabPage
from tests.browser.notebook_files import WRITTEN, write_notebook
from tests.browser.pace import assert_within
from tests.browser.shared_lab import end_kernels
from tests.jupyter_process import REPOSITORY

START = "import time\nimport raybook as ray\nray.init(num_cpus=2)"
SLOW = """
@ray.remote
def slow(n):
    time.sleep(0.25)
    return n
"""
WORK = SLOW + "total = sum(ray.get([slow.remote(n) for n in range({count})]))\ntotal"
CLUSTER_TIMEOUT_MS = 90_000
# Presses the button and resolves with the milliseconds until no prompt shows [*] any more, as the page itself sees it.
PRESS_AND_WAIT = """
button => new Promise(resolve => {
  const prompts = () => [...document.querySelectorAll('.jp-NotebookPanel .jp-InputPrompt')];
  const pressed = performance.now();
  const look = () => {
    if (!prompts().some(prompt => prompt.textContent.includes('[*]'))) {
      watcher.disconnect();
      resolve(performance.now() - pressed);
    }
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document.body, { childList: true, characterData: true, subtree: true });
  button.click();
})
"""
PICTURES = REPOSITORY / "test-results"


def view(lab: LabPage, panel: str):
    """The live view's section, drawn by the core over the server: not the plain HTML that the file keeps."""
    return lab.page.locator(f".jp-NotebookPanel .raybook-cell-view .raybook-panel[data-panel='{panel}']")


def prompt(lab: LabPage, index: int):
    return lab.page.locator(".jp-NotebookPanel .jp-CodeCell .jp-InputPrompt").nth(index)


def run_until_busy(lab: LabPage, index: int = 1) -> None:
    lab.run_all()
    expect(prompt(lab, index)).to_have_text("[*]:", timeout=CLUSTER_TIMEOUT_MS)
    expect(view(lab, "tasks")).to_contain_text("slow", timeout=CLUSTER_TIMEOUT_MS)


@pytest.fixture
def notebook(jupyterlab):
    """Write a notebook whose first cell starts a cluster."""

    def write(*cells: str) -> str:
        write_notebook(jupyterlab.notebooks, WRITTEN, [START, *cells])
        return WRITTEN

    return write


@pytest.mark.parametrize("comms", ["perCommTarget", "disabled"])
def test_view_moves_and_cancel_ends_the_cell_while_the_kernel_is_busy(open_lab, jupyterlab, notebook, comms):
    lab = open_lab()
    lab.set_setting("@jupyterlab/apputils-extension:kernels-settings", {"commsOverSubshells": comms})
    assert lab.page.evaluate("() => window.jupyterapp.serviceManager.kernels.commsOverSubshells") == comms
    lab.open(notebook(WORK.format(count=400)))
    run_until_busy(lab)

    seen = {view(lab, "tasks").inner_text()}
    deadline = time.monotonic() + 40
    while len(seen) < 4 and time.monotonic() < deadline:
        expect(prompt(lab, 1)).to_have_text("[*]:")
        seen.add(view(lab, "tasks").inner_text())
        lab.page.wait_for_timeout(100)
    assert len(seen) >= 4, seen

    until_end_ms = view(lab, "tasks").locator("[data-command=cancel]").evaluate(PRESS_AND_WAIT)
    expect(lab.page.locator(".raybook-cell-view [role=status]")).to_contain_text("Cancelled", timeout=60_000)
    assert_within("the cell's end after the click on Cancel", until_end_ms, goal_ms=1_000)
    expect(
        lab.page.locator(".jp-NotebookPanel .jp-OutputArea-output", has_text="TaskCancelledError").first
    ).to_be_visible()
    expect(view(lab, "tasks")).to_contain_text("cancelled")


def test_page_loaded_anew_during_the_run_goes_on_and_can_still_cancel(open_lab, jupyterlab, notebook):
    lab = open_lab(notebook(WORK.format(count=1_000)))
    run_until_busy(lab)
    lab.page.keyboard.press("Control+s")
    expect(lab.page.locator(".jp-mod-dirty")).to_have_count(0)

    lab.load(WRITTEN)
    expect(view(lab, "tasks")).to_contain_text("running", timeout=60_000)
    first = view(lab, "tasks").inner_text()
    expect(view(lab, "tasks")).not_to_have_text(first)

    view(lab, "tasks").locator("[data-command=cancel]").click()
    expect(view(lab, "tasks")).to_contain_text("cancelled")
    expect(view(lab, "tasks")).to_contain_text("1,000 of 1,000 done")


def test_view_far_out_of_sight_is_right_when_it_comes_back(open_lab, jupyterlab, notebook):
    lab = open_lab()
    lab.set_setting("@jupyterlab/notebook-extension:tracker", {"windowingMode": "full"})
    filler = "\n".join(f"# line {n}" for n in range(60))
    lab.open(notebook(WORK.format(count=60), *[filler] * 8))
    run_until_busy(lab)

    scroller = lab.page.locator(".jp-NotebookPanel .jp-WindowedPanel-outer")
    scroller.evaluate("element => { element.scrollTop = element.scrollHeight; }")
    expect(view(lab, "tasks")).not_to_be_in_viewport()
    lab.wait_until_run(timeout_ms=90_000)
    scroller.evaluate("element => { element.scrollTop = 0; }")

    expect(view(lab, "tasks")).to_be_in_viewport(timeout=60_000)
    expect(view(lab, "tasks")).to_contain_text("60 of 60 done", timeout=60_000)


def test_saved_notebook_without_its_cluster_shows_the_last_state(open_lab, jupyterlab, notebook):
    lab = open_lab(notebook(WORK.format(count=8), "%ray_cluster stop"))
    lab.run_all()
    lab.wait_until_run(timeout_ms=90_000)
    saved = lab.page.locator(".jp-NotebookPanel .raybook-card").first
    expect(saved).to_contain_text("8 / 8", timeout=60_000)
    lab.page.keyboard.press("Control+s")
    expect(lab.page.locator(".jp-mod-dirty")).to_have_count(0)
    end_kernels(jupyterlab)

    lab.load(WRITTEN)
    card = lab.page.locator(".jp-NotebookPanel .raybook-card").first
    expect(card).to_contain_text("stopped", timeout=60_000)
    expect(card).to_contain_text("8 / 8")
    assert "Error displaying widget" not in lab.page.locator(".jp-NotebookPanel").inner_text()


SCORER = """
@ray.remote(num_cpus=0)
class Scorer:
    def score(self):
        return {value}
"""
USE_SCORER = "scorer = Scorer.remote()\nray.get(scorer.score.remote())"
BARS = """
from raybook.experimental.tqdm_ray import tqdm
@ray.remote
def load(part):
    return sum(tqdm(range(100), desc=f"part {part}"))
ray.get([load.remote(part) for part in range(2)])
"""


def test_old_code_and_progress_bars_are_shown_and_views_and_chip_wear_both_themes(open_lab, notebook):
    edited = (SCORER.format(value=1) + USE_SCORER, SCORER.format(value=2))
    lab = open_lab(notebook(WORK.format(count=16), *edited, BARS))
    lab.run_all()
    lab.wait_until_run(timeout_ms=90_000)
    expect(view(lab, "tasks").first).to_contain_text("19 of 19 done")
    for part in range(2):
        row = view(lab, "tasks").first.locator(f"[title='part {part}']")
        expect(row).to_have_count(1)
    expect(view(lab, "tasks").first).to_contain_text("100 / 100")
    badge = view(lab, "actors").first.locator(".rb-badge")
    expect(badge).to_have_text("old code")
    assert "runs v1 of `Scorer`" in (badge.get_attribute("title") or "")
    card = lab.page.locator(".raybook-cell-view").first
    colours = []
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab.use_theme(theme)
        colours.append(card.evaluate("card => [getComputedStyle(card).color, getComputedStyle(card).backgroundColor]"))
        colours[-1].append(lab.chip.evaluate("chip => getComputedStyle(chip).color"))
        lab.picture(PICTURES / f"cell_view_{theme[-5:].strip().lower()}.png", show=card)
    assert colours[0][0] != colours[1][0]
    assert colours[0][1] != colours[1][1]
    assert colours[0][2] != colours[1][2]


WATCH_FRAMES = """
() => {
  const gaps = (window.__frameGaps = []);
  let last = performance.now();
  const frame = now => {
    gaps.push(now - last);
    last = now;
    if (window.__frameGaps === gaps) {
      requestAnimationFrame(frame);
    }
  };
  requestAnimationFrame(frame);
}
"""
MANY = """
@ray.remote
def quick(n):
    return n
started = time.monotonic()
for _ in range(20):
    ray.get([quick.remote(n) for n in range(500)])
    time.sleep(max(0.0, 0.4 - (time.monotonic() - started) % 0.4))
"""


def test_ten_thousand_tasks_leave_the_page_usable(open_lab, notebook):
    lab = open_lab(notebook(MANY))
    lab.run_all()
    expect(view(lab, "tasks")).to_contain_text("quick", timeout=CLUSTER_TIMEOUT_MS)
    lab.page.evaluate(WATCH_FRAMES)
    lab.wait_until_run(timeout_ms=90_000)
    gaps = sorted(lab.page.evaluate("() => window.__frameGaps"))
    gap_ms = gaps[int(0.95 * len(gaps))]

    expect(view(lab, "tasks")).to_contain_text("10,000 of 10,000 done")
    assert_within(f"95th percentile of {len(gaps)} frame gaps (longest {gaps[-1]:.0f} ms)", gap_ms, goal_ms=200)
