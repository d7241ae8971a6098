"""A JupyterLab page as the tests speak of it: open, run all, prompts, panels, the chip, themes, pictures.

Knows JupyterLab's DOM, so that the tests need not. Every wait is for something that can be seen on the page.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from tests.jupyter_process import REPOSITORY, JupyterProcess

# Errors of JupyterLab itself that have nothing to do with raybook, each with its reason.
NOT_OURS = (
    # Lab asks for a dialog's or workspace's saved state before there is one; the 404 is its answer.
    "/lab/api/workspaces/",
)
# What JupyterLab's own promises end with when a document is closed while its session starts or it is being saved.
UNCAUGHT_NOT_OURS = ("Disposed",)
OPEN_TIMEOUT_MS = 120_000
"""JupyterLab's own start, on a machine that does other things too."""
LIGHT = "JupyterLab Light"
# Lab hands its services to plugins only; the registry of settings is found by its token's name.
WRITE_SETTING = """
async ([plugin, raw]) => {
  const plugins = window.jupyterapp.pluginRegistry;
  const token = [...plugins._services.keys()].find(token => token.name === '@jupyterlab/coreutils:ISettingRegistry');
  const registry = await plugins.resolveRequiredService(token);
  await registry.upload(plugin, raw);
}
"""
# Collects, panel by panel, every text shown while a cell's prompt was [*]. Runs in the page, because a watcher outside
# it sees only what is there at the moment it looks. A panel is known by its kind and its place among its kind: its
# element is replaced on every update.
NUMBERED = re.compile(r"\[\d+\]")
WATCH_PANELS = """
() => {
  const seen = (window.__raybookSeen = {});
  const look = () => {
    const busy = [...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.textContent.includes('[*]'));
    const places = {};
    for (const panel of busy ? document.querySelectorAll('.jp-NotebookPanel .raybook-panel') : []) {
      const kind = panel.dataset.panel || 'panel';
      places[kind] = (places[kind] || 0) + 1;
      const texts = (seen[`${kind} ${places[kind]}`] ||= []);
      const text = panel.innerText.trim();
      if (text && texts[texts.length - 1] !== text) {
        texts.push(text);
      }
    }
  };
  // Looks at most 20 times a second, and always after the last change: reading what is shown makes the page lay itself out.
  let next = 0;
  const soon = () => {
    next ||= setTimeout(() => {
      next = 0;
      look();
    }, 50);
  };
  window.__raybookWatcher = new MutationObserver(soon);
  window.__raybookWatcher.observe(document.body, { childList: true, characterData: true, subtree: true });
  look();
}
"""
OPEN_DOCUMENT = """
async path => {
  const widget = await window.jupyterapp.commands.execute('docmanager:open', { path });
  window.jupyterapp.shell.activateById(widget.id);
}
"""
STOP_WATCHING = """
() => {
  window.__raybookWatcher?.disconnect();
  delete window.__raybookSeen;
  delete window.__frameGaps;
}
"""


