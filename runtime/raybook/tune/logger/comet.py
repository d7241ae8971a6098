"""Comet: every trial as an experiment, written from the driver.

The library is imported when a callback is made. Source: the surface of Ray's `ray.air.integrations.comet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raybook.ml.core.metrics import flatten
from raybook.tune.core.trial_table import Trial
from raybook.tune.logger.library import library
from raybook.tune.logger.logger import LoggerCallback
from raybook.tune.logger.report_values import finite_numbers
from raybook.tune.trial import checkpoint_of

# They slow Comet down or are the driver's, not the trial's; on if asked for.
OFF_BY_DEFAULT = ("auto_output_logging", "log_git_metadata", "log_git_patch", "log_env_cpu", "log_env_gpu")
LEFT_OUT = frozenset({"done", "should_checkpoint"})
OTHERS = ("trial_id", "experiment_id", "experiment_tag")
SYSTEM = ("node_ip", "hostname", "pid", "date")


class CometLoggerCallback(LoggerCallback):
    """Logs trials to Comet. Raises MissingLibraryError without the package.

    online: False writes an offline experiment. tags: of every experiment. save_checkpoints: keep the latest checkpoint as
    an artifact. Everything else is passed to Comet's Experiment or OfflineExperiment.
    """

    def __init__(
        self,
        online: bool = True,
        tags: Sequence[str] | None = None,
        save_checkpoints: bool = False,
        **experiment_kwargs: Any,
    ) -> None:
        library("comet_ml", "comet-ml", type(self).__name__)
        self.online = online
        self.tags = list(tags or ())
        self.save_checkpoints = save_checkpoints
        self.experiment_kwargs = {**dict.fromkeys(OFF_BY_DEFAULT, False), **experiment_kwargs}
        self._experiments: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_experiments": {}}

    def log_trial_start(self, trial: Trial) -> None:
        if trial.trial_id in self._experiments:
            return
        comet = library("comet_ml", "comet-ml", type(self).__name__)
        experiment = (comet.Experiment if self.online else comet.OfflineExperiment)(**self.experiment_kwargs)
        self._experiments[trial.trial_id] = experiment
        # Several are open at once: none of them is the one that Comet's own hooks write to.
        library("comet_ml.config", "comet-ml", type(self).__name__).set_global_experiment(None)
        experiment.set_name(str(trial))
        experiment.add_tags(self.tags)
        experiment.log_other("Created from", "Ray")
        experiment.log_parameters(flatten(trial.config))

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        self.log_trial_start(trial)
        experiment, step = self._experiments[trial.trial_id], int(result.get("training_iteration", 0))
        for name in OTHERS:
            if name in result:
                experiment.log_other(name, result[name])
        for name in SYSTEM:
            if name in result:
                experiment.log_system_info(name, result[name])
        numbers = finite_numbers({name: value for name, value in result.items() if name not in (*OTHERS, *SYSTEM)})
        experiment.log_metrics({name: value for name, value in numbers.items() if name not in LEFT_OUT}, step=step)

    def log_trial_save(self, trial: Trial) -> None:
        latest = trial.checkpoints.latest()
        if not self.save_checkpoints or latest is None or trial.trial_id not in self._experiments:
            return
        comet = library("comet_ml", "comet-ml", type(self).__name__)
        artifact = comet.Artifact(f"checkpoint_{trial}", "model")
        with checkpoint_of(trial, latest.name).as_directory() as folder:
            artifact.add(folder)
            self._experiments[trial.trial_id].log_artifact(artifact)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        experiment = self._experiments.pop(trial.trial_id, None)
        if experiment is not None:
            experiment.end()


__all__ = ["CometLoggerCallback"]
