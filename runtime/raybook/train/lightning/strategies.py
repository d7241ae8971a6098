"""Strategies of Lightning for the workers of a TorchTrainer: the device and the sampler's share are the worker's."""

from __future__ import annotations

from typing import Any

import torch

from raybook.train.lightning.environment import RayLightningEnvironment
from raybook.train.lightning.library import pl
from raybook.train.torch.train_loop_utils import get_device


class _OnThisWorker:
    """What the strategies share."""

    @property
    def root_device(self) -> torch.device:
        """This worker's device."""
        return get_device()

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """This worker's share."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}  # type: ignore[attr-defined]


class RayDDPStrategy(_OnThisWorker, pl.strategies.DDPStrategy):
    """DistributedDataParallel. The process group's options are those of TorchConfig."""


class RayFSDPStrategy(_OnThisWorker, pl.strategies.FSDPStrategy):
    """FullyShardedDataParallel."""


class RayDeepSpeedStrategy(_OnThisWorker, pl.strategies.DeepSpeedStrategy):
    """DeepSpeed. Needs `pip install deepspeed`."""


def prepare_trainer(trainer: Any) -> Any:
    """Return the Lightning trainer, after a look at its parts. Raises RuntimeError for another strategy or environment."""
    strategies = (RayDDPStrategy, RayFSDPStrategy, RayDeepSpeedStrategy)
    if not isinstance(trainer.strategy, strategies):
        names = [each.__name__ for each in strategies]
        raise RuntimeError(
            f"Invalid strategy class: {type(trainer.strategy)}. To use PyTorch Lightning with Ray, the strategy object "
            f"should be one of {names} class or its subclass."
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and not isinstance(environment, RayLightningEnvironment):
        raise RuntimeError(
            "Invalid cluster environment plugin. The expected class is `ray.train.lightning.RayLightningEnvironment` but "
            f"got {type(environment)}! Pass plugins=[RayLightningEnvironment()]."
        )
    return trainer
