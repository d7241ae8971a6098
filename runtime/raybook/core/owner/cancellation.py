"""Cancellation: where a task that is to be cancelled is, and who must hear of it.

    waits or queues here     it ends now, and never runs
    sent to a process        that process is told; it answers with the end of the task, whichever that was
    has ended                an error that nobody has looked at is not told of: nobody wants news of it any more

Knows nothing of what the process does with it. Invariant: a task is cancelled once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.specs import Endpoint
from raybook.core.owner.actor_calls import ActorCalls
from raybook.core.owner.lease_requester import LeaseRequester
from raybook.core.owner.records import CancelCommand, TaskRecord, ToPeer
from raybook.core.owner.task_manager import TaskManager
from raybook.protocol.messages.worker import CancelTask


class Cancellation:
    """One per owner machine. ``effects``: where messages to send are put. ``end``: ends a task as cancelled."""

    def __init__(
        self,
        tasks: TaskManager,
        leases: LeaseRequester,
        actors: ActorCalls,
        effects: list[Any],
        end: Callable[[TaskRecord], None],
    ) -> None:
        self._tasks = tasks
        self._leases = leases
        self._actors = actors
        self._effects = effects
        self._end = end
        self.on_ended: Callable[[bytes], None] = lambda task_id: None
        """Told of a task that had ended when it was cancelled."""

    def on_cancel(self, command: CancelCommand) -> None:
        """The user wants an end of it. Nothing happens to what has ended, or is being cancelled."""
        record = self._tasks.tasks.get(command.task_id)
        if record is None:
            self.on_ended(command.task_id)
            return
        if record.cancelled:
            return
        record.cancelled = True
        if record.lease is not None or (record.actor_id and not self._actors.queue(record.actor_id).withdraw(record)):
            place = self.place_of(record)
            if place is not None:
                message = CancelTask(command.task_id, command.force and not record.actor_id, command.recursive)
                self._effects.append(ToPeer(place.client_id, place.address, message))
            return
        if not record.actor_id:
            self._leases.withdraw(record)
        self._end(record)

    def place_of(self, record: TaskRecord) -> Endpoint | None:
        """The process a task or call was sent to; None when it was sent to none, or that has gone."""
        if record.lease is not None:
            return record.lease.worker
        queue = self._actors.queues.get(record.actor_id)
        return queue.endpoint if queue is not None else None
