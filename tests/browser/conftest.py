"""Fixtures of the browser tests: a real JupyterLab, a real Chromium, and everything gone when the test ends.

Playwright downloads nothing: it drives the distribution's Chromium (`$CHROMIUM`, else the one on the path). A missing
browser is a failure that says which package to install, never a skip: a skipped browser test protects nobody.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.browser.lab_page import LabPage
from tests.jupyter_process import REPOSITORY, JupyterProcess

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
FAILED = pytest.StashKey[bool]()
# A busy machine takes seconds to draw what an idle one draws at once; what must be quick says so itself.
expect.set_options(timeout=20_000)
VIEWPORT = {"width": 1280, "height": 860}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.browser)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium or not Path(chromium).is_file():
        pytest.fail("No Chromium found. Install the package chromium, or set CHROMIUM to its path.", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Remember on the test whether its body failed: fixtures take a picture then."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
def jupyterlab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[JupyterProcess]:
    """A JupyterLab over a copy of the notebooks, so that no run changes the checkout. By indirect parametrization a test
    gives another base URL than "/", or options of ``JupyterProcess``."""
    if not (REPOSITORY / "labextension" / "raybook" / "package.json").is_file():
        pytest.fail("The Lab extension is not built. Run `make test`, or `jlpm build` in labextension/.", pytrace=False)
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for source in [*(REPOSITORY / "notebooks").glob("*.ipynb"), *(Path(__file__).parent / "notebooks").glob("*.ipynb")]:
        shutil.copy(source, notebooks)
    asked = getattr(request, "param", "/")
    options = {"app": "lab", **(asked if isinstance(asked, dict) else {"base_url": asked})}
    with JupyterProcess(tmp_path, notebooks=notebooks, **options) as process:
        yield process
        if request.node.stash.get(FAILED, False):
            print(f"JupyterLab's log:\n{process.log()[-4000:]}")


@pytest.fixture
def open_lab(
    browser: Browser, jupyterlab: JupyterProcess, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], LabPage]]:
    """`open_lab("x.ipynb")` opens a notebook in a fresh browser profile. Console errors fail the test at its end, and a
    failed test leaves a picture of the page in `test-results/`."""
    contexts: list[tuple[BrowserContext, LabPage]] = []

    def open_notebook(name: str) -> LabPage:
        context = browser.new_context(viewport=VIEWPORT, device_scale_factor=1)
        context.set_default_timeout(60_000)
        lab = LabPage(context.new_page(), jupyterlab)
        contexts.append((context, lab))
        lab.open(name)
        return lab

    yield open_notebook
    errors = [error for _, lab in contexts for error in lab.console_errors]
    for context, lab in contexts:
        if errors or request.node.stash.get(FAILED, False):
            lab.picture(REPOSITORY / "test-results" / f"{request.node.name}.png")
        context.close()
    assert not errors, "The browser's console shows errors:\n" + "\n".join(errors)
