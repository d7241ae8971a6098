"""``ray._private.internal_api``: the memory summary, as code written for Ray asks for it."""

from __future__ import annotations

from typing import Any

from raybook.api import memory

__all__ = ["memory_summary"]


def memory_summary(
    address: str | None = None,
    redis_password: str | None = None,
    group_by: str = "NODE_ADDRESS",
    sort_by: str = "OBJECT_SIZE",
    units: str = "B",
    line_wrap: bool = True,
    stats_only: bool = False,
    num_entries: int | None = None,
    **unused: Any,
) -> str:
    """``raybook.memory`` as text, of the cluster that this process is connected to. Errors and cost: as there."""
    return str(
        memory(group_by=group_by, sort_by=sort_by, units=units, stats_only=stats_only, num_entries=num_entries or None)
    )
