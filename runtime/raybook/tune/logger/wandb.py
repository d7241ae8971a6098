"""Weights & Biases: every trial as a run, written from the driver; or a run that the trial writes itself.

Runs are opened beside each other in one process (`reinit="create_new"`), which wandb can do since 0.19.10. The library is
imported when a callback is made.
Source: the surface of Ray's `ray.air.integrations.wandb`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raybook.ml.core.metrics import flatten
from raybook.tune.core.trial_table import Trial
from raybook.tune.logger.library import library
from raybook.tune.logger.logger import LoggerCallback
from raybook.tune.logger.own_run import Nothing, context_of_run, trial_name_of
from raybook.tune.logger.report_values import finite_numbers, step_of
from raybook.tune.trial import checkpoint_of

KEY_VARIABLE = "WANDB_API_KEY"
PROJECT_VARIABLE = "WANDB_PROJECT_NAME"
GROUP_VARIABLE = "WANDB_GROUP_NAME"
UPLOAD_TIMEOUT_S = 1800


class WandbLoggerCallback(LoggerCallback):
    """Logs trials to Weights & Biases. Raises MissingLibraryError without the package.

    project, group: of the runs; by default those of WANDB_PROJECT_NAME and WANDB_GROUP_NAME, and the sweep's folder as
    group. api_key, api_key_file: one of them, else WANDB_API_KEY or a login made before. excludes: metrics left out.
    log_config: log the configuration with every report, too. upload_checkpoints: keep each as an artifact. Everything
    else is passed to `wandb.init`; upload_timeout, video_kwargs and image_kwargs are accepted and without effect.
    """

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        api_key_file: str | None = None,
        api_key: str | None = None,
        excludes: Sequence[str] | None = None,
        log_config: bool = False,
        upload_checkpoints: bool = False,
        save_checkpoints: bool = False,
        upload_timeout: int = UPLOAD_TIMEOUT_S,
        video_kwargs: Mapping[str, Any] | None = None,
        image_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        library("wandb", "wandb", type(self).__name__)
        self.project = project or os.environ.get(PROJECT_VARIABLE) or "raybook"
        self.group = group or os.environ.get(GROUP_VARIABLE)
        self.excludes = set(excludes or ())
        self.log_config = log_config
        self.upload_checkpoints = upload_checkpoints or save_checkpoints
        self.kwargs = kwargs
        self._key = (api_key, api_key_file)
        self._runs: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runs": {}, "_key": (None, self._key[1])}

    def setup(self, *args: Any, **info: Any) -> None:
        use_key(*self._key)

    def log_trial_start(self, trial: Trial) -> None:
        if trial.trial_id in self._runs:
            return
        wandb = library("wandb", "wandb", type(self).__name__)
        settings = {
            "id": trial.trial_id,
            "name": str(trial),
            "resume": "allow",
            "reinit": "create_new",
            "project": self.project,
            "group": self.group or Path(trial.folder).parent.name,
            "dir": trial.folder,
            "config": plain_values(trial.config),
        }
        self._runs[trial.trial_id] = wandb.init(**{**settings, **self.kwargs})

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        self.log_trial_start(trial)
        logged: dict[str, Any] = {
            name: value for name, value in finite_numbers(result).items() if name not in self.excludes
        }
        if self.log_config:
            logged |= {f"config/{name}": value for name, value in plain_values(trial.config).items()}
        self._runs[trial.trial_id].log(logged, step=step_of(result))

    def log_trial_save(self, trial: Trial) -> None:
        latest = trial.checkpoints.latest()
        if not self.upload_checkpoints or latest is None or trial.trial_id not in self._runs:
            return
        wandb = library("wandb", "wandb", type(self).__name__)
        artifact = wandb.Artifact(name=f"checkpoint_{trial}", type="model")
        with checkpoint_of(trial, latest.name).as_directory() as folder:
            artifact.add_dir(folder)
            self._runs[trial.trial_id].log_artifact(artifact)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        run = self._runs.pop(trial.trial_id, None)
        if run is not None:
            run.finish(exit_code=int(failed))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        for run in self._runs.values():
            run.finish()
        self._runs.clear()


def use_key(api_key: str | None, api_key_file: str | None) -> None:
    """Put the key where wandb looks for it. Raises ValueError for both, and for a file that is not there."""
    if api_key and api_key_file:
        raise ValueError("Both WandB `api_key_file` and `api_key` set: give one.")
    if api_key_file:
        file = Path(api_key_file).expanduser()
        if not file.is_file():
            raise ValueError(f"There is no file {str(file)!r} to read the key of Weights & Biases from.")
        api_key = file.read_text().strip()
    if api_key:
        os.environ[KEY_VARIABLE] = api_key


def plain_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration flat, with what wandb can show as it is and the rest as text."""
    kinds = (bool, int, float, str, type(None), list, tuple)
    return {name: value if isinstance(value, kinds) else str(value) for name, value in flatten(config).items()}


def setup_wandb(
    config: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    api_key_file: str | None = None,
    rank_zero_only: bool = True,
    **kwargs: Any,
) -> Any:
    """Start a run of Weights & Biases inside a trial or a training function, and return it. kwargs: of `wandb.init`.

    Other ranks than the first get an object on which every call does nothing, unless rank_zero_only is False. Raises
    MissingLibraryError without the package.
    """
    wandb = library("wandb", "wandb", "setup_wandb")
    context = context_of_run()
    if rank_zero_only and context is not None and (context.get_world_rank() or 0) != 0:
        return Nothing()
    use_key(api_key, api_key_file)
    settings: dict[str, Any] = {"config": plain_values(config or {}), "resume": "allow"}
    if context is not None:
        settings |= {"name": trial_name_of(context), "group": context.get_experiment_name()}
        settings["project"] = os.environ.get(PROJECT_VARIABLE) or "raybook"
    return wandb.init(**{**settings, **kwargs})


__all__ = ["WandbLoggerCallback", "setup_wandb"]
