"""tune.run: the older, one-call entrance to a sweep, and its list form.

A thin translation to `Tuner`; both run the same way.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.error import TuneError
from raybook.tune.experiment_analysis import ExperimentAnalysis
from raybook.tune.registry import resolve_trainable
from raybook.tune.run_place import RunPlace
from raybook.tune.schedulers import create_scheduler
from raybook.tune.search import create_searcher
from raybook.tune.trainable_spec import with_resources
from raybook.tune.tune_config import ResumeConfig, TuneConfig
from raybook.tune.tuner import Tuner


@dataclass
class Experiment:
    """A sweep as a record, for `run_experiments`. run: a trainable, or the name of a registered one."""

    name: str
    run: Any
    stop: Any = None
    time_budget_s: float | datetime.timedelta | None = None
    config: Mapping[str, Any] | None = None
    resources_per_trial: Any = None
    num_samples: int = 1
    storage_path: str | None = None
    checkpoint_config: CheckpointConfig | None = None
    trial_name_creator: Callable[[Any], str] | None = None
    trial_dirname_creator: Callable[[Any], str] | None = None
    log_to_file: bool | str | tuple[str, str] = False
    max_failures: int = 0

    @classmethod
    def from_json(cls, name: str, spec: Mapping[str, Any]) -> Experiment:
        """Return the experiment of a dict {"run": …, "config": …, …}. Raises TuneError without "run"."""
        if "run" not in spec:
            raise TuneError(f"Experiment {name!r} names nothing to run: give it a key 'run'.")
        known = {each.name for each in fields(cls)}
        return cls(name, **{key: value for key, value in spec.items() if key in known and key != "name"})


def run(
    run_or_experiment: Any,
    *,
    name: str | None = None,
    metric: str | None = None,
    mode: str | None = None,
    stop: Any = None,
    time_budget_s: float | datetime.timedelta | None = None,
    config: Mapping[str, Any] | None = None,
    resources_per_trial: Any = None,
    num_samples: int = 1,
    storage_path: str | None = None,
    storage_filesystem: Any | None = None,
    search_alg: Searcher | str | None = None,
    scheduler: TrialScheduler | str | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    verbose: int | None = None,
    progress_reporter: Any | None = None,
    log_to_file: bool | str | tuple[str, str] = False,
    trial_name_creator: Callable[[Any], str] | None = None,
    trial_dirname_creator: Callable[[Any], str] | None = None,
    sync_config: Any | None = None,
    export_formats: Sequence[str] | None = None,
    max_failures: int = 0,
    fail_fast: bool | str = False,
    restore: str | None = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Any] | None = None,
    max_concurrent_trials: int | None = None,
    keep_checkpoints_num: int | None = None,
    checkpoint_score_attr: str | None = None,
    checkpoint_freq: int = 0,
    checkpoint_at_end: bool = False,
    local_dir: str | None = None,
) -> ExperimentAnalysis:
    """Run a sweep; the arguments are those of Tuner, TuneConfig and RunConfig in one list.

    scheduler, search_alg: objects, or names of create_scheduler and create_searcher. resume: True, "AUTO" (if there is
    such a run) or "ERRORED_ONLY" goes on with the run of this name and storage_path. Raises TuneError if any trial failed,
    unless raise_on_failed_trial is False.
    """
    if isinstance(run_or_experiment, Experiment):
        experiment = run_or_experiment
        arguments = {each.name: getattr(experiment, each.name) for each in fields(Experiment) if each.name != "run"}
        return run(
            experiment.run, **arguments, metric=metric, mode=mode, search_alg=search_alg, scheduler=scheduler,
            verbose=verbose, callbacks=callbacks, raise_on_failed_trial=raise_on_failed_trial, fail_fast=fail_fast,
            reuse_actors=reuse_actors, max_concurrent_trials=max_concurrent_trials,
        )  # fmt: skip
    if local_dir is not None:
        raise DeprecationWarning("tune.run(local_dir=...) is deprecated: set storage_path instead.")
    if restore is not None or export_formats:
        warnings.warn("tune.run(restore=, export_formats=) are not supported by raybook and ignored.", stacklevel=2)
    trainable = resolve_trainable(run_or_experiment)
    if resources_per_trial is not None:
        trainable = with_resources(trainable, resources_per_trial)
    keep = checkpoint_config or CheckpointConfig(
        num_to_keep=keep_checkpoints_num,
        checkpoint_score_attribute=(checkpoint_score_attr or "").removeprefix("min-") or None,
        checkpoint_score_order="min" if (checkpoint_score_attr or "").startswith("min-") else "max",
        checkpoint_frequency=checkpoint_freq,
        checkpoint_at_end=checkpoint_at_end,
    )
    tuner = _resumed(trainable, name, storage_path, storage_filesystem, resume, resume_config) or Tuner(
        trainable,
        param_space=config,
        tune_config=TuneConfig(
            metric=metric,
            mode=mode,
            search_alg=create_searcher(search_alg) if isinstance(search_alg, str) else search_alg,
            scheduler=create_scheduler(scheduler) if isinstance(scheduler, str) else scheduler,
            num_samples=num_samples,
            max_concurrent_trials=max_concurrent_trials,
            time_budget_s=time_budget_s,
            reuse_actors=reuse_actors,
            trial_name_creator=trial_name_creator,
            trial_dirname_creator=trial_dirname_creator,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage_path,
            storage_filesystem=storage_filesystem,
            stop=stop,
            verbose=verbose,
            failure_config=FailureConfig(max_failures=max_failures, fail_fast=fail_fast),
            checkpoint_config=keep,
            callbacks=callbacks or (),
            progress_reporter=progress_reporter,
            log_to_file=log_to_file,
            sync_config=sync_config,
        ),
    )
    analysis = tuner.run()
    failed = [trial for trial in analysis.trials if trial.error is not None]
    if failed and raise_on_failed_trial:
        raise TuneError("Trials did not complete", failed) from failed[0].error
    return analysis


def run_experiments(
    experiments: Experiment | Mapping[str, Any] | Sequence[Any],
    scheduler: TrialScheduler | None = None,
    verbose: int | None = None,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Any] | None = None,
    **options: Any,
) -> list[Any]:
    """Run several sweeps one after the other and return all their trials. experiments: records, or {name: dict}."""
    if isinstance(experiments, Mapping):
        listed = [Experiment.from_json(name, spec) for name, spec in experiments.items()]
    else:
        listed = [experiments] if isinstance(experiments, Experiment) else list(experiments)
    for experiment in listed:
        if not isinstance(experiment, Experiment):
            raise TuneError(f"Invalid experiment: {experiment!r}. Give an Experiment, a list of them, or a dict.")
    trials: list[Any] = []
    for experiment in listed:
        done = run(
            experiment, scheduler=scheduler, verbose=verbose, callbacks=callbacks,
            raise_on_failed_trial=raise_on_failed_trial, **options,
        )  # fmt: skip
        trials += done.trials
    return trials


def _resumed(
    trainable: Any,
    name: str | None,
    storage_path: str | None,
    filesystem: Any,
    resume: bool | str | None,
    config: ResumeConfig | None,
) -> Tuner | None:
    if not resume and config is None:
        return None
    if name is None:
        raise ValueError("tune.run(resume=...) needs the name of the run to go on with.")
    place = RunPlace.of(storage_path, name, filesystem)
    path, filesystem = place.path, place.filesystem
    if not Tuner.can_restore(path, filesystem):
        if str(resume).startswith("AUTO"):
            return None
        raise ValueError(f"There is no run at {path!r} to resume. resume='AUTO' begins a new one then.")
    words = str(resume).upper()
    return Tuner.restore(
        path,
        trainable,
        resume_unfinished="ERRORED_ONLY" not in words,
        resume_errored="ERRORED" in words and "RESTART" not in words,
        restart_errored="RESTART_ERRORED" in words,
        storage_filesystem=filesystem,
        _resume_config=config,
    )
