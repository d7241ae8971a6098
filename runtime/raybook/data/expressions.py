"""Expressions over columns: ``col("x") + 1 > col("y")``, written on the driver, evaluated by Arrow in tasks.

An expression is a tree of small immutable nodes. Because it can be looked into, the optimizer can push it into a read;
a Python function can not. Comparison with a null is null, and a filter drops what is null, as in SQL.
"""

from __future__ import annotations

import inspect
import uuid as uuid_module
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

import pyarrow.compute as pc

from raybook.data import expression_namespaces
from raybook.data.datatype import DataType
from raybook.data.expression_nodes import (
    AliasExpr,
    BinaryExpr,
    Expr,
    LiteralExpr,
    Operation,
    UDFExpr,
    UnaryExpr,
    as_expr,
)

__all__ = [
    "AliasExpr",
    "BinaryExpr",
    "ClassUDF",
    "ColumnExpr",
    "DownloadExpr",
    "Expr",
    "LiteralExpr",
    "MonotonicallyIncreasingIdExpr",
    "Operation",
    "RandomExpr",
    "StarExpr",
    "UDFExpr",
    "UUIDExpr",
    "UnaryExpr",
    "UnnestExpr",
    "col",
    "download",
    "lit",
    "monotonically_increasing_id",
    "pyarrow_udf",
    "random",
    "star",
    "udf",
    "unnest",
    "uuid",
]

_StringNamespace = expression_namespaces.StringNamespace
_ListNamespace = expression_namespaces.ListNamespace
_StructNamespace = expression_namespaces.StructNamespace
_MapNamespace = expression_namespaces.MapNamespace
_DatetimeNamespace = expression_namespaces.DatetimeNamespace
_ArrayNamespace = expression_namespaces.ArrayNamespace


@dataclass(frozen=True, eq=False, repr=False)
class ColumnExpr(Expr):
    _name: str

    @property
    def name(self) -> str:
        return self._name

    def columns(self) -> set[str]:
        return {self._name}

    def to_pyarrow(self) -> pc.Expression:
        return pc.field(self._name)

    def __repr__(self) -> str:
        return f"col({self._name!r})"


@dataclass(frozen=True, eq=False, repr=False)
class StarExpr(Expr):
    """All columns of the input."""

    def columns(self) -> set[str]:
        return {"*"}

    def __repr__(self) -> str:
        return "star()"


@dataclass(frozen=True, eq=False, repr=False)
class UnnestExpr(Expr):
    """Each field of a struct as a column of its own."""

    expr: Expr

    def __repr__(self) -> str:
        return f"unnest({self.expr})"


@dataclass(frozen=True, eq=False, repr=False)
class DownloadExpr(Expr):
    """The bytes behind each URI of a column; null where it cannot be read."""

    uri_column_name: str
    filesystem: Any = None

    def columns(self) -> set[str]:
        return {self.uri_column_name}

    def __repr__(self) -> str:
        return f"download({self.uri_column_name!r})"


@dataclass(frozen=True, eq=False, repr=False)
class MonotonicallyIncreasingIdExpr(Expr):
    """A number unlike that of any other row, growing within each task: its number times 2**33 and the row's."""

    def is_deterministic(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "monotonically_increasing_id()"


@dataclass(frozen=True, eq=False, repr=False)
class RandomExpr(Expr):
    """Uniform in [0, 1); with a seed the same for the same task and row."""

    seed: int | None = None
    reseed_after_execution: bool = True

    def is_deterministic(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"random(seed={self.seed})"


@dataclass(frozen=True, eq=False, repr=False)
class UUIDExpr(Expr):
    """A random UUID (version 4) as a string."""

    def is_deterministic(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "uuid()"


class ClassUDF:
    """A callable class that an expression calls: made once in each process that evaluates it."""

    def __init__(self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], return_dtype: DataType) -> None:
        self.cls, self.args, self.kwargs, self.return_dtype = cls, args, kwargs, return_dtype
        self.key = uuid_module.uuid4().hex
        self.__name__ = cls.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> UDFExpr:
        return UDFExpr(
            self,
            tuple(as_expr(value) for value in args),
            {key: as_expr(value) for key, value in kwargs.items()},
            self.return_dtype,
        )


def udf(return_dtype: DataType) -> Callable[..., Any]:
    """Decorator: a function (or a callable class) of Arrow arrays as something expressions can be made of.

    return_dtype: type of the values that it returns. The function is called with whole columns in a task, and must
    return one value a row (an Arrow array, or anything Arrow can make one of).
    """
    if not isinstance(return_dtype, DataType):
        raise ValueError(f"udf(return_dtype=...) wants a DataType, such as DataType.int64(); got {return_dtype!r}.")

    def decorate(fn: Any) -> Any:
        if inspect.isclass(fn):

            def make(*args: Any, **kwargs: Any) -> ClassUDF:
                return ClassUDF(fn, args, kwargs, return_dtype)

            update_wrapper(make, fn, updated=())
            return make

        def call(*args: Any, **kwargs: Any) -> UDFExpr:
            return UDFExpr(
                fn,
                tuple(as_expr(value) for value in args),
                {key: as_expr(value) for key, value in kwargs.items()},
                return_dtype,
            )

        update_wrapper(call, fn)
        return call

    return decorate


pyarrow_udf = udf
"""Columns are Arrow's here anyway."""


def col(name: str) -> ColumnExpr:
    """A column by its name."""
    return ColumnExpr(name)


def lit(value: Any) -> LiteralExpr:
    """The same value in each row."""
    return LiteralExpr(value)


def star() -> StarExpr:
    """All columns of the input, for a projection that adds to them."""
    return StarExpr()


def unnest(expr: Expr) -> UnnestExpr:
    """Each field of a struct column as a column of its own, for `with_columns`."""
    return UnnestExpr(expr)


def download(uri_column_name: str, *, filesystem: Any = None) -> DownloadExpr:
    """The bytes of the files that a column of URIs names."""
    return DownloadExpr(uri_column_name, filesystem)


def monotonically_increasing_id() -> MonotonicallyIncreasingIdExpr:
    """A 64-bit number unlike any other row's, growing but with gaps."""
    return MonotonicallyIncreasingIdExpr()


def random(*, seed: int | None = None, reseed_after_execution: bool = True) -> RandomExpr:
    """Uniform random numbers in [0, 1)."""
    return RandomExpr(seed, reseed_after_execution)


def uuid() -> UUIDExpr:
    """Random UUIDs as strings."""
    return UUIDExpr()
