"""Check serialize: can this value travel, and if not, which parts of it are in the way?

It walks and prints; what the parts of a value are, and whether one travels, is the API's word.
Invariant: at most ``PARTS_MAX`` parts are tried, so a huge value costs a bounded time.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple, TextIO

from raybook.api.serializers import parts_of, serialization_error

PARTS_MAX = 500


class FailureTuple(NamedTuple):
    """One part that does not travel by itself. name: the way to it, variable or attribute; parent: what holds it."""

    obj: Any
    name: str
    parent: Any

    @property
    def path(self) -> tuple[str, ...]:
        """The way as Ray has it: name after name."""
        return (self.name,)

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj!r}, parent={self.parent!r}])"

    # Compared by identity: the parts are often neither comparable nor hashable.
    def __hash__(self) -> int:
        return hash((id(self.obj), self.name, id(self.parent)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FailureTuple) and hash(self) == hash(other)

    def __ne__(self, other: object) -> bool:
        return not self == other


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """(whether ``base_obj`` can be sent to a task, the deepest parts that keep it from that). Prints a tree of them.

    name: how to call the object; depth: how far to look; print_file: where to print, standard output if left out.
    """
    out = print_file if print_file is not None else sys.stdout
    name = name or getattr(base_obj, "__qualname__", None) or repr(base_obj)[:80]
    print(f"Can {name} be sent to tasks and actors?", file=out)
    error = serialization_error(base_obj)
    if error is None:
        print("Yes.", file=out)
        return True, set()
    walk = _Walk(out)
    walk.descend(base_obj, name, None, depth, 1)
    print(f"No: {error}", file=out)
    return False, walk.failures


class _Walk:
    def __init__(self, out: TextIO) -> None:
        self.failures: set[FailureTuple] = set()
        self._out = out
        self._seen: set[int] = set()
        self._tried = 0

    def descend(self, value: Any, name: str, parent: Any, depth: int, level: int) -> None:
        """``value`` fails: note it if none of its parts does, else note those."""
        self._seen.add(id(value))
        print(f"{'  ' * level}{name}: {type(value).__qualname__} does not travel", file=self._out)
        failing = self._failing_parts(value) if depth > 0 else []
        for part_name, part in failing:
            self.descend(part, part_name, value, depth - 1, level + 1)
        if not failing:
            self.failures.add(FailureTuple(value, name, parent))

    def _failing_parts(self, value: Any) -> list[tuple[str, Any]]:
        found = []
        for name, part in parts_of(value):
            if id(part) in self._seen or self._tried >= PARTS_MAX:
                continue
            self._tried += 1
            if serialization_error(part) is not None:
                self._seen.add(id(part))
                found.append((name.lstrip("."), part))
        return found
