"""What several preprocessors need: counting values over a dataset, hashing, splitting text."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.columns import to_list

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset

NULLS_ON_FIT = "Unable to fit column because it contains null values. Consider imputing missing values first."


def simple_split_tokenizer(value: str) -> list[str]:
    """The text's parts between blanks."""
    return value.split(" ")


def simple_hash(value: object, num_features: int) -> int:
    """A number below `num_features` that depends on the value's text alone, on every machine."""
    digest = hashlib.sha256(str(value).encode()).hexdigest()
    return int(digest, 16) % num_features


def is_null(value: Any) -> bool:
    """None, NaN, pandas' NA and NaT."""
    if value is None:
        return True
    if isinstance(value, float):
        return value != value
    return type(value).__name__ in ("NAType", "NaTType")


def is_list_type(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def count_over(
    ds: Dataset, count: Callable[[pa.Table], dict[str, Counter]], names: Iterable[str]
) -> dict[str, Counter]:
    """`count` of each block, added up by name. The counts come to the driver pickled, one row a block."""
    totals: dict[str, Counter] = {name: Counter() for name in names}
    pieces = ds.map_batches(partial(_pickled, count), batch_format="pyarrow", batch_size=None, zero_copy_batch=True)
    for row in pieces.take_all():
        for name, counter in pickle.loads(row["counts"]).items():
            totals[name].update(counter)
    return totals


def _pickled(count: Callable[[pa.Table], dict[str, Counter]], table: pa.Table) -> pa.Table:
    counts = count(table) if table.num_columns else {}
    return pa.table({"counts": pa.array([pickle.dumps(counts)], pa.binary())})


def value_counts(ds: Dataset, columns: list[str], encode_lists: bool = True) -> dict[str, Counter]:
    """How often each value is in each column. encode_lists: lists' elements are counted; else whole lists, as tuples.
    ValueError for a column that is not there."""
    return count_over(ds, partial(_count_values, columns, encode_lists), columns)


def _count_values(columns: list[str], encode_lists: bool, table: pa.Table) -> dict[str, Counter]:
    return {name: count_column(column_of(table, name), encode_lists) for name in columns}


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The column. ValueError naming those that are there."""
    if name not in table.column_names:
        raise ValueError(f"Column '{name}' does not exist in the dataset, which has columns: {table.column_names}")
    return table.column(name)


def count_column(column: pa.ChunkedArray, encode_lists: bool) -> Counter:
    """Values of one column."""
    if is_list_type(column.type):
        if not encode_lists:
            return Counter(None if value is None else tuple(value) for value in column.to_pylist())
        column = pc.list_flatten(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        counted = pc.value_counts(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
        return Counter(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))
    except (pa.ArrowNotImplementedError, TypeError):
        return Counter(_hashable(value) for value in to_list(column))


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, np.ndarray)):
        return tuple(value)
    return value


def unique_indices(
    ds: Dataset,
    columns: list[str],
    *,
    encode_lists: bool = True,
    max_categories: dict[str, int] | None = None,
    drop_nulls: bool = False,
) -> dict[str, dict[Any, int]]:
    """By column, its values in order with their places. max_categories: only the most frequent ones. ValueError for nulls,
    unless they are dropped."""
    limits = max_categories or {}
    for name in limits:
        if name not in columns:
            raise ValueError(f"You set `max_categories` for {name}, which is not present in {columns}.")
    found = {}
    for name, counter in value_counts(ds, columns, encode_lists).items():
        values = [value for value, _ in counter.most_common(limits[name])] if name in limits else list(counter)
        known = [value for value in values if not is_null(value)]
        if len(known) < len(values) and not drop_nulls:
            raise ValueError(f"{NULLS_ON_FIT} (column {name!r})")
        found[name] = {value: index for index, value in enumerate(sorted(known))}
    return found


def check_no_nulls_in_frame(df: Any, *columns: str) -> None:
    """ValueError naming the columns that have some."""
    bad = [name for name in columns if df[name].isnull().to_numpy().any()]
    _raise_for_nulls(bad)


def check_no_nulls(table: pa.Table, *columns: str) -> None:
    """ValueError naming the columns that have some."""
    bad = []
    for name in columns:
        column = table.column(name)
        floating = pa.types.is_floating(column.type)
        if column.null_count or (floating and pc.any(pc.is_nan(column)).as_py()):
            bad.append(name)
    _raise_for_nulls(bad)


def _raise_for_nulls(columns: list[str]) -> None:
    if columns:
        raise ValueError(
            f"Unable to transform columns {columns} because they contain null values. Consider imputing missing values "
            "first."
        )


def set_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The table with this column, in its place or at the end."""
    index = table.schema.get_field_index(name)
    return table.append_column(name, values) if index < 0 else table.set_column(index, name, values)


def set_columns(df: Any, made: dict[str, Any]) -> Any:
    """A data frame with these columns; the given one stays as it is."""
    out = df.copy(deep=False)
    for name, values in made.items():
        out[name] = values
    return out
