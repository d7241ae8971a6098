"""Evaluation of expressions over a block: Arrow computes, columns at a time.

Randomness and numbering come from the task's context, so a task that is run again gives the same rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from raybook.data.columns import to_arrow
from raybook.data.expression_nodes import (
    AliasExpr,
    BinaryExpr,
    Expr,
    LiteralExpr,
    Operation,
    UDFExpr,
    UnaryExpr,
)
from raybook.data.expressions import (
    ClassUDF,
    ColumnExpr,
    DownloadExpr,
    MonotonicallyIncreasingIdExpr,
    RandomExpr,
    StarExpr,
    UnnestExpr,
    UUIDExpr,
)

ROWS_PER_TASK_MAX = 1 << 33
"""Distance between the first numbers of two tasks."""


class Evaluation:
    """One task's evaluations. task_idx: number of the task; rows are counted over its blocks."""

    def __init__(self, task_idx: int = 0) -> None:
        self._task_idx = task_idx
        self._rows_before = 0
        self._made: dict[str, Any] = {}
        self._generators: dict[int, np.random.Generator] = {}

    def filter(self, table: pa.Table, condition: Expr) -> pa.Table:
        """The rows for which it is true."""
        mask = self._as_column(self.value(table, condition), table)
        if not pa.types.is_boolean(mask.type):
            raise TypeError(f"filter(expr={condition}) wants a condition, and this has values of type {mask.type}.")
        self._rows_before += table.num_rows
        return table.filter(mask)

    def project(self, table: pa.Table, expressions: Sequence[Expr]) -> pa.Table:
        """A table of these columns; `star` stands for all of the input's, and a later column takes the place of an
        earlier one of its name."""
        columns: dict[str, Any] = {}
        for expr in expressions:
            if isinstance(expr, StarExpr):
                columns.update(zip(table.column_names, table.columns, strict=True))
            elif isinstance(expr, UnnestExpr):
                columns.update(self._fields(table, expr))
            else:
                columns[name_of(expr)] = self._as_column(self.value(table, expr), table)
        self._rows_before += table.num_rows
        if not columns:
            return table.select([])
        return pa.table(list(columns.values()), names=list(columns))

    def _fields(self, table: pa.Table, expr: UnnestExpr) -> dict[str, Any]:
        values = self._as_column(self.value(table, expr.expr), table)
        if not pa.types.is_struct(values.type):
            raise TypeError(f"unnest() wants a struct column, and {expr.expr} is {values.type}.")
        return {one.name: pc.struct_field(values, indices=[index]) for index, one in enumerate(values.type)}

    def _as_column(self, value: Any, table: pa.Table) -> Any:
        if isinstance(value, pa.Scalar):
            return pa.chunked_array([pa.repeat(value, table.num_rows)])
        return value

    def value(self, table: pa.Table, expr: Expr) -> Any:
        """An Arrow column or scalar. KeyError naming the column when the block has none of that name."""
        if isinstance(expr, ColumnExpr):
            return column_of(table, expr.name)
        if isinstance(expr, LiteralExpr):
            return pa.scalar(expr.value)
        if isinstance(expr, AliasExpr):
            return self.value(table, expr.expr)
        if isinstance(expr, UnaryExpr):
            return _UNARY[expr.op](self.value(table, expr.operand))
        if isinstance(expr, BinaryExpr):
            return self._binary(table, expr)
        if isinstance(expr, UDFExpr):
            return self._call(table, expr)
        if isinstance(expr, DownloadExpr):
            return download_all(column_of(table, expr.uri_column_name), expr.filesystem)
        if isinstance(expr, MonotonicallyIncreasingIdExpr):
            start = self._task_idx * ROWS_PER_TASK_MAX + self._rows_before
            return pa.array(np.arange(start, start + table.num_rows, dtype=np.int64))
        if isinstance(expr, RandomExpr):
            return pa.array(self._generator(expr).random(table.num_rows))
        if isinstance(expr, UUIDExpr):
            return pa.array([str(uuid.uuid4()) for _ in range(table.num_rows)], pa.string())
        raise TypeError(f"{expr} cannot stand here: {type(expr).__name__} makes columns, not values.")

    def _generator(self, expr: RandomExpr) -> np.random.Generator:
        if id(expr) not in self._generators:
            seed = None if expr.seed is None else (expr.seed, self._task_idx)
            self._generators[id(expr)] = np.random.default_rng(seed)
        return self._generators[id(expr)]

    def _binary(self, table: pa.Table, expr: BinaryExpr) -> Any:
        left = self.value(table, expr.left)
        if expr.op in (Operation.IN, Operation.NOT_IN):
            values = expr.right.value if isinstance(expr.right, LiteralExpr) else self.value(table, expr.right)
            wanted = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(list(values))
            if isinstance(wanted, pa.ChunkedArray):
                wanted = wanted.combine_chunks()
            kind = left.type
            found = pc.is_in(left, value_set=wanted.cast(kind) if not wanted.type.equals(kind) else wanted)
            return pc.invert(found) if expr.op is Operation.NOT_IN else found
        return _BINARY[expr.op](left, self.value(table, expr.right))

    def _call(self, table: pa.Table, expr: UDFExpr) -> Any:
        fn = expr.fn
        if isinstance(fn, ClassUDF):
            fn = self._instance(fn)
        args = [self._argument(table, value) for value in expr.args]
        kwargs = {key: self._argument(table, value) for key, value in expr.kwargs.items()}
        made = fn(*args, **kwargs)
        if isinstance(made, pa.Scalar):
            return made
        column = made if isinstance(made, (pa.Array, pa.ChunkedArray)) else to_arrow(made)
        if len(column) != table.num_rows:
            raise ValueError(
                f"The function of {expr} returned {len(column)} values for a block of {table.num_rows} rows. It must "
                "return one a row."
            )
        return column

    def _argument(self, table: pa.Table, value: Any) -> Any:
        if not isinstance(value, Expr):
            return value
        found = self.value(table, value)
        # Users' functions get one array, as Arrow's kernels like it best.
        return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found

    def _instance(self, spec: ClassUDF) -> Callable[..., Any]:
        if spec.key not in self._made:
            self._made[spec.key] = spec.cls(*spec.args, **spec.kwargs)
        return self._made[spec.key]


