"""JAX trainer: one program on many workers, which share their devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raybook.train.config import RunConfig, ScalingConfig
from raybook.train.data_config import DataConfig
from raybook.train.data_parallel_trainer import DataParallelTrainer
from raybook.train.jax.config import JaxConfig
from raybook.train.validation import ValidationConfig


class JaxTrainer(DataParallelTrainer):
    """Runs one function on many workers that form one `jax.distributed` group.

    The arguments are those of `DataParallelTrainer`; jax_config: the platform, taken from scaling_config if None.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        jax_config: JaxConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        dataset_config: DataConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        validation_config: ValidationConfig | None = None,
    ) -> None:
        scaling_config = scaling_config or ScalingConfig()
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=jax_config or JaxConfig(use_gpu=scaling_config.use_gpu),
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            validation_config=validation_config,
        )
