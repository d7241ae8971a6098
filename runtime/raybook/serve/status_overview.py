"""Status overview: what ``serve.status()`` returns. Source: Ray's status classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raybook.serve.core.statuses import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
)


@dataclass(frozen=True)
class DeploymentStatusOverview:
    """Of one deployment. replica_states: how many replicas are in each state."""

    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    replica_states: dict[ReplicaState, int]
    message: str


@dataclass(frozen=True)
class ApplicationStatusOverview:
    """Of one application. last_deployed_time_s: since the epoch."""

    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployments: dict[str, DeploymentStatusOverview]


@dataclass(frozen=True)
class ServeStatus:
    """Of everything: proxies by node, applications by name."""

    proxies: dict[str, ProxyStatus] = field(default_factory=dict)
    applications: dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: float | None = None


def status_of(details: dict[str, Any]) -> ServeStatus:
    """The controller's details in these classes."""
    applications = {}
    for name, row in details["applications"].items():
        deployments = {
            each: DeploymentStatusOverview(
                DeploymentStatus(found["status"]),
                DeploymentStatusTrigger(found["status_trigger"]),
                {ReplicaState(state): count for state, count in found["replica_states"].items()},
                found["message"],
            )
            for each, found in row["deployments"].items()
        }
        applications[name] = ApplicationStatusOverview(
            ApplicationStatus(row["status"]), row["message"], row["last_deployed_time_s"], deployments
        )
    proxies = {node_id: ProxyStatus(row["status"]) for node_id, row in details["proxies"].items()}
    return ServeStatus(proxies, applications)
