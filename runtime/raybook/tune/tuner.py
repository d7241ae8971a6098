"""Tuner: the user's entrance to a sweep.

Puts the parts together, runs the controller in the calling process, and hands the results over; or reads a run that was
cut off and goes on with it. Decides nothing.
"""

from __future__ import annotations

import os
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cloudpickle

from raybook.ml.core.metrics import flatten
from raybook.ml.run_config import RunConfig
from raybook.ml.storage import write_bytes_atomically
from raybook.tune.actor_executor import ActorTrialExecutor
from raybook.tune.callback import CallbackObserver
from raybook.tune.controller import TuneController
from raybook.tune.core.space import is_grid
from raybook.tune.core.stopper import make_stopper
from raybook.tune.core.trial_table import Trial
from raybook.tune.core.variants import leaves
from raybook.tune.executor import TrialExecutor
from raybook.tune.experiment_analysis import ExperimentAnalysis
from raybook.tune.experiment_state import TUNER_FILE
from raybook.tune.interrupt import graceful_interrupt
from raybook.tune.registry import resolve_trainable
from raybook.tune.result_grid import ResultGrid
from raybook.tune.run_place import RunPlace
from raybook.tune.saved_sweep import (
    RESTART,
    RESUME,
    SKIP,
    SavedSweep,
    check_same_space,
    prepare_trial,
    read_sweep,
    read_tuner,
)
from raybook.tune.steered_runs import steered
from raybook.tune.sweep_assembly import (
    check_checkpoints,
    make_observers,
    make_settings,
    prepare_scheduler,
    prepare_search,
)
from raybook.tune.trainable_spec import TrainableSpec
from raybook.tune.trial_folder import TrialFolders
from raybook.tune.tune_config import ResumeConfig, TuneConfig


