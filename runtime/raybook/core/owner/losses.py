"""Losses: what becomes of tasks that came back unstarted, whose actor is gone, or that nobody can ever run.

Decides between again and failed; how a task fails or queues anew is the owner machine's. Knows nothing of replies, nor of
leases that end (``lease_endings``). Invariant: each task that is lost is handed on exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.specs import ErrorValue
from raybook.core.owner.actor_calls import ActorCalls
from raybook.core.owner.lease_requester import LeaseRequester
from raybook.core.owner.records import LogLine, TaskRecord
from raybook.core.owner.task_manager import TaskManager
from raybook.protocol.messages.raylet import ActorUpdate, DemandInfeasible, DemandRefused
from raybook.protocol.messages.worker import TasksBounced


class Losses:
    """One per owner machine. requeue: to the front of its queue. end_cancelled, fail: how the owner ends a task."""

    def __init__(
        self,
        tasks: TaskManager,
        leases: LeaseRequester,
        actors: ActorCalls,
        effects: list[Any],
        requeue: Callable[[TaskRecord], None],
        end_cancelled: Callable[[TaskRecord], None],
        fail: Callable[[TaskRecord, ErrorValue], None],
    ) -> None:
        self._tasks = tasks
        self._leases = leases
        self._actors = actors
        self._effects = effects
        self._fail = fail
        self._requeue = requeue
        self._end_cancelled = end_cancelled

    def on_bounced(self, client_id: bytes, message: TasksBounced) -> None:
        """A worker or actor gave these back unstarted."""
        blocked = message.reason in ("blocked", "revoked")  # The raylet's word on a revoked lease is on its way.
        for task_id in message.task_ids:
            record = self._tasks.tasks.get(task_id)
            if record is None:
                continue
            if record.actor_id:
                self._actors.queue(record.actor_id).bounced(record)
            else:
                self._leases.bounced(record, blocked)
                if record.cancelled:
                    self._end_cancelled(record)
                else:
                    self._requeue(record)
        self._leases.steal_answered(client_id)

    def on_infeasible(self, message: DemandInfeasible) -> None:
        """No node can ever run a class: its tasks wait for one that can."""
        self._leases.infeasible(message.class_key, message.text)
        self._effects.append(LogLine(message.text))

    def on_refused(self, message: DemandRefused) -> None:
        """A class will never run."""
        for record in self._leases.refused(message.class_key):
            self._fail(record, ErrorValue(message.code, message.text))

    def on_actor_update(self, update: ActorUpdate) -> None:
        """An actor's state changed: some calls may fail by it."""
        for record, error in self._actors.on_update(update):
            if record.cancelled:
                self._end_cancelled(record)
            else:
                self._fail(record, error)
