"""Report callback: hands LightGBM's metrics, and its model, to the run or to the trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightgbm import Booster

from raybook.ml.checkpoint import Checkpoint
from raybook.train.booster_reports import BoosterReports, PostProcess


class RayTrainReportCallback:
    """Reports every iteration's metrics as 'set-metric'.

    metrics: which of them, or {new name: name}; all if None. filename: of the model in the checkpoint. frequency:
    iterations between two checkpoints, 0 for none before the end. results_postprocessing_fn: changes what is reported.
    """

    CHECKPOINT_NAME = "model.txt"

    def __init__(
        self,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
        filename: str = CHECKPOINT_NAME,
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: PostProcess | None = None,
    ) -> None:
        self._checkpoint_at_end = checkpoint_at_end
        # LightGBM says which iteration is the last, so its report is the one with the checkpoint.
        self._reports = BoosterReports(metrics, filename, frequency, checkpoint_at_end, results_postprocessing_fn)

    @classmethod
    def get_model(cls, checkpoint: Checkpoint, filename: str = CHECKPOINT_NAME) -> Booster:
        """Return the model that this callback has stored in a checkpoint."""
        with checkpoint.as_directory() as folder:
            return Booster(model_file=str(Path(folder, filename)))

    def __call__(self, env: Any) -> None:
        """LightGBM calls this after each iteration."""
        is_last = env.iteration == env.end_iteration - 1
        self._reports.iteration(
            env.iteration, _measured(env), env.model.save_model, is_saved=is_last and self._checkpoint_at_end
        )


def _measured(env: Any) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for entry in env.evaluation_result_list or ():
        dataset, metric, value = entry[:3]
        if len(entry) > 4:  # Of lightgbm.cv: mean and deviation over the folds.
            measured[f"{dataset}-{metric}-mean"] = value
            measured[f"{dataset}-{metric}-stdv"] = entry[4]
        else:
            measured[f"{dataset}-{metric}"] = value
    return measured
