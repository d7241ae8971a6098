"""BlockAccessor: Ray's view of a block, which sinks and sources of users' own are written against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.batches import iter_rows, to_batch, to_block, to_pandas
from raybook.data.columns import to_numpy


class BlockAccessor:
    """A block in whatever form it is wanted. Make it with `BlockAccessor.for_block(block)`."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @staticmethod
    def for_block(block: Any) -> BlockAccessor:
        """Of a table, a data frame or a dict of columns."""
        return BlockAccessor(to_block(block))

    @staticmethod
    def batch_to_block(batch: Any, block_type: Any = None) -> pa.Table:
        """A block of a batch in any format."""
        return to_block(batch)

    def num_rows(self) -> int:
        return self._table.num_rows

    def size_bytes(self) -> int:
        return self._table.nbytes

    def schema(self) -> pa.Schema:
        return self._table.schema

    def column_names(self) -> list[str]:
        return self._table.column_names

    def iter_rows(self, public_row_format: bool = True) -> Iterator[dict[str, Any]]:
        """Rows as dicts."""
        return iter(iter_rows(self._table))

    def slice(self, start: int, end: int, copy: bool = False) -> pa.Table:
        """Rows `start` to `end` (exclusive)."""
        piece = self._table.slice(start, end - start)
        return pa.concat_tables([piece]).combine_chunks() if copy else piece

    def take(self, indices: Sequence[int]) -> pa.Table:
        return self._table.take(indices)

    def select(self, columns: list[str]) -> pa.Table:
        return self._table.select(columns)

    def to_block(self) -> pa.Table:
        return self._table

    def to_arrow(self) -> pa.Table:
        return self._table

    def to_default(self) -> pa.Table:
        return self._table

    def to_pandas(self) -> Any:
        """A data frame."""
        return to_pandas(self._table)

    def to_numpy(self, columns: str | list[str] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """One column as an array, or several as a dict of them."""
        if isinstance(columns, str):
            return to_numpy(self._table.column(columns))
        names = self._table.column_names if columns is None else columns
        return {name: to_numpy(self._table.column(name)) for name in names}

    def to_batch_format(self, batch_format: str | None) -> Any:
        """In a format of `map_batches`."""
        return to_batch(self._table, batch_format)

    def drop(self, columns: list[str]) -> pa.Table:
        return self._table.drop_columns(columns)

    def rename_columns(self, columns_rename: dict[str, str]) -> pa.Table:
        return self._table.rename_columns([columns_rename.get(name, name) for name in self._table.column_names])

    def random_shuffle(self, random_seed: int | None) -> pa.Table:
        order = np.random.default_rng(random_seed).permutation(self._table.num_rows)
        return self._table.take(pa.array(order))

    # Aggregates of a column; None for no values, or for a null among them that is not ignored

    def count(self, on: str, ignore_nulls: bool = False) -> int:
        column = self._table.column(on)
        return len(column) - (column.null_count if ignore_nulls else 0)

    def sum(self, on: str, ignore_nulls: bool) -> Any:
        return pc.sum(self._table.column(on), skip_nulls=ignore_nulls, min_count=1).as_py()

    def min(self, on: str, ignore_nulls: bool) -> Any:
        return pc.min(self._table.column(on), skip_nulls=ignore_nulls, min_count=1).as_py()

    def max(self, on: str, ignore_nulls: bool) -> Any:
        return pc.max(self._table.column(on), skip_nulls=ignore_nulls, min_count=1).as_py()

    def mean(self, on: str, ignore_nulls: bool) -> Any:
        return pc.mean(self._table.column(on), skip_nulls=ignore_nulls, min_count=1).as_py()

    def sum_of_squared_diffs_from_mean(self, on: str, ignore_nulls: bool, mean: float | None = None) -> Any:
        column = self._table.column(on)
        centre = self.mean(on, ignore_nulls) if mean is None else mean
        if centre is None or (column.null_count and not ignore_nulls):
            return None
        return pc.sum(pc.power(pc.subtract(column.cast(pa.float64()), centre), 2)).as_py()
