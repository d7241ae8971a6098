"""Rows: what a cluster has, as plain dicts for tables and JSON. Pure: answers and facts in, rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from raybook.base.facts import TASK_FAILED, TASK_FINISHED, TASK_RUNNING, Row
from raybook.base.resources import NODE_RESOURCE, to_user
from raybook.protocol.messages.gcs import ActorInfo, JobInfo, NodeInfo, PlacementGroupInfo, WorkerRow

STATES = ("pending", "running", "finished", "failed", "cancelled")
_COLUMNS = {
    (TASK_RUNNING, ""): "running",
    (TASK_FINISHED, ""): "finished",
    (TASK_FAILED, ""): "failed",
    (TASK_FAILED, "TASK_CANCELLED"): "cancelled",
}
"""(state, error type) → column; every other state is one of waiting."""


def node_rows(nodes: Iterable[NodeInfo]) -> list[Row]:
    """Nodes with what of each resource is in use and how much there is."""
    return [
        {
            "node_id": node.node_id.hex(),
            "state": "ALIVE" if node.alive else "DEAD",
            "is_head": node.is_head,
            "hostname": node.hostname,
            "ip": node.ip,
            "pid": node.pid,
            "resources": used_of_total(node) if node.alive else {},
            "death": node.death_reason,
            "draining": node.draining if node.alive else "",
        }
        for node in nodes
    ]


def used_of_total(node: NodeInfo) -> dict[str, list[float]]:
    """Resource → [used, total], in user numbers."""
    total, free = to_user(node.resources_total), to_user(node.resources_available)
    return {
        name: [round(total[name] - free.get(name, 0), 4), total[name]]
        for name in sorted(total)
        if not name.startswith(NODE_RESOURCE)
    }


def group_rows(groups: Iterable[PlacementGroupInfo]) -> list[Row]:
    return [
        {
            "placement_group_id": group.spec.group_id.hex(),
            "name": group.spec.name,
            "state": group.state,
            "strategy": group.spec.strategy,
            "bundles": [to_user(bundle.shape) for bundle in group.spec.bundles],
            "nodes": [node.hex() for node in group.nodes],
            "why": group.waiting or group.death,
        }
        for group in groups
    ]


def actor_rows(actors: Iterable[ActorInfo]) -> list[Row]:
    return [
        {
            "actor_id": actor.actor_id.hex(),
            "class_name": actor.class_name,
            "state": actor.state,
            "name": actor.name,
            "pid": actor.pid,
            "node_id": actor.node_id.hex(),
            "job_id": actor.job_id.hex(),
            "restarts": actor.incarnation,
            "resources": to_user(actor.resources),
            "why": actor.waiting or actor.death,
        }
        for actor in actors
    ]


def job_rows(jobs: Iterable[JobInfo]) -> list[Row]:
    return [
        {
            "job_id": job.job_id.hex(),
            "state": "FINISHED" if job.ended_ms else "RUNNING",
            "pid": job.pid,
            "entrypoint": job.entrypoint,
            "namespace": job.namespace,
            "node_id": job.node_id.hex(),
            "started_ms": job.started_ms,
            "ended_ms": job.ended_ms or None,
            "why": job.reason,
        }
        for job in jobs
    ]


def worker_rows(workers: Iterable[WorkerRow]) -> list[Row]:
    return [
        {
            "worker_id": worker.worker_id.hex(),
            "pid": worker.pid,
            "state": worker.state,
            "node_id": worker.node_id.hex(),
            "resources": to_user(worker.assigned),
            "actor_id": worker.actor_id.hex(),
        }
        for worker in workers
    ]


def task_rows(tasks: Iterable[Row]) -> list[Row]:
    """Single tasks as their owners told of them (``api.survey``): what waits and runs, then the latest ended first."""
    rows = [
        {
            "task_id": row["task_id"],
            "name": row["name"],
            "state": row["state"],
            "attempt": row["attempt"],
            "worker_pid": row.get("worker_pid") or None,
            "owner_pid": row["owner_pid"],
            "actor_id": row["actor_id"],
            "job_id": row["job_id"],
            "started_ms": row.get("started_ms"),
            "ended_ms": row.get("ended_ms"),
            "error_type": row.get("error_type", ""),
            "error": row.get("error_message", ""),
        }
        for row in tasks
    ]
    return sorted(rows, key=lambda row: (-(row["ended_ms"] or 2**62), row["task_id"]))


def object_rows(objects: Iterable[Row]) -> list[Row]:
    """Objects, a row for each process that refers to one, the largest first."""
    rows = [
        {
            "object_id": row["object_id"],
            "size_bytes": row["size_bytes"],
            "kind": row["kind"],
            "owner_pid": row["owner_pid"],
            "references": row["references"],
            "views": row["views"],
            "arguments": row["arguments"],
            "contained_in": row["contained_in"],
            "task": row["task"],
            "call_site": row["call_site"],
            "path": row["path"],
        }
        for row in objects
    ]
    return sorted(rows, key=lambda row: (-row["size_bytes"], row["object_id"]))


def task_summary(tasks: Iterable[Row]) -> list[Row]:
    """Tasks and calls of each function by state, of all owners together; the busiest first."""
    summary: dict[str, Row] = {}
    for row in tasks:
        entry = summary.setdefault(row["name"], {"name": row["name"], **dict.fromkeys(STATES, 0)})
        entry[_COLUMNS.get((row["state"], row.get("error_type", "")), _COLUMNS.get((row["state"], ""), "pending"))] += 1
    return sorted(summary.values(), key=lambda entry: (-sum(entry[state] for state in STATES), entry["name"]))


def actor_summary(actors: Iterable[ActorInfo]) -> list[Row]:
    """Actors of each class by state."""
    summary: dict[str, Row] = {}
    for actor in actors:
        entry = summary.setdefault(actor.class_name, {"class_name": actor.class_name})
        entry[actor.state] = entry.get(actor.state, 0) + 1
    states = sorted({state for entry in summary.values() for state in entry if state != "class_name"})
    empty: dict[str, Any] = dict.fromkeys(states, 0)
    return [{"class_name": name, **empty, **entry} for name, entry in sorted(summary.items())]


def environment_rows(facts: Mapping[str, Row]) -> list[Row]:
    """Runtime environments, one row for each node that made it or could not."""
    return [
        {
            "environment": key.rpartition("-")[2],
            "success": row["success"],
            "took_ms": row["creation_time_ms"],
            "node_id": row["node_id"],
            "runtime_env": row["runtime_env"],
            "error": row["error"],
        }
        for key, row in sorted(facts.items())
    ]


def event_rows(facts: Mapping[str, Row]) -> list[Row]:
    """What nodes told of, the latest first."""
    latest_first = sorted(facts.values(), key=lambda row: -row["time_ms"])
    return [
        {
            "event_id": row["event_id"],
            "severity": row["severity"],
            "source": row["source_type"],
            "time_ms": row["time_ms"],
            "message": row["message"],
        }
        for row in latest_first
    ]


def store_rows(facts: Mapping[str, Row]) -> list[Row]:
    """How full each node's object store is."""
    return [
        {
            "node_id": key,
            "objects": row.get("objects", 0),
            "used_bytes": row.get("used_bytes", 0),
            "capacity_bytes": row.get("capacity_bytes", 0),
        }
        for key, row in sorted(facts.items())
    ]


def chosen(rows: list[Row], filters: Iterable[str], limit: int) -> list[Row]:
    """The first ``limit`` rows that pass all filters, ``field=value`` or ``field!=value``. ValueError for others."""
    for text in filters:
        name, found, value = text.partition("=")
        is_equal = not name.endswith("!")
        name = name.removesuffix("!")
        if not found or (rows and name not in rows[0]):
            known = f" Fields are {', '.join(rows[0])}." if rows else ""
            raise ValueError(f"{text!r} is no filter: write field=value or field!=value.{known}")
        rows = [row for row in rows if (str(row[name]).lower() == value.lower()) is is_equal]
    return rows[:limit]
