"""Storage of a run: where its folder is, and how a checkpoint gets into it whole.

Knows paths and the order of writes; does not know metrics or which checkpoints are kept.
Invariant: a checkpoint that several ranks write appears under its name once all have written it: they write into a
folder aside, and the controller renames it. On object stores, which cannot rename folders, they write to the name itself
and the run's record of checkpoints says which are whole.
"""

from __future__ import annotations

import os
import posixpath
from datetime import datetime
from typing import TYPE_CHECKING, Any

from raybook.ml import filesystem as files
from raybook.ml.checkpoint import Checkpoint
from raybook.ml.storage import StorageNotWritableError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

MARKER_FILE = ".validate_storage_marker"
RECORD_FILE = "checkpoint_manager_snapshot.json"
"""Ray's names: a folder can be recognised by either's tools, though the record's content differs."""


class StorageContext:
    """The folder of one run. Travels to the workers; `get_context().get_storage()` returns it."""

    def __init__(
        self,
        storage_path: str | os.PathLike[str],
        experiment_dir_name: str,
        storage_filesystem: Any | None = None,
        read_only: bool = False,
    ) -> None:
        """No file is touched: `prepare` does. Raises ValueError for storage that nothing installed can open."""
        self._filesystem, path = files.resolve(storage_path, storage_filesystem)
        if self._filesystem is None:
            path = os.path.abspath(os.path.expanduser(path))
        self.storage_fs_path = path.rstrip("/") or "/"
        self.experiment_dir_name = experiment_dir_name
        self.read_only = read_only

    @property
    def storage_filesystem(self) -> FileSystem:
        """The pyarrow filesystem of the run's folder. Imports pyarrow."""
        return Checkpoint(self.storage_fs_path, self._filesystem).filesystem

    @property
    def experiment_fs_path(self) -> str:
        """The run's folder, a path on `storage_filesystem`."""
        return posixpath.join(self.storage_fs_path, self.experiment_dir_name)

    @property
    def checkpoint_manager_snapshot_path(self) -> str:
        """The file that records which checkpoints there are."""
        return posixpath.join(self.experiment_fs_path, RECORD_FILE)

    def prepare(self) -> None:
        """Make the folder and prove that it can be written. Raises StorageNotWritableError with the cause."""
        try:
            files.make_folder(self._filesystem, self.experiment_fs_path)
            files.write_bytes(self._filesystem, posixpath.join(self.experiment_fs_path, MARKER_FILE), b"")
        except OSError as error:
            raise StorageNotWritableError(
                f"The run {self.experiment_dir_name!r} cannot be stored under {self.storage_fs_path!r}: "
                f"{error.strerror or error}. Nothing was started. Set RunConfig(storage_path=...) to a place you can "
                "write."
            ) from error

    def check_reachable(self) -> None:
        """Raise RuntimeError if this process, on a worker's node, does not see the folder that the driver made."""
        if not files.exists(self._filesystem, posixpath.join(self.experiment_fs_path, MARKER_FILE)):
            raise RuntimeError(
                f"This worker does not see the run's folder {self.experiment_fs_path!r}, which the driver made: the "
                "checkpoint was not saved. With workers on several nodes, RunConfig(storage_path) must be storage that "
                "all nodes reach, such as 's3://bucket' or a folder on NFS."
            )

    def make_default_checkpoint_dir_name(self) -> str:
        """Return a name for a checkpoint's folder, made from the time. Ray's form."""
        return f"checkpoint_{datetime.now():%Y-%m-%d_%H-%M-%S.%f}"

    def build_checkpoint_path_from_name(self, checkpoint_name: str) -> str:
        """Return where a checkpoint of this name lies."""
        return posixpath.join(self.experiment_fs_path, checkpoint_name)

    def extract_checkpoint_dir_name_from_path(self, checkpoint_path: str) -> str:
        """Return the name of the checkpoint that lies at a path. Raises ValueError for a path elsewhere."""
        prefix = self.experiment_fs_path + "/"
        if not checkpoint_path.startswith(prefix):
            raise ValueError(
                f"Checkpoint path {checkpoint_path} is not under the experiment directory {self.experiment_fs_path}."
            )
        return checkpoint_path[len(prefix) :]

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint of this name."""
        return Checkpoint(self.build_checkpoint_path_from_name(name), self._filesystem)

    def persist_current_checkpoint(self, checkpoint: Checkpoint, checkpoint_dir_name: str) -> Checkpoint:
        """Copy a checkpoint into the run's folder under this name and return it there. Cost: one copy."""
        self.write_aside(checkpoint, checkpoint_dir_name)
        self.publish(checkpoint_dir_name)
        return self.checkpoint(checkpoint_dir_name)

    def write_aside(self, checkpoint: Checkpoint, name: str) -> None:
        """Copy one rank's part of a checkpoint to where `publish` will find it. Raises OSError, RuntimeError."""
        if self.read_only:
            raise RuntimeError("This storage was opened for reading.")
        self.check_reachable()
        source = None if checkpoint.is_local else checkpoint.filesystem
        files.copy_folder(source, checkpoint.path, self._filesystem, self._aside(name))

    def publish(self, name: str) -> None:
        """Give the folder that ranks wrote aside its name. Does nothing if they wrote to the name itself."""
        if files.can_publish(self._filesystem) and files.exists(self._filesystem, self._aside(name)):
            files.publish(self._filesystem, self._aside(name), self.build_checkpoint_path_from_name(name))

    def delete_checkpoint(self, name: str) -> None:
        """Delete a checkpoint; one that is gone is fine."""
        files.delete(self._filesystem, self.build_checkpoint_path_from_name(name))

    def has_checkpoint(self, name: str) -> bool:
        """Ask whether there is a checkpoint of this name."""
        return files.exists(self._filesystem, self.build_checkpoint_path_from_name(name))

    def delete_leftovers(self) -> None:
        """Delete what a group that died had not finished writing."""
        for name in files.names_in(self._filesystem, self.experiment_fs_path):
            if name.startswith(files.PARTIAL_PREFIX):
                files.delete(self._filesystem, posixpath.join(self.experiment_fs_path, name))

    def read_record(self) -> bytes | None:
        """Return the record of checkpoints, None if there is none."""
        if not files.exists(self._filesystem, self.checkpoint_manager_snapshot_path):
            return None
        return files.read_bytes(self._filesystem, self.checkpoint_manager_snapshot_path)

    def write_record(self, data: bytes) -> None:
        """Replace the record of checkpoints in one step."""
        files.write_bytes(self._filesystem, self.checkpoint_manager_snapshot_path, data)

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Ask whether a checkpoint lies inside the run's folder."""
        if checkpoint.is_local != (self._filesystem is None):
            return False
        here = _resolved(self.experiment_fs_path)
        return _resolved(checkpoint.path).startswith(here.rstrip("/") + "/")

    def lies_within(self, checkpoint: Checkpoint) -> bool:
        """Ask whether the run's folder lies inside a checkpoint, or is it."""
        if checkpoint.is_local != (self._filesystem is None):
            return False
        there = _resolved(checkpoint.path)
        return (_resolved(self.experiment_fs_path) + "/").startswith(there.rstrip("/") + "/")

    def name_of(self, checkpoint: Checkpoint) -> str:
        """Return a checkpoint's name: its path below the run's folder."""
        return posixpath.relpath(_resolved(checkpoint.path), _resolved(self.experiment_fs_path))

    def _aside(self, name: str) -> str:
        if not files.can_publish(self._filesystem):
            return self.build_checkpoint_path_from_name(name)
        # A name may be a path of several parts; the part aside is one folder all the same.
        return posixpath.join(self.experiment_fs_path, files.PARTIAL_PREFIX + name.replace("/", "%2F"))

    def __repr__(self) -> str:
        return f"StorageContext(experiment_fs_path={self.experiment_fs_path!r})"


def _resolved(path: str) -> str:
    return os.path.realpath(path) if os.path.isabs(path) else posixpath.normpath(path)
