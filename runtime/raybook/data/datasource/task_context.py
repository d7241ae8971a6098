"""Which task runs a transform or a write: told to sinks, and to whoever asks inside one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TaskContext:
    """task_idx: number of the task within its operator, the same again when the task is retried. op_name: the operator
    as `explain` shows it. kwargs: what a sink wants to hand from `on_write_start` to its tasks."""

    task_idx: int
    op_name: str = ""
    target_max_block_size_override: int | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
