"""LightGBM trainer: data-parallel boosting over LightGBM's own network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.config import RunConfig, ScalingConfig
from raybook.train.data_config import DataConfig
from raybook.train.data_parallel_trainer import DataParallelTrainer
from raybook.train.lightgbm.config import LightGBMConfig
from raybook.train.validation import ValidationConfig


class LightGBMTrainer(DataParallelTrainer):
    """Runs one function on many workers that boost together.

    The arguments are those of `DataParallelTrainer`; pass
    `get_network_params()` to `lightgbm.train` in the function. label_column, params, num_boost_round: deprecated.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        lightgbm_config: LightGBMConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        validation_config: ValidationConfig | None = None,
        metadata: dict[str, Any] | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        label_column: str | None = None,
        params: dict[str, Any] | None = None,
        num_boost_round: int | None = None,
    ) -> None:
        if label_column is not None or params is not None or num_boost_round is not None:
            raise DeprecationWarning(
                "The LightGBMTrainer that took label_column, params and num_boost_round is deprecated. Pass a training "
                "function that loads this worker's data and calls lightgbm.train()."
            )
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=lightgbm_config or LightGBMConfig(),
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=datasets,
            dataset_config=dataset_config,
            resume_from_checkpoint=resume_from_checkpoint,
            metadata=metadata,
            validation_config=validation_config,
        )

    @classmethod
    def get_model(cls, checkpoint: Checkpoint) -> Any:
        """Deprecated."""
        raise DeprecationWarning(
            "`LightGBMTrainer.get_model` is deprecated. Use `raybook.train.lightgbm.RayTrainReportCallback.get_model` "
            "instead."
        )
