"""Experiment analysis: questions about all trials of a run, from memory or from what it left on disk.

Answers which trial was best, and hands out tables. Knows nothing of how the sweep was run.
Source: the surface of Ray's `ExperimentAnalysis`; pandas is imported when a table is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.core.metrics import SCOPES, WORST, check_mode, flatten, has_metric, is_number, lookup, score
from raybook.ml.result import Result
from raybook.tune.core.trial_table import Trial
from raybook.tune.result_grid import ResultGrid
from raybook.tune.run_place import RunPlace
from raybook.tune.saved_sweep import read_sweep
from raybook.tune.trial import checkpoint_of
from raybook.tune.trial_runner import with_remote_traceback

if TYPE_CHECKING:
    import pandas


class ExperimentAnalysis:
    """The outcome of a run. experiment_checkpoint_path: its folder, or one of the state files in it.

    trials: those of a run in memory; read from the folder if None. default_metric, default_mode: for questions that name
    none. Raises ValueError if no run has left anything there.
    """

    def __init__(
        self,
        experiment_checkpoint_path: str | os.PathLike[str],
        *,
        storage_filesystem: Any | None = None,
        trials: Sequence[Trial] | None = None,
        default_metric: str | None = None,
        default_mode: str | None = None,
    ) -> None:
        if default_mode is not None:
            check_mode(default_mode, "default_mode")
        text = os.fspath(experiment_checkpoint_path)
        place = RunPlace.at(os.path.dirname(text) if text.endswith((".json", ".pkl")) else text, storage_filesystem)
        self._path, self._filesystem = place.path, place.filesystem
        self.default_metric = "_metric" if default_metric is None and default_mode else default_metric
        self.default_mode = default_mode
        if trials is None:
            place.pull()
            saved = read_sweep(place.folder, place.storage)
            place.discard()
            if saved is None:
                raise ValueError(
                    f"No experiment snapshot was found at {self._path!r}. Give the folder of one run, which is the "
                    "`storage_path` and the `name` of its RunConfig together."
                )
            trials = saved.trials
            self.default_metric = self.default_metric or saved.header.get("metric")
            self.default_mode = self.default_mode or saved.header.get("mode")
        self.trials: list[Trial] = list(trials)

    @property
    def experiment_path(self) -> str:
        """The folder of the run."""
        return self._path

    # The best one, by the default metric and mode.

    @property
    def best_trial(self) -> Trial:
        """The trial with the best last value. Raises ValueError without a metric and a mode, or if none has one."""
        best = self.get_best_trial(self._need_metric(None), self._need_mode(None))
        if best is None:
            raise ValueError(f"No trial reported a usable value of {self.default_metric!r}, so none is best.")
        return best

    @property
    def best_config(self) -> dict[str, Any]:
        """Its configuration."""
        return self.best_trial.config

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """Its checkpoint with the best value, None if it has none."""
        return self.get_best_checkpoint(self.best_trial, self.default_metric, self.default_mode)

    @property
    def best_result(self) -> dict[str, Any]:
        """Its last report."""
        return self.best_trial.last_result

    @property
    def best_dataframe(self) -> pandas.DataFrame:
        """Its reports as a table."""
        return self.trial_dataframes[self.best_trial.trial_id]

    @property
    def best_result_df(self) -> pandas.DataFrame:
        """Its last report as a table of one row."""
        import pandas

        return pandas.DataFrame([flatten(self.best_result)]).set_index("trial_id")

    # All of them.

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The last report of every trial, by trial id."""
        return {trial.trial_id: trial.last_result for trial in self.trials}

    @property
    def results_df(self) -> pandas.DataFrame:
        """The last reports as a table, one row a trial."""
        import pandas

        rows = [flatten(trial.last_result) for trial in self.trials if trial.last_result]
        return pandas.DataFrame(rows).set_index("trial_id") if rows else pandas.DataFrame()

    @property
    def trial_dataframes(self) -> dict[str, pandas.DataFrame]:
        """Every trial's reports as a table, by trial id. Cost: one file read a trial."""
        import pandas

        tables = {trial.trial_id: self._result_of(trial).metrics_dataframe for trial in self.trials}
        return {trial_id: pandas.DataFrame() if table is None else table for trial_id, table in tables.items()}

    def get_all_configs(self, prefix: bool = False) -> dict[str, dict[str, Any]]:
        """Return every trial's configuration by trial id; with prefix flat, under 'config/…'."""
        return {t.trial_id: flatten({"config": t.config}) if prefix else t.config for t in self.trials}

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> pandas.DataFrame:
        """Return one row a trial: its last report, or with metric and mode its best one. Needs pandas."""
        if mode is not None:
            check_mode(mode, "mode")
        if mode is not None and metric is None:
            raise ValueError(
                "If a `mode` is passed to `ExperimentAnalysis.dataframe()`, you must also pass a `metric`."
            )
        return self.grid().get_dataframe(metric, (mode or self.default_mode or "max") if metric else None)

    def get_best_trial(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Trial | None:
        """Return the best trial by a metric, None if no trial has a usable value. scope: as in ResultGrid."""
        metric, mode = self._need_metric(metric), self._need_mode(mode)
        if scope not in SCOPES:
            raise ValueError(
                f"ExperimentAnalysis: attempting to get best trial for scope {scope}, not in {list(SCOPES)}."
            )
        best, best_score = None, WORST
        for trial in self.trials:
            if metric not in trial.summaries:
                continue
            value = trial.summaries[metric].value(scope, mode)
            is_usable = value == value and abs(value) != float("inf")
            if (is_usable or not filter_nan_and_inf) and (best is None or score(value, mode) > best_score):
                best, best_score = trial, score(value, mode)
        return best

    def get_best_config(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last"
    ) -> dict[str, Any] | None:
        """Return the configuration of the best trial, None if there is none."""
        best = self.get_best_trial(metric, mode, scope)
        return best.config if best is not None else None

    def get_best_checkpoint(
        self, trial: Trial, metric: str | None = None, mode: str | None = None, return_path: bool = False
    ) -> Any:
        """Return the kept checkpoint of a trial with the best value of a metric, None if it has none."""
        metric, mode = self._need_metric(metric), self._need_mode(mode)
        kept = [
            entry
            for entry in trial.checkpoints.entries()
            if has_metric(entry.metrics, metric) and is_number(lookup(entry.metrics, metric))
        ]
        if not kept:
            return None
        best = max(kept, key=lambda entry: score(lookup(entry.metrics, metric), mode))
        return _checkpoint(trial, best.name, return_path)

    def get_last_checkpoint(
        self, trial: Trial | None = None, metric: str = "training_iteration", mode: str = "max"
    ) -> Any:
        """Return the latest checkpoint of a trial; of the one that is best by metric if None is given."""
        trial = trial or self.get_best_trial(metric, mode)
        latest = trial.checkpoints.latest() if trial is not None else None
        return _checkpoint(trial, latest.name, False) if trial is not None and latest is not None else None

    def grid(self) -> ResultGrid:
        """Return the same run as Tuner.fit() gives it."""
        results = [self._result_of(trial) for trial in self.trials]
        summaries = [trial.summaries for trial in self.trials]
        return ResultGrid(results, summaries, self.default_metric, self.default_mode, self._path, self._filesystem)

    def _result_of(self, trial: Trial) -> Result:
        kept = [(_checkpoint(trial, entry.name, False), entry.metrics) for entry in trial.checkpoints.entries()]
        return Result(
            metrics=dict(trial.last_result),
            checkpoint=kept[-1][0] if kept else None,
            error=with_remote_traceback(trial.error, trial.error_details) if trial.error is not None else None,
            path=trial.folder if self._filesystem is None else f"{self._path}/{Path(trial.folder).name}",
            config=trial.config,
            best_checkpoints=kept,
            _storage_filesystem=self._filesystem,
        )

    def _need_metric(self, metric: str | None) -> str:
        if metric is None and self.default_metric is None:
            raise ValueError("No `metric` has been passed and `default_metric` has not been set. Please specify one.")
        return metric or str(self.default_metric)

    def _need_mode(self, mode: str | None) -> str:
        if mode is None and self.default_mode is None:
            raise ValueError("No `mode` has been passed and `default_mode` has not been set. Please specify one.")
        check_mode(mode or self.default_mode, "mode")
        return mode or str(self.default_mode)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.grid())

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        return repr(self.grid()).replace("ResultGrid", "ExperimentAnalysis", 1)


def _checkpoint(trial: Trial, name: str, as_path: bool) -> Any:
    checkpoint = checkpoint_of(trial, name)
    return checkpoint.path if as_path else checkpoint
