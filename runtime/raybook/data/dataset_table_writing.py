"""Writing into tables that somebody else keeps: Delta Lake, Iceberg, databases, services."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raybook.data.datasource.datasink import Datasink
from raybook.data.datasource.delta_datasink import DeltaDatasink
from raybook.data.datasource.iceberg_datasource import IcebergDatasink
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.service_datasinks import BigQueryDatasink, ClickHouseDatasink, LanceDatasink, MongoDatasink
from raybook.data.datasource.sql_datasource import SQLDatasink

if TYPE_CHECKING:
    from raybook.data.datasource.sql_datasource import Connection

    class _Base:
        def write_datasink(
            self, datasink: Datasink, *, ray_remote_args: dict[str, Any] | None = None, concurrency: int | None = None
        ) -> None: ...

else:
    _Base = object


class DatasetTableWriting(_Base):
    """ray_remote_args, concurrency: of the tasks that write."""

    def _write_files(self, sink: Any, ray_remote_args: dict[str, Any] | None, concurrency: int | None) -> None:
        sink.prepare()
        if sink.is_skipped:
            return
        self.write_datasink(sink, ray_remote_args=ray_remote_args, concurrency=concurrency)

    def write_delta(
        self,
        path: str,
        *,
        catalog: Any = None,
        mode: SaveMode | str = SaveMode.APPEND,
        partition_by: list[str] | None = None,
        storage_options: dict[str, str] | None = None,
        schema_mode: str = "merge",
        filesystem: Any = None,
        name: str | None = None,
        description: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """A Delta Lake table: all rows come into it with one commit. mode: "append", "overwrite", "ignore", "error".
        schema_mode: "merge" adds new columns to the table, "overwrite" (with mode "overwrite") replaces its schema. Needs
        deltalake."""
        no_catalog(catalog, "write_delta")
        sink = DeltaDatasink(
            path,
            mode=mode,
            partition_by=partition_by,
            storage_options=storage_options,
            schema_mode=schema_mode,
            filesystem=filesystem,
            name=name,
            description=description,
        )
        self._write_files(sink, ray_remote_args, concurrency)

    def write_iceberg(
        self,
        table_identifier: str,
        catalog_kwargs: dict[str, Any] | None = None,
        catalog: Any = None,
        snapshot_properties: dict[str, str] | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        overwrite_filter: Any = None,
        upsert_kwargs: dict[str, Any] | None = None,
        overwrite_kwargs: dict[str, Any] | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Into an Iceberg table, with one snapshot. mode: "append" or "overwrite". Needs pyiceberg."""
        odd = {"catalog": catalog, "overwrite_filter": overwrite_filter, "upsert_kwargs": upsert_kwargs}
        told = [name for name, value in {**odd, "overwrite_kwargs": overwrite_kwargs}.items() if value is not None]
        if told:
            raise NotImplementedError(f"raybook's write_iceberg has no {told}. Nothing was written.")
        sink = IcebergDatasink(table_identifier, catalog_kwargs, snapshot_properties, mode)
        self.write_datasink(sink, ray_remote_args=ray_remote_args, concurrency=concurrency)

    def write_sql(
        self,
        sql: str,
        connection_factory: Callable[[], Connection],
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Into a database: sql is an INSERT with a placeholder a column, in the columns' order. connection_factory: makes a
        connection of Python's DB API 2, in workers. Each task is a transaction."""
        self.write_datasink(
            SQLDatasink(sql, connection_factory), ray_remote_args=ray_remote_args, concurrency=concurrency
        )

    def write_mongo(
        self,
        uri: str,
        database: str,
        collection: str,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Into a MongoDB collection. Needs pymongo."""
        self.write_datasink(
            MongoDatasink(uri, database, collection), ray_remote_args=ray_remote_args, concurrency=concurrency
        )

    def write_bigquery(
        self,
        project_id: str,
        dataset: str,
        max_retry_cnt: int = 10,
        overwrite_table: bool | None = True,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Into a BigQuery table ("dataset.table"), emptied first if overwrite_table. Needs google-cloud-bigquery."""
        sink = BigQueryDatasink(project_id, dataset, max_retry_cnt, bool(overwrite_table))
        self.write_datasink(sink, ray_remote_args=ray_remote_args, concurrency=concurrency)

    def write_clickhouse(
        self,
        table: str,
        dsn: str,
        *,
        client_settings: dict[str, Any] | None = None,
        client_kwargs: dict[str, Any] | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Into a ClickHouse table that is there. Needs clickhouse-connect."""
        sink = ClickHouseDatasink(table, dsn, client_settings, client_kwargs)
        self.write_datasink(sink, ray_remote_args=ray_remote_args, concurrency=concurrency)

    def write_lance(
        self,
        path: str,
        *,
        schema: Any = None,
        mode: SaveMode | str = SaveMode.CREATE,
        max_rows_per_file: int = 64 * 1024 * 1024,
        data_storage_version: str | None = None,
        storage_options: dict[str, Any] | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """A Lance dataset, with one commit. mode: "create", "append" or "overwrite". Needs pylance."""
        sink = LanceDatasink(path, mode, schema, max_rows_per_file, data_storage_version, storage_options)
        self.write_datasink(sink, ray_remote_args=ray_remote_args, concurrency=concurrency)


def no_catalog(catalog: Any, name: str) -> None:
    """NotImplementedError when a catalog was given."""
    if catalog is not None:
        raise NotImplementedError(f"raybook's {name} has no catalogs. Nothing was written; pass the table's path.")
