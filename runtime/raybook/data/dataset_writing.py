"""Writing: the `write_*` methods of datasets. Each makes a sink and runs the dataset into it.

What can be refused is refused before the dataset runs: a mode against what is there, an unknown column, a missing package.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from raybook.data.dataset_table_writing import DatasetTableWriting, no_catalog
from raybook.data.datasource.filename_provider import FilenameProvider
from raybook.data.datasource.format_datasinks import (
    CSVDatasink,
    ImageDatasink,
    JSONDatasink,
    NumpyDatasink,
    ORCDatasink,
)
from raybook.data.datasource.parquet_datasink import ParquetDatasink
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.tfrecords_datasink import TFRecordDatasink
from raybook.data.datasource.webdataset_datasource import WebDatasetDatasink


class DatasetWriting(DatasetTableWriting):
    """Common arguments of what writes files: path: a folder, local or a URI. filesystem: of pyarrow or fsspec. mode: what to
    do with what is there ("append", "overwrite", "ignore", "error"). filename_provider: names files.
    min_rows_per_file: rows are gathered until a file has so many. arrow_open_stream_args: of `open_output_stream`, for
    instance `compression`. ray_remote_args, concurrency: of the tasks. A file is there whole or not at all."""

    def write_parquet(
        self,
        path: str,
        *,
        partition_cols: list[str] | None = None,
        filesystem: Any = None,
        catalog: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        arrow_parquet_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        min_bytes_per_file: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        **arrow_parquet_args: Any,
    ) -> None:
        """Parquet files. partition_cols: columns that become folders ``a=1/``. arrow_parquet_args: of
        `pyarrow.parquet.write_table`; arrow_parquet_args_fn makes more in the worker."""
        no_catalog(catalog, "write_parquet")
        sink = ParquetDatasink(
            path,
            partition_cols=partition_cols,
            arrow_parquet_args_fn=arrow_parquet_args_fn,
            arrow_parquet_args=arrow_parquet_args,
            min_rows_per_file=_min_rows(min_rows_per_file, num_rows_per_file),
            max_rows_per_file=max_rows_per_file,
            min_bytes_per_file=min_bytes_per_file,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_csv(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        arrow_csv_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        **arrow_csv_args: Any,
    ) -> None:
        """CSV files with a header. arrow_csv_args: of `pyarrow.csv.write_csv`; arrow_csv_args_fn makes more in the worker.
        ValueError for columns that CSV has no form for (lists, tensors)."""
        sink = CSVDatasink(
            path,
            arrow_csv_args_fn=arrow_csv_args_fn,
            arrow_csv_args=arrow_csv_args,
            min_rows_per_file=_min_rows(min_rows_per_file, num_rows_per_file),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_json(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        pandas_json_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        **pandas_json_args: Any,
    ) -> None:
        """Files of JSON lines. pandas_json_args: of `pandas.DataFrame.to_json`; pandas_json_args_fn makes more in the
        worker."""
        sink = JSONDatasink(
            path,
            pandas_json_args_fn=pandas_json_args_fn,
            pandas_json_args=pandas_json_args,
            min_rows_per_file=_min_rows(min_rows_per_file, num_rows_per_file),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_orc(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        arrow_orc_args_fn: Callable[[], dict[str, Any]] | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        **arrow_orc_args: Any,
    ) -> None:
        """ORC files. arrow_orc_args: of `pyarrow.orc.write_table`."""
        sink = ORCDatasink(
            path,
            arrow_orc_args_fn=arrow_orc_args_fn,
            arrow_orc_args=arrow_orc_args,
            min_rows_per_file=min_rows_per_file,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_numpy(
        self,
        path: str,
        *,
        column: str,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        """One column as ``.npy`` files, rows along the first axis."""
        sink = NumpyDatasink(
            path,
            column,
            min_rows_per_file=_min_rows(min_rows_per_file, num_rows_per_file),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_images(
        self,
        path: str,
        column: str,
        file_format: str = "png",
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        """A column of arrays as image files, a file a row. file_format: "png", "jpeg", ... Needs pillow."""
        sink = ImageDatasink(
            path,
            column,
            file_format,
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_tfrecords(
        self,
        path: str,
        *,
        tf_schema: Any = None,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        """TFRecord files of `tf.train.Example`: integers, floats, bytes, strings, and lists of them. Needs no TensorFlow."""
        sink = TFRecordDatasink(
            path,
            tf_schema=tf_schema,
            min_rows_per_file=_min_rows(min_rows_per_file, num_rows_per_file),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_webdataset(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        min_rows_per_file: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        encoder: Any = True,
        concurrency: int | None = None,
        num_rows_per_file: int | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        """WebDataset archives: a sample a row, a member a column, named by the column `__key__` or a random key. encoder:
        True the default by extension, None values as they are, a function from a sample to a sample, or a list of those."""
        sink = WebDatasetDatasink(
            path,
            encoder,
            min_rows_per_file=_min_rows(min_rows_per_file, num_rows_per_file),
            filesystem=filesystem,
            try_create_dir=try_create_dir,
            open_stream_args=arrow_open_stream_args,
            filename_provider=filename_provider,
            mode=mode,
        )
        self._write_files(sink, ray_remote_args, concurrency)


def _min_rows(min_rows: int | None, older_name: int | None) -> int | None:
    if older_name is None:
        return min_rows
    if min_rows is not None:
        raise ValueError("Give min_rows_per_file alone: num_rows_per_file is its older name.")
    warnings.warn("num_rows_per_file is deprecated; use min_rows_per_file.", DeprecationWarning, stacklevel=3)
    return older_name
