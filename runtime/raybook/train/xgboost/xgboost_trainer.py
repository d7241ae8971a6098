"""XGBoost trainer: data-parallel boosting, the workers of which add their histograms up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.config import RunConfig, ScalingConfig
from raybook.train.data_config import DataConfig
from raybook.train.data_parallel_trainer import DataParallelTrainer
from raybook.train.validation import ValidationConfig
from raybook.train.xgboost.config import XGBoostConfig


class XGBoostTrainer(DataParallelTrainer):
    """Runs one function on many workers whose `xgboost.train` builds the same trees.

    The arguments are those of `DataParallelTrainer`; xgboost_config: how they talk to each other.
    label_column, params, num_boost_round: deprecated.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        xgboost_config: XGBoostConfig | None = None,
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
                "The XGBoostTrainer that took label_column, params and num_boost_round is deprecated. Pass a training "
                "function that loads this worker's data and calls xgboost.train()."
            )
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=xgboost_config or XGBoostConfig(),
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
            "`XGBoostTrainer.get_model` is deprecated. Use `raybook.train.xgboost.RayTrainReportCallback.get_model` "
            "instead."
        )
