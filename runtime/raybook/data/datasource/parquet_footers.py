"""Footers of Parquet files: what they say about row groups and columns, read on the driver before any work.

A file that is no Parquet is an error here, and so are files whose columns contradict each other, named.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from raybook.data.datasource.path_util import is_local
from raybook.data.datasource.retry import call_with_retry

THREADS = 16
"""Footers read at once: what hides the latency of a remote store."""


@dataclass(frozen=True)
class RowGroup:
    """num_rows and bytes (uncompressed, as encoded) of one row group; first_row: its place in the file."""

    index: int
    num_rows: int
    size_bytes: int
    first_row: int


@dataclass(frozen=True)
class Footer:
    """What a file says of itself. column_bytes: encoded but uncompressed size by top-level column."""

    path: str
    schema: pa.Schema
    groups: tuple[RowGroup, ...]
    column_bytes: dict[str, int]

    @property
    def num_rows(self) -> int:
        return sum(group.num_rows for group in self.groups)


def open_parquet(path: str, filesystem: Any, **options: Any) -> pq.ParquetFile:
    """The file, opened; local ones by a memory map, remote ones with ranges read ahead."""
    if is_local(filesystem):
        return pq.ParquetFile(path, memory_map=options.pop("memory_map", True), **options)
    options.setdefault("pre_buffer", True)
    return pq.ParquetFile(filesystem.open_input_file(path), **options)


def read_footer(path: str, filesystem: Any, **options: Any) -> Footer:
    """The footer of one file. pa.ArrowInvalid, naming the file, when it is no Parquet."""

    def read() -> Footer:
        with open_parquet(path, filesystem, **options) as file:
            return _footer(path, file)

    try:
        return call_with_retry(read, f"read the footer of {path!r}")
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise pa.ArrowInvalid(
            f"{path!r} is no Parquet file, or its footer is damaged: {error}. Nothing was read. Remove it, or leave it "
            "out with partition_filter, file_extensions or skip_paths."
        ) from error


def _footer(path: str, file: pq.ParquetFile) -> Footer:
    metadata = file.metadata
    groups, first = [], 0
    sizes: dict[str, int] = {}
    # `path_in_schema` of a nested column begins with the name of its top.
    tops = [metadata.schema.column(index).path.split(".")[0] for index in range(metadata.num_columns)]
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        groups.append(RowGroup(index, group.num_rows, group.total_byte_size, first))
        first += group.num_rows
        if len(tops) <= COLUMNS_COUNTED_MAX:
            for position, top in enumerate(tops):
                sizes[top] = sizes.get(top, 0) + group.column(position).total_uncompressed_size
    return Footer(path, file.schema_arrow.remove_metadata(), tuple(groups), sizes)


COLUMNS_COUNTED_MAX = 1000
"""Beyond, columns' sizes are not added up: 10,000 columns times groups times files take longer than they tell."""


def read_footers(paths: Sequence[str], filesystem: Any, **options: Any) -> list[Footer]:
    """Footers of all files, in order. Cost: a read or two a file, sixteen files at a time."""
    if len(paths) == 1:
        return [read_footer(paths[0], filesystem, **options)]
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda path: read_footer(path, filesystem, **options), paths))


def common_schema(footers: Sequence[Footer]) -> pa.Schema:
    """One schema for all files: columns that some lack are null there, numbers widen.

    ValueError, naming the column and two files, when types cannot be brought together.
    """
    schemas: list[pa.Schema] = []
    for footer in footers:
        if not any(footer.schema.equals(schema) for schema in schemas):
            schemas.append(footer.schema)
    if len(schemas) == 1:
        return schemas[0]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(_contradiction(footers, error)) from error


def _contradiction(footers: Sequence[Footer], error: Exception) -> str:
    first: dict[str, tuple[pa.DataType, str]] = {}
    for footer in footers:
        for field in footer.schema:
            known, path = first.setdefault(field.name, (field.type, footer.path))
            try:
                pa.unify_schemas(
                    [pa.schema([(field.name, known)]), pa.schema([(field.name, field.type)])],
                    promote_options="permissive",
                )
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                return (
                    f"The files have different schemas: column {field.name!r} is {known} in {path!r} and {field.type} in "
                    f"{footer.path!r}. Nothing was read. Read them apart, or give the types with schema=..."
                )
    return f"The files have different schemas: {error}"
