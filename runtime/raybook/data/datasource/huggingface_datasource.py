"""Hugging Face datasets: what is in memory or mapped from disk is Arrow already; streaming ones are read shard by shard."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.data.batches import from_rows
from raybook.data.block import Block, BlockMetadata
from raybook.data.datasource.datasource import Datasource, ReadTask

if TYPE_CHECKING:
    from raybook.data.context import DataContext

ROWS_AT_ONCE = 4096


class HuggingFaceDatasource(Datasource):
    """dataset: a `datasets.IterableDataset`. As many tasks as it has shards, at most."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def get_name(self) -> str:
        return "HuggingFace"

    def estimate_inmemory_data_size(self) -> int | None:
        return getattr(getattr(self._dataset, "info", None), "dataset_size", None)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        shards: int = getattr(self._dataset, "num_shards", None) or getattr(self._dataset, "n_shards", 1) or 1
        count = max(1, min(parallelism, shards))
        pieces = [self._dataset] if count == 1 else [self._dataset.shard(count, one) for one in range(count)]
        return [
            ReadTask(partial(_read, piece), BlockMetadata(None, None), None, per_task_row_limit) for piece in pieces
        ]


def _read(dataset: Any) -> Iterable[Block]:
    """Blocks of a streaming dataset, by Arrow where it can give that."""
    with_format = getattr(dataset, "with_format", None)
    if with_format is not None:
        for batch in with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
            yield batch if isinstance(batch, pa.Table) else pa.table(dict(batch))
        return
    rows: list[dict[str, Any]] = []
    for row in dataset:
        rows.append(row)
        if len(rows) == ROWS_AT_ONCE:
            yield from_rows(rows)
            rows = []
    if rows:
        yield from_rows(rows)


def table_of(dataset: Any) -> pa.Table:
    """A `datasets.Dataset` as one table, with its selection of rows applied. Without a copy when there is none."""
    formatted = dataset.with_format("arrow")
    if getattr(dataset, "_indices", None) is None:
        table = dataset.data.table
        names = dataset.column_names
        return (table if table.column_names == names else table.select(names)).replace_schema_metadata(None)
    return formatted[:].replace_schema_metadata(None)
