"""Tensor transport: what ``with_tensor_transport`` asks for, checked when it is asked."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

SHARED_MEMORY = ("auto", "shm")
ACCELERATOR = ("nccl", "accelerator")
DEVICES = ("default", "cpu", "gpu", "cuda")


@dataclass(frozen=True)
class TensorTransport:
    """name: as it was asked for. device: "" (as the sender has it), "cpu" or "cuda"."""

    name: str
    device: str

    @property
    def needs_accelerator(self) -> bool:
        """Whether it was asked that tensors stay on the device on their way."""
        return self.name in ACCELERATOR


def make_transport(transport: Any, device: str) -> TensorTransport:
    """The record. ValueError for a transport or device that does not exist."""
    if device not in DEVICES:
        raise ValueError(f"Invalid device {device!r}. Valid options are: {', '.join(map(repr, DEVICES))}.")
    if not isinstance(transport, str) or transport not in SHARED_MEMORY + ACCELERATOR:
        raise ValueError(
            f"Invalid transport type: {transport!r}. Transport must be one of "
            f"{', '.join(map(repr, SHARED_MEMORY + ACCELERATOR))}; communicators of your own are not supported."
        )
    return TensorTransport(transport, {"default": "", "gpu": "cuda"}.get(device, device))


def why_no_accelerator() -> str:
    """Why tensors cannot go from device to device here."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return "there is no CUDA device here"
    return "raybook has no transport between devices yet, and moves tensors of a device through shared memory"


def move(value: Any, device: str) -> Any:
    """The value with the tensors in it, also those in lists, tuples and dictionaries, on ``device``."""
    torch = sys.modules.get("torch")
    if torch is None:
        return value
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if type(value) in (list, tuple):
        return type(value)(move(item, device) for item in value)
    if type(value) is dict:
        return {key: move(item, device) for key, item in value.items()}
    return value
