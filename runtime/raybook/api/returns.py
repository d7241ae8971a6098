"""Returns: what a call gives its caller for the refs that the engine made: one ref, several, none, or a generator."""

from __future__ import annotations

from typing import Any

from raybook.api.object_ref_generator import ObjectRefGenerator
from raybook.base.specs import STREAMING


def shape_returns(refs: list[Any], num_returns: int) -> Any:
    """num_returns: a count, STREAMING or DYNAMIC."""
    if num_returns == STREAMING:
        return ObjectRefGenerator(refs[0])
    if num_returns == 1 or num_returns < 0:
        return refs[0]
    return refs if num_returns else None