class LabPage:
    def __init__(self, page: Page, jupyter: JupyterProcess) -> None:
        self.page = page
        self.console_errors: list[str] = []
        self.server = jupyter
        self._settings_changed: set[str] = set()
        self.results = REPOSITORY / "test-results"
        page.on("console", self._keep_error)
        page.on("pageerror", self._keep_uncaught)

    @property
    def is_open(self) -> bool:
        """Whether the page shows a JupyterLab that listens to its menus."""
        return not self.page.is_closed() and bool(self.page.evaluate("() => Boolean(window.jupyterapp)"))

    def start(self) -> None:
        """Load Lab with nothing open, unless it is there. `reset` forgets the layout there was."""
        if not self.is_open:
            self.page.goto(f"{self.server.url}lab?token={self.server.token}&reset")
            expect(self.page.locator("#jp-main-statusbar")).to_be_visible(timeout=OPEN_TIMEOUT_MS)
            self.page.evaluate("() => window.jupyterapp.restored.then(() => null)")

    def open(self, notebook: str) -> None:
        """Show a notebook, in the Lab that is open or in a new one, and wait until its kernel is idle."""
        self.start()
        self.page.evaluate(OPEN_DOCUMENT, notebook)
        self.wait_until_ready()

    def load(self, notebook: str) -> None:
        """Load the page anew, with a notebook and nothing else. Its kernel may be busy."""
        self.page.goto(f"{self.server.url}lab/tree/{notebook}?token={self.server.token}&reset")
        expect(self.page.locator(".jp-NotebookPanel .jp-Cell").first).to_be_visible(timeout=OPEN_TIMEOUT_MS)

    def wait_until_ready(self) -> None:
        expect(self.page.locator(".jp-NotebookPanel .jp-Cell").first).to_be_visible(timeout=OPEN_TIMEOUT_MS)
        # The status bar, and not the toolbar's circle: the circle shows "idle" before there is a connection, and cells
        # run then are lost when it is made.
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=OPEN_TIMEOUT_MS)

    def reopen(self) -> None:
        """Load the page anew, as it was left."""
        self.page.goto(f"{self.server.url}lab?token={self.server.token}")
        expect(self.page.locator("#jp-main-statusbar")).to_be_visible(timeout=OPEN_TIMEOUT_MS)

    def wait_until_layout_is_saved(self, *ids: str) -> None:
        """Until the layout that the server keeps names these widgets. Lab writes it a moment after a change."""
        end = time.monotonic() + OPEN_TIMEOUT_MS / 1_000
        while not all(name in self._saved_layout() for name in ids):
            assert time.monotonic() < end, f"not saved: {ids}"
            self.page.wait_for_timeout(100)

    def set_setting(self, plugin: str, values: dict[str, Any]) -> None:
        """As the settings editor writes it, in the Lab that is open. `clear` takes it back."""
        self._settings_changed.add(plugin)
        self.page.evaluate(WRITE_SETTING, [plugin, json.dumps(values)])

    def close_documents(self) -> None:
        """Documents, panes and launcher go, nothing is saved and nothing asked."""
        self.page.evaluate("() => [...window.jupyterapp.shell.widgets('main')].forEach(widget => widget.dispose())")

    def clear(self) -> None:
        """As Lab was when it was opened: asserted."""
        self.close_documents()
        for plugin in sorted(self._settings_changed):
            self.page.evaluate(WRITE_SETTING, [plugin, "{}"])
        self._settings_changed.clear()
        if self.theme != LIGHT:
            self.use_theme(LIGHT)
        self.page.evaluate("() => window.jupyterapp.shell.activateById('filebrowser')")
        self.page.evaluate(STOP_WATCHING)
        expect(self.page.locator(".jp-NotebookPanel, .raybook-pane")).to_have_count(0)
        expect(self.page.locator(".jp-Dialog, .lm-Menu")).to_have_count(0)
        expect(self.page.locator("#filebrowser")).to_be_visible()

    @property
    def chip(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel-toolbar .raybook-chip")

    @property
    def panels(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel .raybook-panel")

    def run_all(self) -> None:
        """Run every cell through Lab's own command, as the menu does. Returns at once."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()

    def watch_panels(self) -> None:
        """From now on remember the panels' texts while any prompt shows [*]."""
        self.page.evaluate(WATCH_PANELS)

    def texts_seen_while_busy(self) -> dict[str, list[str]]:
        """Panel ("tasks 1") to the different texts it showed, in order."""
        return self.page.evaluate("() => window.__raybookSeen")

    def wait_until_run(self, timeout_ms: float) -> None:
        """Until every code cell has its number. Fails with the error's text when a cell ended in one."""
        prompts = self.page.locator(".jp-NotebookPanel .jp-CodeCell .jp-InputPrompt")
        finished = self.page.locator(".jp-NotebookPanel .jp-CodeCell .jp-InputPrompt", has_text=NUMBERED)
        expect(finished).to_have_count(prompts.count(), timeout=timeout_ms)
        errors = self.page.locator(
            ".jp-NotebookPanel .jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
        )
        assert errors.count() == 0, errors.first.inner_text()

    def use_theme(self, name: str) -> None:
        """Change the theme through the Settings menu and wait until the page wears it."""
        if self.theme == name:
            return
        self.page.get_by_role("menuitem", name="Settings", exact=True).click()
        self.page.locator(".lm-Menu-item", has_text="Theme").first.hover()
        self.page.locator(".lm-Menu-item[data-command='apputils:change-theme']", has_text=name).first.click()
        expect(self.page.locator(f"body[data-jp-theme-name='{name}']")).to_be_attached(timeout=OPEN_TIMEOUT_MS)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0, timeout=OPEN_TIMEOUT_MS)

    @property
    def theme(self) -> str:
        return self.page.locator("body").get_attribute("data-jp-theme-name") or ""

    def picture(self, path: Path, *, show: Locator | None = None) -> None:
        """Save the page as it is, after scrolling `show` into view."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if show is not None:
            show.scroll_into_view_if_needed()
        self.page.screenshot(path=path)

    def _saved_layout(self) -> str:
        return str(self.server.get("lab/api/workspaces/default", token=self.server.token)[1])

    def _keep_uncaught(self, error: Exception) -> None:
        if str(error) not in UNCAUGHT_NOT_OURS:
            self.console_errors.append(f"uncaught: {error}")

    def _keep_error(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        if message.type == "error" and not any(mark in where or mark in message.text for mark in NOT_OURS):
            self.console_errors.append(f"{message.text} ({where})")
