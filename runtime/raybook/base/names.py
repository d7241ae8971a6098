"""Names of functions and classes, as people read them."""

from __future__ import annotations


def short(qualified: str) -> str:
    """Without the function it was defined in: ``main.<locals>.Counter`` is Counter, ``Outer.Inner`` stays whole."""
    return qualified.rpartition("<locals>.")[2]
