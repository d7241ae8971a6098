"""Wheels: what is installed here as files that an installer without a network can install elsewhere."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

from packaging.requirements import Requirement


def repack_needed(name: str, folder: Path) -> None:
    """Write a wheel for everything that a distribution needs, itself left out."""
    folder.mkdir()
    seen = {name: True}
    queue = [name]
    while queue:
        for text in importlib.metadata.requires(queue.pop()) or ():
            requirement = Requirement(text)
            if requirement.name.lower() in seen or (
                requirement.marker and not requirement.marker.evaluate({"extra": ""})
            ):
                continue
            seen[requirement.name.lower()] = True
            queue.append(requirement.name)
            _repack(importlib.metadata.distribution(requirement.name), folder)


def _repack(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    stem = f"{distribution.name.replace('-', '_')}-{distribution.version}"
    tags = [line.split()[1] for line in (distribution.read_text("WHEEL") or "").splitlines() if line.startswith("Tag:")]
    with zipfile.ZipFile(folder / f"{stem}-{tags[0]}.whl", "w") as archive:
        for file in distribution.files or ():
            # Commands outside of the packages, and compiled files, are made anew by whoever installs.
            if (
                ".." not in file.parts
                and file.suffix != ".pyc"
                and file.name not in ("INSTALLER", "REQUESTED", "RECORD")
            ):
                archive.write(file.locate(), str(file))
        record = next(str(file) for file in distribution.files or () if file.name == "RECORD")
        archive.writestr(record, "")
