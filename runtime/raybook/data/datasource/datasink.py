"""Datasink: what a writer has to do. `on_write_*` run on the driver, `write` in tasks on workers.

Invariant: `on_write_start` comes first; then either `on_write_complete` once or `on_write_failed` once. A task that dies
is run again, so `write` must leave nothing half done under the final name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa

from raybook.data.block import Block
from raybook.data.datasource.task_context import TaskContext

WriteReturnType = TypeVar("WriteReturnType")


@dataclass
class WriteResult(Generic[WriteReturnType]):
    """What all tasks of a write did together; write_returns: what each `write` returned, in order of tasks."""

    num_rows: int
    size_bytes: int
    write_returns: list[WriteReturnType]

    @classmethod
    def combine(cls, *wrs: WriteResult) -> WriteResult:
        return WriteResult(
            sum(one.num_rows for one in wrs),
            sum(one.size_bytes for one in wrs),
            [value for one in wrs for value in one.write_returns],
        )


class Datasink(Generic[WriteReturnType]):
    """Implement `write` to write to a system of your own with `Dataset.write_datasink`."""

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Before the first task, on the driver. schema: of the rows, if it is known then."""

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> WriteReturnType:
        """Write these blocks; in a worker. What it returns comes to `on_write_complete`."""
        raise NotImplementedError

    def on_write_complete(self, write_result: WriteResult[WriteReturnType]) -> None:
        """All tasks are done, on the driver."""

    def on_write_failed(self, error: Exception) -> None:
        """The write failed for good, on the driver; `error` is raised afterwards."""

    def get_name(self) -> str:
        """What `explain` and progress call it: "Parquet" for a ParquetDatasink."""
        name = type(self).__name__
        return name.removeprefix("_").removesuffix("Datasink")

    @property
    def supports_distributed_writes(self) -> bool:
        """Whether any node can run the tasks; False: one task on the driver's node writes everything."""
        return True

    @property
    def min_rows_per_write(self) -> int | None:
        """Blocks are gathered until a call of `write` gets at least so many rows; None: as they come."""
        return None

    @property
    def min_bytes_per_write(self) -> int | None:
        return None


class DummyOutputDatasink(Datasink[None]):
    """Writes nowhere, and counts: for tests of plans that end in a write."""

    def __init__(self) -> None:
        self.rows_written = 0
        self.num_ok = 0
        self.num_failed = 0
        self.enabled = True

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        for _ in blocks:
            if not self.enabled:
                raise ValueError("disabled")

    def on_write_complete(self, write_result: WriteResult[Any]) -> None:
        self.num_ok += 1
        self.rows_written += write_result.num_rows

    def on_write_failed(self, error: Exception) -> None:
        self.num_failed += 1
