"""Report callback: hands what transformers has logged and saved to the run, each time it saves."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from raybook.ml.checkpoint import Checkpoint
from raybook.train.session import report


class RayTrainReportCallback(TrainerCallback):
    """Reports the latest of all logged metrics, with the folder `checkpoint/` of a checkpoint that was just saved.

    Have the trainer evaluate at least as often as it saves, or the metrics are older than the model.
    """

    CHECKPOINT_NAME = "checkpoint"

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """transformers calls this."""
        metrics: dict[str, Any] = {}
        for entry in state.log_history:
            metrics.update(entry)
        source = get_last_checkpoint(args.output_dir)
        if source is None:
            report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="transformers_") as folder:
            shutil.copytree(source, Path(folder, self.CHECKPOINT_NAME))
            report(metrics, checkpoint=Checkpoint.from_directory(folder))
