"""Statuses: the words that status() and the panels use, and how an application's follows from its deployments'.

Source: Ray's enumerations; their values are what programs compare with.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class _Word(str, Enum):
    def __str__(self) -> str:
        return self.value


class ReplicaState(_Word):
    STARTING = "STARTING"
    UPDATING = "UPDATING"
    RECOVERING = "RECOVERING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    PENDING_MIGRATION = "PENDING_MIGRATION"


class DeploymentStatus(_Word):
    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"


class DeploymentStatusTrigger(_Word):
    UNSPECIFIED = "UNSPECIFIED"
    CONFIG_UPDATE_STARTED = "CONFIG_UPDATE_STARTED"
    CONFIG_UPDATE_COMPLETED = "CONFIG_UPDATE_COMPLETED"
    UPSCALE_COMPLETED = "UPSCALE_COMPLETED"
    DOWNSCALE_COMPLETED = "DOWNSCALE_COMPLETED"
    AUTOSCALING = "AUTOSCALING"
    REPLICA_STARTUP_FAILED = "REPLICA_STARTUP_FAILED"
    DEPLOYMENT_ACTOR_FAILED = "DEPLOYMENT_ACTOR_FAILED"
    HEALTH_CHECK_FAILED = "HEALTH_CHECK_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DELETING = "DELETING"


class ApplicationStatus(_Word):
    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"

    def to_numeric(self) -> int:
        """For metrics: from 1, the worst, to 6, running."""
        worst_first = ("DEPLOY_FAILED", "UNHEALTHY", "NOT_STARTED", "DELETING", "DEPLOYING", "RUNNING")
        return worst_first.index(self.value) + 1


class ProxyStatus(_Word):
    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"

    def to_numeric(self) -> int:
        """For metrics: from 1, starting, to 5, drained."""
        return list(type(self)).index(self) + 1


def status_of_application(statuses: Iterable[DeploymentStatus], is_deleting: bool) -> ApplicationStatus:
    """An application is as well as its worst deployment; scaling is no illness."""
    if is_deleting:
        return ApplicationStatus.DELETING
    present = set(statuses)
    if DeploymentStatus.DEPLOY_FAILED in present:
        return ApplicationStatus.DEPLOY_FAILED
    if DeploymentStatus.UNHEALTHY in present:
        return ApplicationStatus.UNHEALTHY
    if DeploymentStatus.UPDATING in present:
        return ApplicationStatus.DEPLOYING
    return ApplicationStatus.RUNNING
