"""Tune configuration: how a sweep searches, stops and names its trials.

Checks values when the record is made. Decides nothing.
Source: names and defaults are those of Ray's `TuneConfig`.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybook.ml.core.metrics import check_mode
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.schedulers import create_scheduler
from raybook.tune.search import create_searcher


@dataclass
class TuneConfig:
    """What to tune by, and how.

    num_samples: trials, or repeats of the grid; -1 goes on until something else ends the sweep.
    max_concurrent_trials: None for as many as the cluster holds. time_budget_s: seconds, or a timedelta.
    search_alg, scheduler: objects, or names of create_searcher and create_scheduler.
    reuse_actors: let a process run one trial after another, which saves start-up and imports.
    """

    mode: str | None = None
    metric: str | None = None
    search_alg: Searcher | None = None
    scheduler: TrialScheduler | None = None
    num_samples: int = 1
    max_concurrent_trials: int | None = None
    time_budget_s: float | datetime.timedelta | None = None
    reuse_actors: bool = False
    trial_name_creator: Callable[[Any], str] | None = None
    trial_dirname_creator: Callable[[Any], str] | None = None
    chdir_to_trial_dir: Any = "DEPRECATED"

    def __post_init__(self) -> None:
        if self.chdir_to_trial_dir != "DEPRECATED":
            raise DeprecationWarning(
                "TuneConfig(chdir_to_trial_dir=...) is deprecated: set the environment variable RAY_CHDIR_TO_TRIAL_DIR."
            )
        if self.mode is not None:
            check_mode(self.mode, "TuneConfig(mode=...)")
        if not isinstance(self.num_samples, int) or (self.num_samples < 1 and self.num_samples != -1):
            raise ValueError(f"num_samples must be 1 or more, or -1 for no limit, not {self.num_samples!r}.")
        # 0 means no limit too, as in Ray.
        if self.max_concurrent_trials is not None and self.max_concurrent_trials < 0:
            raise ValueError(f"max_concurrent_trials must be 1 or more, not {self.max_concurrent_trials!r}.")
        named: Any = (self.search_alg, self.scheduler)
        if isinstance(named[0], str):
            self.search_alg = create_searcher(named[0])
        if isinstance(named[1], str):
            self.scheduler = create_scheduler(named[1])
        if self.search_alg is not None and not isinstance(self.search_alg, Searcher):
            raise TypeError(f"search_alg must be a tune.search.Searcher, not {self.search_alg!r}.")
        if self.scheduler is not None and not isinstance(self.scheduler, TrialScheduler):
            raise TypeError(f"scheduler must be a tune.schedulers.TrialScheduler, not {self.scheduler!r}.")
        if isinstance(self.time_budget_s, datetime.timedelta):
            self.time_budget_s = self.time_budget_s.total_seconds()
        if self.time_budget_s is not None and self.time_budget_s <= 0:
            raise ValueError(f"time_budget_s must be above 0, not {self.time_budget_s!r}.")


@dataclass
class ResumeConfig:
    """How Tuner.restore() treats trials that had finished, were cut off, or had failed."""

    class ResumeType(enum.Enum):
        """RESUME from the last checkpoint, RESTART without one, or SKIP: leave as it is."""

        RESUME = "resume"
        RESTART = "restart"
        SKIP = "skip"

    finished: Any = ResumeType.SKIP
    unfinished: Any = ResumeType.RESUME
    errored: Any = ResumeType.SKIP
