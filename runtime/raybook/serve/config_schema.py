"""Config schema: what a Serve config file may say. A key that is not known is an error that names it and what is.

Source: Ray's ServeDeploySchema and its parts.
"""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    StrictInt,
    field_validator,
    model_validator,
)

from raybook.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    BackpressureConfig,
    ControllerOptions,
    DeploymentActorConfig,
    GangSchedulingConfig,
    ProxyLocation,
    RequestRouterConfig,
)
from raybook.serve.core.routes import check_prefix
from raybook.serve.logging_config import LoggingConfig, TracingConfig

_STRICT = ConfigDict(extra="forbid")


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
    max_queued_requests: StrictInt | None = None
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
    max_replicas_per_node: int | None = Field(default=None, ge=1, le=100)
    logging_config: LoggingConfig | None = None
    request_router_config: RequestRouterConfig | None = None
    gang_scheduling_config: GangSchedulingConfig | None = None
    deployment_actors: list[DeploymentActorConfig] | None = None
    rolling_update_percentage: float | None = Field(default=None, gt=0.0, le=1.0)
    max_surge_percent: int | None = Field(default=None, ge=0, le=100)

    @field_validator("num_replicas")
    @classmethod
    def _auto(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str) and value != "auto":
            raise ValueError(f'`num_replicas` must be an int or "auto", but got: {value}')
        return value

    @field_validator("max_queued_requests")
    @classmethod
    def _queued(cls, value: int | None) -> int | None:
        if value is not None and value < 1 and value != -1:
            raise ValueError("max_queued_requests must be -1 (no limit) or a positive integer.")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> DeploymentSchema:
        if isinstance(self.num_replicas, int) and self.autoscaling_config is not None:
            raise ValueError("Manually setting num_replicas is not allowed when autoscaling_config is provided.")
        bundles, labels = self.placement_group_bundles, self.placement_group_bundle_label_selector
        if self.max_replicas_per_node is not None and bundles is not None:
            raise ValueError("Setting max_replicas_per_node is not allowed when placement_group_bundles is provided.")
        if labels is not None and bundles is None:
            raise ValueError(
                "Setting bundle_label_selector is not allowed when placement_group_bundles is not provided."
            )
        if labels is not None and bundles is not None and len(labels) not in (1, len(bundles)):
            raise ValueError(
                "The `placement_group_bundle_label_selector` list must contain either a single selector (to apply to all "
                f"bundles) or match the number of `placement_group_bundles`. Got {len(labels)} selectors for "
                f"{len(bundles)} bundles."
            )
        return self

    def is_autoscaling_configured(self) -> bool:
        """Whether the number of replicas follows the load."""
        return self.num_replicas == "auto" or self.autoscaling_config is not None


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
        if value.count(":") > 1:
            raise ValueError(f'Got invalid import path "{value}". An import path may have at most one colon.')
        sign, word = (":", "colon") if ":" in value else (".", "dot")
        module, found, attribute = value.rpartition(sign)
        if not found:
            raise ValueError(
                f'Got invalid import path "{value}". An import path must contain at least one dot or colon separating the '
                'module (and potentially submodules) from the application. E.g.: "module.app".'
            )
        if not module or not attribute:
            raise ValueError(f'Got invalid import path "{value}". An import path may not start or end with a {word}.')
        return value

    @field_validator("autoscaling_policy", mode="before")
    @classmethod
    def _plain_policy(cls, value: Any) -> Any:
        return value.model_dump() if isinstance(value, AutoscalingPolicy) else value

    @model_validator(mode="after")
    def _no_two_scalers(self) -> ServeApplicationSchema:
        scaled = [each.name for each in self.deployments if each.is_autoscaling_configured()]
        if self.external_scaler_enabled and scaled:
            raise ValueError(
                "external_scaler_enabled is set to True, but the following deployment(s) have autoscaling configured: "
                + ", ".join(f'"{name}"' for name in scaled)
                + ". When using an external autoscaler, Serve's built-in autoscaling must be disabled for all deployments "
                "in the application."
            )
        return self

    @property
    def deployment_names(self) -> list[str]:
        """Of those that the config mentions."""
        return [each.name for each in self.deployments]

    @staticmethod
    def get_empty_schema_dict() -> dict[str, Any]:
        """The config of no application."""
        return {"import_path": "", "runtime_env": {}, "deployments": []}


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
    tracing_config: TracingConfig | None = None
    applications: list[ServeApplicationSchema]
    target_capacity: float | None = Field(default=None, ge=0, le=100)

    @field_validator("applications")
    @classmethod
    def _distinct(cls, value: list[ServeApplicationSchema]) -> list[ServeApplicationSchema]:
        names = _twice([app.name for app in value])
        if names:
            word = "application" if len(names) == 1 else "applications"
            raise ValueError(f"Found multiple configs for {word} {', '.join(names)}. Please remove all duplicates.")
        routes = _twice([app.route_prefix for app in value if app.route_prefix is not None])
        if routes:
            word = "prefix" if len(routes) == 1 else "prefixes"
            raise ValueError(
                f"Found duplicate applications for route {word} {', '.join(routes)}. Please ensure each application's "
                "route_prefix is unique."
            )
        if any(not app.name for app in value):
            raise ValueError("Application names must be nonempty.")
        for app in value:
            for key in ("host", "port"):
                if key in app.model_fields_set:
                    raise ValueError(
                        f"{key.capitalize()} {getattr(app, key)} is set in the config for application `{app.name}`. Please "
                        f"remove it and set {key} in the top level deploy config only."
                    )
        return value

    @staticmethod
    def get_empty_schema_dict() -> dict[str, Any]:
        """The config of nothing."""
        return {"applications": []}


def _twice(values: list[str]) -> list[str]:
    """Those that are there more than once, quoted."""
    return sorted({f'"{each}"' for each in values if values.count(each) > 1})
