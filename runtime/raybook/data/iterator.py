"""DataIterator: batches and rows one after the other, of a dataset or of one shard of a split stream.

Batches are cut from blocks as they come; only a batch that spans two blocks is copied. Each iteration runs the plan
anew. Invariants: without `drop_last` every row comes exactly once; batches but the last have exactly `batch_size` rows.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raybook.data.batches import check_format, to_batch, to_rows
from raybook.data.block import concat_blocks
from raybook.data.collate_fn import collated, format_for
from raybook.data.context import DataContext
from raybook.data.schema import Schema
from raybook.data.tensor_batches import TorchTable, jax_batch, tf_batch, torch_batch, torch_device
from raybook.data.tf_dataset import tf_dataset
from raybook.data.transforms import rebatch

if TYPE_CHECKING:
    from raybook.data.dataset import MaterializedDataset

NodeIdStr = str


class Again:
    """An iterable that starts anew each time: what `iter_batches` returns."""

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()


class DataIterator(abc.ABC):
    """Batches of a dataset, or of a shard. It can be sent to other processes."""

    @abc.abstractmethod
    def _tables(self) -> Iterator[pa.Table]:
        """The blocks of one pass."""

    @abc.abstractmethod
    def stats(self) -> str:
        """What the last pass has done, as text."""

    @abc.abstractmethod
    def schema(self) -> Schema | None:
        """Names and types of the columns."""

    @abc.abstractmethod
    def get_context(self) -> DataContext:
        """The settings it runs with."""

    @abc.abstractmethod
    def materialize(self) -> MaterializedDataset:
        """Run it, and keep the blocks in the store."""

    def iter_rows(self) -> Iterable[dict[str, Any]]:
        """Rows as dicts."""

        def make() -> Iterator[dict[str, Any]]:
            for table in self._tables():
                for start in range(0, table.num_rows, 4096):
                    yield from to_rows(table.slice(start, 4096))

        return Again(make)

    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: str | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        _collate_fn: Callable[[Any], Any] | None = None,
    ) -> Iterable[Any]:
        """Batches of `batch_size` rows (None: blocks as they come) as dicts of arrays, data frames or tables.

        local_shuffle_buffer_size: rows are drawn at random from a buffer of at least so many. prefetch_batches: blocks
        are made ahead of the consumer anyway, as far as the memory budget allows; so many batches are also converted
        ahead, in a thread, where that takes time: data frames, and collate functions.
        """
        check_format(batch_format)
        check_batching(batch_size, local_shuffle_buffer_size, prefetch_batches)
        takes_time = _collate_fn is not None or batch_format == "pandas"

        def convert(table: pa.Table) -> Any:
            batch = to_batch(table, batch_format)
            return _collate_fn(batch) if _collate_fn is not None else batch

        def make() -> Iterator[Any]:
            tables = batch_tables(self._tables(), batch_size, drop_last, local_shuffle_buffer_size, local_shuffle_seed)
            return ahead(tables, convert, prefetch_batches if takes_time else 0)

        return Again(make)

    def iter_torch_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: Any = None,
        device: Any = "auto",
        collate_fn: Any = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        pin_memory: bool = False,
    ) -> Iterable[Any]:
        """Batches as dicts of tensors, or what `collate_fn` makes of a batch, on `device` ("auto": the one of this Train
        worker, else the CPU). collate_fn: a function of a dict of arrays, or one of `raybook.data.collate_fn`. dtypes: one
        for all, or by column. pin_memory: in page-locked memory, from which a GPU copies without waiting. prefetch_batches:
        so many batches are made ahead, in a thread, where there is a collate_fn or a GPU. ValueError for dtypes beside a
        collate_fn, or for a collate_fn that is none."""
        if collate_fn is not None and dtypes is not None:
            raise ValueError(
                "collate_fn cannot be used with dtypes. You should manually convert the output Torch tensors to the "
                "desired dtype inside collate_fn."
            )
        check_batching(batch_size, local_shuffle_buffer_size, prefetch_batches)
        collate: Callable[[pa.Table], Any] | None = None
        if collate_fn is not None:
            format_for(collate_fn)
            collate = partial(collated, collate_fn)

        def make() -> Iterator[Any]:
            tables = batch_tables(self._tables(), batch_size, drop_last, local_shuffle_buffer_size, local_shuffle_seed)
            takes_time = collate is not None or pin_memory or torch_device(device) is not None
            convert = partial(torch_batch, dtypes=dtypes, device=device, collate=collate, pin_memory=pin_memory)
            return ahead(tables, convert, prefetch_batches if takes_time else 0)

        return Again(make)

    def iter_tf_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: Any = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterable[Any]:
        """Batches as dicts of TensorFlow's tensors. ImportError without TensorFlow."""
        check_batching(batch_size, local_shuffle_buffer_size, prefetch_batches)
        return Again(
            lambda: (
                tf_batch(table, dtypes)
                for table in batch_tables(
                    self._tables(), batch_size, drop_last, local_shuffle_buffer_size, local_shuffle_seed
                )
            )
        )

    def iter_jax_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int = 256,
        dtypes: Any = None,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        synchronize_batches: bool = False,
        paddings: Any = None,
    ) -> Iterable[Any]:
        """Batches as dicts of JAX arrays. ImportError without JAX."""
        check_batching(batch_size, local_shuffle_buffer_size, prefetch_batches)
        return Again(
            lambda: (
                jax_batch(table, dtypes, collate_fn)
                for table in batch_tables(
                    self._tables(), batch_size, drop_last, local_shuffle_buffer_size, local_shuffle_seed
                )
            )
        )

    def to_torch(
        self,
        *,
        label_column: str | None = None,
        feature_columns: Any = None,
        label_column_dtype: Any = None,
        feature_column_dtypes: Any = None,
        batch_size: int = 1,
        prefetch_batches: int = 1,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        unsqueeze_label_tensor: bool = True,
        unsqueeze_feature_tensors: bool = True,
    ) -> Any:
        """A torch IterableDataset of (features, label) batches; features side by side in one tensor, or in a list or
        dict of tensors as `feature_columns` is one."""
        from torch.utils.data import IterableDataset

        maker = TorchTable(
            label_column,
            feature_columns,
            label_column_dtype,
            feature_column_dtypes,
            unsqueeze_label_tensor,
            unsqueeze_feature_tensors,
        )

        def make() -> Iterator[Any]:
            tables = batch_tables(self._tables(), batch_size, drop_last, local_shuffle_buffer_size, local_shuffle_seed)
            return map(maker, tables)

        class Batches(IterableDataset):  # type: ignore[misc, type-arg]
            def __iter__(self) -> Iterator[Any]:
                return make()

        return Batches()

    def to_tf(
        self,
        feature_columns: str | list[str],
        label_columns: str | list[str],
        *,
        additional_columns: str | list[str] | None = None,
        prefetch_batches: int = 1,
        batch_size: int = 1,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        feature_type_spec: Any = None,
        label_type_spec: Any = None,
        additional_type_spec: Any = None,
    ) -> Any:
        """A `tf.data.Dataset` of (features, labels), and of the additional columns if some are named: one column as a
        tensor, a list of them as a dict. ValueError for a column that is not there; ImportError without TensorFlow."""
        check_batching(batch_size, local_shuffle_buffer_size, prefetch_batches)
        batches = self.iter_tf_batches(
            batch_size=batch_size,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        )
        columns = [feature_columns, label_columns, *([additional_columns] if additional_columns is not None else [])]
        specs = [feature_type_spec, label_type_spec, additional_type_spec]
        return tf_dataset(batches, self.schema(), columns, specs)


