"""Memory: what this process refers to, and what keeps each object alive.

An object that is still there is held by something: a variable, an ``Out[n]`` of a notebook, an array that looks into
it, a task that waits for it, another object, another process. The rows say which of these, not which variable.
"""

from __future__ import annotations

from typing import Any

from raybook.api.context import started_engine


def memory_summary() -> list[dict[str, Any]]:
    """One dict an object that this process owns or borrows, the largest first. RuntimeError when nothing was started.

    object_id, owner_id: hexadecimal. kind: INLINE (in this process), IN_ARENA (shared memory), ON_DISK, FAILED, PENDING.
    size_bytes: 0 while it is unknown. is_owned: made by this process. references: ObjectRefs here. views: arrays and the
    like that look into it. arguments: unfinished tasks that take it. contained_in: values that hold a reference to it.
    borrowers: ids of other processes that hold it. task, call_site: what makes it, while that is known. path: its file.

    Cost: 3 µs an object, while nothing else of raybook in this process moves.
    """
    return started_engine().memory()
