"""Schema: the classes of Serve's configs, of ``serve.status()`` and of its REST answers, under Ray's one name for all."""

from __future__ import annotations

from pydantic import BaseModel

from raybook.serve.config_schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
    gRPCOptionsSchema,
)
from raybook.serve.context import ReplicaRank
from raybook.serve.core.statuses import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
)
from raybook.serve.instance_details import (
    APIType,
    ApplicationDetails,
    AutoscalingMetricsHealth,
    AutoscalingStatus,
    DeploymentAutoscalingDetail,
    DeploymentDetails,
    DeploymentNode,
    DeploymentTopology,
    ProxyDetails,
    ReplicaDetails,
    ScalingDecision,
    ServeActorDetails,
    ServeInstanceDetails,
    Target,
    TargetGroup,
)
from raybook.serve.logging_config import EncodingType, LoggingConfig, TracingConfig
from raybook.serve.status_overview import ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus, status_of

__all__ = [
    "APIType", "ApplicationDetails", "ApplicationStatus", "ApplicationStatusOverview", "AutoscalingMetricsHealth",
    "AutoscalingStatus", "DeploymentAutoscalingDetail", "DeploymentDetails", "DeploymentNode", "DeploymentSchema",
    "DeploymentStatus", "DeploymentStatusOverview", "DeploymentStatusTrigger", "DeploymentTopology", "EncodingType",
    "HTTPOptionsSchema", "LoggingConfig", "ProxyDetails", "ProxyStatus", "RayActorOptionsSchema", "ReplicaDetails",
    "ReplicaRank", "ReplicaState", "ScaleDeploymentRequest", "ScalingDecision", "ServeActorDetails",
    "ServeApplicationSchema", "ServeDeploySchema", "ServeInstanceDetails", "ServeStatus", "Target", "TargetGroup",
    "TracingConfig", "gRPCOptionsSchema", "status_of",
]  # fmt: skip


class ScaleDeploymentRequest(BaseModel):
    """What an external scaler asks for."""

    target_num_replicas: int
