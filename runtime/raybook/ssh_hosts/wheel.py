"""Wheel: this very raybook as one file, so that other machines run the same code, whether it was released or is a checkout.

Packs the packages where Python finds them, with the metadata of the installation. Knows nothing of machines.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path

from raybook.base.version import VERSION

PACKAGES = ("raybook", "raybook_kernel", "raybook_widgets")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest moment a zip file can name: the same code makes the same bytes."""
_SKIPPED = frozenset({"__pycache__", "node_modules"})


def wheel_name() -> str:
    return f"raybook-{VERSION}-py3-none-any.whl"


def build_wheel(folder: Path) -> Path:
    """Write the wheel into a folder. FileNotFoundError when raybook is not installed, not even for development: then
    nobody knows what it needs. Cost: 0.2 s."""
    try:
        distribution = importlib.metadata.distribution("raybook")
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(
            "This raybook is not installed, so what it needs is not known: pip install -e . in its checkout."
        ) from None
    info = f"raybook-{VERSION}.dist-info"
    path = folder / wheel_name()
    record: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")

        for name, file in _files():
            add(name, file.read_bytes())
        for part in ("METADATA", "entry_points.txt"):
            add(f"{info}/{part}", (distribution.read_text(part) or "").encode())
        add(f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: raybook\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        record.append(f"{info}/RECORD,,")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", EPOCH), "\n".join(record) + "\n")
    return path


def _files() -> Iterator[tuple[str, Path]]:
    """(name in the wheel, file), in the order of their names. The notebook's packages are left out where they are not."""
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        for place in (found.submodule_search_locations or ()) if found is not None else ():
            root = Path(place)
            for file in sorted(root.rglob("*")):
                if file.is_file() and file.suffix != ".pyc" and not _SKIPPED & set(file.parts):
                    yield f"{package}/{file.relative_to(root).as_posix()}", file
