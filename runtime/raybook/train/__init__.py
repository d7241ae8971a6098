"""Train: the records and verbs that a training function uses. So far the part that Tune shares with it.

`report`, `get_checkpoint` and `get_context` speak to whatever runs the function, be it a trial or a worker.
Names are found when they are first used, so that a trial's process starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybook.ml.checkpoint import Checkpoint
    from raybook.ml.result import Result
    from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
    from raybook.train.session import get_checkpoint, get_context, report

_MODULE_OF = {
    "Checkpoint": "raybook.ml.checkpoint",
    "Result": "raybook.ml.result",
    "CheckpointConfig": "raybook.ml.run_config",
    "FailureConfig": "raybook.ml.run_config",
    "RunConfig": "raybook.ml.run_config",
    "get_checkpoint": "raybook.train.session",
    "get_context": "raybook.train.session",
    "report": "raybook.train.session",
}

__all__ = [
    "Checkpoint",
    "CheckpointConfig",
    "FailureConfig",
    "Result",
    "RunConfig",
    "get_checkpoint",
    "get_context",
    "report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'raybook.train' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
