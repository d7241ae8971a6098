"""Retries after want of memory: tasks whose worker was ended because memory ran short wait before they are tried again.

The pause doubles with each time, so that others finish meanwhile. Such a try spends none of the task's ``max_retries``;
how many there are is a number of their own. A task that ends meanwhile (it was cancelled) is dropped when its turn comes.
Source: Ray's task_oom_retries and its exponential back-off.
"""

from __future__ import annotations

import heapq
from typing import Any

from raybook.base.config import Config
from raybook.core.owner.records import LogLine, TaskRecord
from raybook.protocol.messages.raylet import LeaseLost

DELAY_MS_MAX = 60_000


class OutOfMemoryRetries:
    """tasks: unfinished ones by id, which say whether one that waits here still counts. effects: what people read."""

    def __init__(self, config: Config, tasks: dict[bytes, TaskRecord], effects: list[Any]) -> None:
        self._retries_max = config.task_oom_retries
        self._delay_ms = config.task_oom_retry_delay_ms
        self._tasks = tasks
        self._effects = effects
        self._waiting: list[tuple[int, int, TaskRecord]] = []
        self._last = 0

    def may_retry(self, record: TaskRecord) -> bool:
        """Whether one more try is left. A task with ``max_retries=0`` must not run twice, for whatever reason."""
        what = record.scheduling_class
        if what is not None and not what.is_retriable:
            return False
        return self._retries_max < 0 or record.oom_tries < self._retries_max

    def postpone(self, record: TaskRecord, lost: LeaseLost, now_ms: int) -> None:
        """Let it wait; it comes back by ``due``."""
        delay_ms = min(self._delay_ms << min(record.oom_tries, 16), DELAY_MS_MAX)
        record.oom_tries += 1
        record.spec.attempt += 1
        self._last += 1
        heapq.heappush(self._waiting, (now_ms + delay_ms, self._last, record))
        tries = record.oom_tries
        if tries & (tries - 1) == 0:
            # The first time, then less and less often: it may go on for long.
            text = f"`{record.spec.name}` is tried again in {delay_ms / 1000:g} s (time {tries}): {lost.reason}"
            self._effects.append(LogLine(text))

    def due(self, now_ms: int) -> list[TaskRecord]:
        """Those whose pause is over."""
        found = []
        while self._waiting and self._waiting[0][0] <= now_ms:
            record = heapq.heappop(self._waiting)[2]
            if self._tasks.get(record.spec.task_id) is record:
                found.append(record)
        return found

    def next_deadline_ms(self) -> int | None:
        return self._waiting[0][0] if self._waiting else None

    def is_waiting(self, record: TaskRecord) -> bool:
        """Whether it waits here. Cost: linear in those that do."""
        return any(waiting is record for _, _, waiting in self._waiting)
