"""Tuner: the user's entrance to a sweep.

Puts the parts together (searcher, scheduler, executor, folders, observers), runs the controller in the calling
process, and hands the results over. Decides only defaults.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from raybook import api
from raybook.ml.checkpoint import Checkpoint
from raybook.ml.result import Result
from raybook.ml.run_config import RunConfig
from raybook.ml.storage import prepare_run_folder, resolve_storage_root
from raybook.tune.actor_executor import ActorTrialExecutor
from raybook.tune.callback import CallbackObserver
from raybook.tune.controller import TuneController
from raybook.tune.core.concurrency_limiter import ConcurrencyLimiter
from raybook.tune.core.scheduler import FIFOScheduler, TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.core.stopper import make_stopper
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.executor import TrialExecutor
from raybook.tune.experiment_state import ExperimentStateFile
from raybook.tune.facts import FactPublisher
from raybook.tune.interrupt import graceful_interrupt
from raybook.tune.observer import SweepObserver
from raybook.tune.progress import ProgressReporter, has_panels, is_noninteractive, terminal_writer
from raybook.tune.result_grid import ResultGrid
from raybook.tune.search.basic_variant import BasicVariantGenerator
from raybook.tune.sweep_settings import SweepSettings
from raybook.tune.trainable_spec import TrainableSpec, as_spec
from raybook.tune.trial_folder import TrialFolders
from raybook.tune.trial_runner import with_remote_traceback
from raybook.tune.tune_config import TuneConfig


class Tuner:
    """A sweep of a trainable over a search space.

    trainable: a function of the configuration that calls `tune.report`, or a `tune.Trainable` class; both may be
    wrapped by `with_resources` and `with_parameters`. param_space: a dict, nested as you like, of values and domains.
    """

    def __init__(
        self,
        trainable: Callable[..., Any] | type | TrainableSpec,
        *,
        param_space: Mapping[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> None:
        self._spec = as_spec(trainable)
        if param_space is not None and not isinstance(param_space, Mapping):
            raise TypeError(f"param_space must be a dict of parameters, not {param_space!r}.")
        self._param_space = dict(param_space or {})
        self._tune_config = tune_config or TuneConfig()
        self._run_config = run_config or RunConfig()
        self._results: ResultGrid | None = None

    def fit(self) -> ResultGrid:
        """Run the sweep and return its results; trials that failed are among them.

        Blocks until the last trial has ended. An interrupt ends the sweep and returns what there is. Raises TuneError
        for a sweep that cannot be run as asked, StorageNotWritableError if nothing can be stored.
        """
        stopper = make_stopper(self._run_config.stop)
        scheduler = self._prepare_scheduler()
        searcher, total = self._prepare_searcher()
        root = resolve_storage_root(self._run_config.storage_path)
        name = self._run_config.name or f"{self._spec.name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
        folder = prepare_run_folder(root, name)
        started_s = time.monotonic()
        epoch_ms = round(time.time() * 1000)
        run_id = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
        settings = self._settings(name, str(root))
        folders = TrialFolders(folder, self._tune_config.trial_dirname_creator)
        controller = TuneController(
            settings,
            searcher,
            scheduler,
            stopper,
            self._make_executor(),
            folders,
            now_ms=lambda: round((time.monotonic() - started_s) * 1000),
            observers=[folders, *self._observers(settings, folder, run_id, total, epoch_ms)],
        )
        try:
            with graceful_interrupt(controller.request_stop):
                controller.run()
        finally:
            # Finished trials stay at hand (`get_results`) also when the sweep ended in an error.
            self._results = _grid_of(controller.table, settings, folder)
        if controller.halt_reason is not None and self._run_config.verbose:
            print(f"[{name}] ended early: {controller.halt_reason}. Results so far are in {folder}.")
        return self._results

    def get_results(self) -> ResultGrid:
        """Return the results of the last fit(). Raises RuntimeError if there was none."""
        if self._results is None:
            raise RuntimeError("This Tuner has no results yet: call fit() first.")
        return self._results

    def _make_executor(self) -> TrialExecutor:
        return ActorTrialExecutor(self._spec, self._tune_config.reuse_actors)

    def _prepare_scheduler(self) -> TrialScheduler:
        scheduler = self._tune_config.scheduler or FIFOScheduler()
        metric, mode = self._tune_config.metric, self._tune_config.mode
        if not scheduler.set_search_properties(metric, mode):
            raise ValueError(
                f"TuneConfig says metric={metric!r}, mode={mode!r}, and {type(scheduler).__name__} says "
                f"metric={scheduler.metric!r}, mode={scheduler.mode!r}. Set them in one place; if this scheduler was "
                "used by another sweep, make a new one."
            )
        if scheduler.needs_metric and (scheduler.metric is None or scheduler.mode is None):
            raise ValueError(
                f"{type(scheduler).__name__} compares trials and needs a metric and a mode: set both in TuneConfig."
            )
        return scheduler

    def _prepare_searcher(self) -> tuple[Searcher, int | None]:
        """Return the searcher, ready to suggest, and the number of trials, None if nobody knows it."""
        config = self._tune_config
        given = config.search_alg
        searcher = given if given is not None else BasicVariantGenerator()
        accepted = searcher.set_search_properties(
            config.metric, config.mode, self._param_space, num_samples=config.num_samples
        )
        if not accepted and (self._param_space or isinstance(searcher, BasicVariantGenerator)):
            raise ValueError(
                f"{type(searcher).__name__} did not take this param_space, metric or mode: it has its own, or was used "
                "by another sweep. Set the space in one place, and make a new searcher for a new sweep."
            )
        inner = searcher.searcher if isinstance(searcher, ConcurrencyLimiter) else searcher
        if isinstance(inner, BasicVariantGenerator):
            return searcher, inner.total_samples
        return searcher, None if config.num_samples < 0 else config.num_samples

    def _settings(self, name: str, storage_path: str) -> SweepSettings:
        config = self._tune_config
        budget_s = config.time_budget_s
        return SweepSettings(
            experiment_name=name,
            metric=config.metric,
            mode=config.mode,
            num_samples=None if config.num_samples < 0 else config.num_samples,
            max_concurrent_trials=config.max_concurrent_trials or None,
            time_budget_ms=None if budget_s is None else round(budget_s * 1000),  # type: ignore[arg-type]
            failure_config=self._run_config.failure_config,
            checkpoint_config=self._run_config.checkpoint_config,
            param_space=self._param_space,
            storage_path=storage_path,
            trial_id_prefix=secrets.token_hex(3),
            trial_name=config.trial_name_creator,
            trainable_name=self._spec.name,
            resources=self._spec.request_for,
        )

    def _observers(
        self, settings: SweepSettings, folder: Path, run_id: str, total: int | None, epoch_ms: int
    ) -> list[SweepObserver]:
        metric, mode, name = settings.metric, settings.mode, settings.experiment_name
        header = {"name": name, "metric": metric, "mode": mode, "trainable": self._spec.name, "run_id": run_id}
        observers: list[SweepObserver] = [
            ExperimentStateFile(folder, run_id, header),
            FactPublisher(api.publish_fact, run_id, name, metric, mode, total, epoch_ms),
        ]
        if self._run_config.verbose:
            is_watched = has_panels() and not is_noninteractive()
            show_lines = not has_panels() and not is_noninteractive()
            observers.append(ProgressReporter(name, metric, mode, total, show_lines, not is_watched, terminal_writer()))
        return [*observers, CallbackObserver(self._run_config.callbacks)]


def _grid_of(table: TrialTable, settings: SweepSettings, folder: Path) -> ResultGrid:
    trials = list(table)
    return ResultGrid(
        [_result_of(trial) for trial in trials],
        [trial.summaries for trial in trials],
        settings.metric,
        settings.mode,
        str(folder),
    )


def _result_of(trial: Trial) -> Result:
    kept = [(Checkpoint(f"{trial.folder}/{entry.name}"), entry.metrics) for entry in trial.checkpoints.entries()]
    return Result(
        metrics=trial.last_result,
        checkpoint=kept[-1][0] if kept else None,
        error=with_remote_traceback(trial.error, trial.error_details) if trial.error is not None else None,
        path=trial.folder,
        config=trial.config,
        best_checkpoints=kept,
    )
