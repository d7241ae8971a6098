"""Deployment and Application: a class or function with options, and one or more of them bound to arguments.

They hold what the user said, checked; `build_app` turns an application into targets. ``deployment`` is the decorator.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from raybook.serve.config import (
    AutoscalingConfig,
    BackpressureConfig,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from raybook.serve.handle_options import DEFAULT
from raybook.serve.schema import LoggingConfig

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
            raise ValueError("max_queued_requests must be -1 (no limit) or positive.")
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
        gang = self.gang_scheduling_config
        if gang is not None and self.autoscaling_config is None and (self.num_replicas or 0) % gang.gang_size:
            raise ValueError(f"num_replicas ({self.num_replicas}) must be a multiple of gang_size ({gang.gang_size}).")


class Application:
    """Deployments bound to arguments, with the one that gets the requests on top. Run it with ``serve.run``; or pass it
    to another ``bind``, which then is given a handle of it."""

    def __init__(self, bound_deployment: Deployment) -> None:
        self._bound_deployment = bound_deployment

    def __repr__(self) -> str:
        return f"Application(ingress='{self._bound_deployment.name}')"


class Deployment:
    """What ``@serve.deployment`` makes of a class or function."""

    def __init__(
        self,
        name: str,
        definition: Any,
        config: DeploymentConfig,
        init_args: tuple = (),
        init_kwargs: dict[str, Any] | None = None,
        chosen: frozenset[str] = frozenset(),
        *,
        _internal: bool = False,
    ) -> None:
        if not _internal:
            raise RuntimeError(
                "The Deployment constructor should not be called directly. Use `@serve.deployment` instead."
            )
        if not isinstance(name, str):
            raise TypeError("name must be a string.")
        if "#" in name:
            raise ValueError(
                f"Deployment names must not contain the '#' character, which replicas' ids use. Got: {name}."
            )
        self._name = name
        self._definition = definition
        self._deployment_config = config
        self._init_args = init_args
        self._init_kwargs = init_kwargs or {}
        self._chosen = chosen
        """Options that the user gave: a config file changes the others."""

    @property
    def name(self) -> str:
        """Unique within its application."""
        return self._name

    @property
    def version(self) -> None:
        """None: Serve finds out itself what is new."""
        return None

    @property
    def func_or_class(self) -> Any:
        """What was decorated."""
        return self._definition

    @property
    def num_replicas(self) -> int | None:
        """As given."""
        return self._deployment_config.num_replicas

    @property
    def user_config(self) -> Any:
        """As given."""
        return self._deployment_config.user_config

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests a replica gets at once."""
        return self._deployment_config.max_ongoing_requests

    @property
    def max_queued_requests(self) -> int:
        """How many requests may wait with each caller; -1: any number."""
        return self._deployment_config.max_queued_requests

    @property
    def ray_actor_options(self) -> dict[str, Any] | None:
        """Resources and environment of each replica."""
        options = self._deployment_config.ray_actor_options
        return {"num_cpus": 1, **(options or {})}

    @property
    def init_args(self) -> tuple:
        """What ``bind`` got."""
        return self._init_args

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """What ``bind`` got."""
        return self._init_kwargs

    @property
    def logging_config(self) -> dict[str, Any] | None:
        """As given."""
        return self._deployment_config.logging_config

    def set_logging_config(self, logging_config: dict[str, Any]) -> None:
        """Change it."""
        self._deployment_config.logging_config = logging_config

    def __call__(self) -> NoReturn:
        raise RuntimeError("Deployments cannot be constructed directly. Use `serve.run(deployment.bind(...))` instead.")

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """An application of this deployment with these arguments of its constructor; those that are applications
        themselves arrive as handles."""
        bound = Deployment(
            self._name, self._definition, self._deployment_config, args, kwargs, self._chosen, _internal=True
        )
        return Application(bound)

    def options(
        self,
        func_or_class: Callable[..., Any] | None = None,
        name: Any = DEFAULT.VALUE,
        version: Any = DEFAULT.VALUE,
        num_replicas: Any = DEFAULT.VALUE,
        ray_actor_options: Any = DEFAULT.VALUE,
        placement_group_bundles: Any = DEFAULT.VALUE,
        placement_group_strategy: Any = DEFAULT.VALUE,
        placement_group_bundle_label_selector: Any = DEFAULT.VALUE,
        max_replicas_per_node: Any = DEFAULT.VALUE,
        user_config: Any = DEFAULT.VALUE,
        max_ongoing_requests: Any = DEFAULT.VALUE,
        max_queued_requests: Any = DEFAULT.VALUE,
        backpressure_config: Any = DEFAULT.VALUE,
        autoscaling_config: Any = DEFAULT.VALUE,
        graceful_shutdown_wait_loop_s: Any = DEFAULT.VALUE,
        graceful_shutdown_timeout_s: Any = DEFAULT.VALUE,
        health_check_period_s: Any = DEFAULT.VALUE,
        health_check_timeout_s: Any = DEFAULT.VALUE,
        logging_config: Any = DEFAULT.VALUE,
        request_router_config: Any = DEFAULT.VALUE,
        max_constructor_retry_count: Any = DEFAULT.VALUE,
        gang_scheduling_config: Any = DEFAULT.VALUE,
        deployment_actors: Any = DEFAULT.VALUE,
        rolling_update_percentage: Any = DEFAULT.VALUE,
        max_surge_percent: Any = DEFAULT.VALUE,
        _init_args: Any = DEFAULT.VALUE,
        _init_kwargs: Any = DEFAULT.VALUE,
    ) -> Deployment:
        """A copy with other options; see ``serve.deployment``. ValueError, TypeError."""
        given = {key: value for key, value in locals().items() if value is not DEFAULT.VALUE}
        for key in ("self", "func_or_class", "name", "version", "_init_args", "_init_kwargs"):
            given.pop(key, None)
        if version is not DEFAULT.VALUE:
            raise ValueError(
                "`version` in `Deployment.options()` has been removed. Serve manages deployment versions internally."
            )
        config = changed_config(self._deployment_config, given)
        return Deployment(
            self._name if name is DEFAULT.VALUE else name,
            func_or_class or self._definition,
            config,
            self._init_args if _init_args is DEFAULT.VALUE else _init_args,
            self._init_kwargs if _init_kwargs is DEFAULT.VALUE else _init_kwargs,
            self._chosen | given.keys(),
            _internal=True,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        return (self._name, self._deployment_config, self._init_args, self._init_kwargs, self._definition) == (
            other._name, other._deployment_config, other._init_args, other._init_kwargs, other._definition
        )  # fmt: skip

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return f"Deployment(name={self._name})"

    def __repr__(self) -> str:
        return str(self)


def changed_config(config: DeploymentConfig, given: dict[str, Any]) -> DeploymentConfig:
    """The config with these options. ValueError, TypeError, each naming the option."""
    given = dict(given)
    if "max_ongoing_requests" in given and given["max_ongoing_requests"] is None:
        raise ValueError("`max_ongoing_requests` must be non-null, got None.")
    replicas, scaling = given.get("num_replicas"), given.get("autoscaling_config")
    if replicas == "auto":
        fields = {"target_ongoing_requests": 2.0, "min_replicas": 1, "max_replicas": 100}
        if isinstance(scaling, AutoscalingConfig):
            scaling = scaling.model_dump(exclude_unset=True)
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


def deployment(
    _func_or_class: Callable[..., Any] | None = None,
    name: Any = DEFAULT.VALUE,
    version: Any = DEFAULT.VALUE,
    num_replicas: Any = DEFAULT.VALUE,
    ray_actor_options: Any = DEFAULT.VALUE,
    placement_group_bundles: Any = DEFAULT.VALUE,
    placement_group_strategy: Any = DEFAULT.VALUE,
    placement_group_bundle_label_selector: Any = DEFAULT.VALUE,
    max_replicas_per_node: Any = DEFAULT.VALUE,
    user_config: Any = DEFAULT.VALUE,
    max_ongoing_requests: Any = DEFAULT.VALUE,
    max_queued_requests: Any = DEFAULT.VALUE,
    backpressure_config: Any = DEFAULT.VALUE,
    autoscaling_config: Any = DEFAULT.VALUE,
    graceful_shutdown_wait_loop_s: Any = DEFAULT.VALUE,
    graceful_shutdown_timeout_s: Any = DEFAULT.VALUE,
    health_check_period_s: Any = DEFAULT.VALUE,
    health_check_timeout_s: Any = DEFAULT.VALUE,
    logging_config: Any = DEFAULT.VALUE,
    request_router_config: Any = DEFAULT.VALUE,
    max_constructor_retry_count: Any = DEFAULT.VALUE,
    gang_scheduling_config: Any = DEFAULT.VALUE,
    deployment_actors: Any = DEFAULT.VALUE,
    rolling_update_percentage: Any = DEFAULT.VALUE,
    max_surge_percent: Any = DEFAULT.VALUE,
) -> Any:
    """Make a Deployment of a class or function: ``@serve.deployment``, or ``@serve.deployment(num_replicas=2, ...)``.

    num_replicas: a count, or "auto" for autoscaling with its defaults (1 to 100). ray_actor_options: resources
    (num_cpus, 1 by default; num_gpus, also a fraction; ...) and runtime_env of each replica. user_config: plain data
    for the class's ``reconfigure``, changed without a restart. max_ongoing_requests (5): requests that one replica gets
    at once. max_queued_requests (-1, any): requests that may wait with each caller before more are refused.
    autoscaling_config: see AutoscalingConfig. graceful_shutdown_*: how long a replica may finish what it has (looked at
    every 2 s, 20 s at most). health_check_*: how often ``check_health`` is called (10 s), and how long it may take (30 s).
    rolling_update_percentage (0.2): how many replicas an update replaces at a time. ValueError and TypeError for options
    that are wrong or contradict each other.
    """
    given = {key: value for key, value in locals().items() if value is not DEFAULT.VALUE}
    for key in ("_func_or_class", "name", "version"):
        given.pop(key, None)
    if version is not DEFAULT.VALUE:
        raise ValueError(
            "`version` in `@serve.deployment` has been removed. Serve manages deployment versions internally."
        )
    config = changed_config(DeploymentConfig(), given)

    def decorate(definition: Any) -> Deployment:
        if not callable(definition):
            raise TypeError("@serve.deployment must be called on a class or function.")
        chosen = name if name is not DEFAULT.VALUE else definition.__name__
        return Deployment(chosen, definition, config, chosen=frozenset(given), _internal=True)

    return decorate(_func_or_class) if callable(_func_or_class) else decorate
