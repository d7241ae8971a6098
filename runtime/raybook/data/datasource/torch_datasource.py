"""PyTorch datasets, row by row in the column `item`. A map-style one is read in pieces, in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from raybook.api import get, put
from raybook.data.batches import from_rows
from raybook.data.block import Block, BlockMetadata
from raybook.data.datasource.datasource import Datasource, ReadTask

if TYPE_CHECKING:
    from raybook.data.context import DataContext

ROWS_AT_ONCE = 1024


class TorchDatasource(Datasource):
    """dataset: map-style (`__getitem__` and `__len__`) or iterable. Each row is `{"item": dataset[i]}`."""

    def __init__(self, dataset: Any, local_read: bool = False) -> None:
        self._dataset, self._local_read = dataset, local_read

    @property
    def _is_map_style(self) -> bool:
        return hasattr(self._dataset, "__getitem__") and hasattr(self._dataset, "__len__")

    @property
    def supports_distributed_reads(self) -> bool:
        return not self._local_read

    def num_rows(self) -> int | None:
        return len(self._dataset) if self._is_map_style else None

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        if not self._is_map_style:
            read = partial(_iterate, self._dataset)
            return [ReadTask(read, BlockMetadata(None, None), None, per_task_row_limit)]
        total = len(self._dataset)
        # Through the store once, instead of with each task.
        shared = put(self._dataset)
        count = max(1, min(parallelism, total))
        bounds = [total * index // count for index in range(count + 1)]
        return [
            ReadTask(partial(_pick, shared, start, end), BlockMetadata(end - start, None), None, per_task_row_limit)
            for start, end in zip(bounds, bounds[1:], strict=False)
        ]


def _pick(shared: Any, start: int, end: int) -> Iterable[Block]:
    dataset = get(shared)
    return _blocks(dataset[index] for index in range(start, end))


def _iterate(dataset: Any) -> Iterable[Block]:
    return _blocks(iter(dataset))


def _blocks(items: Iterator[Any]) -> Iterator[Block]:
    rows: list[dict[str, Any]] = []
    for item in items:
        rows.append({"item": item})
        if len(rows) == ROWS_AT_ONCE:
            yield from_rows(rows)
            rows = []
    if rows:
        yield from_rows(rows)
