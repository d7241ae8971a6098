"""Aim: every trial as a run in an Aim repository, written from the driver.

The library is imported when a callback is made. Source: the surface of Ray's `ray.tune.logger.aim`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raybook.ml.core.metrics import flatten
from raybook.tune.core.trial_table import Trial
from raybook.tune.logger.library import library
from raybook.tune.logger.logger import LoggerCallback
from raybook.tune.logger.report_values import finite_numbers, step_of

NOT_TRACKED = frozenset({"pid", "timestamp", "time_total_s", "training_iteration", "context", "epoch"})


class AimLoggerCallback(LoggerCallback):
    """Logs trials to Aim. Raises MissingLibraryError without the package.

    repo: the repository, or its path; the run's folder by default. experiment_name: of the runs; the sweep's by default.
    metrics: the ones to track, all if None. Everything else is passed to `aim.Run`. A report's "context" and "epoch" are
    passed on as Aim's own.
    """

    def __init__(
        self,
        repo: Any | None = None,
        experiment_name: str | None = None,
        metrics: Sequence[str] | None = None,
        **aim_run_kwargs: Any,
    ) -> None:
        library("aim", "aim", type(self).__name__)
        self._repo = repo
        self._experiment_name = experiment_name
        if not (metrics is None or isinstance(metrics, (list, tuple))):
            raise TypeError(f"`metrics` must be a list of names or None, not {metrics!r}.")
        self._metrics = set(metrics) if metrics else None
        self._arguments = aim_run_kwargs
        self._runs: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runs": {}}

    def log_trial_start(self, trial: Trial) -> None:
        if trial.trial_id in self._runs:
            self._runs[trial.trial_id].close()  # The trial begins again.
        aim = library("aim", "aim", type(self).__name__)
        sweep = Path(trial.folder).parent
        name = self._experiment_name or sweep.name
        run = aim.Run(repo=self._repo or str(sweep), experiment=name, **self._arguments)
        run["trial_id"], run["trial_name"], run["trial_log_dir"] = trial.trial_id, str(trial), trial.folder
        kinds = (bool, int, float, str, list)
        run["hparams"] = {key: value for key, value in flatten(trial.evaluated_params).items() if type(value) in kinds}
        self._runs[trial.trial_id] = run

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        run, step = self._runs[trial.trial_id], step_of(result)
        for name, value in finite_numbers(result).items():
            if name not in NOT_TRACKED and (self._metrics is None or name in self._metrics):
                run.track(
                    value=value,
                    name=f"ray/tune/{name}",
                    epoch=result.get("epoch"),
                    step=step,
                    context=result.get("context"),
                )

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        run = self._runs.pop(trial.trial_id, None)
        if run is not None:
            run.close()


__all__ = ["AimLoggerCallback"]
