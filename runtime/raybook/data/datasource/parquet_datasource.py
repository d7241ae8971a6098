"""Parquet: read tasks are row groups; columns, filters and limits are pushed into them, and counts come from footers.

Footers are read when the dataset is made (up to `FOOTERS_MAX` files; of more, a few stand for all), so that damaged files
and schemas that contradict each other are errors before any work.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.block import BlockMetadata
from raybook.data.context import DataContext
from raybook.data.core.file_groups import group_by_size
from raybook.data.datasource.datasource import ReadTask
from raybook.data.datasource.file_based_datasource import PATH_COLUMN, FileBasedDatasource, in_order
from raybook.data.datasource.parquet_footers import Footer, common_schema, read_footers
from raybook.data.datasource.parquet_reader import HASH_COLUMN, ParquetReader, Part
from raybook.data.datasource.partitioning import Partitioning, PathPartitionParser
from raybook.data.datasource.path_util import normalize_paths, resolve_paths

if TYPE_CHECKING:
    from raybook.data.expressions import Expr

FOOTERS_MAX = 512
"""Files whose footers are read when a dataset is made. Local: 0.2 ms each; remote: 30 ms, sixteen at a time."""
FOOTERS_SAMPLED = 16

FILE_OPTIONS = frozenset({"read_dictionary", "memory_map", "pre_buffer", "coerce_int96_timestamp_unit", "buffer_size"})
"""What `dataset_kwargs` may have: options of pyarrow.parquet.ParquetFile."""


class ParquetDatasource(FileBasedDatasource):
    """columns: to read, in order (partitions and "path" are columns, too). arrow_parquet_args: `schema`, `filter` (a
    pyarrow expression), `batch_size` (rows of a block), `use_threads`, `dataset_kwargs`."""

    _FILE_EXTENSIONS = ["parquet", "parquet.snappy", "parquet.gz"]

    def __init__(
        self,
        paths: Any,
        *,
        columns: list[str] | None = None,
        arrow_parquet_args: dict[str, Any] | None = None,
        tensor_column_schema: dict[str, tuple[Any, tuple[int, ...]]] | None = None,
        include_row_hash: bool = False,
        skip_paths: str | list[str] | None = None,
        **file_args: Any,
    ) -> None:
        super().__init__(paths, **file_args)
        arguments = dict(arrow_parquet_args or {})
        self._given_schema: pa.Schema | None = arguments.pop("schema", None)
        self._filter: pc.Expression | None = arguments.pop("filter", None)
        self._batch_size: int | None = arguments.pop("batch_size", None)
        self._use_threads = bool(arguments.pop("use_threads", False))
        self._file_options: dict[str, Any] = dict(arguments.pop("dataset_kwargs", None) or {})
        self._block_udf = arguments.pop("_block_udf", None)
        unknown = sorted({*arguments} | (set(self._file_options) - FILE_OPTIONS))
        if unknown:
            raise TypeError(
                f"read_parquet() got unexpected keyword arguments {unknown}. Of pyarrow's it takes schema, filter, "
                f"batch_size, use_threads, and dataset_kwargs with {sorted(FILE_OPTIONS)}."
            )
        if skip_paths is not None:
            skipped = set(resolve_paths(normalize_paths(skip_paths), self._filesystem)[0])
            self._files = {path: size for path, size in self._files.items() if path not in skipped}
            if not self._files:
                raise ValueError("No input files found to read: skip_paths names them all.")
        self._include_row_hash = include_row_hash
        self._tensor_columns = tensor_column_schema or {}
        self._limit: int | None = None
        self._partition_values = self._read_partitions()
        self._footers = self._sampled_footers()
        self._own = self._given_schema
        if self._own is None:
            self._own = common_schema(list(self._footers.values()))
        self._columns = columns
        if columns is not None:
            self._check_columns(columns)

    # What is known.

    def _read_partitions(self) -> dict[str, dict[str, Any]]:
        if self._partitioning is None:
            return {}
        scheme: Partitioning = self._partitioning
        parse = PathPartitionParser(scheme)
        return {path: parse(path) for path in self._files}

    def _sampled_footers(self) -> dict[str, Footer]:
        paths = list(self._files)
        if len(paths) > FOOTERS_MAX:
            paths = paths[:: len(paths) // FOOTERS_SAMPLED][:FOOTERS_SAMPLED]
        return {one.path: one for one in read_footers(paths, self._filesystem, **self._file_options)}

    def _partition_types(self) -> dict[str, pa.DataType]:
        types: dict[str, pa.DataType] = {}
        for values in self._partition_values.values():
            for name, value in values.items():
                if value is not None:
                    types.setdefault(name, pa.scalar(value).type)
                elif name not in types:
                    types[name] = pa.string()
        return types

    def _full_schema(self) -> pa.Schema:
        own = self._own
        more = [(name, kind) for name, kind in self._partition_types().items() if name not in own.names]
        if self._include_row_hash:
            more.append((HASH_COLUMN, pa.uint64()))
        if self._include_paths:
            more.append((PATH_COLUMN, pa.string()))
        return pa.schema([*own, *(pa.field(name, kind) for name, kind in more)])

    def _check_columns(self, columns: list[str]) -> None:
        known = self._full_schema().names
        unknown = [name for name in columns if name not in known and name.split(".")[0] not in known]
        if unknown:
            raise ValueError(
                f"Columns {unknown} are not in the Parquet files (first of them: {next(iter(self._files))!r}). They have: "
                f"{known[:50]}{' ...' if len(known) > 50 else ''}."
            )

    def schema(self) -> pa.Schema | None:
        full = self._full_schema()
        if self._block_udf is not None or self._tensor_columns:
            return None
        if self._columns is None:
            return full
        if any(name not in full.names for name in self._columns):
            return None
        return pa.schema([full.field(name) for name in self._columns])

    def num_rows(self) -> int | None:
        """From the footers, all of which are read now if they were not."""
        if self._filter is not None:
            return None
        missing = [path for path in self._files if path not in self._footers]
        if missing:
            more = read_footers(missing, self._filesystem, **self._file_options)
            self._footers.update({one.path: one for one in more})
        return sum(self._footers[path].num_rows for path in self._files)

    def estimate_inmemory_data_size(self) -> int | None:
        """Rows times width for numbers, encoded sizes for the rest, of the columns that are read."""
        sampled = [self._footers[path] for path in self._files if path in self._footers]
        if not sampled:
            return None
        size = sum(self._size_of(footer) for footer in sampled)
        known = sum(self._files[footer.path] or 0 for footer in sampled)
        total = sum(one or 0 for one in self._files.values())
        return int(size * total / known) if len(sampled) < len(self._files) and known else int(size)

    def _size_of(self, footer: Footer) -> float:
        rows = footer.num_rows
        own = self._own
        names = own.names if self._columns is None else [name.split(".")[0] for name in self._columns]
        size = 0.0
        for name in names:
            kind = own.field(name).type if name in own.names else None
            encoded = footer.column_bytes.get(name, 0)
            try:
                size += rows * kind.bit_width / 8 if kind is not None else 0
            except (ValueError, AttributeError):
                # Strings and lists: their bytes once, or more where a dictionary keeps them, and four for the offset.
                size += encoded * 1.5 + 4 * rows
        return max(size, 1.0)

    # What the optimizer asks.

    def with_projection(self, columns: list[str]) -> ParquetDatasource | None:
        if self._block_udf is not None or self._tensor_columns:
            return None
        if any(name not in self._full_schema().names for name in columns):
            return None
        made = copy.copy(self)
        made._columns = list(columns)
        return made

    def with_predicate(self, expr: Expr) -> ParquetDatasource | None:
        if self._block_udf is not None or self._tensor_columns or self._include_row_hash or self._limit is not None:
            return None
        names = set(expr.columns())
        partitions = self._partition_types()
        own = self._own
        if not names or not names <= {*own.names, *partitions}:
            return None
        try:
            condition = expr.to_pyarrow()
        except (NotImplementedError, TypeError, ValueError, pa.ArrowException):
            return None
        made = copy.copy(self)
        if names <= set(partitions) - set(own.names):
            try:
                kept = self._files_where(condition, partitions)
            except pa.ArrowException:
                return None
            if kept:
                made._files = {path: self._files[path] for path in kept}
                return made
            # A read of no file would not know its columns: one is looked at, and found to have no such row.
            made._files = dict(list(self._files.items())[:1])
        made._filter = condition if self._filter is None else self._filter & condition
        return made

    def _files_where(self, condition: pc.Expression, types: dict[str, pa.DataType]) -> list[str]:
        paths = list(self._files)
        columns = {
            name: pa.array([self._partition_values[path].get(name) for path in paths], kind)
            for name, kind in types.items()
        }
        rows = pa.table({**columns, "": pa.array(np.arange(len(paths)))})
        return [paths[index] for index in rows.filter(condition).column("").to_pylist()]

    def with_limit(self, limit: int) -> ParquetDatasource | None:
        if self._filter is not None or self._shuffle is not None or self._block_udf is not None:
            return None
        made = copy.copy(self)
        made._limit = limit if self._limit is None else min(limit, self._limit)
        return made

    # Tasks.

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        pieces = self._pieces(data_context)
        groups = group_by_size(pieces, [size for _, size, _ in pieces], parallelism)
        reader = ParquetReader(
            self._filesystem,
            self._columns,
            None if len(self._footers) < len(self._files) and self._given_schema is None else self._own,
            self._partition_types(),
            self._filter,
            self._include_paths,
            self._include_row_hash,
            self._batch_size,
            self._use_threads,
            self._file_options,
        )
        schema = self.schema()
        read = partial(_read, reader, self._tensor_columns, self._block_udf, schema)
        tasks = []
        for group in groups:
            parts = _joined([part for part, _, _ in group])
            rows = [count for _, _, count in group]
            known = (
                None
                if self._filter is not None or any(count is None for count in rows)
                else sum(count or 0 for count in rows)
            )
            metadata = BlockMetadata(known, sum(size or 0 for _, size, _ in group), None, [one.path for one in parts])
            tasks.append(ReadTask(partial(read, parts), metadata, schema, per_task_row_limit))
        return tasks

    def _pieces(self, data_context: DataContext | None) -> list[tuple[Part, int | None, int | None]]:
        """(part, size in memory, rows) of each row group, or of each file whose footer was not read."""
        pieces: list[tuple[Part, int | None, int | None]] = []
        left = self._limit if self._limit is not None else 2**62
        for path in in_order(list(self._files), self._shuffle, data_context):
            values = self._partition_values.get(path, {})
            footer = self._footers.get(path)
            if left <= 0 and pieces:
                break
            if footer is None:
                pieces.append((Part(path, None, values), self._files[path], None))
                continue
            share = self._size_of(footer) / max(sum(group.size_bytes for group in footer.groups), 1)
            for group in footer.groups:
                if left <= 0 and pieces:
                    break
                pieces.append((Part(path, (group,), values), int(group.size_bytes * share), group.num_rows))
                left -= group.num_rows
            if not footer.groups:
                pieces.append((Part(path, (), values), 0, 0))
        return pieces


def _joined(parts: list[Part]) -> list[Part]:
    """Neighbouring row groups of one file as one part."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last is not None and last.path == part.path and last.groups is not None and part.groups is not None:
            joined[-1] = Part(part.path, last.groups + part.groups, part.partition)
        else:
            joined.append(part)
    return joined


def _read(
    reader: ParquetReader, tensors: dict[str, Any], block_udf: Any, schema: pa.Schema | None, parts: list[Part]
) -> Iterable[pa.Table]:
    empty = True
    for table in reader.read(parts):
        empty = False
        for name, (dtype, shape) in tensors.items():
            table = _as_tensors(table, name, np.dtype(dtype), tuple(shape))
        yield table if block_udf is None else block_udf(table)
    if empty and schema is not None:
        # No rows, but columns: what comes after can go by their names.
        yield schema.empty_table()


def _as_tensors(table: pa.Table, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> pa.Table:
    """The binary column as tensors: each value is the bytes of an array."""
    index = table.schema.get_field_index(name)
    if index < 0:
        return table
    rows = [np.frombuffer(value, dtype).reshape(shape) for value in table.column(index).to_pylist()]
    array = np.stack(rows) if rows else np.empty((0, *shape), dtype)
    return table.set_column(index, name, pa.FixedShapeTensorArray.from_numpy_ndarray(array))
