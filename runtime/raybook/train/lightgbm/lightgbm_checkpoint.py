"""LightGBM checkpoint: a checkpoint of one booster."""

from __future__ import annotations

import os
from typing import Any

import lightgbm

from raybook.train.framework_checkpoint import FrameworkCheckpoint


class LightGBMCheckpoint(FrameworkCheckpoint):
    """A checkpoint with a booster in `model.txt`."""

    MODEL_FILENAME = "model.txt"

    @classmethod
    def from_model(
        cls, booster: lightgbm.Booster, *, preprocessor: Any | None = None, path: str | None = None
    ) -> LightGBMCheckpoint:
        """Store a booster in a new folder, or in path. Raises ValueError if path is no folder."""
        if path is not None and not os.path.isdir(path):
            raise ValueError(f"`path` must be a directory, but got: {path}")
        checkpoint = cls.in_new_folder(path)
        booster.save_model(os.path.join(checkpoint.path, cls.MODEL_FILENAME))
        if preprocessor is not None:
            checkpoint.set_preprocessor(preprocessor)
        return checkpoint

    def get_model(self) -> lightgbm.Booster:
        """Return the booster."""
        with self.as_directory() as folder:
            return lightgbm.Booster(model_file=self.model_file(folder))
