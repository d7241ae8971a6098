"""Column types beside Arrow's own: tensors whose rows differ in shape, and values that only pickle can carry.

Tensors of one shape are Arrow's `fixed_shape_tensor`. Tensors of different shapes ("ragged": images as they come) are
`RaggedTensorType`; in numpy batches they are object arrays of arrays. What Arrow has no type for (a mix of integers and
strings, instances of classes) is `PythonObjectType`, a pickle a value.
"""

from __future__ import annotations

import math
import pickle
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa


class RaggedTensorType(pa.ExtensionType):
    """Arrays of one dtype and number of dimensions, each of its own shape: stored flat, with the shape beside."""

    def __init__(self, value_type: pa.DataType, ndim: int) -> None:
        self.value_type_, self.ndim = value_type, ndim
        storage = pa.struct([("data", pa.large_list(value_type)), ("shape", pa.list_(pa.int64()))])
        super().__init__(storage, "raybook.data.ragged_tensor")

    def __arrow_ext_serialize__(self) -> bytes:
        return str(self.ndim).encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> RaggedTensorType:
        return cls(storage_type.field("data").type.value_type, int(serialized))

    def __str__(self) -> str:
        return f"ragged_tensor(ndim={self.ndim}, dtype={self.value_type_})"

    __repr__ = __str__


class PythonObjectType(pa.ExtensionType):
    """Any Python value, pickled."""

    def __init__(self) -> None:
        super().__init__(pa.large_binary(), "raybook.data.python_object")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> PythonObjectType:
        return cls()

    def __str__(self) -> str:
        return "python_object"

    __repr__ = __str__


def _register() -> None:
    for made in (RaggedTensorType(pa.int64(), 2), PythonObjectType()):
        try:
            pa.register_extension_type(made)
        except pa.ArrowKeyError:
            pass  # The module was loaded before, under its other name.


_register()


def is_tensor(kind: pa.DataType) -> bool:
    return isinstance(kind, (pa.FixedShapeTensorType, RaggedTensorType))


def tensors_of(values: list[Any] | np.ndarray) -> pa.Array | None:
    """Arrays as a column: fixed-shape if all have one shape, else ragged; None when they are no arrays of one dtype
    and number of dimensions, or when some are missing."""
    arrays = []
    for value in values:
        if value is None:
            return None
        arrays.append(value if isinstance(value, np.ndarray) else np.asarray(value))
    if not arrays:
        return None
    first = arrays[0]
    if any(array.ndim != first.ndim for array in arrays) or first.ndim == 0:
        return None
    if all(array.shape == first.shape for array in arrays):
        return fixed_tensors(np.stack(arrays))
    kinds = {array.dtype for array in arrays}
    dtype = np.result_type(*kinds) if len(kinds) > 1 else first.dtype
    if dtype.kind not in "biuf":
        return None
    flat = pa.array(np.concatenate([array.astype(dtype, copy=False).ravel() for array in arrays]))
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([array.size for array in arrays], out=offsets[1:])
    shapes = pa.array([list(array.shape) for array in arrays], pa.list_(pa.int64()))
    data = pa.LargeListArray.from_arrays(pa.array(offsets), flat)
    kind = RaggedTensorType(flat.type, first.ndim)
    storage = pa.StructArray.from_arrays([data, shapes], fields=list(kind.storage_type))
    return pa.ExtensionArray.from_storage(kind, storage)


def fixed_tensors(array: np.ndarray) -> pa.Array | None:
    """An array of two or more dimensions as a column of its first; None for what is not numeric."""
    if array.dtype.kind not in "biuf":
        return None
    shape = array.shape[1:]
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    kind = pa.fixed_shape_tensor(flat.type, shape)
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape)) if math.prod(shape) else None
    if storage is None:
        return None
    return pa.ExtensionArray.from_storage(kind, storage)


def fixed_tensors_to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """The column as one array of shape (rows, *shape). Without a copy when it is one chunk. Missing rows are zeros."""
    kind = column.type
    shape = tuple(kind.shape)
    parts = []
    for chunk in column.chunks:
        storage = chunk.storage
        # `flatten` leaves the rows that are null out, `values` ignores the offset of a slice.
        width = math.prod(shape)
        flat = storage.values.slice(storage.offset * width, len(storage) * width)
        parts.append(flat.to_numpy(zero_copy_only=False).reshape(len(chunk), *shape))
    if not parts:
        return np.empty((0, *shape), kind.value_type.to_pandas_dtype())
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    permutation = kind.permutation
    if permutation is not None and list(permutation) != list(range(len(permutation))):
        found = found.transpose(0, *(axis + 1 for axis in np.argsort(permutation)))
    return found


def ragged_to_list(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """Each row's own array."""
    rows: list[np.ndarray | None] = []
    for chunk in column.chunks:
        storage = chunk.storage
        for row in range(len(storage)):
            item = storage[row]
            if not item.is_valid:
                rows.append(None)
                continue
            flat = item["data"].values.to_numpy(zero_copy_only=False)
            rows.append(flat.reshape(item["shape"].as_py()))
    return rows


def python_objects(values: Any) -> pa.Array:
    """Any values as a column, pickled one by one."""
    pickled = [None if value is None else cloudpickle.dumps(value) for value in values]
    return pa.ExtensionArray.from_storage(PythonObjectType(), pa.array(pickled, pa.large_binary()))


def python_objects_to_list(column: pa.ChunkedArray) -> list[Any]:
    return [
        None if item is None else pickle.loads(item) for chunk in column.chunks for item in chunk.storage.to_pylist()
    ]
