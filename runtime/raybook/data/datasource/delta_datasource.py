"""Delta Lake tables: the log says which Parquet files count and what their partitions are; reading is Parquet's."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from raybook.data.datasource.file_meta_provider import DefaultFileMetadataProvider
from raybook.data.datasource.optional import require
from raybook.data.datasource.parquet_datasource import ParquetDatasource
from raybook.data.datasource.path_util import resolve_paths

UNREADABLE = frozenset({"deletionVectors", "columnMapping"})
"""Features of tables whose Parquet files are not the whole truth."""


class _ListedFiles(DefaultFileMetadataProvider):
    """The files that the log names, whatever else lies in the folder."""

    def __init__(self, files: dict[str, int]) -> None:
        self._listed = files

    def expand_paths(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, int | None]]:
        return iter(self._listed.items())


class DeltaDatasource(ParquetDatasource):
    """version: of the table; None: the latest. Needs deltalake."""

    def __init__(
        self,
        path: str,
        version: int | None = None,
        *,
        storage_options: dict[str, str] | None = None,
        filesystem: Any = None,
        **parquet_args: Any,
    ) -> None:
        deltalake = require("deltalake", "deltalake", "Reading Delta tables")
        try:
            table = deltalake.DeltaTable(str(path), version=version, storage_options=storage_options)
        except deltalake.exceptions.TableNotFoundError as error:
            raise FileNotFoundError(f"There is no Delta table at {path!r}: {error}") from error
        odd = UNREADABLE & set(table.protocol().reader_features or ())
        if odd:
            raise NotImplementedError(
                f"The Delta table {path!r} uses {sorted(odd)}, which raybook does not read: its Parquet files alone would "
                "give wrong rows. Nothing was read. Compact it without them (OPTIMIZE, REORG ... APPLY (PURGE))."
            )
        (root,), found = resolve_paths(path, filesystem)
        partitions = list(table.metadata().partition_columns)
        actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        files = {posixpath.join(root, unquote(one["path"])): one for one in actions}
        self._delta_values = {
            name: {column: one.get(f"partition.{column}") for column in partitions} for name, one in files.items()
        }
        own = pa.schema(table.schema().to_arrow())
        self._delta_types = {name: own.field(name).type for name in partitions}
        if not files:
            raise ValueError(f"The Delta table {path!r} has no files in version {table.version()}: it is empty.")
        schema = parquet_args.pop("schema", None)
        if schema is None:
            schema = pa.schema([one for one in own if one.name not in partitions])
        super().__init__(
            root,
            filesystem=found,
            meta_provider=_ListedFiles({name: one["size_bytes"] for name, one in sorted(files.items())}),
            arrow_parquet_args={**parquet_args.pop("arrow_parquet_args", {}), "schema": schema},
            **parquet_args,
        )

    def _read_partitions(self) -> dict[str, dict[str, Any]]:
        return {path: self._delta_values[path] for path in self._files}

    def _partition_types(self) -> dict[str, pa.DataType]:
        return self._delta_types
