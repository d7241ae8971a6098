"""Columns: a batch's columns into Arrow and out of it, as arrays and as Python values.

The rules are the same in both directions wherever Arrow can tell: what went in as an array of shape (n, 3) comes out so,
integers with nulls come out of `to_list` as integers and None. `to_numpy` has no nulls for integers: they become NaN in
a float array, as pandas does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.column_types import (
    PythonObjectType,
    RaggedTensorType,
    fixed_tensors,
    fixed_tensors_to_numpy,
    python_objects,
    python_objects_to_list,
    ragged_to_list,
    tensors_of,
)
from raybook.data.context import DataContext


def to_arrow(values: Any, name: str = "column") -> pa.Array | pa.ChunkedArray:
    """Values as an Arrow column. Arrays of several dimensions, and lists of arrays, become tensors; what Arrow cannot
    type is pickled (unless `enable_fallback_to_arrow_object_ext_type` is False: then ArrowInvalid or ArrowTypeError)."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, np.ndarray):
        return _from_ndarray(values, name)
    if isinstance(values, np.generic):
        values = [values]
    if not isinstance(values, list):
        if hasattr(values, "__arrow_array__"):
            return pa.array(values)
        if hasattr(values, "__array__"):
            return _from_ndarray(np.asarray(values), name)
        values = list(values)
    return _from_list(values, name)


def _from_ndarray(array: np.ndarray, name: str) -> pa.Array | pa.ChunkedArray:
    if array.ndim == 0:
        return _from_list([array.item()], name)
    if array.dtype.kind == "O":
        return _from_list(list(array), name)
    if array.ndim > 1:
        made = fixed_tensors(array)
        return made if made is not None else _from_list(array.tolist(), name)
    if array.dtype.kind == "M":
        unit = np.datetime_data(array.dtype)[0]
        if unit not in ("D", "s", "ms", "us", "ns"):
            array = array.astype("datetime64[s]")
    if array.dtype.kind == "c" or array.dtype.kind == "V":
        return python_objects(list(array))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return pa.array(array)


def _from_list(values: list[Any], name: str) -> pa.Array | pa.ChunkedArray:
    probe = next((value for value in values if value is not None), None)
    if isinstance(probe, np.ndarray) or _is_tensor_like(probe):
        made = tensors_of(values)
        if made is not None:
            return made
        values = [None if value is None else np.asarray(value) for value in values]
        if any(value is not None and value.ndim != 1 for value in values):
            values = [None if value is None else value.tolist() for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError) as error:
        if DataContext.get_current().enable_fallback_to_arrow_object_ext_type is False:
            raise type(error)(f"column {name!r}: {error}") from error
        return python_objects(values)


def _is_tensor_like(value: Any) -> bool:
    """A torch or jax tensor, without importing either."""
    return hasattr(value, "__array__") and hasattr(value, "ndim") and not isinstance(value, np.generic)


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """The column as an array, without a copy where it is one chunk of numbers without nulls. Read-only then."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        if column.null_count:
            return object_array(to_list(column))
        return fixed_tensors_to_numpy(column)
    if isinstance(kind, (RaggedTensorType, PythonObjectType)):
        return object_array(to_list(column))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists_to_numpy(column)
    if column.num_chunks == 1:
        return column.chunk(0).to_numpy(zero_copy_only=False)
    return column.to_numpy()


def _lists_to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    value = column.type.value_type
    if pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value):
        rows = [None if item is None else np.asarray(item) for chunk in column.chunks for item in _pieces(chunk)]
        return object_array(rows)
    return object_array(column.to_pylist())


def _pieces(chunk: pa.Array) -> Iterable[Any]:
    """Each list of a chunk as an array."""
    for item in chunk:
        yield item.values.to_numpy(zero_copy_only=False) if item.is_valid else None


def object_array(values: list[Any]) -> np.ndarray:
    """One object a row, whatever the objects are: numpy would make one array of equal-sized ones."""
    made = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        made[index] = value
    return made


def to_list(column: pa.ChunkedArray) -> list[Any]:
    """The column as Python values, None for nulls. Numbers and strings at 10 to 50 ns each, where Arrow's own
    `to_pylist` takes 100 to 300."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return _fixed_to_list(column)
    if isinstance(kind, RaggedTensorType):
        return ragged_to_list(column)
    if isinstance(kind, PythonObjectType):
        return python_objects_to_list(column)
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if plain and not pa.types.is_float16(kind):
        values: list[Any] = []
        for chunk in column.chunks:
            values += _numbers_to_list(chunk)
        return values
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = []
        for chunk in column.chunks:
            values += chunk.to_numpy(zero_copy_only=False).tolist()
        return values
    return column.to_pylist()


def _numbers_to_list(chunk: pa.Array) -> list[Any]:
    if not chunk.null_count:
        return chunk.to_numpy(zero_copy_only=False).tolist()
    filled = chunk.fill_null(False if pa.types.is_boolean(chunk.type) else 0)
    values = filled.to_numpy(zero_copy_only=False).tolist()
    for index in pc.indices_nonzero(chunk.is_null()).to_pylist():
        values[index] = None
    return values


def _fixed_to_list(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = list(fixed_tensors_to_numpy(column))
    if column.null_count:
        for index in pc.indices_nonzero(column.is_null()).to_pylist():
            values[index] = None
    return values
