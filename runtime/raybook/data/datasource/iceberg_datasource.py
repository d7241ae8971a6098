"""Iceberg tables, by pyiceberg: it plans which files count and reads them; raybook reads many at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from raybook.data.block import Block, BlockMetadata
from raybook.data.core.file_groups import group_by_size
from raybook.data.datasource.datasink import Datasink, WriteResult
from raybook.data.datasource.datasource import Datasource, ReadTask
from raybook.data.datasource.optional import require
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.task_context import TaskContext

if TYPE_CHECKING:
    import pyarrow as pa

    from raybook.data.context import DataContext


def load_table(identifier: str, catalog_kwargs: dict[str, Any] | None) -> Any:
    """The table, from the catalog that these arguments of `pyiceberg.catalog.load_catalog` name ("default" without)."""
    catalogs = require("pyiceberg.catalog", "pyiceberg", "Iceberg tables")
    arguments = dict(catalog_kwargs or {})
    name = arguments.pop("name", "default")
    return catalogs.load_catalog(name, **arguments).load_table(identifier)


class IcebergDatasource(Datasource):
    """Arguments are those of `read_iceberg`."""

    def __init__(
        self,
        table_identifier: str,
        row_filter: Any = None,
        selected_fields: tuple[str, ...] = ("*",),
        snapshot_id: int | None = None,
        scan_kwargs: dict[str, Any] | None = None,
        catalog_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._table = load_table(table_identifier, catalog_kwargs)
        options: dict[str, Any] = {"selected_fields": tuple(selected_fields), **(scan_kwargs or {})}
        if row_filter is not None:
            options["row_filter"] = row_filter
        if snapshot_id is not None:
            options["snapshot_id"] = snapshot_id
        self._scan = self._table.scan(**options)
        self._has_filter = row_filter is not None

    def get_name(self) -> str:
        return "Iceberg"

    def schema(self) -> pa.Schema | None:
        return self._scan.projection().as_arrow()

    def estimate_inmemory_data_size(self) -> int | None:
        return sum(task.file.file_size_in_bytes for task in self._scan.plan_files()) or None

    def num_rows(self) -> int | None:
        tasks = list(self._scan.plan_files())
        if self._has_filter or any(task.delete_files for task in tasks):
            return None
        return sum(task.file.record_count for task in tasks)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        files = list(self._scan.plan_files())
        if not files:
            empty = self._scan.projection().as_arrow().empty_table()
            return [ReadTask(lambda: [empty], BlockMetadata(0, 0), None, per_task_row_limit)]
        scan = self._scan
        read = partial(_read, scan.table_metadata, scan.io, scan.projection(), scan.row_filter, scan.case_sensitive)
        tasks = []
        for group in group_by_size(files, [one.file.file_size_in_bytes for one in files], parallelism):
            exact = not self._has_filter and not any(one.delete_files for one in group)
            metadata = BlockMetadata(
                sum(one.file.record_count for one in group) if exact else None,
                sum(one.file.file_size_in_bytes for one in group),
                None,
                [one.file.file_path for one in group],
            )
            tasks.append(ReadTask(partial(read, group), metadata, None, per_task_row_limit))
        return tasks


def _read(
    metadata: Any, io: Any, projection: Any, row_filter: Any, case_sensitive: bool, files: list[Any]
) -> Iterable[Block]:
    from pyiceberg.io.pyarrow import ArrowScan

    scan = ArrowScan(metadata, io, projection, row_filter, case_sensitive)
    for file in files:
        yield scan.to_table([file])


class IcebergDatasink(Datasink[Any]):
    """Rows come to the driver's commit as Parquet files that tasks have written. mode: APPEND or OVERWRITE."""

    def __init__(
        self,
        table_identifier: str,
        catalog_kwargs: dict[str, Any] | None = None,
        snapshot_properties: dict[str, str] | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        require("pyiceberg", "pyiceberg", "Writing Iceberg tables")
        self.mode = SaveMode(mode)
        if self.mode not in (SaveMode.APPEND, SaveMode.OVERWRITE):
            raise NotImplementedError(
                f"write_iceberg has the modes 'append' and 'overwrite', and not {self.mode.value!r}. Nothing was written."
            )
        self.identifier, self.catalog_kwargs = table_identifier, catalog_kwargs
        self.snapshot_properties = snapshot_properties or {}
        self._table: Any = None

    def get_name(self) -> str:
        return "Iceberg"

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        self._table = load_table(self.identifier, self.catalog_kwargs)

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> list[Any]:
        from pyiceberg.io.pyarrow import _dataframe_to_data_files

        files: list[Any] = []
        for block in blocks:
            if block.num_rows:
                files += _dataframe_to_data_files(self._table.metadata, block, self._table.io, uuid.uuid4())
        return files

    def on_write_complete(self, write_result: WriteResult[Any]) -> None:
        from pyiceberg.expressions import AlwaysTrue

        files = [one for returned in write_result.write_returns for one in returned or []]
        with self._table.transaction() as transaction:
            if self.mode is SaveMode.OVERWRITE:
                transaction.delete(AlwaysTrue(), snapshot_properties=self.snapshot_properties)
            with transaction.update_snapshot(self.snapshot_properties).fast_append() as append:
                for one in files:
                    append.append_data_file(one)
