"""Stoppers under Ray's import path. Those that are pure live in `raybook.tune.core`."""

from raybook.tune.core.plateau import ExperimentPlateauStopper, TrialPlateauStopper
from raybook.tune.core.stopper import (
    CombinedStopper,
    FunctionStopper,
    MaximumIterationStopper,
    NoopStopper,
    Stopper,
)
from raybook.tune.stopper.timeout import TimeoutStopper

__all__ = [
    "CombinedStopper",
    "ExperimentPlateauStopper",
    "FunctionStopper",
    "MaximumIterationStopper",
    "NoopStopper",
    "Stopper",
    "TimeoutStopper",
    "TrialPlateauStopper",
]
