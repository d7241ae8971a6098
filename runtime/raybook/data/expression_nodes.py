"""Nodes of expressions: the operators every expression has, and the trees they make. `expressions` is the public door,
with the nodes that only it makes.

Nodes are immutable and know no table; `expression_evaluation` does the computing. Comparison with a null is null.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.datatype import DataType


class Operation(str, enum.Enum):
    """Operators, and what is left of them in `explain`."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MOD = "mod"
    FLOORDIV = "floordiv"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    EQ = "eq"
    NE = "ne"
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is_null"
    IS_NOT_NULL = "is_not_null"
    IN = "in"
    NOT_IN = "not_in"


class Expr:
    """Base of all nodes. Operators make new nodes; nothing is computed here."""

    @property
    def name(self) -> str | None:
        """The column that the result is called by, if it has a name of its own."""
        return None

    def _binary(self, other: Any, op: Operation, swapped: bool = False) -> BinaryExpr:
        left, right = self, as_expr(other)
        return BinaryExpr(op, right, left) if swapped else BinaryExpr(op, left, right)

    def __add__(self, other: Any) -> Expr:
        return self._binary(other, Operation.ADD)

    def __radd__(self, other: Any) -> Expr:
        return self._binary(other, Operation.ADD, True)

    def __sub__(self, other: Any) -> Expr:
        return self._binary(other, Operation.SUB)

    def __rsub__(self, other: Any) -> Expr:
        return self._binary(other, Operation.SUB, True)

    def __mul__(self, other: Any) -> Expr:
        return self._binary(other, Operation.MUL)

    def __rmul__(self, other: Any) -> Expr:
        return self._binary(other, Operation.MUL, True)

    def __truediv__(self, other: Any) -> Expr:
        return self._binary(other, Operation.DIV)

    def __rtruediv__(self, other: Any) -> Expr:
        return self._binary(other, Operation.DIV, True)

    def __floordiv__(self, other: Any) -> Expr:
        return self._binary(other, Operation.FLOORDIV)

    def __rfloordiv__(self, other: Any) -> Expr:
        return self._binary(other, Operation.FLOORDIV, True)

    def __mod__(self, other: Any) -> Expr:
        return self._binary(other, Operation.MOD)

    def __rmod__(self, other: Any) -> Expr:
        return self._binary(other, Operation.MOD, True)

    def __gt__(self, other: Any) -> Expr:
        return self._binary(other, Operation.GT)

    def __lt__(self, other: Any) -> Expr:
        return self._binary(other, Operation.LT)

    def __ge__(self, other: Any) -> Expr:
        return self._binary(other, Operation.GE)

    def __le__(self, other: Any) -> Expr:
        return self._binary(other, Operation.LE)

    def __eq__(self, other: Any) -> Any:
        return self._binary(other, Operation.EQ)

    def __ne__(self, other: Any) -> Any:
        return self._binary(other, Operation.NE)

    def __and__(self, other: Any) -> Expr:
        return self._binary(other, Operation.AND)

    def __rand__(self, other: Any) -> Expr:
        return self._binary(other, Operation.AND, True)

    def __or__(self, other: Any) -> Expr:
        return self._binary(other, Operation.OR)

    def __ror__(self, other: Any) -> Expr:
        return self._binary(other, Operation.OR, True)

    def __invert__(self) -> Expr:
        return UnaryExpr(Operation.NOT, self)

    def __neg__(self) -> Expr:
        return self.negate()

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self} has no truth value before it is evaluated. Combine conditions with &, | and ~ instead of `and`, "
            "`or` and `not`, and put each comparison in brackets."
        )

    __hash__ = object.__hash__

    def is_null(self) -> Expr:
        return UnaryExpr(Operation.IS_NULL, self)

    def is_not_null(self) -> Expr:
        return UnaryExpr(Operation.IS_NOT_NULL, self)

    def is_in(self, values: Any) -> Expr:
        """True where the value is one of `values`, a list."""
        return BinaryExpr(Operation.IN, self, values if isinstance(values, Expr) else LiteralExpr(list(values)))

    def not_in(self, values: Any) -> Expr:
        return BinaryExpr(Operation.NOT_IN, self, values if isinstance(values, Expr) else LiteralExpr(list(values)))

    def alias(self, name: str) -> AliasExpr:
        """The same values under another name."""
        return AliasExpr(self, name)

    def structurally_equals(self, other: Any) -> bool:
        """The same tree, which ``==`` cannot say: it makes an expression."""
        if type(self) is not type(other):
            return False
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare)  # type: ignore[arg-type]

    def children(self) -> Iterator[Expr]:
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            for item in value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,):
                if isinstance(item, Expr):
                    yield item

    def columns(self) -> set[str]:
        """Names of the columns it reads; "*" stands for all."""
        return {name for child in self.children() for name in child.columns()}

    def is_deterministic(self) -> bool:
        """Whether evaluating it twice, or on other blocks, gives the same."""
        return all(child.is_deterministic() for child in self.children())

    def is_idempotent(self) -> bool:
        return self.is_deterministic()

    def to_pyarrow(self) -> pc.Expression:
        """As Arrow's own expression, which readers of files understand. TypeError if there is no such thing."""
        raise TypeError(f"{type(self).__name__} has no equivalent among pyarrow's expressions: {self}.")

    # Mathematics, element by element.

    def _call(self, function: str, *arguments: Any, **options: Any) -> UDFExpr:
        return compute_call(function, self, *arguments, **options)

    def ceil(self) -> Expr:
        return self._call("ceil")

    def floor(self) -> Expr:
        return self._call("floor")

    def round(self, ndigits: int = 0) -> Expr:
        return self._call("round", ndigits=ndigits) if ndigits else self._call("round")

    def trunc(self) -> Expr:
        return self._call("trunc")

    def ln(self) -> Expr:
        return self._call("ln")

    def log10(self) -> Expr:
        return self._call("log10")

    def log2(self) -> Expr:
        return self._call("log2")

    def exp(self) -> Expr:
        return self._call("exp")

    def sqrt(self) -> Expr:
        return self._call("sqrt")

    def sin(self) -> Expr:
        return self._call("sin")

    def cos(self) -> Expr:
        return self._call("cos")

    def tan(self) -> Expr:
        return self._call("tan")

    def asin(self) -> Expr:
        return self._call("asin")

    def acos(self) -> Expr:
        return self._call("acos")

    def atan(self) -> Expr:
        return self._call("atan")

    def negate(self) -> Expr:
        return self._call("negate_checked")

    def sign(self) -> Expr:
        return self._call("sign")

    def power(self, exponent: Any) -> Expr:
        return self._call("power", exponent)

    def abs(self) -> Expr:
        return self._call("abs_checked")

    def cast(self, target_type: DataType | pa.DataType, *, safe: bool = True) -> Expr:
        """As another type; ArrowInvalid in the task when a value does not fit, unless ``safe=False``."""
        kind = target_type if isinstance(target_type, DataType) else DataType(target_type)
        return UDFExpr(partial(_cast, to=kind.to_arrow_dtype(), safe=safe), (self,), {}, kind)

    # Functions of one type each, by its name.

    @property
    def str(self) -> Any:
        return _namespace("StringNamespace")(self)

    @property
    def list(self) -> Any:
        return _namespace("ListNamespace")(self)

    @property
    def struct(self) -> Any:
        return _namespace("StructNamespace")(self)

    @property
    def map(self) -> Any:
        return _namespace("MapNamespace")(self)

    @property
    def dt(self) -> Any:
        return _namespace("DatetimeNamespace")(self)

    @property
    def arr(self) -> Any:
        return _namespace("ArrayNamespace")(self)


