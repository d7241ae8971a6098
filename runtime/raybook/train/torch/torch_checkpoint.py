"""Torch checkpoint: a checkpoint of one torch model."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch

from raybook.train.framework_checkpoint import FrameworkCheckpoint

WRAPPER_PREFIX = "module."


class TorchCheckpoint(FrameworkCheckpoint):
    """A checkpoint with a model's state, or a whole model, in `model.pt`."""

    MODEL_FILENAME = "model.pt"

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Any], *, preprocessor: Any | None = None) -> TorchCheckpoint:
        """Store a model's state, under the names that the model has outside of DistributedDataParallel."""
        plain = {name.removeprefix(WRAPPER_PREFIX): value for name, value in state_dict.items()}
        return cls._store(plain, preprocessor)

    @classmethod
    def from_model(cls, model: torch.nn.Module, *, preprocessor: Any | None = None) -> TorchCheckpoint:
        """Store a whole model. Loading one runs code of whoever wrote it: prefer `from_state_dict`."""
        return cls._store(model, preprocessor)

    def get_model(self, model: torch.nn.Module | None = None) -> torch.nn.Module:
        """Return the model. model: takes the state, where only that is stored. Load only what you trust.

        Raises RuntimeError if there is no model in the checkpoint, ValueError if there is a state and no model for it.
        """
        with self.as_directory() as folder:
            stored = torch.load(self.model_file(folder), map_location="cpu", weights_only=False)
        if isinstance(stored, torch.nn.Module):
            if model is not None:
                warnings.warn(
                    "TorchCheckpoint already contains all information needed. Discarding provided `model` argument.",
                    stacklevel=2,
                )
            return stored
        if model is None:
            raise ValueError(
                "Attempting to load torch model from a state_dict, but no model was provided: call get_model(model)."
            )
        model.load_state_dict(stored)
        return model

    @classmethod
    def _store(cls, content: Any, preprocessor: Any | None) -> TorchCheckpoint:
        checkpoint = cls.in_new_folder()
        torch.save(content, os.path.join(checkpoint.path, cls.MODEL_FILENAME))
        if preprocessor is not None:
            checkpoint.set_preprocessor(preprocessor)
        return checkpoint
