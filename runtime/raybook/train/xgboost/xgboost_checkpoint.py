"""XGBoost checkpoint: a checkpoint of one booster."""

from __future__ import annotations

import os
from typing import Any

import xgboost

from raybook.train.framework_checkpoint import FrameworkCheckpoint


class XGBoostCheckpoint(FrameworkCheckpoint):
    """A checkpoint with a booster in `model.json`."""

    MODEL_FILENAME = "model.json"

    @classmethod
    def from_model(
        cls, booster: xgboost.Booster, *, preprocessor: Any | None = None, path: str | None = None
    ) -> XGBoostCheckpoint:
        """Store a booster in a new folder, or in path. Raises ValueError if path is no folder."""
        if path is not None and not os.path.isdir(path):
            raise ValueError(f"`path` must be a directory, but got: {path}")
        checkpoint = cls.in_new_folder(path)
        booster.save_model(os.path.join(checkpoint.path, cls.MODEL_FILENAME))
        if preprocessor is not None:
            checkpoint.set_preprocessor(preprocessor)
        return checkpoint

    def get_model(self) -> xgboost.Booster:
        """Return the booster."""
        with self.as_directory() as folder:
            booster = xgboost.Booster()
            booster.load_model(self.model_file(folder))
            return booster
