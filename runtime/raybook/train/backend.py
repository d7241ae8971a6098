"""Backends: what a framework needs before and after the training function, on all workers of a group.

Source: the interface of Ray's `Backend`, so that backends written for it work here.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybook.train.worker_group import WorkerGroup


class BackendConfig:
    """Configuration of a backend. Derive from it, and name the backend in `backend_cls`."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class of the backend."""
        return Backend

    @property
    def train_func_context(self) -> Any:
        """A function without arguments that makes a context manager; the training function runs in it."""
        return nullcontext

    @property
    def framework(self) -> str | None:
        """The framework's name, None for none."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """What of it can be shown."""
        return {}


class Backend:
    """What happens around the training function. Runs in the controller; work on the workers goes through the group.

    share_cuda_visible_devices: every worker sees the GPUs of all workers on its node, as NCCL's peer access wants.
    """

    share_cuda_visible_devices: bool = False
    has_replica_groups: bool = False

    def on_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """The workers are there and know their ranks; no training function runs yet."""

    def on_shutdown(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """All training functions have returned; the workers are still there."""

    def on_training_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Right before the training functions are called."""
