"""raybook.data: data larger than memory through the cluster, as Arrow blocks, under Ray's names.

    ds = raybook.data.range(1000).map_batches(lambda batch: {"square": batch["id"] ** 2})
    ds.groupby(...).sum(...)    ds.iter_batches(...)    ds.write_parquet(...)

In reading order:

    block columns batches column_types    blocks, and what users' functions get of them
    expressions transforms functions      what is done with rows
    dataset*  grouped_data  iterator      the public classes        from_api read_api   where datasets come from
    core      plan, optimizer, scheduler: pure
    execution operators, tasks, executor  datasource                readers and writers   preprocessors

Names are found when they are first used; pandas and torch are imported by those who use them only.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ActorPoolStrategy": "compute",
    "AggregateFn": "aggregate",
    "BlockBasedFileDatasink": "datasource",
    "DataContext": "context",
    "DataIterator": "iterator",
    "Dataset": "dataset",
    "DatasetContext": "context",
    "DatasetIterator": "iterator",
    "DatasetSummary": "stats",
    "Datasink": "datasource",
    "Datasource": "datasource",
    "ExecutionOptions": "execution_options",
    "ExecutionResources": "execution_options",
    "FileShuffleConfig": "datasource",
    "MaterializedDataset": "dataset",
    "MixStoppingCondition": "mix",
    "NodeIdStr": "iterator",
    "Preprocessor": "preprocessor",
    "RandomSeedConfig": "random_seed",
    "ReadTask": "datasource",
    "RowBasedFileDatasink": "datasource",
    "SaveMode": "datasource",
    "Schema": "schema",
    "TaskPoolStrategy": "compute",
    "from_arrow": "from_api",
    "from_arrow_refs": "from_api",
    "from_blocks": "from_api",
    "from_daft": "read_api",
    "from_dask": "read_api",
    "from_huggingface": "read_api",
    "from_items": "from_api",
    "from_mars": "read_api",
    "from_modin": "read_api",
    "from_numpy": "from_api",
    "from_numpy_refs": "from_api",
    "from_pandas": "from_api",
    "from_pandas_refs": "from_api",
    "from_spark": "read_api",
    "from_tf": "read_api",
    "from_torch": "read_api",
    "range": "from_api",
    "range_tensor": "from_api",
    "read_audio": "read_api",
    "read_avro": "read_api",
    "read_bigquery": "read_api",
    "read_binary_files": "read_api",
    "read_clickhouse": "read_api",
    "read_csv": "read_api",
    "read_databricks_tables": "read_api",
    "read_datasource": "from_api",
    "read_delta": "read_api",
    "read_hudi": "read_api",
    "read_iceberg": "read_api",
    "read_images": "read_api",
    "read_json": "read_api",
    "read_lance": "read_api",
    "read_mongo": "read_api",
    "read_numpy": "read_api",
    "read_orc": "read_api",
    "read_parquet": "read_api",
    "read_snowflake": "read_api",
    "read_sql": "read_api",
    "read_text": "read_api",
    "read_tfrecords": "read_api",
    "read_videos": "read_api",
    "read_webdataset": "read_api",
}
"""Which module a name is from."""

_MODULES = frozenset(
    """
    aggregate block collate_fn context datasource datatype exceptions expressions grouped_data iterator preprocessor
    preprocessors random_access_dataset read_api stats
    """.split()
)

__all__ = sorted(_HOMES)  # noqa: PLE0605 - found when they are used


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"raybook.data.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"raybook.data.{name}")
    else:
        raise AttributeError(f"module 'raybook.data' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
