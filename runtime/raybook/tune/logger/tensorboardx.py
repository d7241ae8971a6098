"""TensorBoard logger: every trial's numbers as an event file in its folder, for `tensorboard --logdir`.

Written by tensorboardX, which is imported when the callback is made. Numbers are named `ray/tune/<metric>`, as Ray does.
"""

from __future__ import annotations

import math
from typing import Any

from raybook.ml.core.metrics import flatten, is_number
from raybook.tune.core.trial_table import Trial
from raybook.tune.logger.logger import LoggerCallback

# What counts the steps, the first that a report has.
STEP_KEYS = ("timesteps_total", "training_iteration")
HPARAM_TYPES = (bool, int, float, str)


class TBXLoggerCallback(LoggerCallback):
    """Writes TensorBoard event files. Needs `pip install tensorboardX`; raises ImportError otherwise."""

    def __init__(self) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError("TBXLoggerCallback needs the package tensorboardX: pip install tensorboardX.") from error
        self._make = SummaryWriter
        self._writers: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_writers": {}}

    def log_trial_start(self, trial: Trial) -> None:
        if trial.trial_id not in self._writers:
            self._writers[trial.trial_id] = self._make(trial.folder, flush_secs=30)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        self.log_trial_start(trial)
        writer = self._writers[trial.trial_id]
        step = next((result[key] for key in STEP_KEYS if is_number(result.get(key))), trial.iteration)
        for name, value in flatten({key: value for key, value in result.items() if key != "config"}).items():
            if is_number(value) and math.isfinite(value):
                writer.add_scalar(f"ray/tune/{name}", value, global_step=step)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        writer = self._writers.pop(trial.trial_id, None)
        if writer is None:
            return
        params = {name: value for name, value in flatten(trial.config).items() if isinstance(value, HPARAM_TYPES)}
        if params and trial.last_result:
            from tensorboardX.summary import hparams

            metrics = {
                f"ray/tune/{name}": value for name, value in flatten(trial.last_result).items() if is_number(value)
            }
            for summary in hparams(params, metrics):
                writer.file_writer.add_summary(summary)
        writer.close()
