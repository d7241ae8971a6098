"""Train inside Tune: a trial's function that calls `trainer.fit()` passes this callback to the trainer.

def trial(config):
    TorchTrainer(function, run_config=RunConfig(callbacks=[TuneReportCallback()]), ...).fit()
"""

from __future__ import annotations

from raybook.train.callback import ReportForwarder

CHECKPOINT_PATH_KEY = "checkpoint_path"


class TuneReportCallback(ReportForwarder):
    """Reports to the trial what the run's workers report: rank 0's metrics, and the checkpoint."""
