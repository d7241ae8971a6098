"""Captures: what a function or class drags along when it is pickled by value, by name and size. Pure; pickles nothing.

cloudpickle takes along the closure, the defaults and the globals that the code reads, and the same of every function it
meets so. Here they are found the same way, to tell people which variable makes a function large. Sizes are estimates:
arrays and tables say their own, containers are sampled.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

SAMPLED_MAX = 64
"""Elements of a container that are looked at; the rest count as their average."""
DEPTH_MAX = 3
GLOBAL_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})


class Capture(NamedTuple):
    """A variable that goes along. size: bytes, estimated."""

    name: str
    size: int


def captures_of(target: Callable[..., Any], size_min: int = 0) -> list[Capture]:
    """The variables that a function or class of the user's captures, the largest first, those below ``size_min`` left
    out. A variable that several functions read counts once. Cost: some 20 µs a function."""
    found: dict[int, Capture] = {}
    for name, value in _captured(target, set()):
        found.setdefault(id(value), Capture(name, size_of(value)))
    large = [capture for capture in found.values() if capture.size >= size_min]
    return sorted(large, key=lambda capture: (-capture.size, capture.name))


def functions_of(target: Any) -> Iterator[FunctionType]:
    """The function itself, or the functions of a class, in the order of their definition."""
    if isinstance(target, FunctionType):
        yield target
    elif isinstance(target, type):
        for member in vars(target).values():
            if isinstance(member, property):
                yield from (part for part in (member.fget, member.fset, member.fdel) if isinstance(part, FunctionType))
            else:
                inner = getattr(member, "__func__", member)
                if isinstance(inner, FunctionType):
                    yield inner


def variables_of(function: FunctionType) -> dict[str, Any]:
    """What a function reads from around it: globals that exist, and its closure, by name."""
    namespace: Mapping[str, Any] = function.__globals__
    found = {name: namespace[name] for name in globals_read(function.__code__) if name in namespace}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # Not bound yet.
            continue
    return found


def globals_read(code: CodeType) -> list[str]:
    """Names that the code, and the code inside it, looks up among globals and builtins, in the order of first use."""
    names: dict[str, None] = {}
    left = [code]
    while left:
        part = left.pop(0)
        for instruction in dis.get_instructions(part):
            if instruction.opname in GLOBAL_READS:
                names[instruction.argval] = None
        left += [constant for constant in part.co_consts if isinstance(constant, CodeType)]
    return list(names)


def size_of(value: Any, depth: int = DEPTH_MAX) -> int:
    """Bytes of a value, estimated: what arrays say, else what the interpreter says, with a sample of what is inside."""
    for tell in (_own_size, _frame_size):
        size = tell(value)
        if size is not None:
            return size
    size = sys.getsizeof(value, 64)
    if not depth:
        return size
    if isinstance(value, dict):
        return size + _sampled(value.keys(), len(value), depth) + _sampled(value.values(), len(value), depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return size + _sampled(value, len(value), depth)
    inside = getattr(value, "__dict__", None)
    return size + (size_of(inside, depth - 1) if isinstance(inside, dict) and not isinstance(value, type) else 0)


def _own_size(value: Any) -> int | None:
    """Of numpy's, torch's and Arrow's."""
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    size = _asked(value, "nbytes")
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _frame_size(value: Any) -> int | None:
    """Of a table of pandas'."""
    usage = _asked(value, "memory_usage")
    if not callable(usage) or isinstance(value, type):
        return None
    try:
        used = usage(deep=False)
        return int(used.sum() if hasattr(used, "sum") else used)
    except Exception:  # noqa: BLE001 - somebody else's method of that name may raise anything.
        return None


def _asked(value: Any, name: str) -> Any:
    if isinstance(value, (type, ModuleType)):
        return None
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - properties of users' classes may raise anything.
        return None


def _sampled(values: Any, count: int, depth: int) -> int:
    sizes = [size_of(value, depth - 1) for value in islice(values, SAMPLED_MAX)]
    return sum(sizes) * count // len(sizes) if sizes else 0


def _captured(target: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(target) in seen:
        return
    seen.add(id(target))
    for function in functions_of(target):
        named = dict(variables_of(function))
        named.update(_defaults(function))
        for name, value in named.items():
            inner = plain(value)
            if isinstance(inner, (FunctionType, type)):
                if getattr(inner, "__module__", None) == getattr(target, "__module__", None):
                    yield from _captured(inner, seen)
            elif not isinstance(inner, ModuleType):
                yield name, inner


def plain(value: Any) -> Any:
    """The function or class in what ``remote`` made of it; anything else as it is."""
    inside = getattr(value, "__dict__", None)
    if isinstance(inside, dict) and "_export" in inside:
        return inside.get("_function") or inside.get("_cls") or value
    return value


def _defaults(function: FunctionType) -> dict[str, Any]:
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    values = function.__defaults__ or ()
    return {
        **dict(zip(positional[len(positional) - len(values) :], values, strict=False)),
        **(function.__kwdefaults__ or {}),
    }
