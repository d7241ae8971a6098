"""Instance details: everything about a cluster's Serve in Ray's classes: what ``GET /api/serve/applications/`` answers.

Made of the controller's plain rows; the words for status come from `core/statuses`. What raybook does not keep (log files,
dead replicas) is None or empty.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from raybook.serve.config import ProxyLocation
from raybook.serve.config_schema import DeploymentSchema, HTTPOptionsSchema, ServeApplicationSchema, gRPCOptionsSchema
from raybook.serve.core.statuses import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
)
from raybook.serve.status_overview import ServeStatus, status_of

_FROZEN = ConfigDict(frozen=True)
_STRICT = ConfigDict(extra="forbid", frozen=True)


class APIType(str, Enum):
    """Whether an application was deployed by code or by config."""

    UNKNOWN = "unknown"
    IMPERATIVE = "imperative"
    DECLARATIVE = "declarative"

    @classmethod
    def get_valid_user_values(cls) -> list[str]:
        """Those that may be asked for."""
        return [cls.IMPERATIVE.value, cls.DECLARATIVE.value]


class ServeActorDetails(BaseModel):
    """One of Serve's actors, and where it is."""

    model_config = _FROZEN

    node_id: str | None = None
    node_ip: str | None = None
    node_instance_id: str | None = None
    actor_id: str | None = None
    actor_name: str | None = None
    worker_id: str | None = None
    log_file_path: str | None = None


class ReplicaDetails(ServeActorDetails):
    """One replica. start_time_s: since the epoch."""

    replica_id: str
    state: ReplicaState
    pid: int | None = None
    start_time_s: float


class AutoscalingStatus(str, Enum):
    """Which way the number of replicas goes."""

    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"
    STABLE = "STABLE"


class AutoscalingMetricsHealth(str, Enum):
    """Whether the measurements come in."""

    HEALTHY = "healthy"
    DELAYED = "delayed"
    UNAVAILABLE = "unavailable"


class ScalingDecision(BaseModel):
    """One change of the number of replicas, and why. timestamp_s: since the epoch."""

    timestamp_s: float
    reason: str
    prev_num_replicas: int = Field(ge=0)
    curr_num_replicas: int = Field(ge=0)
    policy: str | None = None


class DeploymentAutoscalingDetail(BaseModel):
    """What the autoscaler of one deployment did last."""

    scaling_status: AutoscalingStatus
    decisions: list[ScalingDecision] = Field(default_factory=list)
    metrics: dict[str, Any] | None = None
    metrics_health: AutoscalingMetricsHealth = AutoscalingMetricsHealth.HEALTHY
    errors: list[str] = Field(default_factory=list)


class DeploymentDetails(BaseModel):
    """One deployment. deployment_config: the options in force that were given."""

    model_config = _STRICT

    name: str
    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    message: str
    deployment_config: DeploymentSchema
    target_num_replicas: NonNegativeInt
    required_resources: dict[str, Any]
    replicas: list[ReplicaDetails]
    recent_dead_replicas: list[ReplicaDetails] = Field(default_factory=list)
    autoscaling_detail: DeploymentAutoscalingDetail | None = None


class DeploymentNode(BaseModel):
    """A deployment in the graph of its application. outbound_deployments: whose handles it was given."""

    name: str
    app_name: str
    outbound_deployments: list[dict[str, Any]] = Field(default_factory=list)
    is_ingress: bool = False


class DeploymentTopology(BaseModel):
    """Which deployments call which."""

    app_name: str
    nodes: dict[str, DeploymentNode]
    ingress_deployment: str | None = None


class ApplicationDetails(BaseModel):
    """One application. deployed_app_config: as it was written, of one that was deployed by config."""

    model_config = _STRICT

    name: str
    route_prefix: str | None
    docs_path: str | None
    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployed_app_config: ServeApplicationSchema | None = None
    source: APIType
    deployments: dict[str, DeploymentDetails]
    external_scaler_enabled: bool = False
    deployment_topology: DeploymentTopology | None = None


class ProxyDetails(ServeActorDetails):
    """One proxy."""

    status: ProxyStatus


class Target(BaseModel):
    """Where requests of a route may go."""

    model_config = _FROZEN

    ip: str
    port: int
    instance_id: str
    name: str


class TargetGroup(BaseModel):
    """All targets of a route. protocol: "HTTP" or "gRPC"."""

    model_config = _FROZEN

    targets: list[Target]
    route_prefix: str
    protocol: str
    app_name: str = ""
    ingress_deployment_name: str = ""


