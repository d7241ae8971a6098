"""Tune: sweeps of a training function over a search space, as trials in actors, stopped early, watched live.

Reading order: `tuner` puts the parts together (`sweep_assembly` makes them) · `controller` is the loop, `trial_source`
brings trials, `steering` obeys schedulers' orders and users' requests · `core/` holds what decides (search space, trial
table, schedulers) · `executor` is the seam, `actor_executor`, `trial_actor`, `trial_runner` and `trial_session` what is
behind it · `experiment_state` and `saved_sweep` keep a run and take it up again · `experiment_analysis` and `result_grid`
are what comes out.

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
    from raybook.train.sync_config import SyncConfig
    from raybook.tune.callback import Callback
    from raybook.tune.context import TuneContext, get_checkpoint, get_context, get_trial_resources, report
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
    from raybook.tune.experiment_analysis import ExperimentAnalysis
    from raybook.tune.progress_reporter import CLIReporter, JupyterNotebookReporter, ProgressReporter
    from raybook.tune.registry import register_env, register_trainable
    from raybook.tune.result_grid import ResultGrid
    from raybook.tune.schedulers import create_scheduler
    from raybook.tune.search import create_searcher
    from raybook.tune.steered_runs import clone_trial, pause_trial, resume_trial, stop_experiment, stop_trial
    from raybook.tune.trainable import Trainable
    from raybook.tune.trainable_spec import with_parameters, with_resources
    from raybook.tune.tune import Experiment, run, run_experiments
    from raybook.tune.tune_config import ResumeConfig, TuneConfig
    from raybook.tune.tuner import Tuner

_NAMES_BY_MODULE = {
    "raybook.ml.checkpoint": "Checkpoint",
    "raybook.ml.result": "Result",
    "raybook.ml.run_config": "CheckpointConfig FailureConfig RunConfig",
    "raybook.train.sync_config": "SyncConfig",
    "raybook.tune.callback": "Callback",
    "raybook.tune.context": "TuneContext get_checkpoint get_context get_trial_resources report",
    "raybook.tune.core.space": "choice grid_search lograndint loguniform qlograndint qloguniform qrandint qrandn "
    "quniform randint randn sample_from uniform",
    "raybook.tune.core.stopper": "Stopper",
    "raybook.tune.error": "TuneError",
    "raybook.tune.execution.placement_groups": "PlacementGroupFactory",
    "raybook.tune.experiment_analysis": "ExperimentAnalysis",
    "raybook.tune.progress_reporter": "CLIReporter JupyterNotebookReporter ProgressReporter",
    "raybook.tune.registry": "register_env register_trainable",
    "raybook.tune.result_grid": "ResultGrid",
    "raybook.tune.schedulers": "create_scheduler",
    "raybook.tune.search": "create_searcher",
    "raybook.tune.steered_runs": "clone_trial pause_trial resume_trial stop_experiment stop_trial",
    "raybook.tune.trainable": "Trainable",
    "raybook.tune.trainable_spec": "with_parameters with_resources",
    "raybook.tune.tune": "Experiment run run_experiments",
    "raybook.tune.tune_config": "ResumeConfig TuneConfig",
    "raybook.tune.tuner": "Tuner",
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}
_MODULES = frozenset(
    {
        "analysis", "callback", "error", "execution", "experiment", "integration", "logger", "progress_reporter",
        "registry", "result_grid", "schedulers", "search", "stopper", "trainable", "tune_config", "tuner",
    }
)  # fmt: skip

__all__ = [
    "CLIReporter",
    "Callback",
    "Checkpoint",
    "CheckpointConfig",
    "Experiment",
    "ExperimentAnalysis",
    "FailureConfig",
    "JupyterNotebookReporter",
    "PlacementGroupFactory",
    "ProgressReporter",
    "Result",
    "ResultGrid",
    "ResumeConfig",
    "RunConfig",
    "Stopper",
    "SyncConfig",
    "Trainable",
    "TuneConfig",
    "TuneContext",
    "TuneError",
    "Tuner",
    "choice",
    "clone_trial",
    "create_scheduler",
    "create_searcher",
    "get_checkpoint",
    "get_context",
    "get_trial_resources",
    "grid_search",
    "lograndint",
    "loguniform",
    "pause_trial",
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
    "resume_trial",
    "run",
    "run_experiments",
    "sample_from",
    "stop_experiment",
    "stop_trial",
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
