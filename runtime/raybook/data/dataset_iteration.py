"""Iteration over a dataset on the driver: the plan runs in a thread ahead of the consumer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.api import get
from raybook.data.context import DataContext
from raybook.data.core.plan import InputData
from raybook.data.dataset_base import DatasetBase
from raybook.data.execution.run import executor_for
from raybook.data.execution.streaming import StreamingThread
from raybook.data.iterator import DataIterator
from raybook.data.schema import Schema

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset, MaterializedDataset


class WholeDatasetIterator(DataIterator):
    """All of a dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __repr__(self) -> str:
        return f"DataIterator({self._dataset!r})"

    def _tables(self) -> Iterator[pa.Table]:
        dataset = self._dataset
        if isinstance(dataset._plan, InputData):
            for bundle in dataset._plan.bundles:
                yield get(bundle.ref)
            return
        executor = executor_for(dataset._plan, dataset._context)
        dataset._executor = executor
        thread = StreamingThread(executor)
        thread.start()
        for bundle in thread.bundles():
            yield get(bundle.ref)

    def stats(self) -> str:
        return self._dataset.stats()

    def schema(self) -> Schema | None:
        return self._dataset.schema()

    def get_context(self) -> DataContext:
        return self._dataset.context

    def materialize(self) -> MaterializedDataset:
        return self._dataset.materialize()


class DatasetIteration(DatasetBase):
    """Part of Dataset."""

    def iterator(self) -> DataIterator:
        """An iterator over all rows, to be passed to other processes."""
        return WholeDatasetIterator(self)  # type: ignore[arg-type]

    def iter_rows(self, **options: Any) -> Iterable[dict[str, Any]]:
        """Rows as dicts, one after the other, while the plan runs on."""
        return self.iterator().iter_rows()

    def iter_batches(self, **options: Any) -> Iterable[Any]:
        """See `DataIterator.iter_batches`."""
        return self.iterator().iter_batches(**options)

    def iter_torch_batches(self, **options: Any) -> Iterable[Any]:
        """See `DataIterator.iter_torch_batches`."""
        return self.iterator().iter_torch_batches(**options)

    def iter_tf_batches(self, **options: Any) -> Iterable[Any]:
        """See `DataIterator.iter_tf_batches`."""
        return self.iterator().iter_tf_batches(**options)

    def iter_jax_batches(self, **options: Any) -> Iterable[Any]:
        """See `DataIterator.iter_jax_batches`."""
        return self.iterator().iter_jax_batches(**options)

    def to_torch(self, **options: Any) -> Any:
        """See `DataIterator.to_torch`."""
        return self.iterator().to_torch(**options)

    def to_tf(self, feature_columns: Any, label_columns: Any, **options: Any) -> Any:
        """See `DataIterator.to_tf`."""
        return self.iterator().to_tf(feature_columns, label_columns, **options)