NAMESPACES: dict[str, type] = {}
"""Filled by `expression_namespaces`, which stands above this module; `expressions` imports both."""


def register_namespace(kind: type) -> type:
    """Class decorator: make it what an expression's property of that name gives."""
    NAMESPACES[kind.__name__] = kind
    return kind


def _namespace(name: str) -> type:
    return NAMESPACES[name]


def _cast(values: Any, to: pa.DataType, safe: bool) -> Any:
    return pc.cast(values, to, safe=safe)


def _same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, Expr):
        return mine.structurally_equals(theirs)
    if isinstance(mine, tuple):
        return isinstance(theirs, tuple) and len(mine) == len(theirs) and all(map(_same, mine, theirs))
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(_same(mine[key], theirs[key]) for key in mine)
    return type(mine) is type(theirs) and bool(mine == theirs)


@dataclass(frozen=True, eq=False, repr=False)
class LiteralExpr(Expr):
    value: Any

    def to_pyarrow(self) -> pc.Expression:
        return pc.scalar(self.value)

    def __repr__(self) -> str:
        return f"lit({self.value!r})"


_SIGNS = {
    Operation.ADD: "+", Operation.SUB: "-", Operation.MUL: "*", Operation.DIV: "/", Operation.MOD: "%",
    Operation.FLOORDIV: "//", Operation.GT: ">", Operation.LT: "<", Operation.GE: ">=", Operation.LE: "<=",
    Operation.EQ: "==", Operation.NE: "!=", Operation.AND: "&", Operation.OR: "|", Operation.IN: "in",
    Operation.NOT_IN: "not in",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class BinaryExpr(Expr):
    op: Operation
    left: Expr
    right: Expr

    def to_pyarrow(self) -> pc.Expression:
        left = self.left.to_pyarrow()
        if self.op in (Operation.IN, Operation.NOT_IN):
            if not isinstance(self.right, LiteralExpr):
                raise TypeError(f"{self}: only a list of values can be pushed into a read.")
            found = left.isin(self.right.value)
            return ~found if self.op is Operation.NOT_IN else found
        right = self.right.to_pyarrow()
        plain = {
            Operation.ADD: lambda: left + right, Operation.SUB: lambda: left - right,
            Operation.MUL: lambda: left * right, Operation.DIV: lambda: left / right,
            Operation.GT: lambda: left > right, Operation.LT: lambda: left < right,
            Operation.GE: lambda: left >= right, Operation.LE: lambda: left <= right,
            Operation.EQ: lambda: left == right, Operation.NE: lambda: left != right,
            Operation.AND: lambda: left & right, Operation.OR: lambda: left | right,
        }  # fmt: skip
        if self.op not in plain:
            raise TypeError(f"{self}: pyarrow's expressions have no {self.op.value}.")
        return plain[self.op]()

    def __repr__(self) -> str:
        return f"({self.left} {_SIGNS[self.op]} {self.right})"


@dataclass(frozen=True, eq=False, repr=False)
class UnaryExpr(Expr):
    op: Operation
    operand: Expr

    def to_pyarrow(self) -> pc.Expression:
        operand = self.operand.to_pyarrow()
        if self.op is Operation.NOT:
            return ~operand
        return operand.is_null() if self.op is Operation.IS_NULL else operand.is_valid()

    def __repr__(self) -> str:
        return f"~{self.operand}" if self.op is Operation.NOT else f"{self.operand}.{self.op.value}()"


@dataclass(frozen=True, eq=False, repr=False)
class AliasExpr(Expr):
    expr: Expr
    _name: str

    @property
    def name(self) -> str:
        return self._name

    def alias(self, name: str) -> AliasExpr:
        return AliasExpr(self.expr, name)

    def to_pyarrow(self) -> pc.Expression:
        return self.expr.to_pyarrow()

    def __repr__(self) -> str:
        return f"{self.expr}.alias({self._name!r})"


@dataclass(frozen=True, eq=False, repr=False)
class UDFExpr(Expr):
    """A function of Arrow columns, one value a row."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    data_type: DataType = field(default_factory=lambda: DataType(object), compare=False)

    def is_deterministic(self) -> bool:
        # What a user's function does is not known; Arrow's functions are all pure.
        return isinstance(self.fn, partial) and super().is_deterministic()

    def __repr__(self) -> str:
        name = getattr(self.fn, "__name__", None) or getattr(getattr(self.fn, "func", None), "__name__", "udf")
        shown = [repr(value) for value in self.args] + [f"{key}={value!r}" for key, value in self.kwargs.items()]
        if isinstance(self.fn, partial) and self.fn.func is call_compute:
            name = self.fn.args[0]
        return f"{name}({', '.join(shown)})"


def as_expr(value: Any) -> Expr:
    return value if isinstance(value, Expr) else LiteralExpr(value)


def call_compute(function: str, *arguments: Any, **options: Any) -> Any:
    """One of Arrow's compute functions, by name: it can be pickled, which Arrow's own wrappers cannot."""
    return getattr(pc, function)(*arguments, **options)


def compute_call(function: str, *arguments: Any, **options: Any) -> UDFExpr:
    """A node that calls one of Arrow's compute functions with columns, values and options."""
    columns = tuple(value if isinstance(value, Expr) else LiteralExpr(value) for value in arguments)
    return UDFExpr(partial(call_compute, function, **options), columns, {})
