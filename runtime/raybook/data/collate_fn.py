"""Collate functions: what `iter_torch_batches(collate_fn=...)` takes to make a batch its own way.

A subclass says by its base in which form it wants the rows: `ArrowBatchCollateFn` a table, `NumpyBatchCollateFn` a dict of
arrays, `PandasBatchCollateFn` a data frame. A plain function gets a dict of arrays. torch is imported by those who use it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from raybook.data.batches import to_batch, to_numpy_batch
from raybook.data.tensor_batches import torch_tensor

DataBatchType = TypeVar("DataBatchType")


class CollateFn(abc.ABC, Generic[DataBatchType]):
    """Base. The output may be anything; tensors, and lists, tuples and dicts of them, are moved to the device."""

    @abc.abstractmethod
    def __call__(self, batch: DataBatchType) -> Any:
        """The batch as the model wants it."""


class ArrowBatchCollateFn(CollateFn[Any], abc.ABC):
    """Gets a `pyarrow.Table`."""


class NumpyBatchCollateFn(CollateFn[Any], abc.ABC):
    """Gets a dict of arrays, read-only where they are views of shared memory."""


class PandasBatchCollateFn(CollateFn[Any], abc.ABC):
    """Gets a `pandas.DataFrame`."""


class DefaultCollateFn(ArrowBatchCollateFn):
    """A dict of tensors. dtypes: one torch dtype for all, or by column. The other arguments are Ray's, and without effect:
    a column is one tensor always, and making it takes no threads."""

    def __init__(self, dtypes: Any = None, combine_chunks: bool = False, num_workers: int = 4) -> None:
        self.dtypes, self.combine_chunks, self.num_workers = dtypes, combine_chunks, num_workers

    def __call__(self, batch: Any) -> dict[str, Any]:
        kinds = self.dtypes
        return {
            name: torch_tensor(values, kinds.get(name) if isinstance(kinds, dict) else kinds, name)
            for name, values in to_numpy_batch(batch).items()
        }


def format_for(collate_fn: Any) -> str:
    """The batch format that a collate function gets. ValueError for what is none."""
    if isinstance(collate_fn, ArrowBatchCollateFn):
        return "pyarrow"
    if isinstance(collate_fn, PandasBatchCollateFn):
        return "pandas"
    if isinstance(collate_fn, NumpyBatchCollateFn) or callable(collate_fn):
        return "numpy"
    raise ValueError(f"Unsupported collate function: {type(collate_fn)}")


def collated(collate_fn: Any, table: Any) -> Any:
    """What a collate function makes of a table's rows."""
    return collate_fn(to_batch(table, format_for(collate_fn)))


def is_tensor_batch_type(batch: Any) -> bool:
    """Whether it is a tensor, a sequence of tensors or of such sequences, or a dict of one or the other."""
    import torch

    def is_sequence(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and all(isinstance(one, torch.Tensor) for one in value)

    if isinstance(batch, torch.Tensor) or is_sequence(batch):
        return True
    if isinstance(batch, (list, tuple)):
        return all(is_sequence(one) for one in batch)
    if isinstance(batch, Mapping):
        values = list(batch.values())
        return all(isinstance(one, torch.Tensor) for one in values) or all(is_sequence(one) for one in values)
    return False
