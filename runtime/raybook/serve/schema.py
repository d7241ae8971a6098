"""Schema: what a Serve config file may say, and what ``serve.status()`` returns.

A key that is not known is an error that names it and what is. Source: Ray's ServeDeploySchema and status classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from raybook.serve.config import (
    AutoscalingConfig,
    BackpressureConfig,
    ControllerOptions,
    ProxyLocation,
    RequestRouterConfig,
)
from raybook.serve.core.routes import check_prefix
from raybook.serve.core.statuses import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
)

_STRICT = ConfigDict(extra="forbid")


class EncodingType(str, Enum):
    """Of log lines."""

    TEXT = "TEXT"
    JSON = "JSON"


class LoggingConfig(BaseModel):
    """How replicas log."""

    model_config = _STRICT

    encoding: str | EncodingType = EncodingType.TEXT
    log_level: int | str = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: list[str] = Field(default_factory=list)

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: Any) -> EncodingType:
        if value not in list(EncodingType):
            raise ValueError(
                f"Got '{value}' for encoding. Encoding must be one of {[each.value for each in EncodingType]}."
            )
        return EncodingType(value)

    @field_validator("log_level")
    @classmethod
    def _check_level(cls, value: int | str) -> int | str:
        levels = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET")
        if isinstance(value, str):
            if value.upper() not in levels:
                raise ValueError(f'Got "{value}" for log_level. log_level must be one of {list(levels)}.')
            return value.upper()
        return value

    @field_validator("additional_log_standard_attrs")
    @classmethod
    def _unique(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))


class RayActorOptionsSchema(BaseModel):
    """Of replicas' actors."""

    model_config = _STRICT

    runtime_env: dict[str, Any] = Field(default_factory=dict)
    num_cpus: NonNegativeFloat | None = None
    num_gpus: NonNegativeFloat | None = None
    memory: NonNegativeFloat | None = None
    resources: dict[str, Any] = Field(default_factory=dict)
    accelerator_type: str | None = None
    label_selector: dict[str, str] | None = None
    fallback_strategy: list[dict[str, Any]] | None = None


class DeploymentSchema(BaseModel):
    """Options of one deployment in a config; those that are not given are the code's."""

    model_config = _STRICT

    name: str
    num_replicas: PositiveInt | str | None = None
    max_ongoing_requests: PositiveInt | None = None
    max_queued_requests: int | None = None
    backpressure_config: BackpressureConfig | None = None
    user_config: dict[str, Any] | None = None
    autoscaling_config: AutoscalingConfig | None = None
    graceful_shutdown_wait_loop_s: NonNegativeFloat | None = None
    graceful_shutdown_timeout_s: NonNegativeFloat | None = None
    health_check_period_s: PositiveFloat | None = None
    health_check_timeout_s: PositiveFloat | None = None
    ray_actor_options: RayActorOptionsSchema | None = None
    placement_group_bundles: list[dict[str, float]] | None = None
    placement_group_strategy: str | None = None
    placement_group_bundle_label_selector: list[dict[str, str]] | None = None
    max_replicas_per_node: int | None = None
    logging_config: LoggingConfig | None = None
    request_router_config: RequestRouterConfig | None = None
    rolling_update_percentage: float | None = None
    max_surge_percent: int | None = None

    @field_validator("num_replicas")
    @classmethod
    def _auto(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str) and value != "auto":
            raise ValueError(f'num_replicas must be an integer or "auto", got {value!r}.')
        return value


class ServeApplicationSchema(BaseModel):
    """One application of a config."""

    model_config = _STRICT

    name: str = "default"
    route_prefix: str | None = "/"
    import_path: str
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    host: str = "0.0.0.0"
    port: int = 8000
    deployments: list[DeploymentSchema] = Field(default_factory=list)
    autoscaling_policy: dict[str, Any] | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    logging_config: LoggingConfig | None = None
    external_scaler_enabled: bool = False

    @field_validator("route_prefix")
    @classmethod
    def _check_prefix(cls, value: str | None) -> str | None:
        check_prefix(value)
        return value

    @field_validator("import_path")
    @classmethod
    def _check_path(cls, value: str) -> str:
        module, colon, attribute = value.partition(":")
        if not colon:
            module, _, attribute = value.rpartition(".")
        if not module or not attribute or ":" in attribute:
            raise ValueError(f'Got {value!r} as import path, which is not of the form "module.submodule:app".')
        return value


class HTTPOptionsSchema(BaseModel):
    """``http_options`` of a config."""

    model_config = _STRICT

    host: str = "0.0.0.0"
    port: int = 8000
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: int = 90
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None


class gRPCOptionsSchema(BaseModel):
    """``grpc_options`` of a config."""

    model_config = _STRICT

    port: int = 9000
    grpc_servicer_functions: list[str] = Field(default_factory=list)
    request_timeout_s: float | None = None
    enable_reflection: bool = True


class ServeDeploySchema(BaseModel):
    """A whole config: what ``raybook serve deploy`` makes the cluster be."""

    model_config = _STRICT

    proxy_location: ProxyLocation = ProxyLocation.EveryNode
    http_options: HTTPOptionsSchema = Field(default_factory=HTTPOptionsSchema)
    grpc_options: gRPCOptionsSchema = Field(default_factory=gRPCOptionsSchema)
    controller_options: ControllerOptions | None = None
    logging_config: LoggingConfig | None = None
    applications: list[ServeApplicationSchema]
    target_capacity: float | None = None

    @field_validator("applications")
    @classmethod
    def _distinct(cls, value: list[ServeApplicationSchema]) -> list[ServeApplicationSchema]:
        for kind, found in (
            ("names", [app.name for app in value]),
            ("route prefixes", [app.route_prefix for app in value if app.route_prefix is not None]),
        ):
            twice = sorted({each for each in found if found.count(each) > 1})
            if twice:
                raise ValueError(f"Found duplicate applications: the {kind} {twice} are given more than once.")
        if any(not app.name for app in value):
            raise ValueError("Application names must be nonempty.")
        return value


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