class ServeInstanceDetails(BaseModel):
    """Everything."""

    model_config = ConfigDict(extra="forbid")

    controller_info: ServeActorDetails = Field(default_factory=ServeActorDetails)
    proxy_location: ProxyLocation | None = None
    http_options: HTTPOptionsSchema | None = None
    grpc_options: gRPCOptionsSchema | None = None
    proxies: dict[str, ProxyDetails]
    applications: dict[str, ApplicationDetails]
    target_capacity: float | None = None
    target_groups: list[TargetGroup] = Field(default_factory=list)

    @staticmethod
    def get_empty_schema_dict() -> dict[str, Any]:
        """Of a cluster without Serve."""
        return {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}

    @classmethod
    def of(cls, details: dict[str, Any]) -> ServeInstanceDetails:
        """The controller's rows in these classes; {} where Serve does not run."""
        if not details:
            return cls(**cls.get_empty_schema_dict())
        return cls(
            controller_info=ServeActorDetails(actor_name="SERVE_CONTROLLER_ACTOR"),
            proxy_location=details["proxy_location"],
            http_options=HTTPOptionsSchema(**_known(HTTPOptionsSchema, details["http"])),
            grpc_options=gRPCOptionsSchema(**_known(gRPCOptionsSchema, details["grpc"])),
            proxies={
                node_id: ProxyDetails(node_id=node_id, actor_name=row["actor_name"], status=row["status"])
                for node_id, row in details["proxies"].items()
            },
            applications={name: _application(row) for name, row in details["applications"].items()},
        )

    def _get_status(self) -> ServeStatus:
        return status_of(
            {
                "proxies": {node_id: {"status": proxy.status} for node_id, proxy in self.proxies.items()},
                "applications": {
                    name: {
                        "status": app.status, "message": app.message, "last_deployed_time_s": app.last_deployed_time_s,
                        "deployments": {
                            each: {
                                "status": found.status, "status_trigger": found.status_trigger, "message": found.message,
                                "replica_states": _counts([replica.state for replica in found.replicas]),
                            }
                            for each, found in app.deployments.items()
                        },
                    }
                    for name, app in self.applications.items()
                },
            }
        )  # fmt: skip


def _application(row: dict[str, Any]) -> ApplicationDetails:
    nodes = {
        name: DeploymentNode(
            name=name,
            app_name=row["name"],
            outbound_deployments=[{"name": child, "app_name": row["name"]} for child in found["children"]],
            is_ingress=found["is_ingress"],
        )
        for name, found in row["deployments"].items()
    }
    return ApplicationDetails(
        name=row["name"],
        route_prefix=row["route_prefix"],
        docs_path=row["docs_path"],
        status=row["status"],
        message=row["message"],
        last_deployed_time_s=row["last_deployed_time_s"],
        deployed_app_config=row["config"] and ServeApplicationSchema(**row["config"]),
        source=APIType(row["source"]),
        deployments={name: _deployment(found) for name, found in row["deployments"].items()},
        deployment_topology=DeploymentTopology(app_name=row["name"], nodes=nodes, ingress_deployment=row["ingress"]),
    )


def _deployment(row: dict[str, Any]) -> DeploymentDetails:
    return DeploymentDetails(
        name=row["name"],
        status=row["status"],
        status_trigger=row["status_trigger"],
        message=row["message"],
        deployment_config=DeploymentSchema(name=row["name"], **_options(row)),
        target_num_replicas=row["target_num_replicas"],
        required_resources=row["required_resources"],
        replicas=[ReplicaDetails(**_known(ReplicaDetails, replica)) for replica in row["replicas"]],
        autoscaling_detail=_autoscaling(row),
    )


def _options(row: dict[str, Any]) -> dict[str, Any]:
    given = _known(DeploymentSchema, row["config"])
    return given if row["is_autoscaled"] else {"num_replicas": row["target_num_replicas"] or None, **given}


def _autoscaling(row: dict[str, Any]) -> DeploymentAutoscalingDetail | None:
    if not row["is_autoscaled"]:
        return None
    words = {"UPSCALING": AutoscalingStatus.UPSCALING, "DOWNSCALING": AutoscalingStatus.DOWNSCALING}
    return DeploymentAutoscalingDetail(
        scaling_status=words.get(row["status"], AutoscalingStatus.STABLE),
        decisions=[
            ScalingDecision(
                timestamp_s=each["at_s"],
                reason=each["reason"],
                prev_num_replicas=each["before"],
                curr_num_replicas=each["after"],
            )
            for each in row["decisions"]
        ],
    )


def _known(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in model.model_fields and key != "name"}


def _counts(states: list[ReplicaState]) -> dict[ReplicaState, int]:
    return {state: states.count(state) for state in dict.fromkeys(states)}