class Tuner:
    """A sweep of a trainable over a search space.

    trainable: a function of the configuration that calls `tune.report`, or a `tune.Trainable` class; both may be
    wrapped by `with_resources` and `with_parameters`, or named by `register_trainable`. param_space: a dict, nested as
    you like, of values and domains.
    """

    def __init__(
        self,
        trainable: Callable[..., Any] | type | TrainableSpec | str | None = None,
        *,
        param_space: Mapping[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> None:
        self._spec = resolve_trainable(trainable)
        if param_space is not None and not isinstance(param_space, Mapping):
            raise TypeError(f"param_space must be a dict of parameters, not {param_space!r}.")
        self._param_space = dict(param_space or {})
        self._tune_config = tune_config or TuneConfig()
        self._run_config = run_config or RunConfig()
        self._saved: SavedSweep | None = None
        self._place: RunPlace | None = None
        self._analysis: ExperimentAnalysis | None = None

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        trainable: Callable[..., Any] | type | TrainableSpec | str,
        resume_unfinished: bool = True,
        resume_errored: bool = False,
        restart_errored: bool = False,
        param_space: Mapping[str, Any] | None = None,
        storage_filesystem: Any | None = None,
        _resume_config: ResumeConfig | None = None,
    ) -> Tuner:
        """Return a Tuner whose fit() goes on with the run at path, the folder of RunConfig's storage_path and name.

        trainable: the same as before; it is not stored. resume_unfinished: go on with trials that were cut off, from
        their last checkpoints. resume_errored, restart_errored: go on with failed trials, from their last checkpoints
        or anew. param_space: again, if it holds things that could not be stored; it must have the same parameters.
        Raises RuntimeError if there is no run at path, ValueError for another trainable or search space.
        """
        place = RunPlace.at(path, storage_filesystem)
        place.pull()
        stored = read_tuner(place)
        spec = resolve_trainable(trainable)
        if spec.name != stored["trainable"]:
            raise ValueError(
                f"Invalid trainable in Tuner.restore(): the run at {place.path!r} was made with "
                f"{stored['trainable']!r}, and {spec.name!r} was given. Give the same one."
            )
        if param_space is not None:
            check_same_space(stored["param_space"], param_space, _flat_names)
        run_config: RunConfig = stored["run_config"]
        run_config.name, run_config.storage_path = place.folder.name, place.root
        run_config.storage_filesystem = place.filesystem
        tuner = cls(
            spec,
            param_space=param_space if param_space is not None else stored["param_space"],
            tune_config=stored["tune_config"],
            run_config=run_config,
        )
        tuner._place = place
        tuner._saved = read_sweep(place.folder, place.storage)
        if tuner._saved is not None:
            chosen = _resume_config or ResumeConfig(
                unfinished=RESUME if resume_unfinished else SKIP,
                errored=RESUME if resume_errored else RESTART if restart_errored else SKIP,
            )
            # What get_results() shows before fit(): the trials as they are on disk.
            as_they_were = read_sweep(place.folder, place.storage)
            tuner._analysis = tuner._analysis_of(as_they_were.trials if as_they_were else [], place)
            choices = (chosen.unfinished, chosen.errored, chosen.finished)
            words = [str(getattr(choice, "value", choice)) for choice in choices]
            for trial in tuner._saved.trials:
                prepare_trial(trial, *words)
        return tuner

    @classmethod
    def can_restore(cls, path: str | os.PathLike[str], storage_filesystem: Any | None = None) -> bool:
        """Ask whether a run lies at path that restore() could go on with."""
        return RunPlace.at(path, storage_filesystem).has(TUNER_FILE)

    def fit(self) -> ResultGrid:
        """Run the sweep and return its results; trials that failed are among them.

        Blocks until the last trial has ended. An interrupt ends the sweep and returns what there is. Raises TuneError
        for a sweep that cannot be run as asked, StorageNotWritableError if nothing can be stored.
        """
        return self.run().grid()

    def run(self) -> ExperimentAnalysis:
        """Like fit(), with the results as `tune.run` returns them."""
        check_checkpoints(self._spec, self._run_config)
        config, run_config, saved = self._tune_config, self._run_config, self._saved
        machines: dict[str, Any] = saved.machines if saved is not None else {}
        stopper = machines.get("stopper") or make_stopper(run_config.stop)
        scheduler = machines.get("scheduler") or prepare_scheduler(config)
        plan = prepare_search(config, self._param_space) if machines.get("searcher") is None else machines["searcher"]
        name = run_config.name or f"{self._spec.name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
        place = self._place or RunPlace.of(run_config.storage_path, name, run_config.storage_filesystem)
        self._place = None
        place.prepare()
        prefix = saved.header["id_prefix"] if saved is not None else secrets.token_hex(3)
        settings = make_settings(
            self._spec, self._param_space, plan.constants, config, run_config, name, place.root, prefix
        )
        if saved is None:
            self._store(place.folder)
        started_s = time.monotonic() - (saved.elapsed_ms / 1000 if saved is not None else 0.0)
        folders = TrialFolders(place, config.trial_dirname_creator)

        def kept() -> dict[str, Any]:
            return {"stopper": stopper, "scheduler": scheduler, "searcher": plan, "source": controller.source_state()}

        run_id = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
        observers = make_observers(settings, run_config, place, run_id, plan.total, stopper, kept)
        controller = TuneController(
            settings,
            plan.searcher,
            scheduler,
            stopper,
            self._make_executor(),
            folders,
            now_ms=lambda: round((time.monotonic() - started_s) * 1000),
            observers=[folders, *observers],
        )
        if saved is not None:
            for observer in observers:
                if isinstance(observer, CallbackObserver):
                    observer.set_state(machines.get("callbacks"))
            controller.take_over(
                saved.trials,
                machines.get("source"),
                is_new_scheduler=machines.get("scheduler") is None,
                is_new_searcher=machines.get("searcher") is None,
            )
            self._saved = None
        try:
            with steered(run_id, name, controller), graceful_interrupt(controller.interrupt):
                controller.run()
        finally:
            # Finished trials stay at hand (`get_results`) also when the sweep ended in an error.
            self._analysis = self._analysis_of(list(controller.table), place)
            place.discard()
        if controller.halt_reason is not None and (run_config.verbose is None or run_config.verbose):
            print(f"[{name}] ended early: {controller.halt_reason}. Results so far are in {place.path}.")
        return self._analysis

    def get_results(self) -> ResultGrid:
        """Return the results of the last fit(), or of the run that was restored. Raises RuntimeError if there are none."""
        if self._analysis is None:
            raise RuntimeError("This Tuner has no results yet: call fit() first.")
        return self._analysis.grid()

    def _analysis_of(self, trials: list[Trial], place: RunPlace) -> ExperimentAnalysis:
        metric, mode = self._tune_config.metric, self._tune_config.mode
        return ExperimentAnalysis(
            place.path, storage_filesystem=place.filesystem, trials=trials, default_metric=metric, default_mode=mode
        )

    def _make_executor(self) -> TrialExecutor:
        return ActorTrialExecutor(self._spec, self._tune_config.reuse_actors)

    def _store(self, folder: Path) -> None:
        """Keep what restore() needs. What cannot be pickled is a warning: the run itself does not need it."""
        stored = {
            "trainable": self._spec.name,
            "param_space": self._param_space,
            "tune_config": self._tune_config,
            # A filesystem may hold the keys of the storage; restore() is told it anew.
            "run_config": replace(self._run_config, storage_filesystem=None),
        }
        try:
            data = cloudpickle.dumps(stored)
        except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything.
            warnings.warn(
                f"This run cannot be restored later, because its configuration cannot be pickled "
                f"({type(error).__name__}: {error}). It runs all the same.",
                stacklevel=4,
            )
            return
        write_bytes_atomically(folder / TUNER_FILE, data)


def _flat_names(space: Mapping[str, Any]) -> set[str]:
    """Return the names of all parameters, nested ones as 'a/b'; a grid counts as one."""
    names = {"/".join(str(part) for part in path) for path, value in leaves(space) if path or not is_grid(value)}
    return names | set(flatten({name: None for name in space if not isinstance(space[name], (Mapping, list, tuple))}))
