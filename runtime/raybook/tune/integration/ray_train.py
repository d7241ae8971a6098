"""Train inside Tune: hands what a training run reports on to the trial in which the run was started.

    def trial(config):
        trainer = TorchTrainer(train_function, train_loop_config=config, scaling_config=...,
                               run_config=train.RunConfig(callbacks=[TuneReportCallback()]))
        trainer.fit()

    tune.Tuner(trial, ...).fit()

A thread of the trial's process asks the run's controller for reports, so no worker waits for a verdict of Tune.
Invariants: `fit` does not return before its reports are passed on; a trial that Tune stops ends with its training run.
"""

from __future__ import annotations

from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.callback import ReportForwarder
from raybook.tune.trial_session import TrialSession

CHECKPOINT_PATH_KEY = "checkpoint_path"


class TuneReportCallback(ReportForwarder):
    """Passes the reports of a training run's rank 0 on to Tune, with the path of the checkpoint as "checkpoint_path".

    Raises RuntimeError outside of a trial.
    """

    def __init__(self) -> None:
        try:
            super().__init__()
        except RuntimeError:
            self._session = None
        if not isinstance(self._session, TrialSession):
            raise RuntimeError("TuneReportCallback must be used in a Tune session: make it inside a trial's function.")

    def present(self, metrics: dict[str, Any], checkpoint: Checkpoint | None) -> tuple[dict[str, Any], None]:
        """The checkpoint stays in the training run's folder; the trial is told where."""
        return (metrics if checkpoint is None else {**metrics, CHECKPOINT_PATH_KEY: checkpoint.path}), None
