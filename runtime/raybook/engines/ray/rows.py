"""Rows: what Ray's GCS remembers of tasks, as raybook's rows. Pure: protocol messages in, dictionaries out.

Ray's words for states are raybook's but for a few steps between, which count as the state that holds them. Times of Ray are
nanoseconds, of facts milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray.core.generated import common_pb2

from raybook.base.facts import (
    TASK_CANCELLED,
    TASK_FAILED,
    TASK_FINISHED,
    TASK_PENDING,
    TASK_PENDING_ARGS,
    TASK_PENDING_NODE,
    TASK_RUNNING,
    TASK_SUBMITTED,
    Fact,
    Row,
)

TASKS_MAX = 200
"""Single tasks that panels are told of: all that run, then the latest. The sums are of all."""
_STATUS = common_pb2.TaskStatus
_STATES = {
    _STATUS.PENDING_ARGS_AVAIL: TASK_PENDING_ARGS,
    _STATUS.PENDING_NODE_ASSIGNMENT: TASK_PENDING_NODE,
    _STATUS.PENDING_OBJ_STORE_MEM_AVAIL: TASK_PENDING_NODE,
    _STATUS.PENDING_ARGS_FETCH: TASK_PENDING_NODE,
    _STATUS.SUBMITTED_TO_WORKER: TASK_SUBMITTED,
    _STATUS.PENDING_ACTOR_TASK_ARGS_FETCH: TASK_SUBMITTED,
    _STATUS.PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY: TASK_SUBMITTED,
    _STATUS.GETTING_AND_PINNING_ARGS: TASK_SUBMITTED,
    _STATUS.RUNNING: TASK_RUNNING,
    _STATUS.RUNNING_IN_RAY_GET: TASK_RUNNING,
    _STATUS.RUNNING_IN_RAY_WAIT: TASK_RUNNING,
    _STATUS.FINISHED: TASK_FINISHED,
    _STATUS.FAILED: TASK_FAILED,
}
_TOLD = (common_pb2.TaskType.NORMAL_TASK, common_pb2.TaskType.ACTOR_TASK)
_ENDED = {TASK_FINISHED: "finished", TASK_FAILED: "failed", TASK_CANCELLED: "cancelled", TASK_RUNNING: "running"}


def task_row(event: Any) -> Row | None:
    """One attempt of a task, as ``api.survey`` has them; None for what is no task of a user's (drivers, the making of
    actors), or of which nothing is known yet."""
    if not event.HasField("task_info") or event.task_info.type not in _TOLD:
        return None
    info, updates = event.task_info, event.state_updates
    # Ray's numbers of states are not in their order: the latest step is the one with the latest time.
    steps = sorted((ns, status) for status, ns in updates.state_ts_ns.items())
    times = {status: ns // 1_000_000 for ns, status in steps}
    state = _STATES.get(steps[-1][1], TASK_PENDING) if steps else TASK_PENDING
    ends = [times[status] for status in (_STATUS.FINISHED, _STATUS.FAILED) if status in times]
    if ends:
        state = TASK_FINISHED if _STATUS.FINISHED in times else TASK_FAILED
    error = updates.error_info if updates.HasField("error_info") else None
    if error is not None and error.error_type == common_pb2.ErrorType.TASK_CANCELLED:
        state = TASK_CANCELLED
    started_ms, ended_ms = times.get(_STATUS.RUNNING, 0), ends[0] if ends else 0
    row: Row = {
        "task_id": event.task_id.hex(),
        "name": info.name or info.func_or_class_name,
        "state": state,
        "attempt": event.attempt_number,
        "parent": info.parent_task_id.hex(),
        "actor_id": info.actor_id.hex() if info.actor_id else "",
        "call_site": info.call_site,
        "worker_pid": updates.worker_pid,
        "node_id": updates.node_id.hex(),
        "worker_id": updates.worker_id.hex(),
        "job_id": info.job_id.hex(),
        "created_ms": steps[0][0] // 1_000_000 if steps else 0,
    }
    if started_ms:
        row["started_ms"] = started_ms
    if ended_ms:
        row |= {"ended_ms": ended_ms, "run_us": 1000 * (ended_ms - started_ms) if started_ms else 0}
    if error is not None:
        row |= {
            "error_type": common_pb2.ErrorType.Name(error.error_type),
            "error_message": error.error_message,
        }
    return row


def task_rows(events: Iterable[Any]) -> list[Row]:
    """The last attempt of every task."""
    latest: dict[str, Row] = {}
    for event in events:
        row = task_row(event)
        if row is not None and latest.get(row["task_id"], row)["attempt"] <= row["attempt"]:
            latest[row["task_id"]] = row
    return list(latest.values())


def task_facts(rows: list[Row]) -> list[Fact]:
    """What panels are told: sums of each name, and single tasks."""
    groups: dict[str, Row] = {}
    ran_us: dict[str, list[int]] = {}
    for row in rows:
        name = row["name"]
        group = groups.setdefault(
            name, {"name": name, "pending": 0, "running": 0, "finished": 0, "failed": 0, "cancelled": 0}
        )
        group[_ENDED.get(row["state"], "pending")] += 1
        if row.get("run_us"):
            ran_us.setdefault(name, []).append(row["run_us"])
    for name, group in groups.items():
        known = ran_us.get(name)
        group["mean_us"] = sum(known) / len(known) if known else 0.0
    single = sorted(rows, key=lambda row: (row["state"] != TASK_RUNNING, -row["created_ms"]))[:TASKS_MAX]
    facts = [Fact("task_group", name, group) for name, group in groups.items()]
    return facts + [Fact("task", row["task_id"], {**row, "error": row.get("error_message", "")}) for row in single]
