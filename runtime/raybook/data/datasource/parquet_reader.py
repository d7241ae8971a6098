"""What a read task does with its part of a Parquet dataset: row groups in, tables out.

Small to pickle: names, numbers and a filter, no footers. Memory: about one target block size at a time, however large a
row group is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.block import align
from raybook.data.context import DataContext
from raybook.data.datasource.file_based_datasource import gather, with_path
from raybook.data.datasource.parquet_footers import RowGroup, open_parquet
from raybook.data.datasource.partitioning import add_partitions
from raybook.data.datasource.path_util import is_local
from raybook.data.datasource.retry import call_with_retry

HASH_COLUMN = "row_hash"


@dataclass(frozen=True)
class Part:
    """Row groups of one file (None: all of them, not looked at yet), and its partition's values."""

    path: str
    groups: tuple[RowGroup, ...] | None
    partition: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParquetReader:
    """columns: names to return, in order; None: all. schema: of the files' own columns, all of them; None: as found.
    filter: an expression over the files' and the partition's columns."""

    filesystem: Any
    columns: list[str] | None
    schema: pa.Schema | None
    partition_types: dict[str, pa.DataType]
    filter: pc.Expression | None = None
    include_paths: bool = False
    include_row_hash: bool = False
    batch_size: int | None = None
    use_threads: bool = False
    file_options: dict[str, Any] = field(default_factory=dict)

    def read(self, parts: list[Part]) -> Iterator[pa.Table]:
        """Tables of these parts, in order."""
        return gather(table for part in parts for table in self._part(part))

    def _part(self, part: Part) -> Iterator[pa.Table]:
        tables = self._filtered(part) if self.filter is not None else self._plain(part)
        for table in tables:
            if part.partition and self.filter is None:
                wanted = {k: v for k, v in part.partition.items() if self.columns is None or k in self.columns}
                table = add_partitions(table, wanted)
            if self.include_paths and (self.columns is None or "path" in self.columns):
                table = with_path(table, part.path)
            if self.columns is not None and table.column_names != self.columns:
                table = table.select(self.columns)
            yield table

    def _own_columns(self, present: pa.Schema) -> list[str] | None:
        """Those of the wanted columns that this file has."""
        if self.columns is None:
            return None
        tops = set(present.names)
        return [name for name in self.columns if name in tops or name.split(".")[0] in tops]

    def _wanted_schema(self) -> pa.Schema | None:
        if self.schema is None:
            return None
        if self.columns is None:
            return self.schema
        own = set(self.schema.names)
        return pa.schema([self.schema.field(name) for name in self.columns if name in own])

    def _plain(self, part: Part) -> Iterator[pa.Table]:
        target = DataContext.get_current().target_max_block_size or 2**62
        wanted = self._wanted_schema()
        with call_with_retry(
            lambda: open_parquet(part.path, self.filesystem, **self.file_options), f"open {part.path!r}"
        ) as file:
            columns = self._own_columns(file.schema_arrow)
            groups = part.groups if part.groups is not None else _groups_of(file)
            for run in _runs(groups, target):
                for first_row, table in self._run(file, part.path, run, columns, target):
                    if wanted is not None and (self.columns is None or columns == wanted.names or not _nested(columns)):
                        table = align(table, wanted)
                    if self.include_row_hash:
                        table = table.append_column(HASH_COLUMN, row_hashes(part.path, first_row, table.num_rows))
                    yield table

    def _run(
        self, file: Any, path: str, run: list[RowGroup], columns: list[str] | None, target: int
    ) -> Iterator[tuple[int, pa.Table]]:
        first = run[0]
        size = sum(group.size_bytes for group in run)
        try:
            if self.batch_size is None and size <= 2 * target:
                indexes = [group.index for group in run]
                yield (
                    first.first_row,
                    call_with_retry(
                        lambda: file.read_row_groups(indexes, columns=columns, use_threads=self.use_threads),
                        f"read {path!r}",
                    ),
                )
                return
            rows = sum(group.num_rows for group in run)
            batch_rows = self.batch_size or max(1, int(rows * target / max(size, 1)))
            done = first.first_row
            for batch in file.iter_batches(
                batch_rows, [group.index for group in run], columns=columns, use_threads=self.use_threads
            ):
                yield done, pa.Table.from_batches([batch])
                done += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, path, run, columns, error) from error

    def _filtered(self, part: Part) -> Iterator[pa.Table]:
        """Through pyarrow's scanner, which leaves out row groups by their statistics."""
        # It imports pandas where there is one, which readers without filters need not wait for.
        import pyarrow.dataset as pads

        condition = None
        for name, value in part.partition.items():
            one = pc.field(name).is_null() if value is None else pc.field(name) == value
            condition = one if condition is None else condition & one
        indexes = None if part.groups is None else [group.index for group in part.groups]
        fragment = pads.ParquetFileFormat(pre_buffer=not is_local(self.filesystem)).make_fragment(
            part.path, self.filesystem, partition_expression=condition, row_groups=indexes
        )
        schema = self.schema if self.schema is not None else fragment.physical_schema
        known = set(schema.names)
        more = [pa.field(name, kind) for name, kind in self.partition_types.items() if name not in known]
        schema = pa.schema([*schema, *more])
        columns = None
        if self.columns is not None:
            columns = [name for name in self.columns if name in schema.names]
        options: dict[str, Any] = {"batch_size": self.batch_size} if self.batch_size else {}
        scanner = fragment.scanner(
            schema=schema, columns=columns, filter=self.filter, use_threads=self.use_threads, **options
        )
        try:
            for batch in scanner.to_batches():
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowInvalid, OSError) as error:
            with open_parquet(part.path, self.filesystem, **self.file_options) as file:
                groups = part.groups if part.groups is not None else _groups_of(file)
                raise _damaged(file, part.path, list(groups), None, error) from error


def _nested(columns: list[str] | None) -> bool:
    return any("." in name for name in columns or ())


def _groups_of(file: Any) -> tuple[RowGroup, ...]:
    found, first = [], 0
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        found.append(RowGroup(index, group.num_rows, group.total_byte_size, first))
        first += group.num_rows
    return tuple(found)


def _runs(groups: tuple[RowGroup, ...], target: int) -> Iterator[list[RowGroup]]:
    """Neighbouring row groups of about one block together."""
    run: list[RowGroup] = []
    size = 0
    for group in groups:
        if run and size + group.size_bytes > target:
            yield run
            run, size = [], 0
        run.append(group)
        size += group.size_bytes
    if run:
        yield run


def _damaged(file: Any, path: str, run: list[RowGroup], columns: list[str] | None, error: Exception) -> Exception:
    """The error with the row group that cannot be read, found by trying each."""
    for group in run:
        try:
            file.read_row_group(group.index, columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as found:
            return pa.ArrowInvalid(
                f"Row group {group.index} of {path!r} (rows {group.first_row} to {group.first_row + group.num_rows - 1}) "
                f"cannot be read, it is damaged: {found}. Write the file anew, leave it out with skip_paths or "
                "partition_filter, or set DataContext.max_errored_blocks to go on without the block."
            )
    return pa.ArrowInvalid(f"Reading {path!r} failed: {error}")


def row_hashes(path: str, first_row: int, count: int) -> pa.Array:
    """A number for each row that follows from its file and its place in it: splitmix64 over both."""
    seed = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        mixed = np.arange(first_row, first_row + count, dtype=np.uint64) + np.uint64(seed)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return pa.array(mixed ^ (mixed >> np.uint64(31)))
