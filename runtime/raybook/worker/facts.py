"""Fact source: what this process tells about its tasks, and only while somebody looks.

The owner machine remembers the last tasks that ended (surveys read that, too); per-function counts are published at
most every ``interval_ms``, and only those that changed. Knows nothing of who looks. Used by the I/O thread only, except
``register``, which rests on an atomic list operation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from raybook.base.facts import Fact
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import FunctionStats
from raybook.core.owner.task_report import EndedTask
from raybook.protocol.messages.raylet import PublishFacts
from raybook.worker.open_tasks import OpenTasks, cell_of

RECENT_ROWS_MAX = 50
"""Single tasks told about in one interval: the newest. Counts cover all."""
HISTORY_ROWS_MAX = 500
"""Finished tasks of before that whoever begins to look is told about."""
OBJECTS_TOLD_MAX = 50
OBJECTS_INTERVAL_MS = 300
FOREVER_MS = 60_000
QUANTILES = (0.5, 0.9, 0.99)
LATENCY_TASKS_MAX = 1_000


class FactSource:
    def __init__(self, owner: Owner, node_id: bytes, observed: bool, interval_ms: int = 250) -> None:
        self._owner = owner
        self._open = OpenTasks(owner)
        self._told = 0
        """How many ended tasks there had been when it was last told of them."""
        self._suffix = "#" + owner.client_id.hex()
        self._node_id = node_id.hex()
        self._stats: dict[str, list[FunctionStats]] = {}
        """Name → all that go by it: the versions of a function whose cell was run again. The first has the counts of those
        that are forgotten."""
        self._observed = observed
        self._interval_ms = interval_ms
        self._due_ms = 0
        self._history: list[EndedTask] = []
        self._was_asked = False
        self.largest_objects: Callable[[int], list[dict[str, Any]]] = lambda count: []
        """Reads the owner's tables; set by the engine, called on the I/O thread."""
        self._objects: dict[str, dict[str, Any]] = {}
        """What was last told of objects."""
        self._objects_due_ms = 0

    def register(self, stats: FunctionStats) -> None:
        """A function that this process submits. Any thread."""
        self._stats.setdefault(stats.name, []).append(stats)

    def retire(self, stats: FunctionStats) -> None:
        """A version is forgotten; its counts stay with the name."""
        versions = self._stats[stats.name]
        if not versions[0].is_retired:
            versions.insert(0, FunctionStats(stats.name))
            versions[0].is_retired = True
        versions.remove(stats)
        versions[0].add(stats)

    def set_observed(self, active: bool) -> None:
        self._observed = active
        if active:
            for versions in list(self._stats.values()):
                versions[0].changed = True
            self._history = list(self._owner.ended)[-HISTORY_ROWS_MAX:]
            self._told = self._owner.ended_count
            self._open.forget()
            self._objects.clear()
            self._objects_due_ms = 0
            self._was_asked = True

    def wait_ms(self, now_ms: int) -> int:
        """How long the I/O thread may sleep without missing a publication."""
        if not self._observed:
            return FOREVER_MS
        is_behind = self._was_asked or self._told != self._owner.ended_count
        return max(0, self._due_ms - now_ms) if self._due_ms > now_ms or is_behind else self._interval_ms

    def is_due(self, now_ms: int) -> bool:
        return self._observed and now_ms >= self._due_ms

    def take(self, now_ms: int) -> list[PublishFacts]:
        """The facts since the last time, as messages to send."""
        self._due_ms = now_ms + self._interval_ms
        self._was_asked = False
        facts = [self._group(versions) for versions in list(self._stats.values()) if any(v.changed for v in versions)]
        ended = [self._row(row) for row in (*self._history, *self._recent())]
        self._history = []
        facts += ended
        facts += self._open.facts(int(self._owner.wall_s * 1_000), [fact.key for fact in ended])
        if now_ms >= self._objects_due_ms:
            self._objects_due_ms = now_ms + OBJECTS_INTERVAL_MS
            facts += self._object_facts()
        return [PublishFacts(facts)] if facts else []

    def _recent(self) -> list[EndedTask]:
        """The newest of those that ended since the last time."""
        count = min(self._owner.ended_count - self._told, RECENT_ROWS_MAX)
        self._told = self._owner.ended_count
        return list(self._owner.ended)[-count:] if count else []

    def _object_facts(self) -> list[Fact]:
        """The largest objects, as far as they are others than at the last look."""
        pid = os.getpid()
        told = {row["object_id"]: {**row, "owner_pid": pid} for row in self.largest_objects(OBJECTS_TOLD_MAX)}
        facts = [Fact("object", key, row) for key, row in told.items() if self._objects.get(key) != row]
        facts += [Fact("object", key, None) for key in self._objects if key not in told]
        self._objects = told
        return facts

    def function_rows(self) -> list[dict[str, Any]]:
        """Counts of every function that this process submits, since it began."""
        return [_counts(versions) for versions in list(self._stats.values())]

    def latency_row(self) -> dict[str, Any]:
        """How long the last ended tasks waited before they ran, as quantiles in seconds. Cost: 0.3 µs a task."""
        waits = sorted(
            max(0.0, task.end_s - task.run_us / 1e6 - task.submitted_s)
            for task in list(self._owner.ended)[-LATENCY_TASKS_MAX:]
            if task.submitted_s and task.pid
        )
        at = {str(share): waits[min(len(waits) - 1, int(share * len(waits)))] for share in QUANTILES} if waits else {}
        return {"latency_s": at, "tasks": len(waits)}

    def _group(self, versions: list[FunctionStats]) -> Fact:
        for stats in versions:
            stats.changed = False
        return Fact("task_group", versions[0].name + self._suffix, _counts(versions))

    def _row(self, task: EndedTask) -> Fact:
        ended_ms = int(task.end_s * 1000)
        key = task.task_id.hex()
        row = {
            "task_id": key,
            "name": task.name,
            "state": task.state,
            "worker_pid": task.pid,
            "node_id": self._node_id,
            "submitted_ms": int(task.submitted_s * 1000),
            "started_ms": ended_ms - task.run_us // 1000,
            "ended_ms": ended_ms,
            "cell": cell_of(task.call_site),
        }
        return Fact("task", key, row)


def _counts(versions: list[FunctionStats]) -> dict[str, Any]:
    finished = sum(stats.finished for stats in versions)
    failed = sum(stats.failed for stats in versions)
    cancelled = sum(stats.cancelled for stats in versions)
    unfinished = sum(stats.submitted for stats in versions) - finished - failed - cancelled
    running = min(sum(stats.in_flight for stats in versions), unfinished)
    return {
        "name": versions[0].name,
        "pending": unfinished - running,
        "running": running,
        "finished": finished,
        "failed": failed,
        "cancelled": cancelled,
        "mean_us": max(0.0, round(versions[-1].average_us, 1)),
    }
