"""Tune: sweeps of a training function over a search space, as trials in actors, stopped early, watched live.

Reading order: `tuner` puts the parts together · `controller` is the loop · `core/` holds what decides (search space,
trial table, schedulers) · `executor` is the seam, `actor_executor`, `trial_actor`, `trial_runner` and `trial_session`
what is behind it · `result_grid` what comes out.

Names are found when they are first used: a trial's process, which needs `report` and little else, starts in a third of
the time that importing everything takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybook.ml.checkpoint import Checkpoint
    from raybook.ml.result import Result
    from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
    from raybook.train.session import get_checkpoint, get_context, report
    from raybook.tune.callback import Callback
    from raybook.tune.core.space import (
        choice,
        grid_search,
        lograndint,
        loguniform,
        qlograndint,
        qloguniform,
        qrandint,
        qrandn,
        quniform,
        randint,
        randn,
        sample_from,
        uniform,
    )
    from raybook.tune.core.stopper import Stopper
    from raybook.tune.error import TuneError
    from raybook.tune.execution.placement_groups import PlacementGroupFactory
    from raybook.tune.registry import register_env, register_trainable
    from raybook.tune.result_grid import ResultGrid
    from raybook.tune.schedulers import create_scheduler
    from raybook.tune.search import create_searcher
    from raybook.tune.trainable import Trainable
    from raybook.tune.trainable_spec import with_parameters, with_resources
    from raybook.tune.tune import ExperimentAnalysis, run
    from raybook.tune.tune_config import TuneConfig
    from raybook.tune.tuner import Tuner

_NAMES_BY_MODULE = {
    "raybook.ml.checkpoint": "Checkpoint",
    "raybook.ml.result": "Result",
    "raybook.ml.run_config": "CheckpointConfig FailureConfig RunConfig",
    "raybook.train.session": "get_checkpoint get_context report",
    "raybook.tune.callback": "Callback",
    "raybook.tune.core.space": "choice grid_search lograndint loguniform qlograndint qloguniform qrandint qrandn "
    "quniform randint randn sample_from uniform",
    "raybook.tune.core.stopper": "Stopper",
    "raybook.tune.error": "TuneError",
    "raybook.tune.execution.placement_groups": "PlacementGroupFactory",
    "raybook.tune.registry": "register_env register_trainable",
    "raybook.tune.schedulers": "create_scheduler",
    "raybook.tune.search": "create_searcher",
    "raybook.tune.result_grid": "ResultGrid",
    "raybook.tune.trainable": "Trainable",
    "raybook.tune.trainable_spec": "with_parameters with_resources",
    "raybook.tune.tune": "ExperimentAnalysis run",
    "raybook.tune.tune_config": "TuneConfig",
    "raybook.tune.tuner": "Tuner",
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}
_MODULES = frozenset({"callback", "error", "execution", "registry", "schedulers", "search", "stopper"})

__all__ = [
    "Callback",
    "Checkpoint",
    "CheckpointConfig",
    "ExperimentAnalysis",
    "FailureConfig",
    "PlacementGroupFactory",
    "Result",
    "ResultGrid",
    "RunConfig",
    "Stopper",
    "Trainable",
    "TuneConfig",
    "TuneError",
    "Tuner",
    "choice",
    "create_scheduler",
    "create_searcher",
    "get_checkpoint",
    "get_context",
    "grid_search",
    "lograndint",
    "loguniform",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "register_env",
    "register_trainable",
    "report",
    "run",
    "sample_from",
    "uniform",
    "with_parameters",
    "with_resources",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"raybook.tune.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'raybook.tune' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
