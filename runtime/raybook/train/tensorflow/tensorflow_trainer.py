"""TensorFlow trainer: data-parallel training with `MultiWorkerMirroredStrategy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.config import RunConfig, ScalingConfig
from raybook.train.data_config import DataConfig
from raybook.train.data_parallel_trainer import DataParallelTrainer
from raybook.train.tensorflow.config import TensorflowConfig
from raybook.train.validation import ValidationConfig


class TensorflowTrainer(DataParallelTrainer):
    """Runs one function on many workers that know each other by TF_CONFIG.

    The arguments are those of `DataParallelTrainer`; tensorflow_config: nothing to set yet.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        tensorflow_config: TensorflowConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        validation_config: ValidationConfig | None = None,
        metadata: dict[str, Any] | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
    ) -> None:
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=tensorflow_config or TensorflowConfig(),
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            resume_from_checkpoint=resume_from_checkpoint,
            metadata=metadata,
            validation_config=validation_config,
        )
