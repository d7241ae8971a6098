"""Fixtures of the browser tests: a real JupyterLab, a real Chromium, and what a test left gone when it ends.

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
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.lab_page import LabPage
from tests.browser.shared_lab import SharedLab
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
LAUNCH_TIMEOUT_MS = 180_000
FAILED = pytest.StashKey[bool]()
# A busy machine takes seconds to draw what an idle one draws at once; what must be quick says so itself.
expect.set_options(timeout=60_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.browser)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium or not Path(chromium).is_file():
        pytest.fail("No Chromium found. Install the package chromium, or set CHROMIUM to its path.", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=FLAGS, timeout=LAUNCH_TIMEOUT_MS
        )
        yield running
        running.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Remember on the test whether its body failed: fixtures take a picture then."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def shared_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    if not (REPOSITORY / "labextension" / "raybook" / "package.json").is_file():
        pytest.fail("The Lab extension is not built. Run `make test`, or `jlpm build` in labextension/.", pytrace=False)
    shared = SharedLab(browser, tmp_path_factory.mktemp("lab"))
    yield shared
    shared.stop()


@pytest.fixture
def jupyterlab(shared_lab: SharedLab, request: pytest.FixtureRequest) -> Iterator[JupyterProcess]:
    """A JupyterLab over a copy of the notebooks, without kernels and clusters, before and after."""
    server = shared_lab.server
    yield server
    failed = request.node.stash.get(FAILED, False)
    if failed:
        print(f"JupyterLab's log:\n{server.log()[-4000:]}")
    shared_lab.reset(test_failed=failed)


@pytest.fixture
def open_lab(
    shared_lab: SharedLab, jupyterlab: JupyterProcess, request: pytest.FixtureRequest
) -> Iterator[Callable[..., LabPage]]:
    """`open_lab("x.ipynb")` opens a notebook on the one page of all tests, `open_lab()` none. Console errors fail
    the test at its end, and a failed test leaves a picture of the page in `test-results/`."""

    def open_page(name: str | None = None) -> LabPage:
        if name is None:
            shared_lab.page.start()
        else:
            shared_lab.page.open(name)
        return shared_lab.page

    yield open_page
    lab = shared_lab.page
    errors = list(lab.console_errors)
    if errors or request.node.stash.get(FAILED, False):
        lab.picture(REPOSITORY / "test-results" / f"{request.node.name}.png")
    assert not errors, "The browser's console shows errors:\n" + "\n".join(errors)
