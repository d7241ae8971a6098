"""Consumption: what runs the plan and brings something to the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.api import ObjectRef
from raybook.data.batches import check_format, to_batch, to_pandas, to_rows
from raybook.data.block import Bundle, concat_blocks
from raybook.data.columns import to_numpy
from raybook.data.compute import TaskPoolStrategy
from raybook.data.core.optimizer import known_row_count, optimize
from raybook.data.core.plan import InputData, Limit, Map, Node, Read, Resources
from raybook.data.core.plan import Write as WriteNode
from raybook.data.dataset_base import DatasetBase
from raybook.data.datasource.datasink import Datasink
from raybook.data.execution.worker_side import convert_block
from raybook.data.schema import Schema
from raybook.data.transforms import TableFunction
from raybook.data.writing import result_of

if TYPE_CHECKING:
    from raybook.data.dataset import MaterializedDataset


class DatasetConsumption(DatasetBase):
    """Part of Dataset."""

    def take(self, limit: int = 20) -> list[dict[str, Any]]:
        """The first `limit` rows, as dicts."""
        rows: list[dict[str, Any]] = []
        for table in self._derive(Limit((self._plan,), max(0, limit)))._tables():
            rows += to_rows(table)[: limit - len(rows)]
        return rows

    def take_all(self, limit: int | None = None) -> list[dict[str, Any]]:
        """All rows. limit: ValueError when there are more."""
        rows: list[dict[str, Any]] = []
        for table in self._tables():
            rows += to_rows(table)
            if limit is not None and len(rows) > limit:
                raise ValueError(f"The dataset has more than the given limit of {limit} records.")
        return rows

    def take_batch(self, batch_size: int = 20, *, batch_format: str | None = "default") -> Any:
        """The first `batch_size` rows as a batch. ValueError when there are none."""
        check_format(batch_format)
        tables = [table for table in self._derive(Limit((self._plan,), batch_size))._tables() if table.num_rows]
        if not tables:
            raise ValueError("The dataset is empty.")
        return to_batch(concat_blocks(tables), batch_format)

    def show(self, limit: int = 20) -> None:
        """Print the first rows."""
        for row in self.take(limit):
            print(row)

    def count(self) -> int:
        """Number of rows; of files that say it, without reading them. Nothing but counts is moved."""
        if self._row_count is not None:
            return self._row_count
        plan = optimize(self._plan)
        known = known_row_count(plan, _leaf_count)
        if known is None:
            counted = Map((self._plan,), TableFunction(count_rows), "Count", keeps_row_count=False)
            known = sum(int(table.column("count").to_numpy().sum()) for table in self._derive(counted)._tables())
        self._row_count = known
        return known

    def schema(self, fetch_if_missing: bool = True) -> Schema | None:
        """Names and types of the columns; None when there are no rows to tell (or when nothing is to run for it)."""
        return self._fetch_schema() if fetch_if_missing else self._known_schema()

    def columns(self, fetch_if_missing: bool = True) -> list[str] | None:
        """Names of the columns."""
        found = self.schema(fetch_if_missing)
        return found.names if found is not None else None

    def num_blocks(self) -> int:
        """Only a materialized dataset has a number of blocks."""
        raise NotImplementedError(
            "Number of blocks is only available for `MaterializedDataset`,because the number of blocks may dynamically "
            "change during execution.Call `ds.materialize()` to get a `MaterializedDataset`."
        )

    def size_bytes(self) -> int:
        """Bytes the rows take in memory; an estimate where a read tells, else the plan runs."""
        if self._size_bytes is None:
            plan = self._plan
            if isinstance(plan, Read):
                estimate = plan.datasource.estimate_inmemory_data_size()
                if estimate is not None:
                    return int(estimate)
            for _ in self._bundles():
                pass
        return int(self._size_bytes or 0)

    def input_files(self) -> list[str]:
        """Files that the plan reads, each once."""
        files: dict[str, None] = {}
        for node in self._plan.walk():
            if isinstance(node, InputData):
                for bundle in node.bundles:
                    files.update(dict.fromkeys(bundle.metadata.input_files or ()))
            elif isinstance(node, Read):
                for task in node.datasource.get_read_tasks(1 << 30):
                    files.update(dict.fromkeys(task.metadata.input_files or ()))
        return list(files)

    def materialize(self) -> MaterializedDataset:
        """Run the plan, and keep the blocks in the store."""
        bundles = list(self._bundles())
        made = self._materialized(bundles)
        made._executor, made._name = self._executor, self._name
        made._schema = self._schema
        return made

    # As a whole

    def to_pandas(self, limit: int | None = None) -> Any:
        """All rows as one data frame of the driver's. limit: ValueError when there are more rows."""
        tables = list(self._tables())
        rows = sum(table.num_rows for table in tables)
        if limit is not None and rows > limit:
            raise ValueError(
                f"the dataset has more than the given limit of {limit} rows: {rows}. If you are sure that a DataFrame "
                f"with {rows} rows will fit in local memory, set ds.to_pandas(limit=None) to disable limits."
            )
        return to_pandas(concat_blocks(tables)) if tables else to_pandas(pa.table({}))

    def to_pandas_refs(self) -> list[ObjectRef]:
        """A ref of a data frame for each block."""
        return self._converted(to_pandas)

    def to_arrow_refs(self) -> list[ObjectRef]:
        """A ref of a table for each block: the blocks themselves."""
        return [bundle.ref for bundle in self._bundles()]

    def to_numpy_refs(self, *, column: str | None = None) -> list[ObjectRef]:
        """A ref of a dict of arrays (of an array, for one column) for each block."""
        return self._converted(partial(_as_numpy, column=column))

    def _converted(self, fn: Callable[[pa.Table], Any]) -> list[ObjectRef]:
        return [convert_block.remote(fn, bundle.ref) for bundle in self._bundles()]

    def get_internal_block_refs(self) -> list[ObjectRef]:
        """Refs of the blocks."""
        return self.to_arrow_refs()

    def iter_internal_ref_bundles(self) -> Iterator[Bundle]:
        """Refs and metadata of the blocks, as they are made."""
        return self._bundles()

    # Writing

    def write_datasink(
        self,
        datasink: Datasink[Any],
        *,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Write all rows with a sink. Its `on_write_start` may refuse before anything runs; when a task fails for good,
        `on_write_failed` is told, and the error is raised."""
        self._write(datasink, ray_remote_args, concurrency)

    def _write(self, sink: Datasink[Any], ray_remote_args: dict[str, Any] | None, concurrency: int | None) -> Any:
        known = self._known_schema()
        resources = Resources(TaskPoolStrategy(concurrency), dict(ray_remote_args or {}))
        plan: Node = self._plan
        if not sink.supports_distributed_writes:
            resources = Resources(TaskPoolStrategy(1), dict(ray_remote_args or {}))
        try:
            sink.on_write_start(known.base_schema if known is not None else None)
            node = WriteNode(
                (plan,), sink, sink.get_name(), resources, sink.min_rows_per_write, sink.min_bytes_per_write
            )
            writing = self._derive(node)
            result = result_of(list(writing._tables()))
            self._executor = writing._executor
            sink.on_write_complete(result)
            return result
        except Exception as error:
            sink.on_write_failed(error)
            raise


def _leaf_count(node: Node) -> int | None:
    if isinstance(node, InputData):
        counts = [bundle.metadata.num_rows for bundle in node.bundles]
        return None if None in counts else sum(counts)
    return node.datasource.num_rows() if isinstance(node, Read) else None


def count_rows(table: pa.Table) -> pa.Table:
    """A table of one number: what `count` moves instead of rows."""
    return pa.table({"count": [table.num_rows]})


def _as_numpy(table: pa.Table, column: str | None) -> Any:
    if column is not None:
        return to_numpy(table.column(column))
    batch = to_batch(table, "numpy")
    return batch
