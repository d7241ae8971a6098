"""Sweep assembly: makes the parts of a sweep from what the user configured, and checks that they fit together.

Decides defaults, and which combinations are refused. Runs nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raybook import api
from raybook.ml.run_config import RunConfig
from raybook.tune.callback import CallbackObserver
from raybook.tune.core.concurrency_limiter import ConcurrencyLimiter
from raybook.tune.core.scheduler import FIFOScheduler, TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.core.space import Domain, is_grid
from raybook.tune.core.stopper import Stopper
from raybook.tune.core.variants import leaves
from raybook.tune.experiment_state import ExperimentStateFile
from raybook.tune.facts import FactPublisher
from raybook.tune.observer import SweepObserver
from raybook.tune.progress import ProgressReporter, has_panels, is_noninteractive, terminal_writer
from raybook.tune.run_place import PlaceKeeper, RunPlace
from raybook.tune.schedulers import ResourceChangingScheduler
from raybook.tune.search.basic_variant import BasicVariantGenerator
from raybook.tune.sweep_settings import SweepSettings
from raybook.tune.trainable_spec import TrainableSpec
from raybook.tune.trial_output import log_files_of
from raybook.tune.tune_config import TuneConfig

# As Ray names it: 0 leaves trials in the folder that their process was started in.
CHANGE_FOLDER_VARIABLE = "RAY_CHDIR_TO_TRIAL_DIR"
ANONYMOUS_METRIC = "_metric"


@dataclass
class SearchPlan:
    """A searcher that is ready to suggest. total: how many trials there will be, None if nobody knows."""

    searcher: Searcher
    total: int | None
    constants: Mapping[str, Any]


def prepare_scheduler(config: TuneConfig) -> TrialScheduler:
    """Return the scheduler with its metric and mode. Raises ValueError for what does not fit."""
    scheduler = config.scheduler or FIFOScheduler()
    if not scheduler.set_search_properties(config.metric, config.mode):
        raise ValueError(
            f"TuneConfig says metric={config.metric!r}, mode={config.mode!r}, and {type(scheduler).__name__} says "
            f"metric={scheduler.metric!r}, mode={scheduler.mode!r}. Set them in one place; if this scheduler was "
            "used by another sweep, make a new one."
        )
    if scheduler.needs_metric and scheduler.metric is None and scheduler.mode is not None:
        scheduler.metric = ANONYMOUS_METRIC
    if scheduler.needs_metric and (scheduler.metric is None or scheduler.mode is None):
        raise ValueError(
            f"{type(scheduler).__name__} compares trials and needs a metric and a mode: set both in TuneConfig."
        )
    if config.reuse_actors and isinstance(scheduler, ResourceChangingScheduler):
        raise ValueError("ResourceChangingScheduler needs a process of its own for each size: set reuse_actors=False.")
    if scheduler.replaces_search and not (config.search_alg is None or innermost(config.search_alg).counts_trials):
        raise ValueError(
            f"Search algorithms cannot be used with {type(scheduler).__name__}, which changes configurations while trials "
            f"run. Leave out {type(config.search_alg).__name__}."
        )
    return scheduler


def innermost(searcher: Searcher) -> Searcher:
    """Return the searcher inside limiters."""
    while isinstance(searcher, ConcurrencyLimiter):
        searcher = searcher.searcher
    return searcher


def prepare_search(config: TuneConfig, space: Mapping[str, Any]) -> SearchPlan:
    """Return the searcher, ready for this space. Raises ValueError if it does not take it."""
    searcher = config.search_alg if config.search_alg is not None else BasicVariantGenerator()
    spec = {"num_samples": config.num_samples}
    constants: Mapping[str, Any] = {}
    if not searcher.set_search_properties(config.metric, config.mode, space, **spec):
        is_open = any(isinstance(value, Domain) or is_grid(value) for _, value in leaves(space))
        if is_open or isinstance(innermost(searcher), BasicVariantGenerator):
            raise ValueError(
                f"{type(searcher).__name__} did not take this param_space, metric or mode: it has its own, or was used "
                "by another sweep. Set the space in one place, and make a new searcher for a new sweep."
            )
        # A searcher with its own space: what param_space fixes goes into every configuration.
        constants = space
        if searcher.metric is None and config.metric is not None:
            searcher.metric = config.metric
        if searcher.mode is None and config.mode is not None:
            searcher.mode = config.mode
    inner = innermost(searcher)
    if inner.counts_trials:
        return SearchPlan(searcher, inner.total_samples, constants)
    return SearchPlan(searcher, None if config.num_samples < 0 else config.num_samples, constants)


def check_checkpoints(spec: TrainableSpec, run_config: RunConfig) -> None:
    """Raise ValueError for checkpoint options that a function trainable cannot follow."""
    keep = run_config.checkpoint_config
    if spec.is_class:
        return
    for name, is_set in (
        ("checkpoint_frequency", keep.checkpoint_frequency > 0),
        ("checkpoint_at_end", bool(keep.checkpoint_at_end)),
    ):
        if is_set:
            raise ValueError(
                f"'{name}' cannot be used with a function trainable: raybook cannot know when its state is whole. Call "
                "tune.report(metrics, checkpoint=...) in it where you want one."
            )


def make_settings(
    spec: TrainableSpec,
    space: Mapping[str, Any],
    constants: Mapping[str, Any],
    config: TuneConfig,
    run_config: RunConfig,
    name: str,
    storage_path: str,
    id_prefix: str,
) -> SweepSettings:
    """Return what the controller goes by."""
    budget_s: Any = config.time_budget_s
    return SweepSettings(
        experiment_name=name,
        metric=config.metric,
        mode=config.mode,
        num_samples=None if config.num_samples < 0 else config.num_samples,
        max_concurrent_trials=config.max_concurrent_trials or None,
        time_budget_ms=None if budget_s is None else round(budget_s * 1000),
        failure_config=run_config.failure_config,
        checkpoint_config=run_config.checkpoint_config,
        param_space=space,
        constants=constants,
        storage_path=storage_path,
        log_files=log_files_of(run_config.log_to_file),
        changes_folder=os.environ.get(CHANGE_FOLDER_VARIABLE, "1") != "0",
        trial_id_prefix=id_prefix,
        trial_name=config.trial_name_creator,
        trainable_name=spec.name,
        resources=spec.request_for,
    )


def make_observers(
    settings: SweepSettings,
    run_config: RunConfig,
    place: RunPlace,
    run_id: str,
    total: int | None,
    stopper: Stopper,
    machines: Callable[[], dict[str, Any]],
) -> list[SweepObserver]:
    """Return what follows the sweep: state file, facts, progress, the user's callbacks."""
    metric, mode, name = settings.metric, settings.mode, settings.experiment_name
    header = {"name": name, "metric": metric, "mode": mode, "trainable": settings.trainable_name, "run_id": run_id}
    header["id_prefix"] = settings.trial_id_prefix
    observers: list[SweepObserver] = [
        FactPublisher(api.publish_fact, run_id, name, metric, mode, total, round(time.time() * 1000)),
    ]
    reporter: Any = run_config.progress_reporter
    if reporter is not None:
        observers.append(reporter.as_observer(settings, total))
    elif run_config.verbose is None or run_config.verbose:
        is_watched = has_panels() and not is_noninteractive()
        show_lines = not has_panels() and not is_noninteractive()
        observers.append(ProgressReporter(name, metric, mode, total, show_lines, not is_watched, terminal_writer()))
    callbacks = CallbackObserver(run_config.callbacks, stopper, total, place.folder)
    observers.append(callbacks)
    state = ExperimentStateFile(
        place.folder, run_id, header, lambda: {**machines(), "callbacks": callbacks.get_state()}
    )
    return [*observers, state, *([PlaceKeeper(place)] if place.storage is not None else [])]
