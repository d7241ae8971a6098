"""Local session: a run with num_workers=0, in the caller's own process, for debugging. Stores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.context import TrainContext


class LocalSession:
    """The only worker of a local run."""

    is_distributed = False

    def __init__(self, context: TrainContext, datasets: Mapping[str, Any]) -> None:
        self.context = context
        self._datasets = dict(datasets)
        self._checkpoint: Checkpoint | None = None
        self.last_metrics: dict[str, Any] | None = None

    def report(
        self, metrics: Mapping[str, Any], checkpoint: Checkpoint | None = None, *unused: Any, **options: Any
    ) -> None:
        """Keep the metrics and the checkpoint, as they are."""
        if options.get("validation") and checkpoint is None:
            raise ValueError("Validation requires a checkpoint to be provided.")
        self.last_metrics, self._checkpoint = dict(metrics), checkpoint

    def get_checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint of the last report."""
        return self._checkpoint

    def get_all_reported_checkpoints(self, consistency_mode: Any, timeout_s: float | None) -> list[Any]:
        """Return none: nothing is stored."""
        return []

    def get_dataset_shard(self, name: str | None) -> Any:
        """Return the whole dataset. Raises KeyError for one that the trainer was not given."""
        if not self._datasets and name is None:
            return None
        if name not in self._datasets:
            raise KeyError(f"Dataset shard {name} not found. Datasets of this run: {sorted(self._datasets)}.")
        return self._datasets[name]

    def get_preemption_info(self) -> None:
        """Return None: nobody takes this process away."""

    def barrier(self) -> None:
        """Return at once: there is nobody else."""

    def broadcast_from_rank_zero(self, data: Any) -> Any:
        """Return data: this is rank 0."""
        return data
