"""Import graph: reads every import of a tree of packages from its source, without running any of it.

Decides nothing about right and wrong (`rules.py` does). Invariants: an import statement of a module of the tree names
the deepest module it reaches (`from raybook.io import pump` reaches `raybook.io.pump` when that is a module); a
literal `importlib.import_module("x")` counts as an import of x, so a rule cannot be stepped round by spelling it so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import, seen from the module that makes it."""

    importer: str
    target: str
    line: int
    in_function: bool
    for_types_only: bool
    as_main_only: bool = False
    """Below `if __name__ == "__main__"`: runs when the module is a program, never when it is imported."""
    is_literal_call: bool = False


@dataclass
class SourceModule:
    name: str
    path: Path
    line_count: int
    imports: list[Import] = field(default_factory=list)


def read_tree(roots: Iterable[Path]) -> dict[str, SourceModule]:
    """Every module under the source roots by its import name. Raises SyntaxError on a file that does not parse."""
    paths: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name:
                paths[name] = path
    return {name: _read_module(name, path, paths) for name, path in paths.items()}


def _read_module(name: str, path: Path, known: dict[str, Path]) -> SourceModule:
    source = path.read_text(encoding="utf-8")
    module = SourceModule(name, path, source.count("\n") + (not source.endswith("\n")))
    visitor = _ImportVisitor(name, path.name == "__init__.py", known)
    visitor.visit(ast.parse(source, filename=str(path)))
    module.imports = visitor.found
    return module


class _ImportVisitor(ast.NodeVisitor):
    def __init__(self, importer: str, is_package: bool, known: dict[str, Path]) -> None:
        self.found: list[Import] = []
        self._importer = importer
        self._package = importer if is_package else importer.rpartition(".")[0]
        self._known = known
        self._function_depth = 0
        self._types_depth = 0
        self._main_depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._function_depth += 1
        self.generic_visit(node)
        self._function_depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        for_types, as_main = _is_type_checking(node.test), _is_main_guard(node.test)
        self._types_depth += for_types
        self._main_depth += as_main
        for statement in node.body:
            self.visit(statement)
        self._types_depth -= for_types
        self._main_depth -= as_main
        for statement in node.orelse:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        origin = self._absolute(node)
        for alias in node.names:
            deeper = f"{origin}.{alias.name}"
            self._add(deeper if deeper in self._known else origin, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("import_module", "__import__") and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str) and not target.value.startswith("."):
                self._add(target.value, node.lineno, is_literal_call=True)
        self.generic_visit(node)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        parts = self._package.split(".")
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)

    def _add(self, target: str, line: int, *, is_literal_call: bool = False) -> None:
        found = Import(
            self._importer,
            target,
            line,
            in_function=self._function_depth > 0,
            for_types_only=self._types_depth > 0,
            as_main_only=self._main_depth > 0,
            is_literal_call=is_literal_call,
        )
        if found not in self.found:
            self.found.append(found)


def _runs_on_import(found: Import) -> bool:
    return not (found.in_function or found.for_types_only or found.as_main_only)


def _is_main_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def find_cycles(modules: dict[str, SourceModule]) -> Iterator[list[str]]:
    """Import cycles among the tree's modules, one shortest cycle for each knot, in a stable order.

    Counted are imports that run when a module is imported: not those in functions, for types only, or below a main
    guard. That importing `a.b` also runs `a/__init__` is left out, or every package that re-exports its members would
    be a cycle.
    Cost: one pass over the edges.
    """
    edges = {
        name: sorted({i.target for i in module.imports if i.target in modules and _runs_on_import(i)})
        for name, module in modules.items()
    }
    for knot in _strongly_connected(edges):
        if len(knot) > 1:
            yield _shortest_cycle(min(knot), knot, edges)
        elif knot[0] in edges[knot[0]]:
            yield [knot[0], knot[0]]


def _strongly_connected(edges: dict[str, list[str]]) -> list[list[str]]:
    """Tarjan's algorithm with an explicit stack, so that depth is bounded by memory and not by the interpreter."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    knots: list[list[str]] = []
    for start in sorted(edges):
        if start in index:
            continue
        work: list[tuple[str, int]] = [(start, 0)]
        while work:
            node, position = work.pop()
            if node not in index:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            descended = False
            for offset in range(position, len(edges[node])):
                after = edges[node][offset]
                if after not in index:
                    work += [(node, offset), (after, 0)]
                    descended = True
                    break
                if after in on_stack:
                    low[node] = min(low[node], low[after])
            if descended:
                continue
            if low[node] == index[node]:
                knot = []
                while True:
                    member = stack.pop()
                    on_stack.discard(member)
                    knot.append(member)
                    if member == node:
                        break
                knots.append(sorted(knot))
    return knots


def _shortest_cycle(start: str, knot: list[str], edges: dict[str, list[str]]) -> list[str]:
    members = set(knot)
    paths = [[start]]
    seen = {start}
    for path in paths:
        for after in edges[path[-1]]:
            if after == start:
                return [*path, start]
            if after in members and after not in seen:
                seen.add(after)
                paths.append([*path, after])
    raise AssertionError(f"{start} is not on a cycle of {knot}")
