"""Ray's older names: configurations, results and integrations, handed on from Train and Tune."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybook.ml.result import Result
    from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
    from raybook.train.config import ScalingConfig

_MODULE_OF = {
    "CheckpointConfig": "raybook.ml.run_config",
    "FailureConfig": "raybook.ml.run_config",
    "Result": "raybook.ml.result",
    "RunConfig": "raybook.ml.run_config",
    "ScalingConfig": "raybook.train.config",
}
_MODULES = frozenset({"config", "integrations", "result", "session"})

__all__ = ["CheckpointConfig", "FailureConfig", "Result", "RunConfig", "ScalingConfig"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"raybook.air.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'raybook.air' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
