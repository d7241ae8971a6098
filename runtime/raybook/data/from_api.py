"""Datasets of values that are at hand, and of numbers: `from_items`, `from_pandas`, `range`, ... What touches files or
other libraries is in `read_api`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.api import ObjectRef, init, is_initialized, remote
from raybook.api import get as api_get
from raybook.data.batches import from_rows, to_block
from raybook.data.block import Block, BlockMetadata, Bundle, metadata_of
from raybook.data.compute import ComputeStrategy, read_strategy
from raybook.data.core.parallelism import blocks_wanted
from raybook.data.core.partition_math import even_bounds
from raybook.data.core.plan import InputData, Read, Resources
from raybook.data.dataset import Dataset, MaterializedDataset
from raybook.data.datasource.datasource import Datasource
from raybook.data.datasource.range_datasource import RangeDatasource
from raybook.data.execution.cluster import cluster_cpus
from raybook.data.stored import bundle_of


def dataset_of(bundles: list[Bundle]) -> MaterializedDataset:
    """A dataset of blocks that are in the store."""
    return MaterializedDataset(InputData((), tuple(bundles)))


def _ensure_started() -> None:
    if not is_initialized():
        init()


def range(  # noqa: A001 - Ray's name
    n: int, *, parallelism: int = -1, concurrency: int | None = None, override_num_blocks: int | None = None
) -> Dataset:
    """Numbers 0 to n - 1 in a column "id"."""
    return read_datasource(
        RangeDatasource(n),
        parallelism=parallelism,
        concurrency=concurrency,
        override_num_blocks=override_num_blocks,
    )


def range_tensor(
    n: int,
    *,
    shape: tuple[int, ...] = (1,),
    parallelism: int = -1,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
) -> Dataset:
    """n tensors in a column "data", the i-th of `shape` and full of i."""
    return read_datasource(
        RangeDatasource(n, tuple(shape)),
        parallelism=parallelism,
        concurrency=concurrency,
        override_num_blocks=override_num_blocks,
    )


def read_datasource(
    datasource: Datasource,
    *,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    compute: ComputeStrategy | None = None,
    override_num_blocks: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    **read_args: Any,
) -> Dataset:
    """A dataset of what a source reads. override_num_blocks: blocks to read into; by default as its size suggests.
    concurrency: read tasks at a time."""
    known = {"label_selector", "fallback_strategy", "max_calls", "resources", "accelerator_type", "runtime_env"}
    strange = {name for name in read_args if name not in known}
    if strange and not hasattr(datasource, "prepare_read"):
        raise TypeError(f"read_datasource() got unexpected keyword arguments {sorted(strange)}.")
    options = {**(ray_remote_args or {}), **{k: v for k, v in read_args.items() if k in known and v is not None}}
    for name, value in (("num_cpus", num_cpus), ("num_gpus", num_gpus), ("memory", memory)):
        if value is not None:
            options[name] = value
    wanted = check_parallelism(parallelism, override_num_blocks)
    resources = Resources(read_strategy(compute, concurrency), options)
    return Dataset(Read((), datasource, datasource.get_name(), wanted, resources))


def check_parallelism(parallelism: int, override_num_blocks: int | None) -> int:
    """The number of blocks that the user asks for, -1 for none. ValueError for what is no such number."""
    wanted = override_num_blocks if override_num_blocks is not None else parallelism
    if not isinstance(wanted, (int, np.integer)) or wanted == 0 or wanted < -1:
        raise ValueError(f"The number of blocks must be a positive integer (or -1 for any), got {wanted!r}.")
    return int(wanted)


def from_items(
    items: list[Any], *, parallelism: int = -1, override_num_blocks: int | None = None
) -> MaterializedDataset:
    """A dataset of Python values: a dict is a row, anything else becomes a row {"item": value}."""
    wanted = check_parallelism(parallelism, override_num_blocks)
    _ensure_started()
    values = list(items)
    rows = [dict(one) if isinstance(one, Mapping) else {"item": one} for one in values]
    if not rows:
        return dataset_of([bundle_of(pa.table({}))])
    # One table first: all blocks have one schema then, even if some have only nulls in a column.
    whole = from_rows(rows)
    if wanted < 0:
        wanted = blocks_wanted(-1, whole.nbytes, cluster_cpus(), 128 << 20, 1 << 20, 200)
    bounds = even_bounds(len(rows), min(wanted, len(rows)))
    pieces = zip(bounds[:-1], bounds[1:], strict=True)
    return dataset_of([bundle_of(whole.slice(start, end - start)) for start, end in pieces])


def from_arrow(
    tables: pa.Table | bytes | list[pa.Table | bytes], *, override_num_blocks: int | None = None
) -> MaterializedDataset:
    """A dataset of Arrow tables (or of Arrow's streams, as bytes), one block each."""
    _ensure_started()
    found = tables if isinstance(tables, list) else [tables]
    return _in_blocks([to_block(one) for one in found], override_num_blocks)


def from_pandas(dfs: Any, override_num_blocks: int | None = None) -> MaterializedDataset:
    """A dataset of data frames, one block each; their indexes are dropped."""
    _ensure_started()
    found = dfs if isinstance(dfs, list) else [dfs]
    return _in_blocks([to_block(one) for one in found], override_num_blocks)


def from_numpy(ndarrays: np.ndarray | list[np.ndarray]) -> MaterializedDataset:
    """A dataset of arrays in a column "data", one block each; a row is an element of the first dimension."""
    _ensure_started()
    found = ndarrays if isinstance(ndarrays, list) else [ndarrays]
    return _in_blocks([to_block({"data": one}) for one in found], None)


def from_blocks(blocks: list[Block]) -> MaterializedDataset:
    """A dataset of blocks: tables or data frames."""
    _ensure_started()
    return _in_blocks([to_block(one) for one in blocks], None)


def _in_blocks(tables: list[pa.Table], wanted: int | None) -> MaterializedDataset:
    if wanted is not None:
        check_parallelism(-1, wanted)
        whole = pa.concat_tables(tables, promote_options="default")
        bounds = even_bounds(whole.num_rows, wanted)
        tables = [whole.slice(start, end - start) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    return dataset_of([bundle_of(table) for table in tables])


def _make_block(value: Any, kind: str) -> tuple[pa.Table, tuple[BlockMetadata, pa.Schema]]:
    table = to_block({"data": value} if kind == "numpy" else value)
    return table, (metadata_of(table), table.schema)


def _describe_block(value: pa.Table) -> tuple[BlockMetadata, pa.Schema]:
    return metadata_of(value), value.schema


_as_block = remote(num_returns=2)(_make_block)
_describe = remote(_describe_block)


def _of_refs(refs: Any, kind: str) -> MaterializedDataset:
    found = refs if isinstance(refs, list) else [refs]
    for one in found:
        if not isinstance(one, ObjectRef):
            raise ValueError(f"Expected a list of object refs, and one item is a {type(one).__name__}.")
    made = [_as_block.remote(ref, kind) for ref in found]
    described = api_get([pair[1] for pair in made])
    bundles = [Bundle(pair[0], metadata, schema) for pair, (metadata, schema) in zip(made, described, strict=True)]
    return dataset_of(bundles)


def from_arrow_refs(tables: ObjectRef | list[ObjectRef]) -> MaterializedDataset:
    """A dataset of tables that are in the store: they are its blocks, without a copy."""
    found = tables if isinstance(tables, list) else [tables]
    described = api_get([_describe.remote(ref) for ref in found])
    bundles = []
    for ref, (metadata, schema) in zip(found, described, strict=True):
        bundles.append(Bundle(ref, metadata, schema))
    return dataset_of(bundles)


def from_pandas_refs(dfs: ObjectRef | list[ObjectRef]) -> MaterializedDataset:
    """A dataset of data frames that are in the store."""
    return _of_refs(dfs, "pandas")


def from_numpy_refs(ndarrays: ObjectRef | list[ObjectRef]) -> MaterializedDataset:
    """A dataset of arrays that are in the store, in a column "data"."""
    return _of_refs(ndarrays, "numpy")
