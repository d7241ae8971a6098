"""Recent results: what was made in this worker just before, for tasks that were pushed behind the ones that make it.

An owner may push a task behind the one that makes its argument, before there is a value; the slot is empty then. So the
last results are kept for a while. Between a task and what was pushed while it was in flight lie no more tasks than an
owner has in flight at one worker, so as many results are kept, if they are small together. What is not found (it
failed, holds references, was too large) is no error: the task goes back to its owner, who knows.

Invariant: what fills a slot came from the newest attempt that succeeded here, and holds no references.
"""

from __future__ import annotations

from collections import deque

from raybook.base.ids import return_id, task_of
from raybook.base.specs import Value
from raybook.protocol.messages.worker import TaskReply, TaskSpec

KEPT_INLINE_BYTES_MAX = 16 << 10
"""Results of a task that are larger together are not kept: 4 MiB a worker at most. A miss costs the round trip through
the owner that all such tasks would make otherwise."""


class RecentResults:
    """``kept_max``: how many tasks' results are kept. Used by the thread that runs tasks."""

    __slots__ = ("_made",)

    def __init__(self, kept_max: int) -> None:
        self._made: deque[TaskReply] = deque(maxlen=kept_max)

    def keep(self, reply: TaskReply) -> None:
        """Results of a task, for those that follow it. Cost: 0.2 µs."""
        size = 0
        for value in reply.returns:
            if value.inline is not None:
                size += len(value.inline)
        if size <= KEPT_INLINE_BYTES_MAX:
            self._made.append(reply)

    def resolve(self, spec: TaskSpec) -> bool:
        """Fill the empty slots of a task with what was made here. False when something is missing. Cost: a walk back to
        the task that made it, mostly one step."""
        for slot in spec.slots or ():
            if slot.value is None:
                slot.value = self._find(slot.ref.object_id)
                if slot.value is None:
                    return False
        return True

    def _find(self, key: bytes) -> Value | None:
        task_id = task_of(key)
        for reply in reversed(self._made):
            if reply.task_id == task_id and reply.error is None:
                for index, value in enumerate(reply.returns):
                    if return_id(task_id, index) == key:
                        return None if value.contained else value
        return None


def has_refs(reply: TaskReply) -> bool:
    """Whether references travel in the return values. Then the result must live until the reply is handed over: it is
    what holds them."""
    # No generator: it is asked twice for every task.
    for value in reply.returns:  # noqa: SIM110
        if value.contained:
            return True
    return False


def only_plain_values(spec: TaskSpec) -> bool:
    """Whether user code could have kept nothing of the arguments that an owner must know of: no reference, and no view of
    the arena."""
    if spec.contained or spec.args_value:
        return False
    for slot in spec.slots or ():
        value = slot.value
        if value is None or value.inline is None or value.contained:
            return False
    return True


def needs_seal(spec: TaskSpec, reply: TaskReply) -> bool:
    """Whether the reply must go through the owner machine, which first makes sure that what this process still holds is
    known to its owners; or must not be written before what was handed over earlier: a value that lies in the arena is
    sealed first, so that the raylet knows of it when its owner does, also if this process dies between the two."""
    # No generator: it is asked for every task.
    for value in reply.returns:
        if value.inline is None or value.contained:
            return True
    if spec.stream is None and spec.slots is None and spec.contained is None and spec.args_value is None:
        return False
    return bool(spec.stream) or not only_plain_values(spec)
