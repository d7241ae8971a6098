"""`tune.run`: the older, flat spelling of a sweep, for code that uses it. A thin wrapper of the Tuner."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.result import Result
from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.result_grid import ResultGrid
from raybook.tune.trainable_spec import with_resources
from raybook.tune.tune_config import TuneConfig
from raybook.tune.tuner import Tuner


class ExperimentAnalysis:
    """The results of a sweep with the attribute names of `tune.run`'s users."""

    def __init__(self, grid: ResultGrid) -> None:
        self.grid = grid

    @property
    def best_result(self) -> dict[str, Any]:
        """The last metrics of the best trial."""
        return self.grid.get_best_result().metrics or {}

    @property
    def best_config(self) -> dict[str, Any]:
        """The configuration of the best trial."""
        return self.grid.get_best_result().config or {}

    @property
    def best_checkpoint(self) -> Any:
        """The latest checkpoint of the best trial, or None."""
        return self.grid.get_best_result().checkpoint

    @property
    def experiment_path(self) -> str:
        """The folder of the run."""
        return self.grid.experiment_path

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The last metrics of every trial that reported, by trial id."""
        found = [result.metrics for result in self.grid if result.metrics]
        return {metrics["trial_id"]: metrics for metrics in found}

    def get_best_config(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last"
    ) -> dict[str, Any]:
        """Return the configuration of the trial that is best by metric."""
        return self.grid.get_best_result(metric, mode, scope).config or {}

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> Any:
        """Return one row a trial as a pandas table."""
        return self.grid.get_dataframe(metric, mode)

    def __iter__(self) -> Any:
        return iter(self.grid)

    def __len__(self) -> int:
        return len(self.grid)

    def __getitem__(self, index: int) -> Result:
        return self.grid[index]

    def __repr__(self) -> str:
        return repr(self.grid).replace("ResultGrid", "ExperimentAnalysis", 1)


def run(
    run_or_experiment: Any,
    *,
    name: str | None = None,
    metric: str | None = None,
    mode: str | None = None,
    stop: Any = None,
    time_budget_s: float | datetime.timedelta | None = None,
    config: Mapping[str, Any] | None = None,
    resources_per_trial: Mapping[str, float] | Callable[..., Any] | None = None,
    num_samples: int = 1,
    storage_path: str | None = None,
    search_alg: Searcher | None = None,
    scheduler: TrialScheduler | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    max_failures: int = 0,
    fail_fast: bool | str = False,
    verbose: int = 1,
    max_concurrent_trials: int | None = None,
    reuse_actors: bool = False,
    trial_name_creator: Callable[[Any], str] | None = None,
    raise_on_failed_trial: bool = True,
) -> ExperimentAnalysis:
    """Run a sweep; the arguments are those of Tuner, TuneConfig and RunConfig in one list.

    Raises the first trial's error if any failed, unless raise_on_failed_trial is False.
    """
    trainable = run_or_experiment
    if resources_per_trial is not None:
        trainable = with_resources(trainable, resources_per_trial)
    grid = Tuner(
        trainable,
        param_space=config,
        tune_config=TuneConfig(
            metric=metric,
            mode=mode,
            search_alg=search_alg,
            scheduler=scheduler,
            num_samples=num_samples,
            max_concurrent_trials=max_concurrent_trials,
            time_budget_s=time_budget_s,
            reuse_actors=reuse_actors,
            trial_name_creator=trial_name_creator,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage_path,
            stop=stop,
            verbose=verbose,
            failure_config=FailureConfig(max_failures=max_failures, fail_fast=fail_fast),
            checkpoint_config=checkpoint_config or CheckpointConfig(),
        ),
    ).fit()
    if raise_on_failed_trial and grid.num_errors:
        raise grid.errors[0]
    return ExperimentAnalysis(grid)
