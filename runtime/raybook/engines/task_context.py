"""Task context, for engines: the record lives in ``base``, because workers set it and may not import engines."""

from raybook.base.task_context import CURRENT_TASK, ActorContext, TaskContext

__all__ = ["CURRENT_TASK", "ActorContext", "TaskContext"]
