"""PyTorch: a trainer whose workers find each other, and helpers for the training function.

Names are found when they are first used: the driver and the controller of a run need no torch.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from raybook.train.lazy_names import lazy_names

if TYPE_CHECKING:
    from raybook.train.torch.config import TorchConfig
    from raybook.train.torch.torch_checkpoint import TorchCheckpoint
    from raybook.train.torch.torch_trainer import TorchTrainer
    from raybook.train.torch.train_loop_utils import (
        accelerate,
        backward,
        enable_reproducibility,
        get_device,
        get_devices,
        prepare_data_loader,
        prepare_model,
        prepare_optimizer,
    )

if find_spec("torch") is None:
    raise ModuleNotFoundError("PyTorch isn't installed. To install PyTorch, run 'pip install torch'")

__all__ = [
    "TorchCheckpoint",
    "TorchConfig",
    "TorchTrainer",
    "accelerate",
    "backward",
    "enable_reproducibility",
    "get_device",
    "get_devices",
    "prepare_data_loader",
    "prepare_model",
    "prepare_optimizer",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": "TorchConfig",
        "torch_checkpoint": "TorchCheckpoint",
        "torch_trainer": "TorchTrainer",
        "train_loop_utils": "accelerate backward enable_reproducibility get_device get_devices prepare_data_loader "
        "prepare_model prepare_optimizer",
    },
)
