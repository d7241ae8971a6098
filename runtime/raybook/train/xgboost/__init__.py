"""XGBoost: a trainer whose workers boost together, and a callback that reports. Needs `pip install xgboost-cpu`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.train.lazy_names import lazy_names

if TYPE_CHECKING:
    from raybook.train.xgboost.config import XGBoostConfig
    from raybook.train.xgboost.report_callback import RayTrainReportCallback
    from raybook.train.xgboost.xgboost_checkpoint import XGBoostCheckpoint
    from raybook.train.xgboost.xgboost_trainer import XGBoostTrainer

__all__ = ["RayTrainReportCallback", "XGBoostCheckpoint", "XGBoostConfig", "XGBoostTrainer"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": "XGBoostConfig",
        "report_callback": "RayTrainReportCallback",
        "xgboost_checkpoint": "XGBoostCheckpoint",
        "xgboost_trainer": "XGBoostTrainer",
    },
)
