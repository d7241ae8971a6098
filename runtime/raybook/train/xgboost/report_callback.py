"""Report callback: hands XGBoost's metrics, and its model, to the run or to the trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xgboost import Booster
from xgboost.callback import TrainingCallback

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.core.metrics import flatten
from raybook.train.booster_reports import BoosterReports, PostProcess


class RayTrainReportCallback(TrainingCallback):
    """Reports every iteration's metrics as 'set-metric'.

    metrics: which of them, or {new name: name}; all if None. filename: of the model in the checkpoint. frequency:
    iterations between two checkpoints, 0 for none before the end. results_postprocessing_fn: changes what is reported.
    """

    CHECKPOINT_NAME = "model.ubj"

    def __init__(
        self,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
        filename: str = CHECKPOINT_NAME,
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: PostProcess | None = None,
    ) -> None:
        super().__init__()
        self._reports = BoosterReports(metrics, filename, frequency, checkpoint_at_end, results_postprocessing_fn)

    @classmethod
    def get_model(cls, checkpoint: Checkpoint, filename: str = CHECKPOINT_NAME) -> Booster:
        """Return the model that this callback has stored in a checkpoint."""
        with checkpoint.as_directory() as folder:
            booster = Booster()
            booster.load_model(str(Path(folder, filename)))
            return booster

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """XGBoost calls this. False: go on."""
        measured = {name: values[-1] for name, values in flatten(evals_log, "-").items()}
        self._reports.iteration(epoch, measured, model.save_model)
        return False

    def after_training(self, model: Any) -> Any:
        """XGBoost calls this."""
        self._reports.end(model.num_boosted_rounds() - 1, model.save_model)
        return model
