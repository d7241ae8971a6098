"""Stoppers under Ray's import path. They are pure, so they live in `raybook.tune.core`."""

from raybook.tune.core.stopper import (
    CombinedStopper,
    FunctionStopper,
    MaximumIterationStopper,
    Stopper,
    TrialPlateauStopper,
)

__all__ = ["CombinedStopper", "FunctionStopper", "MaximumIterationStopper", "Stopper", "TrialPlateauStopper"]
