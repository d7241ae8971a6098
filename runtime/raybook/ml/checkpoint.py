"""Checkpoint: a folder of files that a training function saved, with a little metadata.

Knows where the folder is and how to hand its content to the user; does not know who saved it or when it is deleted.
Invariant: a checkpoint never changes what its folder holds, except for the metadata file.
Source: the surface of Ray's `Checkpoint`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

METADATA_FILE = ".metadata.json"


class Checkpoint:
    """A reference to a folder with saved state. Cheap to pass around: only the path travels."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """path: a local folder, or a `file://` URI of one. It need not exist yet on this machine."""
        text = os.fspath(path)
        self.path = text[len("file://") :] if text.startswith("file://") else text

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
        target = os.fspath(path) if path is not None else tempfile.mkdtemp(prefix="checkpoint_")
        if not os.path.isdir(self.path):
            raise FileNotFoundError(f"Checkpoint {self.path!r} is gone: its folder was deleted or never written.")
        shutil.copytree(self.path, target, dirs_exist_ok=True)
        return target

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """Give the content as a local folder for the time of a `with` block. No copy: do not write into it."""
        if not os.path.isdir(self.path):
            raise FileNotFoundError(f"Checkpoint {self.path!r} is gone: its folder was deleted or never written.")
        yield self.path

    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata stored with the checkpoint, {} if there is none."""
        file = Path(self.path) / METADATA_FILE
        return json.loads(file.read_text()) if file.exists() else {}

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata. Values must be JSON; raises TypeError otherwise."""
        file = Path(self.path) / METADATA_FILE
        aside = file.with_name(f"{METADATA_FILE}.{os.getpid()}")
        aside.write_text(json.dumps(dict(metadata)))
        os.replace(aside, file)

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set the given keys and leave the others."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Checkpoint(path={self.path!r})"
