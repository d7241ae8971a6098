"""One JupyterLab and one page of it for all tests, as new for each: opening Lab costs more than most tests do in it.

What a test leaves is undone after it, and that it is gone is asserted: documents and panes closed, theme and settings back,
kernels ended, no cluster alive, no record of one, the notebooks copied anew. A test that failed, or left what could not be
undone, costs the page, and in the second case the server too; the next one gets new ones. All behind a hub's prefix:
what works there works at "/", where the test of Notebook 7 is.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser, BrowserContext

from raybook.observe import living_clusters
from tests.browser.lab_page import LabPage
from tests.browser.notebook_files import WRITTEN, write_notebook
from tests.jupyter_process import REPOSITORY, JupyterProcess

VIEWPORT = {"width": 1280, "height": 860}
BASE_URL = "/user/alice/"
GONE_WITHIN_S = 60.0
POLL_S = 0.05


class SharedLab:
    def __init__(self, browser: Browser, home: Path) -> None:
        self._browser = browser
        self._home = home
        self._server: JupyterProcess | None = None
        self._context: BrowserContext | None = None
        self._page: LabPage | None = None
        self._servers_started = 0

    @property
    def server(self) -> JupyterProcess:
        """The running one; started where there is none."""
        if self._server is None:
            self._servers_started += 1
            home = self._home / f"server-{self._servers_started}"
            home.mkdir()
            server = JupyterProcess(home, app="lab", base_url=BASE_URL)
            copy_notebooks(server.notebooks)
            server.__enter__()
            self._server = server
        return self._server

    @property
    def page(self) -> LabPage:
        """The page, which may not show Lab yet."""
        if self._page is None:
            self._context = self._browser.new_context(viewport=VIEWPORT, device_scale_factor=1, reduced_motion="reduce")
            self._context.set_default_timeout(60_000)
            self._page = LabPage(self._context.new_page(), self.server)
        return self._page

    def reset(self, *, test_failed: bool) -> None:
        """Undo what a test left, or throw away what it left it in. Raises AssertionError naming what would not go."""
        try:
            if self._page is not None and (test_failed or not self._page.is_open):
                self._drop_page()
            if self._page is not None:
                self._page.clear()
            if self._server is not None:
                end_kernels(self._server)
                forget_clusters(self._server)
                copy_notebooks(self._server.notebooks)
            if self._page is not None:
                self._page.console_errors.clear()
        except Exception:
            self.stop()
            raise

    def stop(self) -> None:
        self._drop_page()
        if self._server is not None:
            self._server.__exit__(None, None, None)
            self._server = None

    def _drop_page(self) -> None:
        if self._context is not None:
            self._context.close()
        self._context = self._page = None


def copy_notebooks(folder: Path) -> None:
    """A copy of the checkout's, so that no run changes them, and an empty one under the name that tests write to. Every file
    is replaced in one step and none removed: a listing of Lab's that meets a file on its way out answers 404, and Lab
    says so over the page."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [*(REPOSITORY / "notebooks").glob("*.ipynb"), *(Path(__file__).parent / "notebooks").glob("*.ipynb")]
    for source in sources:
        fresh = folder / f".{source.name}"
        shutil.copy(source, fresh)
        fresh.replace(folder / source.name)
    write_notebook(folder, WRITTEN, [])
    shutil.rmtree(folder / ".ipynb_checkpoints", ignore_errors=True)
    assert {path.name for path in folder.iterdir()} == {WRITTEN, *(source.name for source in sources)}


def end_kernels(server: JupyterProcess) -> None:
    for kind in ("sessions", "kernels"):
        for running in ask(server, f"api/{kind}"):
            server.delete(f"api/{kind}/{running['id']}", token=server.token)
    wait_until_gone("kernels", lambda: ask(server, "api/kernels"))
    wait_until_gone("processes of kernels", lambda: [p.pid for p in server.children() if is_kernel(p)])


def forget_clusters(server: JupyterProcess) -> None:
    """Those of kernels end with them; records that a test wrote itself are its own."""
    wait_until_gone(
        "clusters", lambda: [r.name for r in living_clusters(server.registry) if r.head_pid != psutil.Process().pid]
    )
    shutil.rmtree(server.registry, ignore_errors=True)
    assert living_clusters(server.registry) == []


def ask(server: JupyterProcess, path: str) -> list:
    status, answer = server.get(path, token=server.token)
    assert status == 200, (path, status)
    return answer


def is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel_launcher" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(what: str, left) -> None:
    end = time.monotonic() + GONE_WITHIN_S
    while still := left():
        assert time.monotonic() < end, f"{what} that a test left are still there after {GONE_WITHIN_S} s: {still}"
        time.sleep(POLL_S)
