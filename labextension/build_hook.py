"""Build hook: decides whether the front end is built, taken as it is, or left out of this wheel. The front end is the Lab
extension and `cell.js`, the view that an anywidget brings to other front ends.

Three cases, in this order:
1. `labextension/raybook/` was built from exactly these sources (a content hash says so): it is shipped as it is.
2. Node.js is here: it is built with the yarn that jupyter-builder carries, then shipped.
3. Neither: the wheel is made without it and says so. Kernel and magics need no Node.js, and panels are ipywidgets then;
   the toolbar chip is missing, and the server extension says that again when JupyterLab starts.

`RAYBOOK_LABEXTENSION=skip` leaves it out on purpose; `RAYBOOK_LABEXTENSION=require` turns case 3 into an error
(used by `make`). A build that starts and fails is always an error: half a front end is worse than none.

Knows nothing of what the extension does. Invariant: what is shipped was built from the sources beside it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("package.json", "yarn.lock", "tsconfig.json", ".yarnrc.yml", "build_cell.mjs", "src", "style", "schema")
HASH_FILE = "source-hash.txt"
# JupyterLab looks for a prebuilt extension under its npm name, and takes install.json as proof of who manages it.
CELL_VIEW = "widgets/raybook_widgets/static/cell.js"
INSTALLED_AT = "share/jupyter/labextensions/raybook"


def hash_of_sources(folder: Path) -> str:
    """SHA-256 over names and bytes of all sources. Modification times play no part: an sdist resets them."""
    digest = hashlib.sha256()
    for name in SOURCES:
        top = folder / name
        files = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for path in files:
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def has_usable_node() -> bool:
    """Whether the Node.js that a build would use is new enough for its bundler (rspack 2 asks for 20.19)."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        return False
    words = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v").split(".")
    return [int(word) for word in words[:2]] >= [20, 19]


def build(folder: Path) -> None:
    """Install the pinned npm packages and build for production. Raises RuntimeError with the log's tail."""
    environment = dict(os.environ)
    # `jlpm` and `jupyter-builder` live beside the interpreter that runs this hook, or in an isolated build's PATH.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["YARN_ENABLE_TELEMETRY"] = "0"
    for step in (["jlpm", "install", "--immutable"], ["jlpm", "run", "build:prod"]):
        program = shutil.which(step[0], path=environment["PATH"])
        if program is None:
            raise RuntimeError(f"raybook: `{step[0]}` is missing; it comes with the build requirement jupyter-builder.")
        done = subprocess.run(
            [program, *step[1:]],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"raybook: building the JupyterLab extension failed at `{' '.join(step)}` (exit {done.returncode}).\n"
                f"{done.stdout[-4000:]}\n"
                "Set RAYBOOK_LABEXTENSION=skip to install without the toolbar chip; everything else works without it."
            )


class LabExtensionHook(BuildHookInterface):
    """Adds the built extension to the wheel's shared data, building it first where that is needed and possible."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get("RAYBOOK_LABEXTENSION", "auto")
        if wish not in ("auto", "skip", "require"):
            raise RuntimeError(f"raybook: RAYBOOK_LABEXTENSION is {wish!r}; say auto, skip or require.")
        if wish == "skip":
            return
        folder = Path(self.root) / "labextension"
        built = folder / "raybook"
        hash_file = built / HASH_FILE
        wanted = hash_of_sources(folder)
        is_built = hash_file.is_file() and (Path(self.root) / CELL_VIEW).is_file()
        if not (is_built and hash_file.read_text().strip() == wanted):
            if not has_usable_node():
                message = (
                    "raybook: no Node.js 20.19 or newer was found, so the JupyterLab toolbar chip is left out of this "
                    "install. Kernel, magics and panels are complete. For the chip, install Node.js and install again."
                )
                if wish == "require":
                    raise RuntimeError(message)
                self.app.display_warning(message)
                # One that was built from other sources would be shipped by its mere presence.
                (Path(self.root) / CELL_VIEW).unlink(missing_ok=True)
                return
            shutil.rmtree(built, ignore_errors=True)
            build(folder)
            hash_file.write_text(wanted + "\n")
        if self.target_name == "wheel":
            build_data["shared_data"][str(built)] = INSTALLED_AT
            build_data["shared_data"][str(folder / "install.json")] = f"{INSTALLED_AT}/install.json"
