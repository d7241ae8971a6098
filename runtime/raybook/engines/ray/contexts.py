"""Contexts: which task or actor runs in a Ray worker. What Ray has to be asked for is asked when somebody wants it.

Each is a record whose expensive fields are properties: most tasks never look at them, and a question costs as much as a
short task.
"""

from __future__ import annotations

import ray
from ray.util.placement_group import get_current_placement_group

from raybook.base.resources import GPU, UNIT, shape_of
from raybook.base.specs import Assignment
from raybook.base.strategies import GroupTarget
from raybook.base.task_context import ActorContext, TaskContext

_GROUP_MARK = "_group_"
"""In the names of resources that Ray takes from a placement group: CPU_group_1_…, CPU_group_…."""


class RayTaskContext(TaskContext):
    """One running task or call."""

    @property  # type: ignore[misc]
    def assignment(self) -> Assignment:  # type: ignore[override]
        """Amounts, GPUs and placement group, as Ray has them."""
        amounts: dict[str, float] = {}
        for name, amount in ray.get_runtime_context().get_assigned_resources().items():
            plain = name.partition(_GROUP_MARK)[0]
            if plain != "bundle":
                amounts[plain] = amount
        group = get_current_placement_group()
        strategy = "" if group is None else GroupTarget(group.id.binary()).encode()
        gpus = [[int(gpu), UNIT] for gpu in ray.get_gpu_ids()]
        return Assignment(
            shape_of({name: round(amount, 4) for name, amount in amounts.items()}),
            {GPU: gpus} if gpus else {},
            strategy,
        )


class RayActorContext(ActorContext):
    """The actor that this process is."""

    @property  # type: ignore[misc]
    def restarts(self) -> int:  # type: ignore[override]
        """1 when it has lived before: Ray tells no more."""
        return int(ray.get_runtime_context().was_current_actor_reconstructed)
