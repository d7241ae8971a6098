"""Schedulers under Ray's import path. They are pure, so they live in `raybook.tune.core`."""

from raybook.tune.core.asha import ASHAScheduler, AsyncHyperBandScheduler
from raybook.tune.core.median_stopping import MedianStoppingRule
from raybook.tune.core.scheduler import FIFOScheduler, TrialScheduler

__all__ = ["ASHAScheduler", "AsyncHyperBandScheduler", "FIFOScheduler", "MedianStoppingRule", "TrialScheduler"]
