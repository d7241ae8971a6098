"""Tables with a log: Delta Lake, Iceberg, Lance, Hudi."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from raybook.data.block import BlockMetadata
from raybook.data.datasource.datasource import Datasource, ReadTask
from raybook.data.datasource.delta_datasource import DeltaDatasource
from raybook.data.datasource.iceberg_datasource import IcebergDatasource
from raybook.data.datasource.optional import require
from raybook.data.readers.options import ReadOptions, reader
from raybook.data.readers.tabular import no_catalog

if TYPE_CHECKING:
    import pyarrow as pa

    from raybook.data.dataset import Dataset


@reader
def read_delta(
    path: str | list[str],
    version: int | None = None,
    *,
    storage_options: dict[str, Any] | None = None,
    filesystem: Any = None,
    catalog: Any = None,
    columns: list[str] | None = None,
    shuffle: str | None = None,
    include_paths: bool = False,
    options: ReadOptions,
    **arrow_parquet_args: Any,
) -> Dataset:
    """A dataset of a Delta Lake table, at a version or the latest. Partitions have the types that the table says.

    ValueError for a list of several paths; FileNotFoundError where there is no table; NotImplementedError for tables with
    deletion vectors or column mapping. Needs deltalake.
    """
    no_catalog(catalog, "read_delta")
    if isinstance(path, (list, tuple)):
        if len(path) != 1:
            raise ValueError(f"Only a single Delta Lake table path is supported, got {len(path)}: {path!r:.200}")
        path = path[0]
    return options.read(
        DeltaDatasource(
            path,
            version,
            storage_options=storage_options,
            filesystem=filesystem,
            columns=columns,
            shuffle=shuffle,
            include_paths=include_paths,
            arrow_parquet_args=arrow_parquet_args,
        )
    )


@reader
def read_iceberg(
    *,
    table_identifier: str,
    row_filter: Any = None,
    selected_fields: tuple[str, ...] = ("*",),
    snapshot_id: int | None = None,
    scan_kwargs: dict[str, str] | None = None,
    catalog_kwargs: dict[str, str] | None = None,
    catalog: Any = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of an Iceberg table ("database.table").

    row_filter: a pyiceberg expression, or its text. catalog_kwargs: of `pyiceberg.catalog.load_catalog`, with `name`.
    Needs pyiceberg.
    """
    no_catalog(catalog, "read_iceberg")
    return options.read(
        IcebergDatasource(table_identifier, row_filter, selected_fields, snapshot_id, scan_kwargs, catalog_kwargs)
    )


@reader
def read_lance(
    uri: str | list[str],
    *,
    version: int | str | None = None,
    columns: list[str] | None = None,
    filter: str | None = None,
    storage_options: dict[str, str] | None = None,
    scanner_options: dict[str, Any] | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of a Lance dataset, a task a few fragments. filter: SQL. Needs pylance."""
    if not isinstance(uri, str):
        raise ValueError(f"read_lance reads one dataset at a time, got {uri!r:.200}; `union` several.")
    lance = require("lance", "pylance", "Reading Lance datasets")
    dataset = lance.dataset(uri, version=version, storage_options=storage_options)
    scan = {**(scanner_options or {}), "columns": columns, "filter": filter}
    found = [fragment.fragment_id for fragment in dataset.get_fragments()]
    read = partial(_read_lance, uri, dataset.version, storage_options, scan)
    return options.read(PiecesDatasource("Lance", read, [[one] for one in found]))


def _read_lance(
    uri: str, version: int, storage_options: dict[str, str] | None, scan: dict[str, Any], fragments: list[int]
) -> Iterable[pa.Table]:
    import pyarrow as pa

    dataset = require("lance", "pylance", "Reading Lance datasets").dataset(
        uri, version=version, storage_options=storage_options
    )
    for fragment in fragments:
        for batch in dataset.get_fragment(fragment).to_batches(**scan):
            yield pa.Table.from_batches([batch])


@reader
def read_hudi(
    table_uri: str,
    *,
    query_type: str = "snapshot",
    filters: list[tuple[str, str, str]] | None = None,
    hudi_options: dict[str, str] | None = None,
    storage_options: dict[str, str] | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of a Hudi table's latest snapshot, a task a few file slices. Needs hudi."""
    if query_type != "snapshot":
        raise NotImplementedError(f"read_hudi reads snapshots, and not query_type={query_type!r}.")
    hudi = require("hudi", "hudi", "Reading Hudi tables")
    told = {**(hudi_options or {}), **(storage_options or {})}
    table = hudi.HudiTable(table_uri, told)
    slices = [one.base_file_relative_path() for one in table.get_file_slices(filters=filters or [])]
    return options.read(PiecesDatasource("Hudi", partial(_read_hudi, table_uri, told), [[one] for one in slices]))


def _read_hudi(uri: str, told: dict[str, str], slices: list[str]) -> Iterable[pa.Table]:
    import pyarrow as pa

    group = require("hudi", "hudi", "Reading Hudi tables").HudiFileGroupReader(uri, told)
    for one in slices:
        yield pa.Table.from_batches([group.read_file_slice_by_base_file_path(one)])


class PiecesDatasource(Datasource):
    """A source whose pieces a function reads: `read(pieces)` yields tables."""

    def __init__(self, name: str, read: Any, pieces: list[list[Any]]) -> None:
        self._name, self._read, self._pieces = name, read, pieces

    def get_name(self) -> str:
        return self._name

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        count = max(1, min(parallelism, len(self._pieces)))
        bounds = [len(self._pieces) * index // count for index in range(count + 1)]
        groups = [sum(self._pieces[start:end], []) for start, end in zip(bounds, bounds[1:], strict=False)]
        return [
            ReadTask(partial(self._read, group), BlockMetadata(None, None), None, per_task_row_limit)
            for group in groups
        ]
