"""Unpicklable: finds the part of a value that pickle refuses, and names the way to it.

It decides which way to descend and when to give up. It does not know how values are pickled: it is handed a function
that tries. Pickle's own message says only "cannot pickle '_thread.lock' object"; the user needs the attribute that
holds it.

Invariant: at most `ATTEMPTS_MAX` parts are tried, so a huge value costs a bounded time; then the way found so far is
told.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import msgspec

ATTEMPTS_MAX = 500
DEPTH_MAX = 30
KEY_CHARACTERS_MAX = 40
ARGUMENTS_OF = "arguments of "
"""How the names of what is passed to a task or method begin."""

NEVER_MARK = "__never_pickled__"
"""Attribute of classes that refuse to be pickled for a reason of their own: their parts are not to blame."""

Attempt = Callable[[Any], object]


class Step(msgspec.Struct, frozen=True):
    """One way down into a value. text: what to append to the path. capture: (function, variable) if a function holds
    it.
    """

    text: str
    part: Any
    capture: tuple[str, str] | None = None


class Culprit(msgspec.Struct, frozen=True):
    """The part that cannot be pickled. path: from the value, or from the variable of the innermost function."""

    path: str
    type_name: str
    reason: str
    capture: tuple[str, str] | None


def find_unpicklable(value: Any, name: str, attempt: Attempt) -> Culprit:
    """The deepest part of `value` that still fails to pickle by itself, its own parts being fine.

    attempt: pickles a value and forgets the result; raises if it cannot. The value itself is known to
    fail. Cost: one pickling a part, at most 500.
    """
    path, capture = name, None
    reason = ""
    seen: set[int] = set()
    attempts = 0
    for _ in range(DEPTH_MAX):
        seen.add(id(value))
        for step in steps_into(value):
            if id(step.part) in seen or attempts == ATTEMPTS_MAX:
                continue
            attempts += 1
            refusal = _refusal(step.part, attempt)
            if refusal is not None:
                value, reason = step.part, refusal
                path = step.capture[1] if step.capture else path + step.text
                capture = step.capture or capture
                break
        else:
            break
    return Culprit(path, type(value).__qualname__, reason, capture)


def _refusal(part: Any, attempt: Attempt) -> str | None:
    try:
        attempt(part)
    except Exception as error:  # noqa: BLE001 - user code: a part alone may fail otherwise than in the whole
        return str(error) or type(error).__name__
    return None


def steps_into(value: Any) -> Iterator[Step]:
    """The parts that pickling `value` would pickle too, with the way to each."""
    if hasattr(type(value), NEVER_MARK):
        return
    if isinstance(value, dict):
        for key, part in list(value.items()):
            yield Step(f"[{_short(key)}]", part)
        for key in list(value):
            yield Step(f".key({_short(key)})", key)
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield Step(f"[{index}]", part)
    elif isinstance(value, (set, frozenset)):
        for part in value:
            yield Step(f".member({_short(part)})", part)
    elif isinstance(value, FunctionType):
        yield from _steps_into_function(value)
    elif isinstance(value, MethodType):
        yield Step(".__self__", value.__self__)
        yield Step(".__func__", value.__func__)
    elif isinstance(value, functools.partial):
        yield Step(".func", value.func)
        yield Step(".args", value.args)
        yield Step(".keywords", value.keywords)
    if isinstance(value, type):
        for key, part in list(vars(value).items()):
            inner = getattr(part, "__func__", part)
            if not key.startswith("__") or isinstance(inner, FunctionType):
                yield Step(f".{key}", inner)
        for base in value.__bases__:
            yield Step(f".base({base.__qualname__})", base)
        return
    if isinstance(value, BaseException):
        yield Step(".args", value.args)
    yield from _steps_into_attributes(value)
    kind = type(value)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        # Such a class travels by value with its instances.
        yield Step(".__class__", kind)


def _steps_into_attributes(value: Any) -> Iterator[Step]:
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, FunctionType):
        for key, part in list(attributes.items()):
            yield Step(f".{key}", part)
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            # Private names are stored under their mangled form.
            stored = f"_{kind.__name__.lstrip('_')}{slot}" if slot.startswith("__") and slot[-2:] != "__" else slot
            if slot not in ("__dict__", "__weakref__") and hasattr(value, stored):
                yield Step(f".{slot}", getattr(value, stored))


def _steps_into_function(function: FunctionType) -> Iterator[Step]:
    """Closure variables, the globals that the code names, and default values."""
    name = function.__qualname__.rpartition("<locals>.")[2]
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            part = cell.cell_contents
        except ValueError:  # The variable has no value yet.
            continue
        yield Step("", part, (name, variable))
    for variable in _global_names(function.__code__):
        if variable in function.__globals__:
            yield Step("", function.__globals__[variable], (name, variable))
    for index, part in enumerate(function.__defaults__ or ()):
        yield Step(f".__defaults__[{index}]", part)
    for key, part in (function.__kwdefaults__ or {}).items():
        yield Step(f".__kwdefaults__[{_short(key)}]", part)
    for key, part in list(vars(function).items()):
        yield Step(f".{key}", part)


def _global_names(code: CodeType) -> Iterator[str]:
    """Names that the code, or a function defined in it, looks up as globals; each once for each code object."""
    operations = ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME")
    yield from dict.fromkeys(step.argval for step in dis.get_instructions(code) if step.opname in operations)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _short(key: Any) -> str:
    if not isinstance(key, (str, int, float, bool, type(None), bytes)):
        return type(key).__qualname__
    text = repr(key)
    return text if len(text) <= KEY_CHARACTERS_MAX else text[: KEY_CHARACTERS_MAX - 1] + "…"


def explain(value: Any, name: str, error: BaseException, attempt: Attempt) -> str:
    """The message of the TypeError for a value that `error` kept from being pickled: what, where, and what to do."""
    culprit = find_unpicklable(value, name, attempt)
    where = f"at `{culprit.path}`"
    if culprit.capture is not None:
        function, variable = culprit.capture
        where += f" (captured by function `{function}` as variable `{variable}`)"
    reason = culprit.reason or str(error) or type(error).__name__
    intent = ""
    if name == "value":
        intent = f"Could not serialize the put value {_short(value)}: "
    elif name.startswith(ARGUMENTS_OF):
        intent = f"Could not serialize the argument for a task or actor {name.removeprefix(ARGUMENTS_OF).strip('`')}: "
    headline = f"cannot pickle '{culprit.type_name}' object {where}"
    if reason.startswith("cannot pickle") and "object" in reason:
        # Pickle names builtin types with their module ('_thread.lock'), which says more than the bare name.
        headline = f"{reason} {where}"
        reason = ""
    detail = f": {reason}" if reason else ""
    return (
        f"{intent}{headline}{detail}. Nothing was sent. Create it where it is used (inside the task or the actor's "
        f"__init__), or leave it out in the object's __getstate__."
    )
