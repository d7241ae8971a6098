"""Task manager: all unfinished tasks of this owner, and what becomes of one when an attempt ends.

Decides between done, retry and failed; knows nothing of leases, actors' streams or sockets.

    event \\ cause          retries left        none left, or not asked for
    reply, no error        finished            finished
    reply, user error      retry if the worker marked it retryable   failed with that error
    worker died            retry               failed: WorkerCrashedError
    worker ended for want of memory: see oom_retries     failed: OutOfMemoryError
    cut off, alive         retry               failed: WorkerCrashedError
    lease ended otherwise  requeued, no retry spent
    cancelled              never retried       TaskCancelledError

Invariant: a task id is here from submission until its returns have values.
"""

from __future__ import annotations

from raybook.base.specs import ErrorValue
from raybook.core.owner.records import TaskRecord
from raybook.protocol.messages.raylet import LeaseLost
from raybook.protocol.messages.worker import TaskReply

RETRYABLE = "retryable:"
"""Prefix of the code of a user error that the worker found worth a retry (``retry_exceptions``)."""


class TaskManager:
    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: dict[bytes, TaskRecord] = {}

    def add(self, record: TaskRecord) -> None:
        self.tasks[record.spec.task_id] = record

    def match(self, reply: TaskReply) -> TaskRecord | None:
        """The task a reply belongs to, or None for a late reply of an earlier attempt or of a task that is gone."""
        record = self.tasks.get(reply.task_id)
        if record is None or record.spec.attempt != reply.attempt:
            return None
        return record

    def should_retry_error(self, record: TaskRecord, error: ErrorValue) -> bool:
        """Whether user code that raised is tried again. Spends one retry."""
        if record.cancelled or not record.retries_left or not error.code.startswith(RETRYABLE):
            return False
        return self.spend(record)

    def should_retry_crash(self, record: TaskRecord, lost: LeaseLost) -> bool:
        """Whether a task whose worker died under it is tried again. Spends one retry, also of a task that may not have
        begun: that is not known, and after that it goes alone (``lease_requester``). A worker that was ended for want of
        memory is not this table's (see ``oom_retries``)."""
        if record.cancelled or not record.retries_left or lost.out_of_memory or lost.code:
            return False
        return self.spend(record)

    @staticmethod
    def spend(record: TaskRecord) -> bool:
        """One more attempt; False when no retry is left."""
        if not record.retries_left:
            return False
        if record.retries_left > 0:
            record.retries_left -= 1
        record.spec.attempt += 1
        return True

    def remove(self, record: TaskRecord) -> None:
        self.tasks.pop(record.spec.task_id, None)


def crash_error(record: TaskRecord, lost: LeaseLost) -> ErrorValue:
    """The worker died and no retry is left."""
    tried = _tried(record)
    what = f"while executing task `{record.spec.name}` ({record.spec.task_id.hex()})"
    if lost.out_of_memory:
        text = f"The worker was ended {what}: {lost.reason} {tried}."
        return ErrorValue(lost.code or "OutOfMemoryError", text)
    return ErrorValue(
        lost.code or "WorkerCrashedError",
        f"The worker died unexpectedly {what}: "
        f"{lost.reason} {tried}. Look at the worker's last lines above, or raise max_retries if the cause is passing.",
    )


def cut_off_error(record: TaskRecord) -> ErrorValue:
    """The worker lives, the connection to it broke, and no retry is left."""
    return ErrorValue(
        "WorkerCrashedError",
        f"The connection to the worker of task `{record.spec.name}` ({record.spec.task_id.hex()}) broke before its result "
        f"came. It may have run, and its result is lost. {_tried(record)}. Raise max_retries if it may run twice.",
    )


def _tried(record: TaskRecord) -> str:
    attempts = record.spec.attempt + 1
    if attempts > 1:
        return f"It was tried {attempts} times"
    return "It was not retried" + " (max_retries=0)" * (not record.retries_left)


def cancelled_error(record: TaskRecord) -> ErrorValue:
    """The task was cancelled before or while it ran."""
    return ErrorValue("TaskCancelledError", f"Task: TaskID({record.spec.task_id.hex()}) was cancelled.")
