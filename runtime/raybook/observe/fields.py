"""Fields of a fact's row, read without trust: rows are written by many hands, and one odd row must not blank a panel.

A missing field reads as nothing, and so does one of the wrong type.
"""

from __future__ import annotations

import math

from raybook.base.facts import Row
from raybook.observe.format import shortened

NAME_LENGTH_MAX = 120
ERROR_LENGTH_MAX = 300


def text_of(row: Row, *names: str, length_max: int = NAME_LENGTH_MAX) -> str:
    """The first of these fields that says something, shortened; "" when none does."""
    for name in names:
        value = row.get(name)
        if value not in (None, ""):
            return shortened(value if isinstance(value, str) else str(value), length_max)
    return ""


def number_of(row: Row, *names: str) -> float:
    """The first of these fields that is a finite number; 0 when none is."""
    for name in names:
        value = row.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return value
    return 0


def integer_of(row: Row, *names: str) -> int:
    """As ``number_of``, cut to a whole number."""
    return int(number_of(row, *names))


def amounts_of(row: Row, name: str) -> dict[str, float]:
    """A field that maps names to amounts, without what is no finite number."""
    found = row.get(name)
    amounts = found if isinstance(found, dict) else {}
    return {str(key): float(number_of(amounts, key)) for key in amounts if number_of(amounts, key)}
