"""Sources and sinks run here without a cluster: read tasks are called, and sinks given tables, as tasks would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from raybook.data.block import concat_blocks
from raybook.data.datasource import TaskContext, WriteResult


@pytest.fixture
def read() -> Callable[..., pa.Table]:
    """All rows of a source as one table, read by at most `parallelism` tasks."""

    def read_all(source: Any, parallelism: int = 4) -> pa.Table:
        return concat_blocks([block for task in source.get_read_tasks(parallelism) for block in task()])

    return read_all


@pytest.fixture
def write() -> Callable[..., None]:
    """Run a sink as a write does: each table is a task's."""

    def write_all(sink: Any, *tables: pa.Table) -> None:
        sink.on_write_start(tables[0].schema)
        returned = [sink.write(iter([table]), TaskContext(index)) for index, table in enumerate(tables)]
        rows = sum(table.num_rows for table in tables)
        sink.on_write_complete(WriteResult(rows, sum(table.nbytes for table in tables), returned))

    return write_all
