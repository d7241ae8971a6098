"""Lease endings: what becomes of the tasks of a lease that has ended, by what the raylet says of its worker.

    the worker lives               to the front of the queue, no retry spent
    ... and the network broke      tried again, if a retry is left: an answer may have been lost
    memory ran short               tried again: the first in flight later, if it may be (``oom_retries``)
    it died, and was cancelled     it ends as cancelled
    the worker died                tried again, if a retry is left; else it fails

Knows nothing of how a lease is won or how a task ends. Of a worker that died, any of its tasks may have begun: replies of
those before it may have waited for others. So each is charged, and ``lease_requester`` sees to it that nobody loses by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raybook.base.specs import ErrorValue
from raybook.core.owner.lease_group import Ended
from raybook.core.owner.lease_requester import LeaseRequester
from raybook.core.owner.oom_retries import OutOfMemoryRetries
from raybook.core.owner.records import TaskRecord
from raybook.core.owner.task_manager import TaskManager, crash_error, cut_off_error
from raybook.protocol.messages.raylet import LeaseLost


class LeaseEndings:
    """requeue: to the front of its queue. end_cancelled, fail: how the owner ends a task."""

    def __init__(
        self,
        leases: LeaseRequester,
        tasks: TaskManager,
        oom_retries: OutOfMemoryRetries,
        requeue: Callable[[TaskRecord], None],
        end_cancelled: Callable[[TaskRecord], None],
        fail: Callable[[TaskRecord, ErrorValue], None],
    ) -> None:
        self._leases = leases
        self._tasks = tasks
        self._oom_retries = oom_retries
        self._requeue = requeue
        self._end_cancelled = end_cancelled
        self._fail = fail

    def lost(self, message: LeaseLost, now_ms: int) -> None:
        """The raylet says that a lease is over."""
        self.end(self._leases.lost(message, now_ms), now_ms)

    def end(self, ended: Iterable[Ended], now_ms: int) -> None:
        """These tasks of ended leases will not be answered."""
        for message, records, was_cut_off in ended:
            for index, record in enumerate(reversed(records)):
                is_first = index == len(records) - 1 and not record.unresolved
                if record.cancelled:
                    self._end_cancelled(record)
                elif not message.died and was_cut_off:
                    if self._tasks.should_retry_crash(record, message):
                        self._requeue(record)
                    else:
                        self._fail(record, cut_off_error(record))
                elif not message.died or (message.out_of_memory and not is_first):
                    self._requeue(record)
                elif message.out_of_memory and not message.code and self._oom_retries.may_retry(record):
                    self._oom_retries.postpone(record, message, now_ms)
                elif self._tasks.should_retry_crash(record, message):
                    self._requeue(record)
                else:
                    self._fail(record, crash_error(record, message))
