"""Cell code: what a cell of text reads and binds, so that it can run somewhere else. Pure; nothing is executed.

A name counts as read when the cell uses it anywhere, also inside its functions, and it is not bound before at top level.
That ships a name too many at times (one that is read only after it was bound on every path), never one too few.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from types import CodeType

RESULT = "_raybook_result"
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class CellCode:
    """code: to run; its last expression, if the cell ends with one, is bound to ``RESULT``. reads, binds: names, in
    the order of their first use."""

    code: CodeType
    reads: tuple[str, ...]
    binds: tuple[str, ...]


def analysed(source: str, filename: str) -> CellCode:
    """filename: what tracebacks call it. SyntaxError as the cell itself would raise it; also for a top-level ``return`` or
    ``yield``."""
    tree = ast.parse(source, filename)
    names = _Names()
    for statement in tree.body:
        names.visit(statement)
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = tree.body[-1]
        assert isinstance(last, ast.Expr)
        tree.body[-1] = ast.copy_location(
            ast.Assign(targets=[ast.Name(id=RESULT, ctx=ast.Store())], value=last.value), last
        )
    return CellCode(compile(ast.fix_missing_locations(tree), filename, "exec"), tuple(names.reads), tuple(names.binds))


class _Names(ast.NodeVisitor):
    """Walks in the order of execution: values before targets."""

    def __init__(self) -> None:
        self.reads: dict[str, None] = {}
        self.binds: dict[str, None] = {}
        self._inner: list[set[str]] = []
        """Names that belong to functions, lambdas and comprehensions around the node."""

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        else:
            self._bind(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for part in (node.annotation, node.value, node.target):
            if part is not None and not (part is node.target and node.value is None):
                self.visit(part)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        for part in (node.iter, node.target, *node.body, *node.orelse):
            self.visit(part)

    visit_AsyncFor = visit_For

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.partition(".")[0])

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for outside in (*node.decorator_list, *_defaults(node.args), *([node.returns] if node.returns else [])):
            self.visit(outside)
        self._bind(node.name)
        self._body(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for default in _defaults(node.args):
            self.visit(default)
        self._body(node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for outside in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(outside)
        self._bind(node.name)
        self._inner.append(set())
        for part in node.body:
            self.visit(part)
        self._inner.pop()

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self._inner.append(set())
        for generator in node.generators:
            for part in (generator.iter, generator.target, *generator.ifs):
                self.visit(part)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(part)
        self._inner.pop()

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def visit_Global(self, node: ast.Global) -> None:
        for scope in self._inner:
            scope.difference_update(node.names)

    def _body(self, arguments: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        named += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
        local = {argument.arg for argument in named}
        local.update(_bound_in(body))
        self._inner.append(local)
        for part in body:
            self.visit(part)
        self._inner.pop()

    def _read(self, name: str) -> None:
        if name not in self.binds and name not in _BUILTINS and not any(name in scope for scope in self._inner):
            self.reads[name] = None

    def _bind(self, name: str) -> None:
        if self._inner:
            self._inner[-1].add(name)
        else:
            self.binds[name] = None


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def _bound_in(body: list[ast.stmt] | list[ast.expr]) -> set[str]:
    """Names that are local to a function because its body binds them; those of functions inside it are not."""
    bound: set[str] = set()
    left: list[ast.AST] = list(body)
    given_up: set[str] = set()
    while left:
        node = left.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            given_up.update(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
        left.extend(ast.iter_child_nodes(node))
    return bound - given_up
