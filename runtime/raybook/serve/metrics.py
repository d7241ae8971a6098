"""Metrics: ``raybook.util.metrics`` with the replica's names as tags: deployment, replica, application, route.

Those are added where a metric is counted inside a replica; elsewhere these are the plain ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raybook.serve.context import replica_context, request_context
from raybook.util import metrics

TAGS = ("deployment", "replica", "application", "route")


def _keys(tag_keys: Sequence[str] | None) -> tuple[str, ...]:
    given = tuple(tag_keys or ())
    if replica_context() is None:
        return given
    for tag in ("deployment", "replica"):
        if tag in given:
            raise ValueError(f"'{tag}' tag is reserved for Ray Serve metrics")
    return (*given, *(tag for tag in TAGS if tag not in given))


def _tags(tags: dict[str, str] | None) -> dict[str, str] | None:
    context = replica_context()
    if context is None:
        return tags
    ours = {
        "deployment": context.deployment,
        "replica": context.replica_tag,
        "application": context.app_name,
        "route": request_context.get().route,
    }
    return {**ours, **(tags or {})}


class Counter(metrics.Counter):
    """A sum that only grows."""

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        super().__init__(name, description, _keys(tag_keys))

    def inc(self, value: int | float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Add to it."""
        super().inc(value, _tags(tags))


class Gauge(metrics.Gauge):
    """A value that goes up and down."""

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        super().__init__(name, description, _keys(tag_keys))

    def set(self, value: Any, tags: dict[str, str] | None = None) -> None:
        """Set it."""
        super().set(value, _tags(tags))


class Histogram(metrics.Histogram):
    """How values are distributed over boundaries."""

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: list[float] | None = None,
        tag_keys: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, description, boundaries, _keys(tag_keys))

    def observe(self, value: int | float, tags: dict[str, str] | None = None) -> None:
        """Count one."""
        super().observe(value, _tags(tags))
