"""Writing: the step of a plan that hands blocks to a sink, and the verbs around it on the driver."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pyarrow as pa

from raybook.data.batches import iter_rows
from raybook.data.block import size_of
from raybook.data.datasource.datasink import Datasink, WriteResult
from raybook.data.datasource.task_context import TaskContext
from raybook.data.transforms import Run, Transform


class WriteBlocks(Transform):
    """Gives the blocks of a task to the sink; one row comes out: what it returned, and how much it got."""

    def __init__(self, sink: Datasink[Any]) -> None:
        self.sink = sink

    def make(self) -> Run:
        sink = self.sink

        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            counted = _Counted(blocks)
            returned = sink.write(counted, context)
            for _ in counted:
                pass  # What the sink left is made all the same: a step before may be there for its effects.
            yield pa.table(
                {
                    "num_rows": [counted.rows],
                    "size_bytes": [counted.bytes],
                    "write_return": pa.array([cloudpickle.dumps(returned)], pa.large_binary()),
                }
            )

        return run


class _Counted:
    def __init__(self, blocks: Iterator[pa.Table]) -> None:
        self._blocks = iter(blocks)
        self.rows = self.bytes = 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> pa.Table:
        block = next(self._blocks)
        self.rows += block.num_rows
        self.bytes += size_of(block)
        return block


def result_of(tables: list[pa.Table]) -> WriteResult[Any]:
    """What the tasks of a write reported, as one result."""
    rows = [row for table in tables if table.num_columns for row in iter_rows(table)]
    return WriteResult(
        sum(row["num_rows"] for row in rows),
        sum(row["size_bytes"] for row in rows),
        [pickle.loads(row["write_return"]) for row in rows],
    )
