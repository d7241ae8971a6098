"""PyTorch Lightning under a TorchTrainer: strategies, an environment and a callback. Needs `pip install lightning`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.train.lazy_names import lazy_names

if TYPE_CHECKING:
    from raybook.train.lightning.environment import RayLightningEnvironment
    from raybook.train.lightning.report_callback import RayTrainReportCallback
    from raybook.train.lightning.strategies import (
        RayDDPStrategy,
        RayDeepSpeedStrategy,
        RayFSDPStrategy,
        prepare_trainer,
    )

__all__ = [
    "RayDDPStrategy",
    "RayDeepSpeedStrategy",
    "RayFSDPStrategy",
    "RayLightningEnvironment",
    "RayTrainReportCallback",
    "prepare_trainer",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "environment": "RayLightningEnvironment",
        "report_callback": "RayTrainReportCallback",
        "strategies": "RayDDPStrategy RayDeepSpeedStrategy RayFSDPStrategy prepare_trainer",
    },
)
