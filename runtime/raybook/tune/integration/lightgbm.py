"""LightGBM inside a trial: the callback that reports, under the module path that Ray's users import it from."""

from __future__ import annotations

from typing import Any

from raybook.train.lightgbm.report_callback import RayTrainReportCallback


class TuneReportCheckpointCallback(RayTrainReportCallback):
    """Reports LightGBM's metrics to the trial, with a checkpoint at the end. Arguments as RayTrainReportCallback."""


class TuneReportCallback:
    """Deprecated."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise DeprecationWarning(
            "`TuneReportCallback` is deprecated. Use `tune.integration.lightgbm.TuneReportCheckpointCallback` instead."
        )


__all__ = ["TuneReportCallback", "TuneReportCheckpointCallback"]
