"""Kept: what was made of a record of options, as long as callers hand in the same record. Pure.

A remote function has one record for all its calls, and Ray checks options anew at each ``.options()``: 130 µs, as much as
the submission itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KEPT_MAX = 1024


class Kept:
    """Values by the identity of a record, and a key beside it. The record is held, so that its identity stays its own. One
    that is changed in place would not be noticed: records of options are not."""

    def __init__(self, count_max: int = KEPT_MAX) -> None:
        self._count_max = count_max
        self._values: dict[tuple[int, Any], tuple[Any, Any]] = {}

    def of(self, record: Any, key: Any, make: Callable[[], Any]) -> Any:
        """The value for this very record and key, made when it is not known. When there are too many, all are forgotten."""
        known = self._values.get((id(record), key))
        if known is not None:
            return known[1]
        value = make()
        if len(self._values) >= self._count_max:
            self._values.clear()
        self._values[id(record), key] = (record, value)
        return value

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
