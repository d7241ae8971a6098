"""Open tasks: which tasks that are not over panels are told of, each by a row that is sure to be replaced.

Short tasks are not told of before they end: a row is told of a task that was there at the look before, too, and only of the
oldest ``ROWS_MAX``, which are those that run or will next. Invariant: every row that was told is told again when its task is
over: as ended, or as gone where too many end to be told of. Used by the I/O thread only, while somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from raybook.base.facts import TASK_PENDING, TASK_RUNNING, Fact
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import TaskRecord

ROWS_MAX = 200


class OpenTasks:
    """One per process."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._seen: frozenset[bytes] = frozenset()
        self._told: dict[bytes, dict[str, Any]] = {}

    def forget(self) -> None:
        """Somebody new looks, who knows nothing."""
        self._told.clear()

    def facts(self, now_ms: int, ended: Iterable[str]) -> list[Fact]:
        """What is different since the last look. now_ms: since the epoch. ended: hex ids that are told of as ended just now.
        Cost: 1 µs for each of at most ``ROWS_MAX`` tasks."""
        tasks = self._owner.tasks.tasks
        first = dict(islice(tasks.items(), ROWS_MAX))
        facts = []
        for task_id, record in first.items():
            if task_id in self._seen:
                row = self._row(record, now_ms)
                if self._told.get(task_id) != row:
                    self._told[task_id] = row
                    facts.append(Fact("task", row["task_id"], row))
        self._seen = frozenset(first)
        over = [task_id for task_id in self._told if task_id not in tasks]
        if over:
            known = frozenset(ended)
            for task_id in over:
                del self._told[task_id]
                if task_id.hex() not in known:
                    facts.append(Fact("task", task_id.hex(), None))
        return facts

    def _row(self, record: TaskRecord, now_ms: int) -> dict[str, Any]:
        spec = record.spec
        before = self._told.get(spec.task_id, {})
        pid = self._worker_pid(record)
        row = {
            "task_id": spec.task_id.hex(),
            "name": spec.name,
            "state": TASK_RUNNING if pid else TASK_PENDING,
            "worker_pid": pid,
            "submitted_ms": int(record.submitted_s * 1_000),
            "cell": cell_of(record.call_site),
        }
        if pid:
            # Only its worker knows when it began; it ends with the true time.
            row["started_ms"] = before.get("started_ms") or now_ms
        return row

    def _worker_pid(self, record: TaskRecord) -> int:
        """Where it was sent; 0 while it waits."""
        if record.lease is not None:
            return record.lease.worker_pid
        queue = self._owner.actors.queues.get(record.actor_id) if record.actor_id else None
        return queue.pid if queue is not None and record.spec.task_id in queue.in_flight else 0


def cell_of(call_site: str) -> str:
    """``In[3]`` of "(task call) In[3]:2"; "" for a line that is in no cell."""
    place = call_site.rpartition(" ")[2].partition(":")[0]
    return place if place.startswith("In[") else ""
