"""Datasets and data frames of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.data.datasource.huggingface_datasource import HuggingFaceDatasource, table_of
from raybook.data.datasource.optional import require
from raybook.data.datasource.torch_datasource import TorchDatasource
from raybook.data.from_api import from_arrow, from_items, from_pandas
from raybook.data.readers.options import ReadOptions

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset


def from_torch(dataset: Any, local_read: bool = False) -> Dataset:
    """A dataset of a PyTorch dataset: rows `{"item": dataset[i]}`.

    Map-style datasets are read by many tasks, iterable ones by one. local_read: on the driver's node, where its files are.
    Cost: the dataset object goes through the store once.
    """
    return ReadOptions(num_cpus=0 if local_read else None).read(TorchDatasource(dataset, local_read))


def from_huggingface(
    dataset: Any, parallelism: int = -1, concurrency: int | None = None, override_num_blocks: int | None = None
) -> Dataset:
    """A dataset of a Hugging Face `Dataset` (a table, with its selection of rows applied) or `IterableDataset` (read as it
    streams, a task a shard). A dict of splits raises DeprecationWarning, as Ray does: choose one. TypeError otherwise.
    """
    datasets = require("datasets", "datasets", "from_huggingface")
    if isinstance(dataset, datasets.IterableDataset):
        options = ReadOptions(parallelism=parallelism, concurrency=concurrency, override_num_blocks=override_num_blocks)
        return options.read(HuggingFaceDatasource(dataset))
    if isinstance(dataset, datasets.Dataset):
        return from_arrow(table_of(dataset), override_num_blocks=override_num_blocks)
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        keys = list(dataset.keys())
        raise DeprecationWarning(
            "You provided a Hugging Face DatasetDict or IterableDatasetDict, which contains multiple datasets, but "
            "`from_huggingface` now only accepts a single Hugging Face Dataset. To convert just a single Hugging Face "
            "Dataset to a Ray Dataset, specify a split. For example, "
            f"`ray.data.from_huggingface(my_dataset_dictionary['{keys[0]}'])`. "
            f"Available splits are {keys}."
        )
    raise TypeError(f"`dataset` must be a `datasets.Dataset`, but got {type(dataset)}")


def from_tf(dataset: Any) -> Dataset:
    """A dataset of a `tf.data.Dataset`, whose elements come to the driver. Needs tensorflow."""
    require("tensorflow", "tensorflow", "from_tf")
    rows = list(dataset.as_numpy_iterator())
    return from_items(rows)


def from_dask(df: Any) -> Dataset:
    """A dataset of a Dask data frame, a block a partition. Needs dask[dataframe]."""
    dask = require("dask", "dask[dataframe]", "from_dask")
    require("dask.dataframe", "dask[dataframe]", "from_dask")
    frames = dask.compute(*df.to_delayed())
    return from_pandas(list(frames))


def from_modin(df: Any) -> Dataset:
    """A dataset of a Modin data frame. Needs modin."""
    require("modin", "modin", "from_modin")
    return from_pandas(df._to_pandas())


def from_spark(df: Any, *, parallelism: int | None = None, override_num_blocks: int | None = None) -> Dataset:
    """A dataset of a Spark data frame, by Arrow through the driver. Needs pyspark."""
    require("pyspark", "pyspark", "from_spark")
    blocks = override_num_blocks or parallelism
    if hasattr(df, "toArrow"):
        return from_arrow(df.toArrow(), override_num_blocks=blocks)
    return from_pandas(df.toPandas(), override_num_blocks=blocks)


def from_daft(df: Any) -> Dataset:
    """A dataset of a Daft data frame. Needs daft."""
    require("daft", "daft", "from_daft")
    return from_arrow(df.to_arrow())


def from_mars(df: Any) -> Dataset:
    """A dataset of a Mars data frame. Needs pymars."""
    require("mars", "pymars", "from_mars")
    return from_pandas(df.to_pandas())
