"""DynamicObjectRefGenerator: what a task with ``num_returns="dynamic"`` returns: references to all its items.

Knows nothing of what the references are. It is a value like any other: it may be stored, passed on and pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class DynamicObjectRefGenerator:
    """Iterable, as often as wanted; ``len`` is known. Prefer streaming generators, whose items come as they are
    made."""

    def __init__(self, refs: Sequence[Any]) -> None:
        self._refs = list(refs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __repr__(self) -> str:
        return f"DynamicObjectRefGenerator({len(self._refs)} items)"
