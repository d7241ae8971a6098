"""LightGBM: a trainer whose workers boost together, and a callback that reports. Needs `pip install lightgbm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.train.lazy_names import lazy_names

if TYPE_CHECKING:
    from raybook.train.lightgbm.config import LightGBMConfig, get_network_params
    from raybook.train.lightgbm.lightgbm_checkpoint import LightGBMCheckpoint
    from raybook.train.lightgbm.lightgbm_trainer import LightGBMTrainer
    from raybook.train.lightgbm.pandas_types import normalize_pandas_for_lightgbm
    from raybook.train.lightgbm.report_callback import RayTrainReportCallback

__all__ = [
    "LightGBMCheckpoint",
    "LightGBMConfig",
    "LightGBMTrainer",
    "RayTrainReportCallback",
    "get_network_params",
    "normalize_pandas_for_lightgbm",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": "LightGBMConfig get_network_params",
        "lightgbm_checkpoint": "LightGBMCheckpoint",
        "lightgbm_trainer": "LightGBMTrainer",
        "pandas_types": "normalize_pandas_for_lightgbm",
        "report_callback": "RayTrainReportCallback",
    },
)
