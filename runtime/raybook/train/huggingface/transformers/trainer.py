"""Trainer of transformers: takes iterables of `raybook.data` batches as its datasets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset


class BatchIterable(IterableDataset[Any]):
    """Batches that are made already, as torch sees them."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def prepare_trainer(trainer: Any) -> Any:
    """Return the trainer, which now takes what `iter_torch_batches` of a dataset shard returns as its datasets.

    Changes the trainer's class in place, as Ray does: it must stay the object that the user's callbacks know.
    """
    base: Any = type(trainer)

    class RayTransformersTrainer(base):
        """The trainer's own class, with other loaders for batches."""

        def get_train_dataloader(self) -> Any:
            """The loader of training data."""
            if _is_batches(self.train_dataset):
                return _loader(self.train_dataset)
            return super().get_train_dataloader()

        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            """The loader of evaluation data."""
            chosen = self.eval_dataset if eval_dataset is None else eval_dataset
            if isinstance(chosen, str) and isinstance(self.eval_dataset, dict):
                chosen = self.eval_dataset[chosen]
            return _loader(chosen) if _is_batches(chosen) else super().get_eval_dataloader(eval_dataset)

    trainer.__class__ = RayTransformersTrainer
    return trainer


def _is_batches(dataset: Any) -> bool:
    """Ask whether this is an iterable of batches: transformers' own datasets are torch's, or have a length."""
    return dataset is not None and not isinstance(dataset, (Dataset, str, dict)) and not hasattr(dataset, "__len__")


def _loader(batches: Any) -> DataLoader[Any]:
    return DataLoader(BatchIterable(batches), batch_size=1, collate_fn=lambda made: made[0])
