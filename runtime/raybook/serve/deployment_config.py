"""DeploymentConfig: the options of a deployment, checked one by one and together.

Source: Ray's fields, defaults and checks.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from raybook.serve.config import (
    AutoscalingConfig,
    BackpressureConfig,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from raybook.serve.logging_config import LoggingConfig

ACTOR_OPTIONS = frozenset(
    {"accelerator_type", "memory", "num_cpus", "num_gpus", "resources", "runtime_env", "label_selector",
     "fallback_strategy"}
)  # fmt: skip


class DeploymentConfig(BaseModel):
    """The options of a deployment, as pydantic checks them."""

    model_config = ConfigDict(validate_assignment=True, arbitrary_types_allowed=True)

    num_replicas: int | None = Field(default=1, ge=0)
    max_ongoing_requests: PositiveInt = 5
    max_queued_requests: int = -1
    backpressure_config: BackpressureConfig = Field(default_factory=BackpressureConfig)
    user_config: Any = None
    graceful_shutdown_timeout_s: NonNegativeFloat = 20.0
    graceful_shutdown_wait_loop_s: NonNegativeFloat = 2.0
    health_check_period_s: PositiveFloat = 10.0
    health_check_timeout_s: PositiveFloat = 30.0
    autoscaling_config: AutoscalingConfig | None = None
    request_router_config: RequestRouterConfig = Field(default_factory=RequestRouterConfig)
    logging_config: dict[str, Any] | None = None
    max_constructor_retry_count: PositiveInt = 20
    gang_scheduling_config: GangSchedulingConfig | None = None
    deployment_actors: list[DeploymentActorConfig] | None = None
    rolling_update_percentage: float = Field(default=0.2, gt=0.0, le=1.0)
    max_surge_percent: int = Field(default=0, ge=0, le=100)
    max_replicas_per_node: int | None = Field(default=None, ge=1, le=100)
    placement_group_bundles: list[dict[str, float]] | None = None
    placement_group_strategy: str | None = None
    placement_group_bundle_label_selector: list[dict[str, str]] | None = None
    ray_actor_options: dict[str, Any] | None = None

    @field_validator("user_config")
    @classmethod
    def _check_user_config(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, bytes):
            try:
                json.dumps(value)
            except TypeError as error:
                raise ValueError(f"user_config is not JSON-serializable: {error}.") from None
        return value

    @field_validator("logging_config", mode="before")
    @classmethod
    def _check_logging(cls, value: Any) -> Any:
        if value is None:
            return None
        return (value if isinstance(value, LoggingConfig) else LoggingConfig(**value)).model_dump(mode="json")

    @field_validator("max_queued_requests", mode="before")
    @classmethod
    def _check_queued(cls, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError("max_queued_requests must be an integer.")
        if value < 1 and value != -1:
            raise ValueError("max_queued_requests must be -1 (no limit) or a positive integer.")
        return value

    @field_validator("placement_group_bundles")
    @classmethod
    def _check_bundles(cls, value: list[dict[str, float]] | None) -> Any:
        if value is not None and (not value or any(not bundle for bundle in value)):
            raise ValueError("placement_group_bundles must be a list of resource dictionaries, none of them empty.")
        return value

    def check_together(self) -> None:
        """What no option can say alone. ValueError."""
        if self.max_replicas_per_node is not None and self.placement_group_bundles is not None:
            raise ValueError("Setting max_replicas_per_node is not allowed when placement_group_bundles is provided.")
        if self.placement_group_strategy is not None and self.placement_group_bundles is None:
            raise ValueError(
                "If `placement_group_strategy` is provided, `placement_group_bundles` must also be provided."
            )
        if self.placement_group_bundle_label_selector is not None and self.placement_group_bundles is None:
            raise ValueError(
                "If `placement_group_bundle_label_selector` is provided, `placement_group_bundles` must also be provided."
            )
        if self.placement_group_bundles is not None:
            self._check_first_bundle(self.placement_group_bundles[0])
        names = [each.name for each in self.deployment_actors or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"deployment_actors must have unique names. Duplicate name(s): {twice}")
        gang = self.gang_scheduling_config
        if gang is not None and self.max_replicas_per_node is not None:
            raise ValueError(
                "Setting max_replicas_per_node is not allowed when gang_scheduling_config is provided. Please set "
                "max_replicas_per_node to None."
            )
        if gang is not None and self.placement_group_strategy is not None:
            raise ValueError(
                "Setting placement_group_strategy is not allowed when gang_scheduling_config is provided. Use "
                "gang_scheduling_config.gang_placement_strategy instead."
            )
        if gang is not None and self.autoscaling_config is None and (self.num_replicas or 0) % gang.gang_size:
            raise ValueError(f"num_replicas ({self.num_replicas}) must be a multiple of gang_size ({gang.gang_size}).")

    def _check_first_bundle(self, bundle: dict[str, float]) -> None:
        """The replica's actor stands in the first bundle. ValueError when it does not fit."""
        options = self.ray_actor_options or {}
        cpus = options.get("num_cpus")
        wanted = {"CPU": 1 if cpus is None else cpus, "GPU": options.get("num_gpus") or 0}
        for name, amount in {**wanted, **(options.get("resources") or {})}.items():
            if bundle.get(name, 0) < amount:
                word = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(name, name)
                raise ValueError(
                    "When using `placement_group_bundles`, the replica actor will be placed in the first bundle, so the "
                    f"resource requirements for the actor must be a subset of the first bundle. `{word}` for the actor is "
                    f"{amount}, but the bundle only has {bundle.get(name, 0)} `{name}` specified."
                )


def changed_config(config: DeploymentConfig, given: dict[str, Any]) -> DeploymentConfig:
    """The config with these options. ValueError, TypeError, each naming the option."""
    given = dict(given)
    if "max_ongoing_requests" in given and given["max_ongoing_requests"] is None:
        raise ValueError("`max_ongoing_requests` must be non-null, got None.")
    replicas, scaling = given.get("num_replicas"), given.get("autoscaling_config")
    if replicas == "auto":
        fields = {"target_ongoing_requests": 2.0, "min_replicas": 1, "max_replicas": 100}
        if isinstance(scaling, AutoscalingConfig):
            # Not its dump, which would lose a policy that cannot be imported.
            scaling = {name: getattr(scaling, name) for name in scaling.model_fields_set}
        given["autoscaling_config"] = AutoscalingConfig(**{**fields, **(scaling or {})})
        given["num_replicas"] = 1
    elif replicas == 0 and replicas is not False:
        raise ValueError("num_replicas is expected to larger than 0")
    elif replicas is not None and scaling is not None:
        raise ValueError("Manually setting num_replicas is not allowed when autoscaling_config is provided.")
    elif "num_replicas" in given and replicas is None:
        given["num_replicas"] = 1
    elif replicas is not None:
        given.setdefault("autoscaling_config", None)
    options = given.get("ray_actor_options")
    if options is not None:
        if not isinstance(options, dict):
            raise TypeError("ray_actor_options must be a dictionary.")
        unknown = options.keys() - ACTOR_OPTIONS
        if unknown:
            raise ValueError(
                f"Specifying '{sorted(unknown)[0]}' in ray_actor_options is not allowed. Allowed options: "
                f"{sorted(ACTOR_OPTIONS)}"
            )
    for name in ("request_router_config", "backpressure_config"):
        if name in given and given[name] is None:
            del given[name]
    fields = {name: getattr(config, name) for name in type(config).model_fields}
    changed = DeploymentConfig(**{**fields, **given})
    changed.check_together()
    return changed
