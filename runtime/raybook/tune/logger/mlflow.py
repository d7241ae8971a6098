"""MLflow: every trial as a run of an MLflow experiment, written from the driver; or a run that the trial writes itself.

Uses MLflow's client alone, so several trials' runs are open at once. The library is imported when a callback is made.
Source: the surface of Ray's `ray.air.integrations.mlflow`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import flatten
from raybook.tune.core.trial_table import Trial
from raybook.tune.logger.library import library
from raybook.tune.logger.logger import LoggerCallback
from raybook.tune.logger.own_run import Nothing, context_of_run, trial_name_of
from raybook.tune.logger.report_values import finite_numbers, step_of

TOKEN_VARIABLE = "MLFLOW_TRACKING_TOKEN"


class MLflowLoggerCallback(LoggerCallback):
    """Logs trials to MLflow. Raises MissingLibraryError without the package.

    tracking_uri, registry_uri: passed to MLflow. experiment_name: found by name or made. tags: of every run.
    tracking_token: for the server. save_artifact: keep each trial's folder as an artifact at its end.
    log_params_on_trial_end: log the configuration at the end instead of at the start.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        registry_uri: str | None = None,
        experiment_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        tracking_token: str | None = None,
        save_artifact: bool = False,
        log_params_on_trial_end: bool = False,
    ) -> None:
        library("mlflow", "mlflow", type(self).__name__)
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri
        self.experiment_name = experiment_name
        self.tags = dict(tags or {})
        self.tracking_token = tracking_token
        self.should_save_artifact = save_artifact
        self.log_params_on_trial_end = log_params_on_trial_end
        self._client: Any = None
        self._experiment_id = ""
        self._runs: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def setup(self, *args: Any, **info: Any) -> None:
        if self.tracking_token:
            os.environ[TOKEN_VARIABLE] = self.tracking_token
        mlflow = library("mlflow", "mlflow", type(self).__name__)
        self._client = mlflow.tracking.MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)
        self._experiment_id = experiment_of(self._client, self.experiment_name or "Default", makes=True)

    def log_trial_start(self, trial: Trial) -> None:
        if trial.trial_id not in self._runs:
            tags = {**self.tags, "trial_name": str(trial)}
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=str(trial))
            self._runs[trial.trial_id] = run.info.run_id
            if not self.log_params_on_trial_end:
                self._log_params(trial)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        run, step = self._runs[trial.trial_id], step_of(result)
        for name, value in finite_numbers(result).items():
            self._client.log_metric(run, name, value, step=step)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        run = self._runs.get(trial.trial_id)
        if run is None:
            return  # It failed before it began.
        if self.should_save_artifact:
            self._client.log_artifacts(run, trial.folder)
        if self.log_params_on_trial_end:
            self._log_params(trial)
        self._client.set_terminated(run, status="FAILED" if failed else "FINISHED")

    def _log_params(self, trial: Trial) -> None:
        for name, value in flatten(trial.config).items():
            self._client.log_param(self._runs[trial.trial_id], name, value)


def experiment_of(client: Any, name: str, makes: bool, artifact_location: str | None = None) -> str:
    """Return the id of the experiment of this name. makes: make it if there is none. Raises ValueError otherwise."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    if not makes:
        raise ValueError(
            f"MLflow has no experiment named {name!r}. Give the name of one that it has, or pass "
            "create_experiment_if_not_exists=True."
        )
    return client.create_experiment(name, artifact_location=artifact_location)


def setup_mlflow(
    config: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    tracking_token: str | None = None,
    artifact_location: str | None = None,
    run_name: str | None = None,
    create_experiment_if_not_exists: bool = False,
    tags: Mapping[str, Any] | None = None,
    rank_zero_only: bool = True,
) -> Any:
    """Start an MLflow run inside a trial or a training function, log config as its parameters, and return `mlflow`.

    Other ranks than the first get an object on which every call does nothing, unless rank_zero_only is False. Raises
    MissingLibraryError without the package, ValueError for an experiment that does not exist.
    """
    mlflow = library("mlflow", "mlflow", "setup_mlflow")
    context = context_of_run()
    if rank_zero_only and context is not None and (context.get_world_rank() or 0) != 0:
        return Nothing()
    trial_name = trial_name_of(context)
    if tracking_token:
        os.environ[TOKEN_VARIABLE] = tracking_token
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    if registry_uri:
        mlflow.set_registry_uri(registry_uri)
    name = experiment_name or trial_name
    if experiment_id is None:
        if name is None:
            raise ValueError("setup_mlflow() outside of a trial needs an experiment_name or an experiment_id.")
        makes = create_experiment_if_not_exists
        client = mlflow.tracking.MlflowClient()
        experiment_id = experiment_of(client, name, makes, artifact_location)
    mlflow.start_run(experiment_id=experiment_id, run_name=run_name or name, tags=dict(tags or {}))
    if config:
        mlflow.log_params(flatten(config))
    return mlflow


__all__ = ["MLflowLoggerCallback", "setup_mlflow"]
