"""The quickstart as a person meets it: opened in JupyterLab, run, and watched.

With RAYBOOK_PICTURES=1 it also takes the README's pictures, in both themes, after the sweep.
"""

from __future__ import annotations

import os
import re

import pytest
from playwright.sync_api import expect

from tests.jupyter_process import REPOSITORY

RUN_TIMEOUT_MS = 150_000
# Kernel start, imports, cluster start and two polls of the chip.
CLUSTER_TIMEOUT_MS = 90_000
PICTURES = REPOSITORY / "docs" / "images"


@pytest.mark.timeout(300)
def test_quickstart_moves_a_panel_while_its_cells_run(open_lab):
    lab = open_lab("01_quickstart.ipynb")

    lab.watch_panels()
    lab.run_all()
    expect(lab.chip).to_have_text(re.compile(r"^raybook: \d+ CPU"), timeout=CLUSTER_TIMEOUT_MS)
    lab.wait_until_run(timeout_ms=RUN_TIMEOUT_MS)

    changes = {panel: len(texts) - 1 for panel, texts in lab.texts_seen_while_busy().items()}
    assert max(changes.values(), default=0) >= 3, f"changes of each panel's text while a prompt showed [*]: {changes}"

    if os.environ.get("RAYBOOK_PICTURES") == "1":
        for theme, name in (("JupyterLab Light", "quickstart.png"), ("JupyterLab Dark", "quickstart_dark.png")):
            lab.use_theme(theme)
            lab.picture(PICTURES / name, show=lab.panels.last)
