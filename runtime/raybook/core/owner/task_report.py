"""Task report: every task and actor call this process submitted, as a row, as far as it is remembered.

Reads the owner machine between two batches; decides nothing. Waiting and running tasks are read from the tables, ended
ones from a bounded record that it keeps. Whether a task that was pushed has begun, only its worker knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from raybook.base.facts import TASK_FAILED, TASK_FINISHED, TASK_PENDING_ARGS, TASK_PENDING_NODE, TASK_SUBMITTED
from raybook.base.specs import ErrorValue
from raybook.core.owner.records import TaskRecord

ERROR_CHARS_MAX = 4_000
ENDED_ROWS_MAX = 10_000
"""Ended tasks that are remembered."""

Row = dict[str, Any]


class EndedTask(msgspec.Struct, gc=False):
    """One finished attempt of one task. ``end_s``: seconds since the epoch. ``state``: of base/facts."""

    name: str
    task_id: bytes
    state: str
    end_s: float
    run_us: int
    pid: int
    attempt: int = 0
    parent: bytes = b""
    actor_id: bytes = b""
    call_site: str = ""
    submitted_s: float = 0.0
    error_code: str = ""
    error_text: str = ""
    function: str = ""

    @classmethod
    def of(
        cls, record: TaskRecord, state: str, end_s: float, run_us: int, pid: int, error: ErrorValue | None
    ) -> EndedTask:
        """What is remembered of a task that is over now."""
        spec = record.spec
        code, text = ("", "") if error is None else (error.code, error.text[:ERROR_CHARS_MAX])
        return cls(
            spec.name, spec.task_id, state, end_s, run_us, pid, spec.attempt, spec.parent, record.actor_id,
            record.call_site, record.submitted_s, code, text, record.stats.function,
        )  # fmt: skip


def rows(owner: Any, ended: Iterable[EndedTask], limit: int) -> tuple[list[Row], int]:
    """At most ``limit`` unfinished and ``limit`` ended tasks, the newest ended ones first, and how many were left out.
    owner: the machine, whose module may import this one. Cost: 2 µs a row."""
    found: list[Row] = []
    unfinished = owner.tasks.tasks
    for record in unfinished.values():
        if len(found) == limit:
            break
        found.append(_unfinished(owner, record))
    past = list(ended)[::-1]
    found += [_ended(task) for task in past[:limit]]
    return found, max(0, len(unfinished) - limit) + max(0, len(past) - limit)


def _unfinished(owner: Any, record: TaskRecord) -> Row:
    spec = record.spec
    state, pid = _state(owner, record)
    return {
        "task_id": spec.task_id.hex(),
        "name": spec.name,
        "function": record.stats.function,
        "state": state,
        "worker_pid": pid,
        "attempt": spec.attempt,
        "parent": spec.parent.hex(),
        "actor_id": record.actor_id.hex(),
        "call_site": record.call_site,
        "created_ms": int(record.submitted_s * 1000),
    }


def _state(owner: Any, record: TaskRecord) -> tuple[str, int]:
    """The state, and the process it was sent to."""
    if record.unresolved:
        return TASK_PENDING_ARGS, 0
    if record.lease is not None:
        return TASK_SUBMITTED, record.lease.worker_pid
    queue = owner.actors.queues.get(record.actor_id) if record.actor_id else None
    if queue is not None and record.spec.task_id in queue.in_flight:
        return TASK_SUBMITTED, queue.pid
    return TASK_PENDING_NODE, 0


def _ended(task: EndedTask) -> Row:
    ended_ms = int(task.end_s * 1000)
    row: Row = {
        "task_id": task.task_id.hex(),
        "name": task.name,
        "function": task.function,
        "state": TASK_FINISHED if task.state == TASK_FINISHED else TASK_FAILED,
        "attempt": task.attempt,
        "parent": task.parent.hex(),
        "actor_id": task.actor_id.hex(),
        "call_site": task.call_site,
        "worker_pid": task.pid,
        "created_ms": int(task.submitted_s * 1000),
        "started_ms": ended_ms - task.run_us // 1000,
        "ended_ms": ended_ms,
        "run_us": task.run_us,
    }
    if task.error_code:
        row["error_type"] = _error_type(task.error_code)
        row["error_message"] = task.error_text
    return row


_ERROR_TYPES = {
    "TaskCancelledError": "TASK_CANCELLED",
    "WorkerCrashedError": "WORKER_DIED",
    "OutOfMemoryError": "OUT_OF_MEMORY",
    "ActorDiedError": "ACTOR_DIED",
    "ActorUnavailableError": "ACTOR_UNAVAILABLE",
    "ActorUnschedulableError": "ACTOR_UNSCHEDULABLE_ERROR",
    "TaskUnschedulableError": "TASK_UNSCHEDULABLE_ERROR",
    "TaskPlacementGroupRemoved": "TASK_PLACEMENT_GROUP_REMOVED",
    "ActorPlacementGroupRemoved": "ACTOR_PLACEMENT_GROUP_REMOVED",
    "RuntimeEnvSetupError": "RUNTIME_ENV_SETUP_FAILED",
    "ObjectLostError": "OBJECT_LOST",
    "OwnerDiedError": "OWNER_DIED",
    "NodeDiedError": "NODE_DIED",
    "LocalRayletDiedError": "LOCAL_RAYLET_DIED",
}
"""Codes of base/errors → the state API's names of error types (Ray's ``ErrorType``)."""


def _error_type(code: str) -> str:
    return _ERROR_TYPES.get(code, "TASK_EXECUTION_EXCEPTION")
