"""State: what the cluster has, asked of the GCS and shown in user numbers. One round trip each."""

from __future__ import annotations

from typing import Any

from raybook.api.context import started_engine
from raybook.base.resources import to_user
from raybook.protocol.messages.gcs import ActorInfo, ListActors, ListNodes, NodeInfo


def nodes() -> list[dict[str, Any]]:
    """One dict a node, dead ones included, with Ray's keys. RuntimeError when nothing was started."""
    return [_node_row(node) for node in _node_infos()]


def cluster_resources() -> dict[str, float]:
    """What the living nodes have together: ``{"CPU": 8.0, "memory": ...}``."""
    return _total([node.resources_total for node in _node_infos() if node.alive])


def available_resources() -> dict[str, float]:
    """What of it is free now; a resource that is used up is left out (as in Ray). At most one report period old."""
    return _total([node.resources_available for node in _node_infos() if node.alive])


def list_actors() -> list[dict[str, Any]]:
    """One dict an actor of the cluster's actor table, dead ones included as long as they are remembered."""
    infos: list[ActorInfo] = started_engine().gcs_call("ListActors", ListActors()).actors
    return [
        {
            "actor_id": info.actor_id.hex(),
            "class_name": info.class_name,
            "state": info.state,
            "name": info.name,
            "ray_namespace": info.namespace,
            "job_id": info.job_id.hex(),
            "node_id": info.node_id.hex(),
            "pid": info.pid,
            "num_restarts": info.incarnation,
            "is_detached": info.detached,
            "required_resources": to_user(info.resources),
            "death_cause": info.death,
            "waiting_for": info.waiting,
        }
        for info in infos
    ]


def _node_infos() -> list[NodeInfo]:
    return started_engine().gcs_call("ListNodes", ListNodes()).nodes


def _node_row(node: NodeInfo) -> dict[str, Any]:
    return {
        "NodeID": node.node_id.hex(),
        "Alive": node.alive,
        "alive": node.alive,
        "NodeManagerAddress": node.ip,
        "NodeManagerHostname": node.hostname,
        "NodeName": node.ip,
        "NodeManagerPort": _port(node.raylet_address),
        "ObjectManagerPort": _port(node.raylet_address),
        "ObjectStoreSocketName": node.socket_address,
        "RayletSocketName": node.socket_address,
        "RayletAddress": node.raylet_address,
        "RayletPid": node.pid,
        "IsHeadNode": node.is_head,
        "DeathReason": 0,
        "DeathReasonMessage": node.death_reason,
        "DrainReason": node.draining if node.alive else "",
        "MetricsExportPort": 0,
        "MetricsAgentPort": 0,
        "DashboardAgentListenPort": 0,
        "RuntimeEnvAgentPort": 0,
        "Resources": to_user(node.resources_total) if node.alive else {},
        "AvailableResources": to_user(node.resources_available) if node.alive else {},
        "Labels": dict(node.labels),
    }


def _port(address: str) -> int:
    """Of ``HOST:PORT``; 0 for a raylet that serves this machine alone."""
    port = address.rpartition(":")[2]
    return int(port) if port.isdigit() else 0


def _total(shapes: list[dict[str, int]]) -> dict[str, float]:
    total: dict[str, int] = {}
    for shape in shapes:
        for name, amount in shape.items():
            total[name] = total.get(name, 0) + amount
    return to_user({name: amount for name, amount in sorted(total.items()) if amount})
