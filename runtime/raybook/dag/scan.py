"""Scan: finds the nodes inside the arguments of a node, however deep, and puts values in their place.

It looks into lists, tuples, dictionaries, sets and the attributes of plain objects; nodes themselves it does not enter.
Invariant: what holds no node comes back as it was, not as a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, type, range})


def find_all(value: Any, kind: type) -> list[Any]:
    """Every distinct instance of ``kind`` in ``value``, in order."""
    found: dict[int, Any] = {}
    _find(value, kind, found, set())
    return list(found.values())


def _find(value: Any, kind: type, found: dict[int, Any], seen: set[int]) -> None:
    if type(value) in ATOMS:
        return
    if isinstance(value, kind):
        found.setdefault(id(value), value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for part in _parts(value):
        _find(part, kind, found, seen)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(_attributes(value).values())


def _attributes(value: Any) -> dict[str, Any]:
    """Of an instance of a plain class; nothing of functions, classes and modules, whose attributes are no data."""
    if isinstance(value, type) or callable(value) or type(value).__module__ == "builtins":
        return {}
    attributes = getattr(value, "__dict__", None)
    return attributes if isinstance(attributes, dict) else {}


def substitute(value: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """``value`` with every instance of ``kind`` replaced. Containers and objects that hold one are copied."""
    return _substitute(value, kind, replace, set())


def _substitute(value: Any, kind: type, replace: Callable[[Any], Any], inside: set[int]) -> Any:
    if type(value) in ATOMS:
        return value
    if isinstance(value, kind):
        return replace(value)
    if id(value) in inside:
        return value
    inside.add(id(value))
    try:
        return _rebuilt(value, lambda part: _substitute(part, kind, replace, inside))
    finally:
        inside.discard(id(value))


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        changed = {change(key): change(item) for key, item in value.items()}
        if _same(changed, value):
            return value
        return changed if type(value) is dict else _refilled_dict(value, changed)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [change(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*items)
        return type(value)(items)
    attributes = _attributes(value)
    changed = {name: change(item) for name, item in attributes.items()}
    if not attributes or _same(changed, attributes):
        return value
    rebuilt = copy.copy(value)
    rebuilt.__dict__.update(changed)
    return rebuilt


def _same(changed: dict[Any, Any], original: dict[Any, Any]) -> bool:
    if len(changed) != len(original):
        return False
    pairs = zip(changed.items(), original.items(), strict=True)
    return all(key is known and item is old for (key, item), (known, old) in pairs)


def _refilled_dict(value: dict[Any, Any], changed: dict[Any, Any]) -> dict[Any, Any]:
    rebuilt = copy.copy(value)
    rebuilt.clear()
    rebuilt.update(changed)
    return rebuilt
