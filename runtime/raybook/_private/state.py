"""``ray._private.state``: the cluster's tables, as code from before ``ray.util.state`` asks for them.

Rows are dicts with the older keys. RuntimeError while nothing is started. Each function is one round trip.
"""

from __future__ import annotations

from typing import Any

from raybook.api import available_resources, cluster_resources, get_runtime_context, list_actors, nodes, timeline
from raybook.api.inventory import job_rows

__all__ = [
    "actors",
    "available_resources",
    "available_resources_per_node",
    "cluster_resources",
    "current_node_id",
    "jobs",
    "node_ids",
    "nodes",
    "timeline",
    "total_resources_per_node",
]


def actors(actor_id: str | None = None) -> dict[str, Any]:
    """Actors by id, dead ones included; the row of one where its id is given ({} when there is none)."""
    rows = {row["actor_id"]: _actor(row) for row in list_actors()}
    return rows if actor_id is None else rows.get(actor_id, {})


def jobs() -> list[dict[str, Any]]:
    """Jobs of drivers, ended ones included."""
    return [
        {
            "JobID": row["job_id"],
            "DriverPid": row["pid"],
            "IsDead": bool(row["ended_ms"]),
            "StartTime": row["started_ms"],
            "EndTime": row["ended_ms"],
            "Entrypoint": row["entrypoint"],
        }
        for row in job_rows()
    ]


def current_node_id() -> str:
    """The resource that this node alone has: ``node:ADDRESS``."""
    own = get_runtime_context().get_node_id()
    return next(f"node:{node['NodeManagerAddress']}" for node in nodes() if node["NodeID"] == own)


def node_ids() -> list[str]:
    """The same of every living node."""
    return [f"node:{node['NodeManagerAddress']}" for node in nodes() if node["Alive"]]


def available_resources_per_node() -> dict[str, dict[str, float]]:
    """What is free on each living node, by its id."""
    return {node["NodeID"]: node["AvailableResources"] for node in nodes() if node["Alive"]}


def total_resources_per_node() -> dict[str, dict[str, float]]:
    """What each living node has, by its id."""
    return {node["NodeID"]: node["Resources"] for node in nodes() if node["Alive"]}


def _actor(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "ActorID": row["actor_id"],
        "ActorClassName": row["class_name"],
        "IsDetached": row["is_detached"],
        "Name": row["name"],
        "JobID": row["job_id"],
        "State": row["state"],
        "Pid": row["pid"],
        "NodeID": row["node_id"],
        "NumRestarts": row["num_restarts"],
        "DeathCause": row["death_cause"],
    }
