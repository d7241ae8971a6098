"""Report callback: hands Lightning's metrics and checkpoint to the run at the end of each epoch."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.lightning.library import pl
from raybook.train.reported_checkpoint import CheckpointUploadMode
from raybook.train.session import get_context, report


class RayTrainReportCallback(pl.callbacks.Callback):
    """Reports `trainer.callback_metrics` with "epoch" and "step", and a checkpoint with `checkpoint.ckpt`, each epoch.

    checkpoint_upload_mode, validation: as of `raybook.train.report`.
    """

    CHECKPOINT_NAME = "checkpoint.ckpt"

    def __init__(self, checkpoint_upload_mode: CheckpointUploadMode | None = None, validation: Any = False) -> None:
        super().__init__()
        self.checkpoint_upload_mode = checkpoint_upload_mode or CheckpointUploadMode.SYNC
        self.validation = validation
        # A trial of Tune has none of these options.
        self._options = {"checkpoint_upload_mode": self.checkpoint_upload_mode, "validation": validation}

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Lightning calls this."""
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        metrics.update(epoch=trainer.current_epoch, step=trainer.global_step)
        # All ranks name the same folder on one node's disk in vain: each has its own, and only rank 0's need have a file.
        folder = tempfile.mkdtemp(prefix=f"lightning_rank{get_context().get_world_rank()}_")
        path = os.path.join(folder, self.CHECKPOINT_NAME)
        trainer.save_checkpoint(path, weights_only=False)
        is_whole = os.path.exists(path) or bool(os.listdir(folder))
        report(metrics, checkpoint=Checkpoint.from_directory(folder) if is_whole else None, **self._options)
        trainer.strategy.barrier()
        if not self.checkpoint_upload_mode.default_delete_local_checkpoint_after_upload() or not is_whole:
            shutil.rmtree(folder, ignore_errors=True)
