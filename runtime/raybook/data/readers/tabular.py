"""Files of tables: Parquet, CSV, JSON, ORC, Avro.

All of them take a path, a folder, or a list of those, local or as a URI (`s3://`, `gs://`, `hdfs://`, `https://`, ...);
filesystem: of pyarrow or fsspec, where the URI does not say it. Missing files are a FileNotFoundError here and now,
unless ignore_missing_paths. include_paths: adds the column `path`. partitioning: what the folders' names say, as
columns. partition_filter: which of them to read. file_extensions: which names to read. shuffle: "files" or a
`FileShuffleConfig`, for a random order of files. Nothing is read until the dataset is used, but what files' footers say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.data.datasource.avro_datasource import AvroDatasource
from raybook.data.datasource.csv_datasource import CSVDatasource
from raybook.data.datasource.json_datasource import JSON_FILE_EXTENSIONS, JSONDatasource
from raybook.data.datasource.orc_datasource import ORCDatasource
from raybook.data.datasource.parquet_datasource import ParquetDatasource
from raybook.data.datasource.partitioning import Partitioning
from raybook.data.readers.options import ReadOptions, reader

HIVE = Partitioning("hive")
"""Folders such as ``year=2024`` become columns, of strings."""

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset
    from raybook.data.datasource.file_based_datasource import FileShuffleConfig
    from raybook.data.datasource.partitioning import PathPartitionFilter


@reader
def read_parquet(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    catalog: Any = None,
    columns: list[str] | None = None,
    tensor_column_schema: dict[str, tuple[Any, tuple[int, ...]]] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = HIVE,
    shuffle: str | FileShuffleConfig | None = None,
    include_paths: bool = False,
    include_row_hash: bool = False,
    file_extensions: list[str] | None = ParquetDatasource._FILE_EXTENSIONS,
    ignore_missing_paths: bool = False,
    skip_paths: str | list[str] | None = None,
    options: ReadOptions,
    **arrow_parquet_args: Any,
) -> Dataset:
    """A dataset of Parquet files; read tasks are row groups.

    columns: to read, in this order; ValueError for one that is not there. tensor_column_schema: {column: (dtype, shape)} of
    binary columns that hold arrays. include_row_hash: adds `row_hash`, a number that stays with a row. skip_paths: files
    to leave out. arrow_parquet_args: `schema`, `filter` (a pyarrow expression), `batch_size`, `use_threads`,
    `dataset_kwargs`. Later `select_columns`, `filter(expr=...)`, `limit` and `count` are pushed into the read.
    Raises pa.ArrowInvalid for a file that is no Parquet, and ValueError for files of contradicting schemas, both now.
    """
    no_catalog(catalog, "read_parquet")
    return options.read(
        ParquetDatasource(
            paths,
            columns=columns,
            arrow_parquet_args=arrow_parquet_args,
            tensor_column_schema=tensor_column_schema,
            include_row_hash=include_row_hash,
            skip_paths=skip_paths,
            filesystem=filesystem,
            partition_filter=partition_filter,
            partitioning=partitioning,
            shuffle=shuffle,
            include_paths=include_paths,
            file_extensions=file_extensions,
            ignore_missing_paths=ignore_missing_paths,
        )
    )


def no_catalog(catalog: Any, name: str) -> None:
    """NotImplementedError when a catalog was given."""
    if catalog is not None:
        raise NotImplementedError(
            f"raybook's {name} has no catalogs. Nothing was read. Ask the catalog for the table's path and credentials, and "
            "pass those as `paths` and `filesystem`."
        )


@reader
def read_csv(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = HIVE,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = None,
    options: ReadOptions,
    **arrow_csv_args: Any,
) -> Dataset:
    """A dataset of CSV files, with or without compression.

    Types come from the first megabyte of each file. arrow_csv_args: `read_options`, `parse_options`, `convert_options` of
    pyarrow.csv. arrow_open_stream_args: of `open_input_stream`, for instance `compression`.
    """
    return options.read(
        CSVDatasource(
            paths,
            arrow_csv_args=arrow_csv_args,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_json(
    paths: str | list[str],
    *,
    lines: bool = False,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = HIVE,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = JSON_FILE_EXTENSIONS,
    options: ReadOptions,
    **arrow_json_args: Any,
) -> Dataset:
    """A dataset of JSON files: an object a line, or an array of objects a file.

    lines: only the first form, and an error for the second. arrow_json_args: `read_options`, `parse_options` of
    pyarrow.json. arrow_open_stream_args: of `open_input_stream`. Cost: a file of lines is read in pieces of 16 MiB, an
    array as a whole.
    """
    return options.read(
        JSONDatasource(
            paths,
            arrow_json_args=arrow_json_args,
            lines=lines,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_orc(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = ORCDatasource._FILE_EXTENSIONS,
    options: ReadOptions,
) -> Dataset:
    """A dataset of ORC files."""
    return options.read(
        ORCDatasource(
            paths,
            filesystem=filesystem,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_avro(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of Avro files. Needs fastavro."""
    return options.read(
        AvroDatasource(
            paths,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )
