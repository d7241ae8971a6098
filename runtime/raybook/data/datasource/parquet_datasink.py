"""Writing Parquet: a file a task, or one a partition and task."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet as pq

from raybook.data.datasource.file_datasink import BlockBasedFileDatasink, check_rows, slices
from raybook.data.datasource.file_writing import write_file
from raybook.data.datasource.filename_provider import file_name
from raybook.data.datasource.partitioning import partition_folder
from raybook.data.datasource.task_context import TaskContext


class ParquetDatasink(BlockBasedFileDatasink):
    """partition_cols: columns that become folders ``a=1/b=2`` and are left out of the files. arrow_parquet_args: of
    `pyarrow.parquet.write_table`; arrow_parquet_args_fn: makes more of them in the worker."""

    def __init__(
        self,
        path: str,
        *,
        partition_cols: list[str] | None = None,
        arrow_parquet_args_fn: Callable[[], dict[str, Any]] | None = None,
        arrow_parquet_args: dict[str, Any] | None = None,
        min_rows_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        min_bytes_per_file: int | None = None,
        **file_args: Any,
    ) -> None:
        check_rows("max_rows_per_file", max_rows_per_file)
        check_rows("min_bytes_per_file", min_bytes_per_file)
        if min_rows_per_file and max_rows_per_file and min_rows_per_file > max_rows_per_file:
            raise ValueError(
                f"min_rows_per_file ({min_rows_per_file}) must not be greater than max_rows_per_file "
                f"({max_rows_per_file})."
            )
        super().__init__(path, min_rows_per_file=min_rows_per_file, file_format="parquet", **file_args)
        self.partition_cols = list(partition_cols or [])
        self.arrow_parquet_args_fn = arrow_parquet_args_fn or dict
        self.arrow_parquet_args = dict(arrow_parquet_args or {})
        self.max_rows_per_file = max_rows_per_file
        self._min_bytes_per_file = min_bytes_per_file

    @property
    def min_bytes_per_write(self) -> int | None:
        return self._min_bytes_per_file

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        if schema is not None:
            self._check_columns(schema.names)
        super().on_write_start(schema)

    def _check_columns(self, names: list[str]) -> None:
        missing = [name for name in self.partition_cols if name not in names]
        if missing:
            raise ValueError(f"partition_cols {missing} are not among the dataset's columns: {names}.")
        if self.partition_cols and len(self.partition_cols) == len(names):
            raise ValueError(f"partition_cols {self.partition_cols} leave no column for the files' rows.")

    def write_table(self, table: pa.Table, ctx: TaskContext) -> None:
        self._check_columns(table.column_names)
        options = {**self.arrow_parquet_args, **self.arrow_parquet_args_fn()}
        row_group_size = options.pop("row_group_size", None)
        for folder, rows, _ in partitions(table, self.partition_cols):
            where = posixpath.join(self.path, folder) if folder else self.path
            if folder and self.filesystem.type_name != "s3":
                self.filesystem.create_dir(where, recursive=True)
            for index, piece in enumerate(slices(rows, self.max_rows_per_file)):
                name = file_name(self.filename_provider, self._uuid(ctx), ctx.task_idx, index)

                def fill(file: pa.NativeFile, piece: pa.Table = piece) -> None:
                    pq.write_table(piece, file, row_group_size=row_group_size, **options)

                write_file(
                    self.filesystem, posixpath.join(where, name), fill, {"compression": None, **self.open_stream_args}
                )


def partitions(table: pa.Table, columns: list[str]) -> Iterator[tuple[str, pa.Table, dict[str, Any]]]:
    """(folder, rows without the partition's columns, values) for each combination of values, in order of first sight. Cost:
    a sort of the keys and one gathering of the rows."""
    if not columns:
        yield "", table, {}
        return
    keys = table.select(columns)
    groups = keys.append_column("__row", pa.array(range(table.num_rows), pa.int64()))
    found = groups.group_by(columns, use_threads=False).aggregate([("__row", "list")])
    rest = table.drop_columns(columns)
    lists = found.column("__row_list")
    for index in range(found.num_rows):
        values = {name: found.column(name)[index].as_py() for name in columns}
        yield partition_folder(values), rest.take(pc.cast(lists[index].values, pa.int64())), values
