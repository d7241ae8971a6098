"""Pending calls: how many calls of this process an actor with ``max_pending_calls`` has not answered yet.

Counted without the owner machine's thread: what was submitted is counted here, what is over by the actor's queue.
"""

from __future__ import annotations

from raybook.base.errors import PendingCallsLimitExceeded
from raybook.core.owner.actor_queue import ActorQueue
from raybook.engines.engine import ActorHandleState


class PendingCalls:
    def __init__(self, queues: dict[bytes, ActorQueue]) -> None:
        self._queues = queues
        self._submitted: dict[bytes, int] = {}
        """By actor id, for actors with a limit alone."""

    def begin(self, actor_id: bytes) -> None:
        """A handle arrived. An actor that this process had let go of is counted anew, as its queue is."""
        if actor_id not in self._queues:
            self._submitted.pop(actor_id, None)

    def admit(self, actor: ActorHandleState, method: str) -> None:
        """Count one more call. PendingCallsLimitExceeded when there are too many."""
        queue = self._queues.get(actor.actor_id)
        submitted = self._submitted.get(actor.actor_id, 0)
        pending = submitted - (queue.ended if queue is not None else 0)
        if pending >= actor.max_pending_calls:
            raise PendingCallsLimitExceeded(
                f"The task {method} could not be submitted to Actor({actor.class_name}, {actor.actor_id.hex()}) because "
                f"{pending} calls are queued on the actor and its max_pending_calls is {actor.max_pending_calls}. Wait "
                "for results first, or raise the limit with the `max_pending_calls` actor option."
            )
        self._submitted[actor.actor_id] = submitted + 1