def check_batching(batch_size: int | None, shuffle_rows: int | None, prefetch: int = 0) -> None:
    """ValueError for a batch or buffer size that is none, or fewer than no batches ahead."""
    if batch_size is not None and (isinstance(batch_size, bool) or batch_size <= 0):
        raise ValueError(f"`batch_size` must be a positive integer or None, got {batch_size!r}.")
    if shuffle_rows is not None:
        if batch_size is None:
            raise ValueError("Must specify a batch_size if using a local shuffle.")
        if shuffle_rows <= 0:
            raise ValueError(f"`local_shuffle_buffer_size` must be positive, got {shuffle_rows}.")
    if prefetch < 0:
        raise ValueError(f"`prefetch_batches` must not be negative, got {prefetch}.")


def ahead(tables: Iterator[pa.Table], convert: Callable[[pa.Table], Any], count: int) -> Iterator[Any]:
    """Each table converted, in order; up to `count` of them in a thread while the consumer has the one before. Blocks are
    fetched in the consumer's own thread. Cost: about 50 µs a batch, so not worth it for views."""
    if not count:
        yield from map(convert, tables)
        return
    pool = ThreadPoolExecutor(1, "raybook-batches")
    waiting: deque[Future[Any]] = deque()
    try:
        for table in tables:
            waiting.append(pool.submit(convert, table))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def batch_tables(
    tables: Iterator[pa.Table],
    batch_size: int | None,
    drop_last: bool = False,
    shuffle_rows: int | None = None,
    seed: int | None = None,
) -> Iterator[pa.Table]:
    """Blocks as batches."""
    if shuffle_rows is not None and batch_size is not None:
        tables = locally_shuffled(tables, max(shuffle_rows, batch_size), seed)
    for table in rebatch(tables, batch_size):
        if table.num_rows and not (drop_last and batch_size is not None and table.num_rows < batch_size):
            yield table


def locally_shuffled(tables: Iterator[pa.Table], buffer_rows: int, seed: int | None) -> Iterator[pa.Table]:
    """Rows drawn from a buffer of at least `buffer_rows`, until the rows end. Cost: each row is copied twice."""
    rng = np.random.default_rng(seed)
    kept: list[pa.Table] = []
    rows = 0
    for table in tables:
        kept.append(table)
        rows += table.num_rows
        if rows >= 2 * buffer_rows:
            whole = _shuffled(kept, rng)
            yield whole.slice(0, rows - buffer_rows)
            kept, rows = [whole.slice(rows - buffer_rows)], buffer_rows
    if rows:
        yield _shuffled(kept, rng)


def _shuffled(tables: list[pa.Table], rng: np.random.Generator) -> pa.Table:
    whole = concat_blocks(tables)
    return whole.take(pa.array(rng.permutation(whole.num_rows)))


DatasetIterator = DataIterator
"""The name it had before."""
