"""Holders: which variables of this process hold a reference to an object, or look into it.

Looks at a namespace (a notebook's variables, with ``Out[n]`` among them), into containers, closures and attributes of
what it finds there, and at the last error's frames; no further. Guesses nothing: a name that is told holds the object.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from raybook.api.object_ref import ObjectRef
from raybook.api.object_ref_generator import ObjectRefGenerator
from raybook.api.remote_function import RemoteFunction
from raybook.engines.views import viewed_object

DEPTH_MAX = 3
"""Variable → container → element → its own elements."""
LOOKS_MAX = 100_000
ELEMENTS_MAX = 10_000
"""Of one container: a list of a million numbers is not searched to its end."""
NAMES_MAX = 5
_ALIAS = re.compile(r"_\d+|_i\d*|_ii|_iii|_oh|_ih|_dh|In|__\w+__|get_ipython|exit|quit")
"""IPython's second names, and what is in every module."""
_LATEST = ("_", "__", "___")
"""IPython's names of the last outputs: told only where no other is known."""


def namespace_of_user() -> dict[str, Any]:
    """Of the notebook, the script or the console that this process runs."""
    main = sys.modules.get("__main__")
    return vars(main) if main is not None else {}


def holders(namespace: Mapping[str, Any]) -> dict[bytes, list[str]]:
    """Object id → names, at most ``NAMES_MAX``, as a user would write them: ``x``, ``batches[3]``, ``Out[5]``.
    Cost: 0.3 µs for each value looked at, ``LOOKS_MAX`` at most."""
    search = _Search()
    for name, value in list(namespace.items()):
        if name == "Out" and isinstance(value, dict):
            for number, output in list(value.items()):
                search.look(f"Out[{number}]", output, DEPTH_MAX)
        elif not _ALIAS.fullmatch(name) and name not in _LATEST and not isinstance(value, ModuleType):
            search.look(name, value, DEPTH_MAX)
    _look_at_last_error(search)
    found = search.found
    latest = _Search()
    for name in _LATEST:
        latest.look(name, namespace.get(name), 1)
    for key, names in latest.found.items():
        found.setdefault(key, names)
    return found


class _Search:
    def __init__(self) -> None:
        self.found: dict[bytes, list[str]] = {}
        self._looks_left = LOOKS_MAX

    def look(self, name: str, value: Any, depth: int) -> None:
        """At one value, and ``depth`` steps into it."""
        if self._looks_left <= 0:
            return
        self._looks_left -= 1
        if isinstance(value, ObjectRef):
            self._note(value.id, name)
            return
        if isinstance(value, (str, bytes, int, float, type(None), type)):
            return
        if isinstance(value, ObjectRefGenerator):
            return
        key = viewed_object(value)
        if key is not None:
            self._note(key, name)
            return
        if depth > 0:
            for part, inner in _parts(name, value):
                self.look(part, inner, depth - 1)
                if self._looks_left <= 0:
                    return

    def _note(self, key: bytes, name: str) -> None:
        names = self.found.setdefault(key, [])
        if len(names) < NAMES_MAX and name not in names:
            names.append(name)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, with names."""
    if isinstance(value, dict):
        yield from ((f"{name}[{_short(key)}]", inner) for key, inner in list(islice(value.items(), ELEMENTS_MAX)))
    elif isinstance(value, (list, tuple, deque)):
        yield from ((f"{name}[{index}]", inner) for index, inner in enumerate(list(islice(value, ELEMENTS_MAX))))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"{name} (an element)", inner) for inner in list(islice(value, ELEMENTS_MAX)))
    elif isinstance(value, RemoteFunction):
        yield from _parts(name, value._function)
    elif isinstance(value, FunctionType):
        yield from _closure(name, value)
    elif _is_pandas(value):
        # A frame keeps its columns there, in blocks of one type.
        yield from ((name, getattr(block, "values", None)) for block in getattr(value._mgr, "blocks", ()))
    else:
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict and not isinstance(value, ModuleType):
            yield from ((f"{name}.{key}", inner) for key, inner in list(attributes.items()))


def _is_pandas(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series))


def _closure(name: str, function: FunctionType) -> Iterator[tuple[str, Any]]:
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"{name} (its closure's {variable})", cell.cell_contents
        except ValueError:
            continue  # Not bound yet.
    for default in function.__defaults__ or ():
        yield f"{name} (a default)", default


def _look_at_last_error(search: _Search) -> None:
    """An error that was shown keeps the variables of its frames alive until the next one."""
    traceback: TracebackType | None = getattr(sys, "last_traceback", None)
    while traceback is not None:
        frame: FrameType = traceback.tb_frame
        if frame.f_code.co_name != "<module>":
            for name, value in list(frame.f_locals.items()):
                search.look(f"{name} of {frame.f_code.co_name}() in the last error", value, 1)
        traceback = traceback.tb_next


def _short(key: Any) -> str:
    text = repr(key) if isinstance(key, (str, bytes, int, float, tuple)) else type(key).__name__
    return text if len(text) <= 40 else text[:37] + "..."
