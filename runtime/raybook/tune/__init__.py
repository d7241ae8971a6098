"""Tune: sweeps of a training function over a search space, as trials in actors, stopped early, watched live.

Reading order: `tuner` puts the parts together · `controller` is the loop · `core/` holds what decides (search space,
trial table, schedulers) · `executor` is the seam, `actor_executor`, `trial_actor`, `trial_runner` and `trial_session`
what is behind it · `result_grid` what comes out.
"""

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
from raybook.tune.result_grid import ResultGrid
from raybook.tune.trainable import Trainable
from raybook.tune.trainable_spec import with_parameters, with_resources
from raybook.tune.tune import ExperimentAnalysis, run
from raybook.tune.tune_config import TuneConfig
from raybook.tune.tuner import Tuner

__all__ = [
    "Callback",
    "Checkpoint",
    "CheckpointConfig",
    "ExperimentAnalysis",
    "FailureConfig",
    "Result",
    "ResultGrid",
    "RunConfig",
    "Stopper",
    "Trainable",
    "TuneConfig",
    "TuneError",
    "Tuner",
    "choice",
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
    "report",
    "run",
    "sample_from",
    "uniform",
    "with_parameters",
    "with_resources",
]
