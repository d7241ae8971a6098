"""Losses: what becomes of tasks whose lease, worker or actor is gone, or that nobody can ever run.

Decides between again and failed; how a task fails or queues anew is the owner machine's. Knows nothing of replies.
Invariant: each task that is lost is handed on exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.specs import ErrorValue
from raybook.core.owner.actor_calls import ActorCalls
from raybook.core.owner.lease_requester import LeaseRequester
from raybook.core.owner.records import LogLine, TaskRecord
from raybook.core.owner.task_manager import TaskManager, cancelled_error, crash_error
from raybook.protocol.messages.raylet import ActorUpdate, DemandInfeasible, DemandRefused, LeaseLost
from raybook.protocol.messages.worker import TasksBounced


class Losses:
    """One per owner machine. fail(record, state, error): a task is over. requeue(record): to the front of its queue."""

    def __init__(
        self,
        tasks: TaskManager,
        leases: LeaseRequester,
        actors: ActorCalls,
        effects: list[Any],
        fail: Callable[[TaskRecord, str, ErrorValue], None],
        requeue: Callable[[TaskRecord], None],
    ) -> None:
        self._tasks = tasks
        self._leases = leases
        self._actors = actors
        self._effects = effects
        self._fail = fail
        self._requeue = requeue

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
                    self.end_cancelled(record)
                else:
                    self._requeue(record)
        self._leases.steal_answered(client_id)

    def end_cancelled(self, record: TaskRecord) -> None:
        """A cancelled task will not run, or not again."""
        self._fail(record, "CANCELLED", cancelled_error(record))

    def end_leases(self, ended: list[tuple[LeaseLost, list[TaskRecord]]]) -> None:
        """These tasks of ended leases will not be answered."""
        for message, records in ended:
            for index, record in enumerate(reversed(records)):
                started = message.died and index == len(records) - 1 and not record.unresolved
                if not started:
                    self._requeue(record)
                elif record.cancelled:
                    self.end_cancelled(record)
                elif self._tasks.should_retry_crash(record, message):
                    self._requeue(record)
                else:
                    self._fail(record, "FAILED", crash_error(record, message))

    def on_infeasible(self, message: DemandInfeasible) -> None:
        """No node can ever run a class: its tasks wait for one that can."""
        self._leases.infeasible(message.class_key, message.text)
        self._effects.append(LogLine(message.text))

    def on_refused(self, message: DemandRefused) -> None:
        """A class will never run."""
        for record in self._leases.refused(message.class_key):
            self._fail(record, "FAILED", ErrorValue(message.code, message.text))

    def on_actor_update(self, update: ActorUpdate) -> None:
        """An actor's state changed: some calls may fail by it."""
        for record, error in self._actors.on_update(update):
            if record.cancelled:
                self.end_cancelled(record)
            else:
                self._fail(record, "FAILED", error)
