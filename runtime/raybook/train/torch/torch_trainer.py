"""Torch trainer: data-parallel training with torch's process group made for the workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.config import RunConfig, ScalingConfig
from raybook.train.context import TrainContext
from raybook.train.data_config import DataConfig
from raybook.train.data_parallel_trainer import DataParallelTrainer
from raybook.train.torch.config import TorchConfig
from raybook.train.validation import ValidationConfig

TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class TorchTrainer(DataParallelTrainer):
    """Runs one function on many workers that form a torch process group.

    The arguments are those of `DataParallelTrainer`; torch_config: how the group is made. With num_workers=0 the function
    runs in this process, as one of a group if torchrun has started it.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        torch_config: TorchConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        validation_config: ValidationConfig | None = None,
        metadata: dict[str, Any] | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
    ) -> None:
        torch_config = torch_config or TorchConfig()
        if not torch_config.backend:
            torch_config.backend = "nccl" if scaling_config and scaling_config.use_gpu else "gloo"
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=torch_config,
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            resume_from_checkpoint=resume_from_checkpoint,
            metadata=metadata,
            validation_config=validation_config,
        )

    def _local_context(self) -> tuple[TrainContext, Callable[[], None]]:
        if not all(name in os.environ for name in TORCHRUN_VARIABLES):
            return super()._local_context()
        import torch
        import torch.distributed as dist

        if self.datasets:
            raise ValueError("Datasets are not split over processes that torchrun has started: load the data in each.")
        dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo")
        local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank)
        rank = dist.get_rank()
        context = TrainContext(
            str(self.run_config.name), dist.get_world_size(), rank, local_rank, local_size, rank // local_size
        )
        return context, dist.destroy_process_group
