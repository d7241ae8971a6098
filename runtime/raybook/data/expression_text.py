"""Conditions as text: "x > 3 and name in ['a', 'b']" to an expression. Only what expressions have is understood; nothing
is ever executed."""

from __future__ import annotations

import ast
from typing import Any

from raybook.data.expression_nodes import BinaryExpr, Expr, LiteralExpr, Operation, UnaryExpr
from raybook.data.expressions import ColumnExpr

_COMPARISONS: dict[type[ast.cmpop], Operation] = {
    ast.Gt: Operation.GT,
    ast.Lt: Operation.LT,
    ast.GtE: Operation.GE,
    ast.LtE: Operation.LE,
    ast.Eq: Operation.EQ,
    ast.NotEq: Operation.NE,
    ast.In: Operation.IN,
    ast.NotIn: Operation.NOT_IN,
}
_ARITHMETIC: dict[type[ast.operator], Operation] = {
    ast.Add: Operation.ADD,
    ast.Sub: Operation.SUB,
    ast.Mult: Operation.MUL,
    ast.Div: Operation.DIV,
    ast.Mod: Operation.MOD,
    ast.FloorDiv: Operation.FLOORDIV,
    ast.BitAnd: Operation.AND,
    ast.BitOr: Operation.OR,
}


def parse_condition(text: str) -> Expr:
    """The expression that a text means. ValueError, with the part in question, for what it cannot mean."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"Invalid syntax in the expression: {text!r} ({error.msg}).") from error
    return _convert(tree.body, text)


def _convert(node: ast.AST, text: str) -> Expr:
    if isinstance(node, ast.BoolOp):
        op = Operation.AND if isinstance(node.op, ast.And) else Operation.OR
        parts = [_convert(value, text) for value in node.values]
        made = parts[0]
        for part in parts[1:]:
            made = BinaryExpr(op, made, part)
        return made
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        return UnaryExpr(Operation.NOT, _convert(node.operand, text))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        if isinstance(node.operand, ast.Constant):
            return LiteralExpr(-node.operand.value)  # type: ignore[operator]
        return -_convert(node.operand, text)
    if isinstance(node, ast.Compare):
        return _comparison(node, text)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return BinaryExpr(_ARITHMETIC[type(node.op)], _convert(node.left, text), _convert(node.right, text))
    if isinstance(node, ast.Name):
        return ColumnExpr(node.id)
    if isinstance(node, ast.Attribute):
        return ColumnExpr(_dotted(node, text))
    if isinstance(node, (ast.Constant, ast.List, ast.Tuple, ast.Set)):
        return LiteralExpr(_literal(node, text))
    if isinstance(node, ast.Call):
        return _call(node, text)
    raise ValueError(f"{ast.unparse(node)!r} in {text!r} is not something that an expression can say.")


def _comparison(node: ast.Compare, text: str) -> Expr:
    made: Expr | None = None
    left = node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        if type(op) not in _COMPARISONS:
            if isinstance(right, ast.Constant) and right.value is None:
                kind = Operation.IS_NULL if isinstance(op, ast.Is) else Operation.IS_NOT_NULL
                part: Expr = UnaryExpr(kind, _convert(left, text))
            else:
                raise ValueError(f"{ast.unparse(node)!r} in {text!r}: expressions do not know this comparison.")
        else:
            part = BinaryExpr(_COMPARISONS[type(op)], _convert(left, text), _convert(right, text))
        made = part if made is None else BinaryExpr(Operation.AND, made, part)
        left = right
    assert made is not None
    return made


def _call(node: ast.Call, text: str) -> Expr:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    arguments = [_convert(value, text) for value in node.args]
    if name in ("is_null", "is_nan") and len(arguments) == 1:
        return UnaryExpr(Operation.IS_NULL, arguments[0])
    if name in ("is_valid", "is_not_null") and len(arguments) == 1:
        return UnaryExpr(Operation.IS_NOT_NULL, arguments[0])
    if name == "is_in" and len(arguments) == 2:
        return BinaryExpr(Operation.IN, arguments[0], arguments[1])
    raise ValueError(f"{ast.unparse(node)!r} in {text!r}: expressions know no such function.")


def _dotted(node: ast.AST, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, text)}.{node.attr}"
    raise ValueError(f"{ast.unparse(node)!r} in {text!r} is no column's name.")


def _literal(node: ast.AST, text: str) -> Any:
    try:
        value = ast.literal_eval(node)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{ast.unparse(node)!r} in {text!r} is no constant.") from error
    return list(value) if isinstance(value, (tuple, set)) else value
