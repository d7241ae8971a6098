"""Is the Lab extension installed beside this server? A wheel made without Node.js has none; pip hides the warning."""

from __future__ import annotations

from logging import Logger
from pathlib import Path

from jupyter_core.paths import jupyter_path


def is_installed() -> bool:
    """Whether JupyterLab would find raybook's prebuilt extension on its paths. Cost: one stat for each path."""
    return any((Path(path) / "raybook" / "package.json").is_file() for path in jupyter_path("labextensions"))


def say_when_missing(log: Logger) -> None:
    if not is_installed():
        log.warning(
            "raybook: the JupyterLab toolbar chip is not installed here, because this raybook was installed without "
            "Node.js. Magics and panels work. For the chip: install Node.js 20.19 or newer, then reinstall raybook."
        )
