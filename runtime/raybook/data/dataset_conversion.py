"""Conversion: a dataset as a data frame of another library, as a table to look rows up in, or as bytes of its plan."""

from __future__ import annotations

import copy as copying
import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle
import pyarrow as pa

from raybook.api import ObjectRef, get, nodes
from raybook.data.batches import to_pandas
from raybook.data.columns import object_array
from raybook.data.core.plan import InputData, Union, Zip
from raybook.data.dataset_base import DatasetBase
from raybook.data.datasource.optional import require
from raybook.data.random_access_dataset import RandomAccessDataset

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset

WORKERS_PER_NODE = 4


class DatasetConversion(DatasetBase):
    """Part of Dataset. What runs the plan leaves its blocks in the store until the result has gone."""

    def to_dask(self, meta: Any = None, verify_meta: bool = True) -> Any:
        """A Dask data frame, a partition a block, computed by raybook's tasks (`raybook.util.dask`), also from now on in
        this process. meta: an empty frame with the columns' types; of the schema by default. Runs the plan. ImportError
        without dask[dataframe]."""
        dask = require("dask", "dask[dataframe]", "to_dask")
        frames = require("dask.dataframe", "dask[dataframe]", "to_dask")
        scheduler = require("raybook.util.dask", "dask[dataframe]", "to_dask")
        dask.config.set(scheduler=scheduler.ray_dask_get)
        partition = dask.delayed(_partition)
        refs = [bundle.ref for bundle in self._bundles()]
        if meta is None:
            schema = self._fetch_schema()
            meta = _empty_frame(schema.base_schema if schema is not None else pa.schema([]))
        return frames.from_delayed([partition(ref) for ref in refs], meta=meta, verify_meta=verify_meta)

    def to_daft(self) -> Any:
        """A Daft data frame. Runs the plan, and brings all rows here. ImportError without daft."""
        daft = require("daft", "daft", "to_daft")
        return daft.from_arrow([table for table in self._tables() if table.num_columns])

    def to_modin(self) -> Any:
        """A Modin data frame of a partition a block. ImportError without Modin, or without its Ray engine."""
        require("modin", "modin[ray]", "to_modin")
        parts = require("modin.distributed.dataframe.pandas.partitions", "modin[ray]", "to_modin")
        return parts.from_partitions(self.to_pandas_refs(), axis=0)  # type: ignore[attr-defined]

    def to_mars(self) -> Any:
        """A Mars data frame. Runs the plan, and brings all rows here. ImportError without Mars."""
        frames = require("mars.dataframe", "pymars", "to_mars")
        return frames.DataFrame(self.to_pandas())  # type: ignore[attr-defined]

    def to_spark(self, spark: Any) -> Any:
        """A Spark data frame of a session (`raybook.util.spark` starts one's cluster), by Arrow through the driver.
        ImportError without pyspark."""
        require("pyspark", "pyspark", "to_spark")
        return spark.createDataFrame(self.to_pandas())  # type: ignore[attr-defined]

    def to_random_access_dataset(self, key: str, num_workers: int | None = None) -> RandomAccessDataset:
        """Rows by key, from actors that hold the sorted blocks: four a node unless `num_workers` says otherwise. Sorts the
        dataset. Of rows with equal keys any one is found."""
        count = WORKERS_PER_NODE * len(nodes()) if num_workers is None else num_workers
        return RandomAccessDataset(self, key, count)

    # As bytes

    @staticmethod
    def copy(ds: Dataset, _deep_copy: bool = False, _as: type | None = None) -> Dataset:
        """Another dataset of the same plan; _deep_copy: with settings of its own."""
        context = ds._context.copy() if _deep_copy else ds._context
        made = (_as or type(ds))(ds._plan, context)
        made._name, made._schema = ds._name, ds._schema
        made._row_count, made._size_bytes = ds._row_count, ds._size_bytes
        return made

    def serialize_lineage(self) -> bytes:
        """The plan as bytes, from which another cluster can run it anew. ValueError when blocks of this cluster are in it,
        or rows of several datasets (`union`, `zip`)."""
        if not self.has_serializable_lineage():
            raise ValueError(
                "Lineage-based serialization is not supported for this dataset: it is for what raybook.data.read_*() and "
                "range() made, not for from_*(), materialized, unioned or zipped datasets. Write the rows to files with "
                "write_*(), and serialize a dataset that reads those."
            )
        plain = copying.copy(self)
        plain._executor = plain._row_count = plain._size_bytes = None
        return cloudpickle.dumps(plain)

    @staticmethod
    def deserialize_lineage(serialized_ds: bytes) -> Dataset:
        """The dataset of such bytes. They are a pickle: only of whom you trust."""
        return pickle.loads(serialized_ds)

    def has_serializable_lineage(self) -> bool:
        """Whether `serialize_lineage` can: not when blocks of this cluster are in the plan, or a union or a zip."""
        return not any(isinstance(node, (InputData, Union, Zip)) for node in self._plan.walk())


def _partition(block: Any) -> Any:
    """A block as a data frame, in a task of Dask's graph."""
    return to_pandas(get(block) if isinstance(block, ObjectRef) else block)


def _empty_frame(schema: pa.Schema) -> Any:
    frame = to_pandas(schema.empty_table())
    for name, kind in zip(schema.names, schema.types, strict=True):
        if isinstance(kind, pa.BaseExtensionType):
            frame[name] = object_array([])
    return frame
