"""Storage: where a run's files lie, and how they come to be there whole.

Knows folders and renames; does not know what the files mean.
Invariants: a file or checkpoint folder is written aside and then renamed, so that a reader (or a run that resumes
after `kill -9`) sees either the old state or the new one, never a part. Not promised: survival of a power cut, which
would need an fsync of every file of every checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_ROOT = "~/raybook_results"
PARTIAL_PREFIX = ".partial-"


class StorageNotWritableError(OSError):
    """The storage path of a run cannot be written."""


def resolve_storage_root(storage_path: str | os.PathLike[str] | None) -> Path:
    """Return the absolute folder for storage_path. Raises ValueError for a URI scheme other than file."""
    text = os.fspath(storage_path) if storage_path is not None else DEFAULT_ROOT
    if text.startswith("file://"):
        text = text[len("file://") :]
    if "://" in text:
        scheme = text.split("://", 1)[0]
        raise ValueError(
            f"storage_path {text!r} is on {scheme!r} storage, which this version cannot write. "
            "Give a local folder, or one that all nodes share."
        )
    return Path(text).expanduser().absolute()


def prepare_run_folder(root: Path, name: str) -> Path:
    """Make the folder of a run and prove that it can be written. Raises StorageNotWritableError with the cause."""
    folder = root / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageNotWritableError(
            f"The run {name!r} cannot be stored under {str(root)!r}: {error.strerror or error}. "
            "Nothing was started. Set RunConfig(storage_path=...) to a folder you can write."
        ) from error
    return folder


def write_text_atomically(path: Path, text: str) -> None:
    """Replace path with text in one step. Cost: one write, one rename."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Replace path with data in one step. Cost: one write, one rename."""
    aside = path.with_name(f"{PARTIAL_PREFIX}{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    os.replace(aside, path)


def persist_folder(source: str | os.PathLike[str], target: Path) -> None:
    """Copy the folder source to target so that target appears whole or not at all.

    A target that exists already is replaced: it can only be the same checkpoint of an attempt that died before its
    report was consumed. Raises OSError as the copy does. Cost: one copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{PARTIAL_PREFIX}{target.name}-", dir=target.parent))
    try:
        shutil.copytree(source, aside, dirs_exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        os.rename(aside, target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def delete_folder(path: Path) -> None:
    """Delete a folder so that it vanishes at once: renamed aside first. A folder that is gone already is fine."""
    aside = path.with_name(f"{PARTIAL_PREFIX}{path.name}-deleted")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def to_json(value: Any) -> str:
    """Return value as strict JSON on one line: NaN and infinities as null, unknown objects as their repr."""
    return json.dumps(_plain(value), default=repr, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    return value
