"""Databases and services, each through its own client, where that is installed; an ImportError says which it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from raybook.data.datasource.optional import require
from raybook.data.datasource.sql_datasource import Connection, SQLDatasource
from raybook.data.readers.lakes import PiecesDatasource
from raybook.data.readers.options import ReadOptions, reader

if TYPE_CHECKING:
    import pyarrow as pa

    from raybook.data.dataset import Dataset


@reader
def read_sql(
    sql: str,
    connection_factory: Callable[[], Connection],
    *,
    sql_params: Any = None,
    shard_keys: list[str] | None = None,
    shard_hash_fn: str = "MD5",
    options: ReadOptions,
) -> Dataset:
    """A dataset of a query's rows.

    connection_factory: without arguments, returns a connection of Python's DB API 2; called in workers. sql_params: for
    `execute`. shard_keys: columns whose hash (shard_hash_fn) cuts the rows into several tasks; without them one task reads
    everything. ValueError when override_num_blocks wants several tasks and there are no shard_keys, or the database
    cannot tell shares apart.
    """
    source = SQLDatasource(sql, connection_factory, shard_hash_fn, shard_keys, sql_params)
    wanted = options.override_num_blocks or 1
    if wanted > 1:
        if not shard_keys:
            raise ValueError("shard_keys must be provided when override_num_blocks > 1")
        if not source.supports_sharding(wanted):
            raise ValueError("Database does not support sharding. Please set override_num_blocks to 1.")
    return options.read(source)


@reader
def read_snowflake(
    sql: str, connection_parameters: dict[str, Any], *, shard_keys: list[str] | None = None, options: ReadOptions
) -> Dataset:
    """A dataset of a Snowflake query. connection_parameters: of `snowflake.connector.connect`. Needs
    snowflake-connector-python."""
    require("snowflake.connector", "snowflake-connector-python", "Reading from Snowflake")
    factory = partial(_connect_snowflake, dict(connection_parameters))
    return options.read(SQLDatasource(sql, factory, "hash", shard_keys))


def _connect_snowflake(parameters: dict[str, Any]) -> Connection:
    return require("snowflake.connector", "snowflake-connector-python", "Reading from Snowflake").connect(**parameters)


@reader
def read_databricks_tables(
    *,
    warehouse_id: str,
    table: str | None = None,
    query: str | None = None,
    catalog: str | None = None,
    schema: str | None = None,
    credential_provider: Any = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of a Databricks table or query (one of the two). Host and token come from DATABRICKS_HOST and
    DATABRICKS_TOKEN, or from credential_provider (`get_host()`, `get_token()`). Needs databricks-sql-connector."""
    if (table is None) == (query is None):
        raise ValueError("Give one of `table` and `query`.")
    require("databricks.sql", "databricks-sql-connector", "Reading from Databricks")
    factory = partial(_connect_databricks, warehouse_id, catalog, schema, credential_provider)
    return options.read(SQLDatasource(query or f"SELECT * FROM {table}", factory))


def _connect_databricks(warehouse: str, catalog: str | None, schema: str | None, provider: Any) -> Connection:
    sql = require("databricks.sql", "databricks-sql-connector", "Reading from Databricks")
    host = provider.get_host() if provider is not None else os.environ["DATABRICKS_HOST"]
    token = provider.get_token() if provider is not None else os.environ["DATABRICKS_TOKEN"]
    return sql.connect(
        server_hostname=host.removeprefix("https://"),
        http_path=f"/sql/1.0/warehouses/{warehouse}",
        access_token=token,
        catalog=catalog,
        schema=schema,
    )


@reader
def read_mongo(
    uri: str,
    database: str,
    collection: str,
    *,
    pipeline: list[dict] | None = None,
    schema: Any = None,
    options: ReadOptions,
    **mongo_args: Any,
) -> Dataset:
    """A dataset of a MongoDB collection, or of what an aggregation pipeline makes of it; one task. schema: a pymongoarrow
    Schema. Needs pymongoarrow."""
    require("pymongoarrow", "pymongoarrow", "Reading from MongoDB")
    read = partial(_read_mongo, uri, database, collection, pipeline or [], schema, mongo_args)
    return options.read(PiecesDatasource("Mongo", read, [[None]]))


def _read_mongo(
    uri: str, database: str, collection: str, pipeline: list[dict], schema: Any, args: dict[str, Any], pieces: Any
) -> Iterable[pa.Table]:
    pymongo = require("pymongo", "pymongo", "Reading from MongoDB")
    from pymongoarrow.api import aggregate_arrow_all

    with pymongo.MongoClient(uri) as client:
        yield aggregate_arrow_all(client[database][collection], pipeline, schema=schema, **args)


@reader
def read_bigquery(
    project_id: str, dataset: str | None = None, query: str | None = None, *, options: ReadOptions
) -> Dataset:
    """A dataset of a BigQuery table ("dataset.table") or query (one of the two). Needs google-cloud-bigquery."""
    if (dataset is None) == (query is None):
        raise ValueError(
            "Query and dataset kwargs cannot both be provided or both be left out (must be mutually exclusive)."
        )
    require("google.cloud.bigquery", "google-cloud-bigquery", "Reading from BigQuery")
    read = partial(_read_bigquery, project_id, query or f"SELECT * FROM `{dataset}`")
    return options.read(PiecesDatasource("BigQuery", read, [[None]]))


def _read_bigquery(project: str, query: str, pieces: Any) -> Iterable[pa.Table]:
    import pyarrow as pa

    bigquery = require("google.cloud.bigquery", "google-cloud-bigquery", "Reading from BigQuery")
    for batch in bigquery.Client(project=project).query(query).result().to_arrow_iterable():
        yield pa.Table.from_batches([batch])


@reader
def read_clickhouse(
    *,
    table: str,
    dsn: str,
    columns: list[str] | None = None,
    filter: str | None = None,
    order_by: tuple[list[str], bool] | None = None,
    client_settings: dict[str, Any] | None = None,
    client_kwargs: dict[str, Any] | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of a ClickHouse table; one task. order_by: (columns, descending). Needs clickhouse-connect."""
    require("clickhouse_connect", "clickhouse-connect", "Reading from ClickHouse")
    query = f"SELECT {', '.join(columns or ['*'])} FROM {table}"
    if filter:
        query += f" WHERE {filter}"
    if order_by:
        query += f" ORDER BY {', '.join(order_by[0])}{' DESC' if order_by[1] else ''}"
    read = partial(_read_clickhouse, dsn, query, client_settings or {}, client_kwargs or {})
    return options.read(PiecesDatasource("ClickHouse", read, [[None]]))


def _read_clickhouse(
    dsn: str, query: str, settings: dict[str, Any], kwargs: dict[str, Any], pieces: Any
) -> Iterable[pa.Table]:
    import pyarrow as pa

    client = require("clickhouse_connect", "clickhouse-connect", "Reading from ClickHouse").get_client(
        dsn=dsn, settings=settings, **kwargs
    )
    with client.query_arrow_stream(query) as stream:
        for piece in stream:
            yield piece if isinstance(piece, pa.Table) else pa.Table.from_batches([piece])
