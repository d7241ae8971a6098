"""Deprecations: what is said of a way of writing that Ray has announced to drop."""

from __future__ import annotations


class RayDeprecationWarning(DeprecationWarning):
    """Something will go away."""


RayDeprecationWarning.__module__ = "raybook.util.annotations"
"""Its public home."""

DYNAMIC_RETURNS = (
    "num_returns='dynamic' is deprecated: its references come when the last item has been made. Use "
    "num_returns='streaming' instead, whose items come as they are made."
)
