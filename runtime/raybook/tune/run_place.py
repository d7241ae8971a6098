"""Run place: the folder of one run, on this machine's files or on other storage.

A sweep writes many small files, and appends to some, which object stores cannot. So a run on other storage has a folder
here, into which everybody writes as ever, and what has changed in it is copied to the storage: every few seconds while
the sweep goes on, and at its end. Checkpoints do not pass through here: trials' processes write them to the storage
themselves, by Train's `StorageContext`, and they appear whole.
Invariant: what is on the storage is never newer than the checkpoints that it names.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from raybook.ml import filesystem as files
from raybook.ml.storage import DEFAULT_ROOT, prepare_run_folder, resolve_storage_root
from raybook.train.storage import StorageContext
from raybook.tune.core.trial_table import TrialTable
from raybook.tune.observer import SweepObserver

CHECKPOINT_PREFIX = "checkpoint_"
PUSH_INTERVAL_S = 5.0
# Copying may take this share of the time at most.
PUSH_SHARE = 0.1


class RunPlace:
    """One run's folder. storage: where it lies if that is not this machine's files, else None. folder: where to write."""

    def __init__(self, folder: Path, storage: StorageContext | None = None) -> None:
        self.folder = folder
        self.storage = storage
        self._pushed: dict[str, tuple[int, int]] = {}

    @classmethod
    def at(cls, path: str | os.PathLike[str], filesystem: Any | None = None) -> RunPlace:
        """Return the place of the run at path; nothing is made or read. filesystem: of pyarrow or fsspec, for a path
        without a scheme. Raises ValueError for storage that nothing installed can open."""
        found, inner = files.resolve(path, filesystem)
        if found is None:
            return cls(resolve_storage_root(inner))
        parent, name = posixpath.split(inner.rstrip("/"))
        storage = StorageContext(parent, name, found)
        return cls(Path(tempfile.gettempdir()) / f"raybook_sweep_{secrets.token_hex(6)}" / name, storage)

    @classmethod
    def of(cls, root: str | os.PathLike[str] | None, name: str, filesystem: Any | None = None) -> RunPlace:
        """Return the place of the run called name under root."""
        return cls.at(f"{os.fspath(root or DEFAULT_ROOT).rstrip('/')}/{name}", filesystem)

    @property
    def path(self) -> str:
        """Where the run lies: a path on `filesystem`."""
        return str(self.folder) if self.storage is None else self.storage.experiment_fs_path

    @property
    def root(self) -> str:
        """The folder that the run's folder lies in."""
        return str(self.folder.parent) if self.storage is None else self.storage.storage_fs_path

    @property
    def filesystem(self) -> Any | None:
        """The filesystem that the run lies on, None for this machine's files."""
        return None if self.storage is None else self.storage.storage_filesystem

    def prepare(self) -> None:
        """Make the folder and prove that it can be written. Raises StorageNotWritableError with the cause."""
        if self.storage is not None:
            self.storage.prepare()
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            prepare_run_folder(self.folder.parent, self.folder.name)

    def has(self, name: str) -> bool:
        """Ask whether the run's folder has a file or folder of this name."""
        return files.exists(self.filesystem, posixpath.join(self.path, name))

    def names(self) -> set[str]:
        """Return what is in the run's folder on the storage; empty for this machine's files, where a look is cheap."""
        return set() if self.storage is None else set(files.names_in(self.filesystem, self.path))

    def pull(self) -> None:
        """Fetch the run's files, but for its checkpoints, into the folder here. Does nothing if they are here."""
        if self.storage is None:
            return
        import pyarrow.fs

        found = self.storage.storage_filesystem
        below = pyarrow.fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        for info in found.get_file_info(below):
            inner = posixpath.relpath(info.path.lstrip("/"), self.path.strip("/"))
            if info.type != pyarrow.fs.FileType.File or any(
                part.startswith((CHECKPOINT_PREFIX, files.PARTIAL_PREFIX)) for part in inner.split("/")
            ):
                continue
            file = self.folder / inner
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(files.read_bytes(found, info.path))
            self._pushed[inner] = _mark(file)

    def push(self) -> None:
        """Copy what has changed here to the storage, each file whole. Cost: a look at every file, a write for each new one.

        Files are taken in an order that keeps the invariant: trials' reports first, the run's state last.
        """
        if self.storage is None:
            return
        found = self.storage.storage_filesystem
        changed = [
            (len(file.relative_to(self.folder).parts), str(file.relative_to(self.folder)), file)
            for file in self.folder.rglob("*")
            if file.is_file() and not file.name.startswith(files.PARTIAL_PREFIX)
        ]
        for _, inner, file in sorted(changed, reverse=True):
            try:
                mark = _mark(file)
                if self._pushed.get(inner) == mark:
                    continue
                data = file.read_bytes()
            except FileNotFoundError:
                continue  # The user's own, deleted meanwhile.
            target = posixpath.join(self.path, inner)
            files.make_folder(found, posixpath.dirname(target))
            files.write_bytes(found, target, data)
            self._pushed[inner] = mark

    def discard(self) -> None:
        """Delete the folder here, if the run lies elsewhere."""
        if self.storage is not None:
            shutil.rmtree(self.folder.parent, ignore_errors=True)


class PlaceKeeper(SweepObserver):
    """Keeps a place's storage up to date while a sweep runs. The last of the observers: it copies what they wrote."""

    def __init__(self, place: RunPlace) -> None:
        self._place = place
        self._next_s = 0.0

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        started_s = time.monotonic()
        if started_s >= self._next_s:
            self._place.push()
            ended_s = time.monotonic()
            self._next_s = ended_s + max(PUSH_INTERVAL_S, (ended_s - started_s) / PUSH_SHARE)

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        self._place.push()


def _mark(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size