def name_of(expr: Expr) -> str:
    """The column an expression makes. ValueError when it has no name."""
    if expr.name is None:
        raise ValueError(f"{expr} has no name to call its column by. Give it one: ({expr}).alias('name').")
    return expr.name


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column; KeyError that names the ones there are."""
    index = table.schema.get_field_index(name)
    if index < 0:
        raise KeyError(f"No column {name!r}. The block has these columns: {table.column_names}.")
    return table.column(index)


def _add(left: Any, right: Any) -> Any:
    if _is_text(left) or _is_text(right):
        return pc.binary_join_element_wise(_text(left), _text(right), "")
    return pc.add(left, right)


def _is_text(value: Any) -> bool:
    kind = value.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _text(value: Any) -> Any:
    if not _is_text(value):
        raise TypeError(f"Expected string or string-like values for string concatenation, got {value.type}.")
    if pa.types.is_dictionary(value.type):
        value = value.cast(value.type.value_type)
    return value.cast(pa.string()) if not pa.types.is_string(value.type) else value


def _modulo(left: Any, right: Any) -> Any:
    whole = pa.types.is_integer(left.type) and pa.types.is_integer(right.type)
    rest = pc.subtract(left, pc.multiply(_floor_divide(left, right), right))
    return rest.cast(left.type) if whole and not rest.type.equals(left.type) else rest


def _floor_divide(left: Any, right: Any) -> Any:
    """Rounded down, as Python does it; Arrow's own division of integers rounds towards zero."""
    if pa.types.is_integer(left.type) and pa.types.is_integer(right.type):
        quotient = pc.divide(left, right)
        rest = pc.subtract(left, pc.multiply(quotient, right))
        is_low = pc.and_(pc.not_equal(rest, 0), pc.xor(pc.less(rest, 0), pc.less(right, 0)))
        return pc.if_else(is_low, pc.subtract(quotient, 1), quotient)
    return pc.floor(pc.divide(left, right))


_BINARY: dict[Operation, Callable[[Any, Any], Any]] = {
    Operation.ADD: _add,
    Operation.SUB: pc.subtract,
    Operation.MUL: pc.multiply,
    Operation.DIV: pc.divide,
    Operation.MOD: _modulo,
    Operation.FLOORDIV: _floor_divide,
    Operation.GT: pc.greater,
    Operation.LT: pc.less,
    Operation.GE: pc.greater_equal,
    Operation.LE: pc.less_equal,
    Operation.EQ: pc.equal,
    Operation.NE: pc.not_equal,
    Operation.AND: pc.and_kleene,
    Operation.OR: pc.or_kleene,
}
_UNARY: dict[Operation, Callable[[Any], Any]] = {
    Operation.NOT: pc.invert,
    Operation.IS_NULL: pc.is_null,
    Operation.IS_NOT_NULL: pc.is_valid,
}


def download_all(uris: pa.ChunkedArray, filesystem: Any) -> pa.Array:
    """The bytes of each file; null for what cannot be read, as with Ray."""

    def read(uri: str | None) -> bytes | None:
        if uri is None:
            return None
        try:
            if filesystem is not None:
                source, path = filesystem, uri.split("://", 1)[-1]
            else:
                source, path = fs.FileSystem.from_uri(uri) if "://" in uri else (fs.LocalFileSystem(), uri)
            with source.open_input_stream(path) as stream:
                return stream.readall()
        except (OSError, pa.ArrowInvalid):
            return None

    with ThreadPoolExecutor(16) as pool:
        return pa.array(list(pool.map(read, uris.to_pylist())), pa.large_binary())
