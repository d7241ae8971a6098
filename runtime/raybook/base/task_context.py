"""Task context: which task this thread or coroutine runs, for ``get_runtime_context`` and ``get_gpu_ids``.

The worker sets it before user code and resets it after; the API reads it. Nobody is told about changes. A context
variable, so that the coroutines of an async actor each see their own call. Threads that user code starts see None.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import msgspec

from raybook.base.specs import Assignment


class ActorContext(msgspec.Struct):
    """The actor that this process is. ``restarts`` counts its earlier lives; ``state`` is its engine's
    ``ActorHandleState``, from which ``current_actor`` makes a handle."""

    actor_id: bytes
    class_name: str
    name: str = ""
    namespace: str = ""
    restarts: int = 0
    is_async: bool = False
    state: Any = None


class TaskContext(msgspec.Struct):
    """One running task or actor call. ``is_cancelled`` is raised by the worker while the task runs; cooperative code
    looks at it through ``get_runtime_context().is_canceled()``."""

    task_id: bytes
    name: str
    attempt: int = 0
    assignment: Assignment | None = None
    actor: ActorContext | None = None
    is_cancelled: bool = False
    function: Any = None
    """What runs: the function, or the bound method."""


CURRENT_TASK: ContextVar[TaskContext | None] = ContextVar("raybook_current_task", default=None)
"""The task that runs here. Cost of a set or get: 50 ns."""
