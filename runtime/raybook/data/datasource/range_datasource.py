"""Numbers as a source: what `range` and `range_tensor` read."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.block import BlockMetadata
from raybook.data.column_types import fixed_tensors
from raybook.data.core.partition_math import even_bounds
from raybook.data.datasource.datasource import Datasource, ReadTask

ROWS_AT_ONCE = 1 << 20


class RangeDatasource(Datasource):
    """0 to n - 1 in a column "id"; with a shape, tensors in a column "data"."""

    def __init__(self, n: int, shape: tuple[int, ...] | None = None) -> None:
        if not isinstance(n, (int, np.integer)) or n < 0:
            raise ValueError(f"range() wants a number of rows, 0 or more; got {n!r}.")
        self._n, self._shape = int(n), shape

    def get_name(self) -> str:
        return "Range" if self._shape is None else "RangeTensor"

    def num_rows(self) -> int:
        return self._n

    def schema(self) -> pa.Schema:
        if self._shape is None:
            return pa.schema([("id", pa.int64())])
        return pa.schema([("data", pa.fixed_shape_tensor(pa.int64(), self._shape))])

    def estimate_inmemory_data_size(self) -> int:
        return self._n * 8 * (1 if self._shape is None else math.prod(self._shape))

    def with_limit(self, limit: int) -> RangeDatasource:
        return RangeDatasource(min(self._n, limit), self._shape)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        bounds = even_bounds(self._n, max(1, min(parallelism, self._n)))
        width = self.estimate_inmemory_data_size() // max(1, self._n)
        tasks = []
        for start, end in zip(bounds[:-1], bounds[1:], strict=True):
            metadata = BlockMetadata(end - start, (end - start) * width)
            tasks.append(
                ReadTask(partial(_numbers, start, end, self._shape), metadata, self.schema(), per_task_row_limit)
            )
        return tasks


def _numbers(start: int, end: int, shape: tuple[int, ...] | None) -> Any:
    step = ROWS_AT_ONCE if shape is None else max(1, ROWS_AT_ONCE // max(1, math.prod(shape)))
    for first in range(start, max(end, start + 1), step):
        numbers = np.arange(first, min(end, first + step), dtype=np.int64)
        if shape is None:
            yield pa.table({"id": numbers})
        else:
            whole = np.broadcast_to(numbers.reshape((-1,) + (1,) * len(shape)), (len(numbers), *shape))
            yield pa.table({"data": fixed_tensors(whole)})
