"""Blocks: what flows between operators is an Arrow table, and what is known about one without reading it.

A block is immutable and lives in the object store; its metadata travels beside it and stays with the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raybook.data.block_accessor import BlockAccessor as BlockAccessor

Block = pa.Table
"""What operators hand to each other."""

DataBatch = "pa.Table | pd.DataFrame | dict[str, np.ndarray]"
"""What a function of ``map_batches`` gets and returns."""

UserDefinedFunction = Callable[..., Any]


@dataclass
class BlockExecStats:
    """How a block came to be: seconds of wall and CPU time in the task that made it, and on which node."""

    wall_time_s: float | None = None
    cpu_time_s: float | None = None
    udf_time_s: float | None = None
    node_id: str | None = None
    start_time_s: float | None = None
    end_time_s: float | None = None
    task_idx: int | None = None
    max_uss_bytes: int = 0

    @staticmethod
    def builder() -> BlockExecStatsBuilder:
        return BlockExecStatsBuilder()


class BlockExecStatsBuilder:
    """Measures from its making to `build`."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._start = time.time()

    def build(self, **more: Any) -> BlockExecStats:
        return BlockExecStats(
            wall_time_s=time.perf_counter() - self._wall,
            cpu_time_s=time.process_time() - self._cpu,
            start_time_s=self._start,
            end_time_s=time.time(),
            **more,
        )


@dataclass
class BlockMetadata:
    """What is known of a block without reading it. None: not known (a file that has not been read)."""

    num_rows: int | None
    size_bytes: int | None
    exec_stats: BlockExecStats | None = None
    input_files: list[str] | tuple[str, ...] | None = None
    task_exec_stats: Any = None

    def __post_init__(self) -> None:
        if self.input_files is None:
            self.input_files = []


@dataclass
class BlockReport:
    """Metadata and schema of a block that a task has made; `extra` is the operator's own (boundaries, partition)."""

    metadata: BlockMetadata
    schema: pa.Schema | None
    extra: Any = None


@dataclass(frozen=True)
class Bundle:
    """A block in the store and what is known of it: the currency between operators, on the driver.

    owned: nobody else holds the ref, so dropping the bundle frees the block.
    """

    ref: Any
    metadata: BlockMetadata
    schema: pa.Schema | None = field(default=None, compare=False)

    @property
    def num_rows(self) -> int:
        return self.metadata.num_rows or 0

    @property
    def size_bytes(self) -> int:
        return self.metadata.size_bytes or 0


def size_of(table: pa.Table) -> int:
    """Bytes the table's rows take. Cost: a walk over its buffers; slices count only their own part."""
    try:
        return table.nbytes
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, AttributeError):
        return table.get_total_buffer_size()


def metadata_of(table: pa.Table, input_files: Iterable[str] | None = None) -> BlockMetadata:
    """Metadata of a table at hand."""
    return BlockMetadata(table.num_rows, size_of(table), None, list(input_files or ()))


def is_same_schema(schemas: Iterable[pa.Schema | None]) -> bool:
    found = [schema for schema in schemas if schema is not None]
    return all(schema.equals(found[0]) for schema in found[1:])


def unify_schemas(schemas: Iterable[pa.Schema | None]) -> pa.Schema | None:
    """One schema that all blocks fit. Blocks without columns (empty results) do not count when others have some.

    Raises pa.ArrowInvalid / ArrowTypeError naming the columns when types are at odds.
    """
    found: list[pa.Schema] = []
    for schema in schemas:
        if schema is not None and not any(schema.equals(other) for other in found):
            found.append(schema)
    with_columns = [schema for schema in found if len(schema)]
    found = with_columns or found[:1]
    if len(found) <= 1:
        return found[0] if found else None
    return pa.unify_schemas([schema.remove_metadata() for schema in found], promote_options="permissive")


def concat_blocks(tables: Iterable[pa.Table]) -> pa.Table:
    """All rows in order, as one table. Columns that some lack are filled with nulls; no rows are copied when schemas
    agree."""
    found = list(tables)
    if len(found) == 1:
        return found[0]
    filled = [table for table in found if table.num_columns and table.num_rows] or [
        table for table in found if table.num_columns
    ]
    if not filled:
        return found[0] if found else pa.table({})
    first = filled[0].schema
    if all(table.schema.equals(first) for table in filled[1:]):
        return pa.concat_tables(filled)
    return pa.concat_tables([align(table, unify_schemas(t.schema for t in filled)) for table in filled])


def align(table: pa.Table, schema: pa.Schema | None) -> pa.Table:
    """The table with exactly the columns and types of `schema`: missing ones are nulls."""
    if schema is None or table.schema.equals(schema):
        return table
    columns = []
    for wanted in schema:
        index = table.schema.get_field_index(wanted.name)
        if index < 0:
            columns.append(pa.nulls(table.num_rows, wanted.type))
        else:
            column = table.column(index)
            columns.append(column if column.type.equals(wanted.type) else column.cast(wanted.type))
    return pa.Table.from_arrays(columns, schema=schema)


def is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)
