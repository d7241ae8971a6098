"""Framework checkpoint: a checkpoint that knows the file in which a framework keeps its model, and a preprocessor.

Source: Ray's `FrameworkCheckpoint`, for code that loads models that way.
"""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from typing import Any, TypeVar

from raybook.ml.checkpoint import Checkpoint

PREPROCESSOR_KEY = "_preprocessor"

Kind = TypeVar("Kind", bound="FrameworkCheckpoint")


class FrameworkCheckpoint(Checkpoint):
    """What the checkpoints of frameworks share. MODEL_FILENAME: the file of the model."""

    MODEL_FILENAME = "model"

    def get_preprocessor(self) -> Any | None:
        """Return the preprocessor that was stored with the model, None if there is none."""
        text = self.get_metadata().get(PREPROCESSOR_KEY)
        if text is None:
            return None
        return import_module("raybook.data.preprocessor").Preprocessor.deserialize(text)

    def set_preprocessor(self, preprocessor: Any) -> None:
        """Store a preprocessor (of raybook.data) with the model."""
        self.update_metadata({PREPROCESSOR_KEY: preprocessor.serialize()})

    def model_file(self, folder: str) -> str:
        """Return the path of the model's file in a folder. Raises RuntimeError if it is not there."""
        file = os.path.join(folder, self.MODEL_FILENAME)
        if not os.path.exists(file):
            raise RuntimeError(
                f"`{self.MODEL_FILENAME}` not found within this checkpoint ({self.path}). Make sure you created this "
                f"`{type(self).__name__}` from one of its public constructors."
            )
        return file

    @classmethod
    def in_new_folder(cls: type[Kind], path: str | os.PathLike[str] | None = None) -> Kind:
        """Return a checkpoint of a new folder (in path, if given), for a constructor to fill."""
        if path is None:
            return cls.from_directory(tempfile.mkdtemp(prefix="checkpoint_"))  # type: ignore[return-value]
        os.makedirs(path, exist_ok=True)
        return cls.from_directory(path)  # type: ignore[return-value]
