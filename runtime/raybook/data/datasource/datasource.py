"""Datasource: what a reader has to tell and to do. Knows nothing of plans and tasks.

A datasource is pickled to nobody: it stays with the driver, and makes read tasks, which travel. The optimizer may ask it
for a copy that reads less (`with_projection`, `with_predicate`, `with_limit`); None means that it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raybook.data.block import Block, BlockMetadata

if TYPE_CHECKING:
    from raybook.data.context import DataContext
    from raybook.data.expressions import Expr


class ReadTask:
    """One piece of a read: called in a worker, it yields blocks.

    read_fn: no arguments, yields tables (data frames and batches are taken as well). metadata: what is known before
    reading, with None for what is not. schema: if known. per_task_row_limit: stop after so many rows.
    """

    def __init__(
        self,
        read_fn: Callable[[], Iterable[Block]],
        metadata: BlockMetadata,
        schema: pa.Schema | None = None,
        per_task_row_limit: int | None = None,
    ) -> None:
        self._read_fn, self._metadata, self._schema = read_fn, metadata, schema
        self._per_task_row_limit = per_task_row_limit

    @property
    def metadata(self) -> BlockMetadata:
        return self._metadata

    @property
    def schema(self) -> pa.Schema | None:
        return self._schema

    @property
    def read_fn(self) -> Callable[[], Iterable[Block]]:
        return self._read_fn

    @property
    def per_task_row_limit(self) -> int | None:
        return self._per_task_row_limit

    def __call__(self) -> Iterable[Block]:
        result = self._read_fn()
        if not hasattr(result, "__iter__") or isinstance(result, (pa.Table, dict)):
            raise ValueError(
                f"Read function {self._read_fn} did not return an iterable of blocks, but a {type(result).__name__}. "
                "Return a list of tables, or yield them."
            )
        if self._per_task_row_limit is None:
            yield from result
            return
        left = self._per_task_row_limit
        for block in result:
            if left <= 0:
                return
            piece = block.slice(0, left) if isinstance(block, pa.Table) else block[:left]
            left -= len(piece)
            yield piece


class Datasource:
    """Implement `get_read_tasks` to read from a system of your own with `read_datasource`."""

    def get_name(self) -> str:
        """What `explain` and progress call it: "Parquet" for a ParquetDatasource."""
        return type(self).__name__.removesuffix("Datasource")

    def estimate_inmemory_data_size(self) -> int | None:
        """Bytes the whole data takes in memory, or None; decides into how many tasks a read is cut."""
        raise NotImplementedError

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """At most `parallelism` tasks (fewer when there is less to read), in the order of their rows.

        per_task_row_limit: no task need yield more rows than this.
        """
        raise NotImplementedError

    @property
    def supports_distributed_reads(self) -> bool:
        """Whether any node can run the read tasks; False: the driver's node must."""
        return True

    # What the optimizer asks. Return a new datasource; leave this one as it is.

    def num_rows(self) -> int | None:
        """Exact number of rows if it is known without reading data (from files' footers); None otherwise."""
        return None

    def schema(self) -> pa.Schema | None:
        """The schema if it is known without reading data."""
        return None

    def with_projection(self, columns: list[str]) -> Datasource | None:
        """A copy that reads only these columns, in this order; None if this source cannot."""
        return None

    def with_predicate(self, expr: Expr) -> Datasource | None:
        """A copy that yields exactly the rows for which `expr` is true (beside earlier predicates); None if it
        cannot: then rows are filtered after reading."""
        return None

    def with_limit(self, limit: int) -> Datasource | None:
        """A copy that need not yield more than the first `limit` rows (it may); None if it cannot."""
        return None


class Reader:
    """Ray's older form of a datasource: an object made once a read, which knows sizes and makes tasks."""

    def estimate_inmemory_data_size(self) -> int | None:
        raise NotImplementedError

    def get_read_tasks(self, parallelism: int) -> list[ReadTask]:
        raise NotImplementedError


class RandomIntRowDatasource(Datasource):
    """`n` rows of `num_columns` random int64 columns c_0, c_1, ...; for trying things out."""

    def __init__(self, n: int, num_columns: int) -> None:
        self._n, self._num_columns = n, num_columns

    def estimate_inmemory_data_size(self) -> int | None:
        return self._n * self._num_columns * 8

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        names = [f"c_{index}" for index in range(self._num_columns)]
        schema = pa.schema([(name, pa.int64()) for name in names])

        def make(count: int) -> list[pa.Table]:
            columns = [np.random.randint(np.iinfo(np.int64).max, size=count, dtype=np.int64) for _ in names]
            return [pa.table(columns, names=names)]

        size = max(1, -(-self._n // max(1, parallelism)))
        tasks: list[ReadTask] = []
        for start in range(0, self._n, size):
            count = min(size, self._n - start)
            metadata = BlockMetadata(count, count * 8 * self._num_columns)
            tasks.append(ReadTask(partial(make, count), metadata, schema, per_task_row_limit))
        return tasks
