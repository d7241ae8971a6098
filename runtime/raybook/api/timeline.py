"""Timeline: tasks as a Chrome trace, one lane a worker process. Open it in https://ui.perfetto.dev or chrome://tracing.

Source: the Trace Event Format (complete events, "ph": "X", times in microseconds).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from raybook.api.survey import surveyed_tasks


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """The tasks of every living owner that run or are remembered, as trace events; into ``filename`` if given.
    RuntimeError when nothing was started. Cost: one survey (``api.survey``)."""
    events = timeline_events(surveyed_tasks().rows, time.time() * 1_000)
    if filename is None:
        return events
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None


def timeline_events(tasks: Iterable[dict[str, Any]], now_ms: float) -> list[dict[str, Any]]:
    """One event a task that has run or runs; one that runs reaches until ``now_ms``. Pure; O(n log n)."""
    spans = [_span(row, now_ms) for row in tasks if row.get("started_ms")]
    spans.sort(key=lambda event: (event["ts"], event["args"]["task_id"]))
    lanes = dict.fromkeys((event["pid"], event["tid"]) for event in spans)
    names = [
        {"ph": "M", "name": "thread_name", "pid": node, "tid": lane, "args": {"name": lane}} for node, lane in lanes
    ]
    return names + spans


def _span(row: dict[str, Any], now_ms: float) -> dict[str, Any]:
    ended_us = row["ended_ms"] * 1_000 if row.get("ended_ms") else now_ms * 1_000
    run_us = row["run_us"] if row.get("ended_ms") else ended_us - row["started_ms"] * 1_000
    return {
        "ph": "X",
        "cat": "task",
        "name": row["name"],
        "pid": row.get("node_id") or row["owner_node_id"],
        "tid": f"worker {row.get('worker_pid') or 0}",
        "ts": ended_us - run_us,
        "dur": run_us,
        "args": {
            "task_id": row["task_id"],
            "state": row["state"],
            "owner_pid": row["owner_pid"],
            "error_type": row.get("error_type", ""),
        },
    }
