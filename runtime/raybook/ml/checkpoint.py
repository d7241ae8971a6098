"""Checkpoint: a folder of files that a training function saved, with a little metadata.

Knows where the folder is, on this machine or on any pyarrow filesystem, and how to hand its content to the user; does
not know who saved it or when it is deleted.
Invariant: a checkpoint never changes what its folder holds, except for the metadata file.
Source: the surface of Ray's `Checkpoint`.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raybook.ml import filesystem as files

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

METADATA_FILE = ".metadata.json"


class Checkpoint:
    """A reference to a folder with saved state. Cheap to pass around: only the path travels."""

    def __init__(self, path: str | os.PathLike[str], filesystem: FileSystem | None = None) -> None:
        """path: a local folder, or a URI such as `s3://bucket/run/checkpoint`. It need not exist yet on this machine.

        filesystem: the pyarrow filesystem that path lies on; then path carries no scheme.
        """
        self._filesystem, self.path = files.resolve(path, filesystem)

    @property
    def filesystem(self) -> FileSystem:
        """The pyarrow filesystem that `path` lies on. Imports pyarrow."""
        if self._filesystem is None:
            import pyarrow.fs

            return pyarrow.fs.LocalFileSystem()
        return self._filesystem

    @property
    def is_local(self) -> bool:
        """Ask whether the folder lies on the machine's own filesystem. Imports nothing."""
        return self._filesystem is None

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Return a checkpoint of the folder at path. No copy. Raises FileNotFoundError, NotADirectoryError."""
        checkpoint = cls(path)
        if not os.path.exists(checkpoint.path):
            raise FileNotFoundError(f"There is no folder {checkpoint.path!r} to make a checkpoint of.")
        if not os.path.isdir(checkpoint.path):
            raise NotADirectoryError(f"A checkpoint is a folder, and {checkpoint.path!r} is a file.")
        return checkpoint

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy the content into the folder path (a new temporary one if None) and return it. Cost: one copy."""
        target = (
            os.path.normpath(os.path.expanduser(os.fspath(path)))
            if path is not None
            else tempfile.mkdtemp(prefix="checkpoint_")
        )
        if not files.exists(self._filesystem, self.path):
            raise FileNotFoundError(f"Checkpoint {self.path!r} is gone: its folder was deleted or never written.")
        files.copy_folder(self._filesystem, self.path, None, target)
        return target

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """Give the content as a local folder for the time of a `with` block: do not write into it.

        No copy for a local checkpoint; one on other storage is fetched, and deleted at the end of the block.
        """
        if self._filesystem is not None:
            fetched = self.to_directory()
            try:
                yield fetched
            finally:
                shutil.rmtree(fetched, ignore_errors=True)
            return
        if not os.path.isdir(self.path):
            raise FileNotFoundError(f"Checkpoint {self.path!r} is gone: its folder was deleted or never written.")
        yield self.path

    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata stored with the checkpoint, {} if there is none."""
        file = posixpath.join(self.path, METADATA_FILE)
        if not files.exists(self._filesystem, file):
            return {}
        return json.loads(files.read_bytes(self._filesystem, file))

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata. Values must be JSON; raises TypeError otherwise."""
        data = json.dumps(dict(metadata)).encode()
        files.write_bytes(self._filesystem, posixpath.join(self.path, METADATA_FILE), data)

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set the given keys and leave the others."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def __fspath__(self) -> str:
        raise TypeError(
            "A Checkpoint is no path: its folder may be on other storage. Use checkpoint.as_directory() or "
            "checkpoint.to_directory()."
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and other.path == self.path and other._kind == self._kind

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def _kind(self) -> str:
        return "local" if self._filesystem is None else self._filesystem.type_name

    def __repr__(self) -> str:
        return f"Checkpoint(filesystem={self._kind}, path={self.path})"
