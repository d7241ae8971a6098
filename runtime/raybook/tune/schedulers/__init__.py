"""Schedulers under Ray's import paths. Those that are pure live in `raybook.tune.core`.

PB2 is found in `raybook.tune.schedulers.pb2`: it needs scikit-learn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from raybook.tune.core.asha import ASHAScheduler, AsyncHyperBandScheduler
from raybook.tune.core.hyperband import HyperBandForBOHB, HyperBandScheduler
from raybook.tune.core.median_stopping import MedianStoppingRule
from raybook.tune.core.scheduler import FIFOScheduler, TrialScheduler
from raybook.tune.schedulers.pb2 import PB2
from raybook.tune.schedulers.pbt import PopulationBasedTraining, PopulationBasedTrainingReplay
from raybook.tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

SCHEDULER_IMPORT: dict[str, Callable[..., TrialScheduler]] = {
    "fifo": FIFOScheduler,
    "async_hyperband": AsyncHyperBandScheduler,
    "asynchyperband": AsyncHyperBandScheduler,
    "asha": AsyncHyperBandScheduler,
    "median_stopping_rule": MedianStoppingRule,
    "medianstopping": MedianStoppingRule,
    "hyperband": HyperBandScheduler,
    "hb_bohb": HyperBandForBOHB,
    "pbt": PopulationBasedTraining,
    "pbt_replay": PopulationBasedTrainingReplay,
    "pb2": PB2,
    "resource_changing": ResourceChangingScheduler,
}


def create_scheduler(scheduler: str, **kwargs: Any) -> TrialScheduler:
    """Make a scheduler by name ("pbt", "hyperband", "asynchyperband", …), with those of kwargs that it knows.

    Raises ValueError for an unknown name, and what the scheduler raises.
    """
    name = scheduler.lower()
    if name not in SCHEDULER_IMPORT:
        raise ValueError(f"The `scheduler` argument must be one of {list(SCHEDULER_IMPORT)}. Got: {scheduler}")
    made = SCHEDULER_IMPORT[name]
    known = inspect.signature(made).parameters
    return made(**{key: value for key, value in kwargs.items() if key in known})


__all__ = [
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "FIFOScheduler",
    "HyperBandForBOHB",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "PB2",
    "PopulationBasedTraining",
    "PopulationBasedTrainingReplay",
    "ResourceChangingScheduler",
    "TrialScheduler",
    "create_scheduler",
]
