"""DataType: what an expression says about the type of its values. One class for Arrow, numpy and Python types."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

_ARROW_FACTORIES = """
int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 string large_string bool binary large_binary
""".split()


class TypeCategory(str, enum.Enum):
    """Kinds of types, for `DataType.is_of`."""

    LIST = "list"
    LARGE_LIST = "large_list"
    STRUCT = "struct"
    MAP = "map"
    TENSOR = "tensor"
    TEMPORAL = "temporal"


@dataclass(frozen=True, eq=False)
class DataType:
    """Wraps a pyarrow.DataType, a numpy.dtype or a Python type. ``DataType.int64()`` and its like are Arrow's."""

    _physical_dtype: Any

    def __post_init__(self) -> None:
        if not isinstance(self._physical_dtype, (pa.DataType, np.dtype, type)):
            raise TypeError(
                "DataType supports only PyArrow DataType, NumPy dtype, or Python type instances, but was "
                f"{type(self._physical_dtype)}."
            )

    @classmethod
    def from_arrow(cls, arrow_type: pa.DataType) -> DataType:
        return cls(arrow_type)

    @classmethod
    def from_numpy(cls, numpy_dtype: Any) -> DataType:
        return cls(np.dtype(numpy_dtype))

    @classmethod
    def infer_dtype(cls, value: Any) -> DataType:
        if isinstance(value, (np.ndarray, np.generic)):
            return cls(value.dtype)
        try:
            return cls(pa.scalar(value).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            return cls(type(value))

    @classmethod
    def list(cls, value_type: DataType) -> DataType:
        return cls(pa.list_(value_type.to_arrow_dtype()))

    @classmethod
    def large_list(cls, value_type: DataType) -> DataType:
        return cls(pa.large_list(value_type.to_arrow_dtype()))

    @classmethod
    def fixed_size_list(cls, value_type: DataType, list_size: int) -> DataType:
        return cls(pa.list_(value_type.to_arrow_dtype(), list_size))

    @classmethod
    def struct(cls, fields: Any) -> DataType:
        return cls(pa.struct([(name, kind.to_arrow_dtype()) for name, kind in fields]))

    @classmethod
    def map(cls, key_type: DataType, value_type: DataType) -> DataType:
        return cls(pa.map_(key_type.to_arrow_dtype(), value_type.to_arrow_dtype()))

    @classmethod
    def tensor(cls, shape: tuple[int, ...], dtype: DataType) -> DataType:
        return cls(pa.fixed_shape_tensor(dtype.to_arrow_dtype(), list(shape)))

    @classmethod
    def from_dtype(cls, dtype: Any) -> DataType:
        """Of whatever has a type: one of Arrow, of numpy (also by name), of Python, or a DataType itself."""
        if isinstance(dtype, cls):
            return dtype
        return cls(dtype if isinstance(dtype, (pa.DataType, np.dtype, type)) else np.dtype(dtype))

    @classmethod
    def temporal(cls, temporal_type: str, unit: str | None = None, tz: str | None = None) -> DataType:
        """temporal_type: "timestamp", "date32", "date64", "time32", "time64" or "duration"."""
        if temporal_type == "timestamp":
            return cls(pa.timestamp(unit or "us", tz=tz))
        if temporal_type in ("date32", "date64"):
            return cls(getattr(pa, temporal_type)())
        if temporal_type in ("time32", "time64", "duration"):
            default = {"time32": "s", "time64": "us", "duration": "us"}[temporal_type]
            return cls(getattr(pa, temporal_type)(unit or default))
        raise ValueError(f"Invalid temporal_type: {temporal_type!r}.")

    def is_arrow_type(self) -> bool:
        return isinstance(self._physical_dtype, pa.DataType)

    def is_numpy_type(self) -> bool:
        return isinstance(self._physical_dtype, np.dtype)

    def is_python_type(self) -> bool:
        return isinstance(self._physical_dtype, type)

    def to_arrow_dtype(self, values: Any = None) -> pa.DataType:
        """As Arrow's type; a Python type is inferred from `values` where it is not plain."""
        if self.is_arrow_type():
            return self._physical_dtype
        if self.is_numpy_type():
            return pa.from_numpy_dtype(self._physical_dtype)
        plain = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), bytes: pa.binary()}
        return plain[self._physical_dtype] if self._physical_dtype in plain else pa.array(values or []).type

    def to_numpy_dtype(self) -> np.dtype:
        if self.is_numpy_type():
            return self._physical_dtype
        if self.is_arrow_type():
            try:
                return np.dtype(self._physical_dtype.to_pandas_dtype())
            except (NotImplementedError, TypeError):
                return np.dtype(object)
        return np.dtype(object)

    def to_python_type(self) -> type:
        if self.is_python_type():
            return self._physical_dtype
        raise ValueError(f"DataType {self} is not a Python type")

    def is_of(self, category: TypeCategory | str) -> bool:
        """Whether it is of a kind. ValueError for what is no kind."""
        kind = self._physical_dtype
        wanted = TypeCategory(category)
        if wanted is TypeCategory.LIST:
            return self.is_arrow_type() and (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))
        if wanted is TypeCategory.LARGE_LIST:
            return self.is_arrow_type() and pa.types.is_large_list(kind)
        return {
            TypeCategory.STRUCT: self.is_struct_type,
            TypeCategory.MAP: self.is_map_type,
            TypeCategory.TENSOR: self.is_tensor_type,
            TypeCategory.TEMPORAL: self.is_temporal_type,
        }[wanted]()

    def is_list_type(self) -> bool:
        return self.is_of(TypeCategory.LIST) or self.is_of(TypeCategory.LARGE_LIST)

    def is_struct_type(self) -> bool:
        return self.is_arrow_type() and pa.types.is_struct(self._physical_dtype)

    def is_map_type(self) -> bool:
        return self.is_arrow_type() and pa.types.is_map(self._physical_dtype)

    def is_tensor_type(self) -> bool:
        # By name: the types are defined by a module that stands on this one.
        kind = self._physical_dtype
        return isinstance(kind, pa.BaseExtensionType) and "tensor" in kind.extension_name.lower()

    def is_nested_type(self) -> bool:
        return self.is_arrow_type() and pa.types.is_nested(self._physical_dtype)

    def is_null_type(self) -> bool:
        return self.is_arrow_type() and pa.types.is_null(self._physical_dtype)

    def is_integer_type(self) -> bool:
        kind = self._physical_dtype
        if self.is_arrow_type():
            return pa.types.is_integer(kind)
        return np.issubdtype(kind, np.integer) if self.is_numpy_type() else kind is int

    def is_floating_type(self) -> bool:
        kind = self._physical_dtype
        if self.is_arrow_type():
            return pa.types.is_floating(kind)
        return np.issubdtype(kind, np.floating) if self.is_numpy_type() else kind is float

    def is_binary_type(self) -> bool:
        kind = self._physical_dtype
        if self.is_arrow_type():
            return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
        return kind.kind == "S" if self.is_numpy_type() else kind is bytes

    def is_numerical_type(self) -> bool:
        kind = self._physical_dtype
        if self.is_arrow_type():
            return self.is_integer_type() or self.is_floating_type() or pa.types.is_decimal(kind)
        return np.issubdtype(kind, np.number) if self.is_numpy_type() else kind in (int, float, complex)

    def is_string_type(self) -> bool:
        kind = self._physical_dtype
        if self.is_arrow_type():
            return pa.types.is_string(kind) or pa.types.is_large_string(kind)
        return kind.kind in "US" if self.is_numpy_type() else kind is str

    def is_temporal_type(self) -> bool:
        kind = self._physical_dtype
        return pa.types.is_temporal(kind) if self.is_arrow_type() else self.is_numpy_type() and kind.kind in "mM"

    def is_boolean_type(self) -> bool:
        kind = self._physical_dtype
        return pa.types.is_boolean(kind) if self.is_arrow_type() else kind in (bool, np.dtype(bool))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataType):
            return False
        mine, theirs = self._physical_dtype, other._physical_dtype
        return type(mine) is type(theirs) and bool(mine == theirs)

    def __hash__(self) -> int:
        return hash(self._physical_dtype)

    def __repr__(self) -> str:
        words = "arrow" if self.is_arrow_type() else "numpy" if self.is_numpy_type() else "python"
        shown = self._physical_dtype.__name__ if self.is_python_type() else self._physical_dtype
        return f"DataType({words}:{shown})"


def _factory(name: str) -> Any:
    def make(cls: type[DataType]) -> DataType:
        return cls(getattr(pa, "bool_" if name == "bool" else name)())

    make.__name__, make.__doc__ = name, f"Arrow's {name}."
    return classmethod(make)


for _name in _ARROW_FACTORIES:
    setattr(DataType, _name, _factory(_name))
