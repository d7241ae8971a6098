"""Order: one caller's calls of a sync actor begin in the order in which they were submitted, in each life of the actor.

A call that is tried again after a restart comes first, as it did before. Calls that user code asked to be tried again
because they raised are not of this order.
"""

from __future__ import annotations

from raybook.base.ids import owner_of
from raybook.base.specs import ActorSpec
from raybook.protocol.messages.worker import TaskSpec
from raybook.sim.checkers.violation import Violation


class Order:
    """One per world."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        """Call → its place among the calls of its caller to its actor."""
        self._submitted: dict[tuple[bytes, bytes], int] = {}
        self._begun: dict[tuple[bytes, bytes, bytes], int] = {}

    def submitted(self, caller: bytes, actor_id: bytes, task_id: bytes) -> None:
        """A call was made."""
        number = self._submitted[caller, actor_id] = self._submitted.get((caller, actor_id), 0) + 1
        self._numbers[task_id] = number

    def begins(self, process: object, actor: ActorSpec, spec: TaskSpec) -> None:
        """Its code is about to run in a life of the actor, which is a process."""
        if actor.max_concurrency != 1:
            return
        client_id: bytes = process.client_id  # type: ignore[attr-defined]
        key = (client_id, actor.actor_id, owner_of(spec.task_id))
        number, last = self._numbers[spec.task_id], self._begun.get(key, 0)
        if number <= last:
            text = f"call {number} of {key[2]!r} to actor {actor.actor_id.hex()} begins after call {last}"
            raise Violation("order", text, spec.task_id, actor.actor_id)
        self._begun[key] = number
