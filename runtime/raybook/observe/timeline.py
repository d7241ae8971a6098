"""Timeline: task facts as a Chrome trace, one lane for each worker. Open it in Perfetto or chrome://tracing.

Pure; knows nothing of files. Source: the Trace Event Format (complete events, "ph": "X", times in microseconds).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.base.facts import TASK_CANCELLED, TASK_FAILED, TASK_FINISHED, TASK_RUNNING, Row

_COLOURS = {
    TASK_RUNNING: "thread_state_running",
    TASK_FINISHED: "good",
    TASK_FAILED: "terrible",
    TASK_CANCELLED: "bad",
}
"""Names that the trace viewers know; they choose the colour."""


def chrome_trace(tables: Mapping[str, Mapping[str, Row]], now_ms: float) -> list[dict[str, Any]]:
    """Trace events of every task that started; one that still runs reaches until ``now_ms``. Cost: O(tasks)."""
    events: list[dict[str, Any]] = []
    lanes: set[tuple[str, int]] = set()
    for key, row in (tables.get("task") or {}).items():
        started_ms = row.get("started_ms") or 0
        if not started_ms:
            continue
        ended_ms = row.get("ended_ms") or now_ms
        node, pid = str(row.get("node_id") or "node"), int(row.get("worker_pid") or 0)
        lanes.add((node, pid))
        state = str(row.get("state") or "")
        events.append(
            {
                "ph": "X",
                "cat": "task",
                "name": str(row.get("name") or key),
                "pid": node,
                "tid": pid,
                "ts": started_ms * 1_000,
                "dur": max(0.0, (ended_ms - started_ms) * 1_000),
                "cname": _COLOURS.get(state, "generic_work"),
                "args": {"task_id": str(row.get("task_id") or key), "state": state, "error": row.get("error") or ""},
            }
        )
    events.sort(key=lambda event: (event["ts"], event["args"]["task_id"]))
    names = [
        {"ph": "M", "name": "thread_name", "pid": node, "tid": pid, "args": {"name": f"worker {pid}"}}
        for node, pid in sorted(lanes)
    ]
    return names + events
