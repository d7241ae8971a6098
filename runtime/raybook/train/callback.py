"""Callbacks: what users hang on a run. They are called in the controller's process, not in the workers'."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from raybook.ml.checkpoint import Checkpoint
    from raybook.train.backend import BackendConfig
    from raybook.train.config import RunConfig, ScalingConfig
    from raybook.train.data_config import DataConfig


@dataclass(frozen=True)
class TrainRunContext:
    """What a callback is told of its run. run_id: unique to this `fit`."""

    run_config: RunConfig
    train_loop_config: dict[str, Any] | None
    scaling_config: ScalingConfig
    backend_config: BackendConfig
    dataset_config: DataConfig
    run_id: str = field(default_factory=lambda: uuid4().hex)

    def get_run_config(self) -> RunConfig:
        """Return the run's configuration."""
        return self.run_config


class RayTrainCallback:
    """What all callbacks derive from."""


class UserCallback(RayTrainCallback):
    """Derive from this and override what you want to hear of. What a callback raises ends the run."""

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """All workers have reported. metrics: one dict for each rank. checkpoint: where it was saved, or None."""

    def after_exception(self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]) -> None:
        """Workers have failed. worker_exceptions: by world rank."""
