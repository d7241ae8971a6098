"""Fact source: what this process tells about its tasks, and only while somebody looks.

Finished tasks go into a bounded ring at their source (surveys read it); per-function counts are published at most
every ``interval_ms``, and only those that changed. Knows nothing of who looks. Used by the I/O thread only, except
``register``, which rests on an atomic list operation.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from raybook.base.facts import Fact
from raybook.base.specs import ErrorValue
from raybook.core.owner.records import FunctionStats, TaskRecord
from raybook.core.owner.task_report import ERROR_CHARS_MAX, EndedTask
from raybook.protocol.messages.raylet import PublishFacts

RING_ROWS = 10_000
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
    def __init__(self, client_id: bytes, node_id: bytes, observed: bool, interval_ms: int = 250) -> None:
        self.ring: deque[EndedTask] = deque(maxlen=RING_ROWS)
        self._suffix = "#" + client_id.hex()
        self._node_id = node_id.hex()
        self._stats: list[FunctionStats] = []
        self._observed = observed
        self._interval_ms = interval_ms
        self._due_ms = 0
        self._history: list[EndedTask] = []
        self._recent: deque[EndedTask] = deque(maxlen=RECENT_ROWS_MAX)
        self._changed = False
        self.largest_objects: Callable[[int], list[dict[str, Any]]] = lambda count: []
        """Reads the owner's tables; set by the engine, called on the I/O thread."""
        self._objects: dict[str, dict[str, Any]] = {}
        """What was last told of objects."""
        self._objects_due_ms = 0

    def register(self, stats: FunctionStats) -> None:
        """A function that this process submits. Any thread."""
        self._stats.append(stats)

    def set_observed(self, active: bool) -> None:
        self._observed = active
        if active:
            for stats in self._stats:
                stats.changed = True
            self._history = list(self.ring)[-HISTORY_ROWS_MAX:]
            self._objects.clear()
            self._objects_due_ms = 0
            self._changed = True

    def collect(self, finished: list[tuple[TaskRecord, str, int, int, ErrorValue | None]]) -> None:
        """Move finished tasks into the ring. Cost: 0.4 µs a task."""
        end_s = time.time()
        rows = [_ended(record, state, end_s, run_us, pid, error) for record, state, run_us, pid, error in finished]
        finished.clear()
        self.ring.extend(rows)
        if self._observed:
            self._recent.extend(rows[-RECENT_ROWS_MAX:])
            self._changed = True

    def wait_ms(self, now_ms: int) -> int:
        """How long the I/O thread may sleep without missing a publication."""
        if not self._observed:
            return FOREVER_MS
        return max(0, self._due_ms - now_ms) if self._due_ms > now_ms or self._changed else self._interval_ms

    def is_due(self, now_ms: int) -> bool:
        return self._observed and now_ms >= self._due_ms

    def take(self, now_ms: int) -> list[PublishFacts]:
        """The facts since the last time, as messages to send."""
        self._due_ms = now_ms + self._interval_ms
        self._changed = False
        facts = [self._group(stats) for stats in self._stats if stats.changed]
        facts += [self._row(row) for row in (*self._history, *self._recent)]
        self._history = []
        self._recent.clear()
        if now_ms >= self._objects_due_ms:
            self._objects_due_ms = now_ms + OBJECTS_INTERVAL_MS
            facts += self._object_facts()
        return [PublishFacts(facts)] if facts else []

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
        return [_counts(stats) for stats in list(self._stats)]

    def latency_row(self) -> dict[str, Any]:
        """How long the last ended tasks waited before they ran, as quantiles in seconds. Cost: 0.3 µs a task."""
        waits = sorted(
            max(0.0, task.end_s - task.run_us / 1e6 - task.submitted_s)
            for task in list(self.ring)[-LATENCY_TASKS_MAX:]
            if task.submitted_s and task.pid
        )
        at = {str(share): waits[min(len(waits) - 1, int(share * len(waits)))] for share in QUANTILES} if waits else {}
        return {"latency_s": at, "tasks": len(waits)}

    def _group(self, stats: FunctionStats) -> Fact:
        stats.changed = False
        return Fact("task_group", stats.name + self._suffix, _counts(stats))

    def _row(self, task: EndedTask) -> Fact:
        ended_ms = int(task.end_s * 1000)
        key = task.task_id.hex()
        row = {
            "task_id": key,
            "name": task.name,
            "state": task.state,
            "worker_pid": task.pid,
            "node_id": self._node_id,
            "started_ms": ended_ms - task.run_us // 1000,
            "ended_ms": ended_ms,
        }
        return Fact("task", key, row)


def _counts(stats: FunctionStats) -> dict[str, Any]:
    ended = stats.finished + stats.failed + stats.cancelled
    running = min(stats.in_flight, stats.submitted - ended)
    return {
        "name": stats.name,
        "pending": stats.submitted - ended - running,
        "running": running,
        "finished": stats.finished,
        "failed": stats.failed,
        "cancelled": stats.cancelled,
        "mean_us": max(0.0, round(stats.average_us, 1)),
    }


def _ended(record: TaskRecord, state: str, end_s: float, run_us: int, pid: int, error: ErrorValue | None) -> EndedTask:
    spec = record.spec
    return EndedTask(
        spec.name, spec.task_id, state, end_s, run_us, pid, spec.attempt, spec.parent, record.actor_id, record.call_site,
        record.submitted_s,
        "" if error is None else error.code,
        "" if error is None else error.text[:ERROR_CHARS_MAX],
        record.stats.function,
    )  # fmt: skip
