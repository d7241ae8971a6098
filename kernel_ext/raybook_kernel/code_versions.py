"""Code versions: which version of the notebook's functions, classes and constants is the newest, and which one went out.

A function's version is what it does, not how it was pickled: its code, its defaults, and the same of every function,
class and plain constant of the notebook that it reads. Line numbers and comments make no new version. Pure.
Invariant: a name's versions count from 1 in the order in which they were met; one that comes back keeps its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import CodeType, FunctionType
from typing import Any

from raybook.api.captures import functions_of, plain, variables_of

NOTEBOOK = "__main__"
NAMES_MAX = 500
"""Names that are watched; later ones are not."""
PARTS_MAX = 100
_OF_THE_TEXT = frozenset({"__module__", "__doc__", "__firstlineno__", "__qualname__", "__dict__", "__weakref__"})
"""Of a class: where it stands and what is said of it, not what it does."""
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None))

CellOf = Callable[[str], str]
"""The file of a code object → "In[3]", "" for what is no cell."""


@dataclass
class Name:
    """One name of the notebook. cells: where each version was defined, as far as known."""

    versions: dict[str, int] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)
    newest: str = ""


Parts = dict[str, str]
"""Name → digest: what an exported function is made of; its own name comes first."""


class CodeVersions:
    """One notebook's. cell_of: names the cell of a code object."""

    def __init__(self, cell_of: CellOf) -> None:
        self._cell_of = cell_of
        self._names: dict[str, Name] = {}

    def parts_of(self, target: Any, cell: str) -> Parts:
        """What a function or class of the notebook is made of at this moment; {} for what is of a module. cell: the one
        that runs."""
        parts: Parts = {}
        self._collect(target, cell, parts)
        return parts

    def look(self, namespace: Mapping[str, Any], cell: str) -> list[str]:
        """See what the notebook's names mean after a cell; the names that mean something else now."""
        changed = []
        for name, known in self._names.items():
            value = plain(namespace.get(name))
            digest = digest_of(value) if name in namespace else ""
            # A loop variable that happens to have a function's name is no version of it.
            if digest and digest != known.newest and digest[0] == known.newest[0]:
                changed.append(name)
                self._note(name, value, digest, cell, is_newest=True)
        return changed

    def older(self, parts: Parts) -> list[str]:
        """The names of which the notebook has another version than these parts."""
        return [name for name, digest in parts.items() if self._names[name].newest != digest]

    def told(self, name: str, parts: Parts) -> str:
        """ "runs v1 of `step`, In[7] has v3"."""
        known = self._names[name]
        return f"runs v{known.versions[parts[name]]} of `{name}`, {self.newest_of(name)}"

    def newest_of(self, name: str) -> str:
        """ "In[7] has v3"."""
        known = self._names[name]
        return f"{known.cells.get(known.newest) or 'the notebook'} has v{known.versions[known.newest]}"

    def number(self, name: str, parts: Parts) -> int:
        """The version of ``name`` in these parts."""
        return self._names[name].versions[parts[name]]

    def _collect(self, target: Any, cell: str, parts: Parts) -> None:
        name = getattr(target, "__qualname__", "")
        if getattr(target, "__module__", "") != NOTEBOOK or name in parts or len(parts) >= PARTS_MAX:
            return
        if "<locals>" not in name:
            self._add(name, target, cell, parts)
        for function in functions_of(target):
            for read, value in variables_of(function).items():
                inner = plain(value)
                if isinstance(inner, (FunctionType, type)):
                    self._collect(inner, cell, parts)
                elif read in function.__globals__ and read not in parts:
                    self._add(read, inner, cell, parts)

    def _add(self, name: str, value: Any, cell: str, parts: Parts) -> None:
        digest = digest_of(value)
        if digest and (name in self._names or len(self._names) < NAMES_MAX) and len(parts) < PARTS_MAX:
            parts[name] = digest
            self._note(name, value, digest, cell, is_newest=name not in self._names)

    def _note(self, name: str, value: Any, digest: str, cell: str, is_newest: bool) -> None:
        known = self._names.setdefault(name, Name())
        known.versions.setdefault(digest, len(known.versions) + 1)
        known.cells[digest] = self._cell_of(_file_of(value)) or known.cells.get(digest) or cell
        if is_newest:
            known.newest = digest


def digest_of(value: Any) -> str:
    """What a function, a class or a constant does or is, as a short text; "" for anything else. Cost: 20 µs a function."""
    if isinstance(value, FunctionType):
        return "function " + _hashed(_function_text(value))
    if isinstance(value, type):
        bases = [base.__qualname__ for base in value.__bases__]
        members = [(name, _member_text(member)) for name, member in vars(value).items() if name not in _OF_THE_TEXT]
        return "type " + _hashed(repr((bases, members)))
    return "value " + _hashed(repr(value)) if _is_constant(value) else ""


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) <= PARTS_MAX and all(_is_constant(item) for item in value)
    return isinstance(value, _CONSTANTS) and not (isinstance(value, (str, bytes)) and len(value) > 10_000)


def _member_text(member: Any) -> str:
    if isinstance(member, property):
        return repr([_member_text(part) for part in (member.fget, member.fset, member.fdel)])
    inner = getattr(member, "__func__", member)
    if isinstance(inner, FunctionType):
        return type(member).__name__ + _function_text(inner)
    return repr(member) if _is_constant(member) else type(member).__name__


def _function_text(function: FunctionType) -> str:
    defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
    shown = [repr(value) if _is_constant(value) else type(value).__name__ for value in defaults]
    return f"{_code_text(function.__code__)} {shown}"


def _code_text(code: CodeType) -> str:
    """Everything but names of files and numbers of lines."""
    constants = [
        _code_text(constant)
        if isinstance(constant, CodeType)
        else repr(sorted(map(repr, constant)))
        if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
    ]
    return repr((code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_flags, constants))


def _file_of(value: Any) -> str:
    function = next(functions_of(value), None)
    return function.__code__.co_filename if function is not None else ""


def _hashed(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
