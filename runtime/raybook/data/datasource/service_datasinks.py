"""Sinks of services, each through its own client, where that is installed."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from raybook.data.batches import to_rows
from raybook.data.block import Block, unify_schemas
from raybook.data.datasource.datasink import Datasink, WriteResult
from raybook.data.datasource.optional import require
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.task_context import TaskContext


class MongoDatasink(Datasink[None]):
    """Rows as documents. Needs pymongo."""

    def __init__(self, uri: str, database: str, collection: str) -> None:
        require("pymongo", "pymongo", "Writing to MongoDB")
        self.uri, self.database, self.collection = uri, database, collection

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        with require("pymongo", "pymongo", "Writing to MongoDB").MongoClient(self.uri) as client:
            target = client[self.database][self.collection]
            for block in blocks:
                if block.num_rows:
                    target.insert_many(to_rows(block))


class BigQueryDatasink(Datasink[None]):
    """Rows by load jobs. Needs google-cloud-bigquery."""

    def __init__(self, project: str, table: str, retries_max: int, overwrite: bool) -> None:
        require("google.cloud.bigquery", "google-cloud-bigquery", "Writing to BigQuery")
        self.project, self.table, self.retries_max, self.overwrite = project, table, retries_max, overwrite

    def _client(self) -> Any:
        bigquery = require("google.cloud.bigquery", "google-cloud-bigquery", "Writing to BigQuery")
        return bigquery.Client(project=self.project)

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        if self.overwrite:
            self._client().delete_table(f"{self.project}.{self.table}", not_found_ok=True)

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        from google.cloud import bigquery
        from pyarrow import parquet as pq

        config = bigquery.LoadJobConfig(autodetect=True, source_format=bigquery.SourceFormat.PARQUET)
        client = self._client()
        for block in blocks:
            data = io.BytesIO()
            pq.write_table(block, data)
            client.load_table_from_file(
                data, self.table, rewind=True, job_config=config, num_retries=self.retries_max
            ).result()


class ClickHouseDatasink(Datasink[None]):
    """Rows by Arrow. Needs clickhouse-connect."""

    def __init__(self, table: str, dsn: str, settings: dict[str, Any] | None, kwargs: dict[str, Any] | None) -> None:
        require("clickhouse_connect", "clickhouse-connect", "Writing to ClickHouse")
        self.table, self.dsn, self.settings, self.kwargs = table, dsn, settings or {}, kwargs or {}

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        client = require("clickhouse_connect", "clickhouse-connect", "Writing to ClickHouse").get_client(
            dsn=self.dsn, settings=self.settings, **self.kwargs
        )
        for block in blocks:
            client.insert_arrow(self.table, block)


class LanceDatasink(Datasink[Any]):
    """Tasks write fragments; one commit makes them the dataset's. Needs pylance."""

    def __init__(
        self,
        uri: str,
        mode: SaveMode | str,
        schema: pa.Schema | None,
        rows_per_file_max: int,
        storage_version: str | None,
        storage_options: dict[str, Any] | None,
    ) -> None:
        require("lance", "pylance", "Writing Lance datasets")
        self.uri, self.mode, self.schema = uri, SaveMode(mode), schema
        self.rows_per_file_max, self.storage_version = rows_per_file_max, storage_version
        self.storage_options = storage_options

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> Any:
        from lance.fragment import write_fragments

        tables = [block for block in blocks if block.num_rows]
        if not tables:
            return None
        schema = self.schema or unify_schemas(table.schema for table in tables)
        fragments = write_fragments(
            pa.concat_tables(tables, promote_options="default").cast(schema),
            self.uri,
            schema=schema,
            max_rows_per_file=self.rows_per_file_max,
            data_storage_version=self.storage_version,
            storage_options=self.storage_options,
        )
        return fragments, schema

    def on_write_complete(self, write_result: WriteResult[Any]) -> None:
        import lance

        done = [one for one in write_result.write_returns if one is not None]
        if not done:
            return
        fragments = [fragment for some, _ in done for fragment in some]
        if self.mode is SaveMode.APPEND:
            version = lance.dataset(self.uri, storage_options=self.storage_options).version
            operation = lance.LanceOperation.Append(fragments)
            lance.LanceDataset.commit(self.uri, operation, read_version=version, storage_options=self.storage_options)
        else:
            operation = lance.LanceOperation.Overwrite(done[0][1], fragments)
            lance.LanceDataset.commit(self.uri, operation, storage_options=self.storage_options)
