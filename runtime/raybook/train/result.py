"""Result: what a training run left behind. Made by `fit`, or read from the run's folder."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raybook.ml import filesystem as files
from raybook.ml.checkpoint import Checkpoint
from raybook.ml.core.metrics import flatten, has_metric, lookup, score
from raybook.train.checkpoint_keeper import CheckpointKeeper
from raybook.train.storage import StorageContext

if TYPE_CHECKING:
    import pandas
    from pyarrow.fs import FileSystem

    from raybook.train.exceptions import TrainingFailedError
    from raybook.train.run_plan import RunOutcome


@dataclass(repr=False)
class Result:
    """The outcome of a run.

    metrics: the last report of rank 0. checkpoint: the latest one. error: why it failed, or None. path: the run's folder
    on its storage. best_checkpoints: (checkpoint, metrics) of those that were kept, worst first if they are scored, else
    oldest first. return_value: what rank 0's function returned.
    """

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None
    error: TrainingFailedError | None
    path: str | None
    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]] | None = None
    return_value: Any = None
    _storage_filesystem: Any = field(default=None, compare=False)

    @property
    def metrics_dataframe(self) -> pandas.DataFrame | None:
        """The metrics of the kept checkpoints as a pandas table, one row each; None if there is none. Imports pandas."""
        if not self.best_checkpoints:
            return None
        import pandas

        return pandas.DataFrame([flatten(metrics) for _, metrics in self.best_checkpoints])

    @property
    def filesystem(self) -> FileSystem:
        """The pyarrow filesystem that `path` lies on. Imports pyarrow."""
        return Checkpoint(self.path or ".", self._storage_filesystem).filesystem

    @property
    def config(self) -> dict[str, Any] | None:
        """Deprecated."""
        raise DeprecationWarning(
            "The `config` property for a `ray.train.Result` is deprecated, since it is only relevant in the context of "
            "Tune. You have the configuration at hand: it is the trainer's train_loop_config."
        )

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """Return the kept checkpoint whose report has the best metric.

        Raises ValueError for another mode than "max" or "min", RuntimeError for a metric that none of them has.
        """
        if mode not in ("max", "min"):
            raise ValueError(f'Unsupported mode: {mode}. Please choose from ["min", "max"]!')
        if not self.best_checkpoints:
            raise RuntimeError("No checkpoint exists in the trial directory!")
        ranked = [entry for entry in self.best_checkpoints if has_metric(entry[1], metric)]
        if not ranked:
            reported = sorted({name for _, metrics in self.best_checkpoints for name in flatten(metrics)})
            raise RuntimeError(
                f"Invalid metric name {metric}! You may choose from the following metrics: {', '.join(reported)}."
            )
        return max(ranked, key=lambda entry: score(lookup(entry[1], metric), mode))[0]

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], storage_filesystem: Any | None = None) -> Result:
        """Read the result of a run from its folder. Raises RuntimeError if there is none. The error is not stored."""
        filesystem, text = files.resolve(path, storage_filesystem)
        text = text.rstrip("/")
        if not files.exists(filesystem, text):
            raise RuntimeError(f"Experiment folder {text} doesn't exist.")
        parent, name = posixpath.split(os.path.abspath(text) if filesystem is None else text)
        storage = StorageContext(parent, name, filesystem, read_only=True)
        if storage.read_record() is None:
            raise RuntimeError(
                f"Failed to restore the Result object: {posixpath.basename(storage.checkpoint_manager_snapshot_path)} "
                "doesn't exist in the experiment folder. Make sure that this is an output directory created by a "
                "training run."
            )
        keeper = CheckpointKeeper(storage)
        return cls(
            metrics=keeper.book.last_metrics,
            checkpoint=keeper.latest(),
            error=None,
            path=storage.experiment_fs_path,
            best_checkpoints=keeper.kept(),
            _storage_filesystem=filesystem,
        )

    @classmethod
    def of_outcome(cls, outcome: RunOutcome, storage: StorageContext, filesystem: Any | None) -> Result:
        """Return the result of a run that has just ended."""
        return cls(
            metrics=outcome.metrics,
            checkpoint=outcome.checkpoint,
            error=outcome.error,
            path=storage.experiment_fs_path,
            best_checkpoints=outcome.best_checkpoints,
            return_value=outcome.return_value,
            _storage_filesystem=filesystem,
        )

    def __repr__(self) -> str:
        lines = [f"metrics={self.metrics!r}", f"path={self.path!r}", f"checkpoint={self.checkpoint!r}"]
        if self.error is not None:
            lines.insert(0, f"error={type(self.error).__name__}: {self.error}")
        return "Result(\n  " + ",\n  ".join(lines) + "\n)"
