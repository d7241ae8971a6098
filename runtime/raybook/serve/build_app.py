"""Build: an Application becomes targets and pickled code, with handles where deployments were bound to deployments.

One bound deployment used in two places is one deployment; two of one name get numbers. Nothing is sent from here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from raybook.serve.actor_config import DeploymentActorConfig
from raybook.serve.asgi_ingress import INGRESS_MARK
from raybook.serve.code_pickle import pickle_with_path
from raybook.serve.config import AutoscalingConfig
from raybook.serve.core.target import ActorTarget, ApplicationTarget, DeploymentTarget, ScalingLimits, Settings
from raybook.serve.deployment import Application, Deployment
from raybook.serve.deployment_config import DeploymentConfig
from raybook.serve.handle import DeploymentHandle

BLOB_PREFIX = b"blob:"


@dataclass
class BuiltApplication:
    """target: what the controller gets. blobs: code by key, for the GCS."""

    target: ApplicationTarget
    blobs: dict[bytes, bytes]
    handle: DeploymentHandle


@dataclass
class _Building:
    app_name: str
    logging_config: dict[str, Any] | None
    default_environment: dict[str, Any]
    overrides: dict[str, dict[str, Any]]
    names: dict[int, str] = field(default_factory=dict)
    """By identity of the application object."""
    handles: dict[int, Any] = field(default_factory=dict)
    targets: dict[str, DeploymentTarget] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    kept: list[Application] = field(default_factory=list)
    children: list[str] = field(default_factory=list)


def build_app(
    app: Application,
    name: str,
    route_prefix: str | None,
    logging_config: dict[str, Any] | None = None,
    default_environment: dict[str, Any] | None = None,
    overrides: dict[str, dict[str, Any]] | None = None,
) -> BuiltApplication:
    """Everything that deploying it takes. overrides: options by deployment that take the place of the code's. TypeError
    for code or arguments that cannot be pickled; ValueError for overrides of deployments that there are not."""
    building = _Building(name, logging_config, default_environment or {}, overrides or {})
    handle = _build(app, building, is_ingress=True)
    unknown = building.overrides.keys() - building.targets.keys()
    if unknown:
        raise ValueError(
            f"Deployment {sorted(unknown)[0]!r} does not exist in application {name!r}. Available: "
            f"{sorted(building.targets)}."
        )
    ingress = building.names[id(app)]
    building.targets[ingress].is_routed = route_prefix is not None
    target = ApplicationTarget(name, route_prefix, ingress, building.targets)
    return BuiltApplication(target, building.blobs, handle)


def _build(app: Application, building: _Building, is_ingress: bool = False) -> DeploymentHandle:
    key = id(app)
    if key in building.handles:
        return building.handles[key]
    name = unique_name(app._bound_deployment.name, building.names.values())
    building.names[key] = name
    building.kept.append(app)
    bound = app._bound_deployment
    if name in building.overrides:
        bound = bound.options(**building.overrides[name])
    outer, building.children = building.children, []

    def handle_of(child: Application) -> DeploymentHandle:
        handle = _build(child, building)
        building.children.append(handle.deployment_name)
        return handle

    args = replace_applications(bound.init_args, handle_of)
    kwargs = replace_applications(bound.init_kwargs, handle_of)
    children, building.children = list(dict.fromkeys(building.children)), outer
    blob = _pickled(name, bound, args, kwargs)
    blob_key = BLOB_PREFIX + hashlib.blake2b(blob, digest_size=16).hexdigest().encode()
    building.blobs[blob_key] = blob
    target = target_of(bound._deployment_config, name, building.app_name, blob_key, building.default_environment)
    if target.settings.logging_config is None:
        target.settings.logging_config = building.logging_config
    target.children = children
    target.is_ingress = is_ingress
    target.ingress_kind = "asgi" if hasattr(bound.func_or_class, INGRESS_MARK) else "request"
    building.targets[name] = target
    handle = building.handles[key] = DeploymentHandle(name, building.app_name)
    return handle


def unique_name(wanted: str, taken: Any) -> str:
    """The name, or the name with the first number that makes it another."""
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def replace_applications(value: Any, handle_of: Any) -> Any:
    """The same arguments with handles in place of applications, also inside lists, tuples and dictionaries."""
    if isinstance(value, Application):
        return handle_of(value)
    if type(value) in (list, tuple):
        return type(value)(replace_applications(item, handle_of) for item in value)
    if type(value) is dict:
        return {key: replace_applications(item, handle_of) for key, item in value.items()}
    return value


def _pickled(name: str, bound: Deployment, args: tuple, kwargs: dict[str, Any]) -> bytes:
    definition = bound.func_or_class
    ingress = getattr(definition, INGRESS_MARK, None)
    plain = ingress.plain if ingress is not None else definition
    try:
        return pickle_with_path((plain, args, kwargs, ingress.maker if ingress is not None else None))
    except Exception as error:
        raise TypeError(
            f"Could not serialize the deployment {name!r}: {type(error).__name__}: {error}. Nothing was deployed. Make "
            "what it captures, or its arguments, in its constructor instead."
        ) from error


def target_of(
    config: DeploymentConfig, name: str, app_name: str, blob_key: bytes, environment: dict[str, Any]
) -> DeploymentTarget:
    """A deployment's options as the controller keeps them. NotImplementedError for those that raybook does not have."""
    for option, is_given in (
        ("gang_scheduling_config", config.gang_scheduling_config is not None),
        ("request_router_config.request_router_class", not config.request_router_config.is_default_request_router()),
    ):
        if is_given:
            raise NotImplementedError(
                f"{option} of deployment {name!r}: raybook's Serve does not have it; leave it out."
            )
    options = {"num_cpus": 1, **(config.ray_actor_options or {})}
    if environment and "runtime_env" not in options:
        options["runtime_env"] = environment
    options = {key: value for key, value in options.items() if value is not None and value != {}}
    actors = [_actor_target(each, options) for each in config.deployment_actors or ()]
    heavy = repr((blob_key, actors, sorted(options.items(), key=repr), config.placement_group_bundles,
                  config.placement_group_strategy, config.placement_group_bundle_label_selector))  # fmt: skip
    shown = config.model_dump(mode="json", exclude_defaults=True, exclude={"autoscaling_config": {"policy"}})
    return DeploymentTarget(
        name=name,
        app_name=app_name,
        code_version=hashlib.blake2b(heavy.encode(), digest_size=8).hexdigest(),
        blob_key=blob_key,
        num_replicas=1 if config.num_replicas is None else config.num_replicas,
        settings=Settings(
            config.user_config,
            config.max_ongoing_requests,
            config.graceful_shutdown_wait_loop_s,
            config.health_check_timeout_s,
            config.logging_config,
        ),
        scaling=None if config.autoscaling_config is None else limits_of(config.autoscaling_config),
        max_queued_requests=config.max_queued_requests,
        backpressure_status=config.backpressure_config.status_code,
        retry_after_s=config.backpressure_config.retry_after_s,
        graceful_shutdown_timeout_ms=_ms(config.graceful_shutdown_timeout_s),
        health_check_period_ms=_ms(config.health_check_period_s),
        health_check_timeout_ms=_ms(config.health_check_timeout_s),
        constructor_retries_max=config.max_constructor_retry_count,
        rolling_update_fraction=config.rolling_update_percentage,
        max_surge_percent=config.max_surge_percent,
        max_replicas_per_node=config.max_replicas_per_node,
        actor_options=options,
        bundles=config.placement_group_bundles,
        bundle_strategy=config.placement_group_strategy or "PACK",
        bundle_labels=config.placement_group_bundle_label_selector,
        actors=actors,
        shown_config=shown,
    )


def _actor_target(config: DeploymentActorConfig, replica_options: dict[str, Any]) -> ActorTarget:
    """An actor that replicas share; it has their environment, unless it was given another."""
    options = dict(config.actor_options)
    if "runtime_env" in replica_options:
        options.setdefault("runtime_env", replica_options["runtime_env"])
    code = cloudpickle.dumps((config.get_actor_class(), config.init_args, config.init_kwargs))
    return ActorTarget(config.name, code, options)


def limits_of(config: AutoscalingConfig) -> ScalingLimits:
    """An AutoscalingConfig in whole milliseconds."""
    zero_s = config.downscale_to_zero_delay_s
    return ScalingLimits(
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        initial_replicas=config.initial_replicas,
        target_ongoing_requests=config.target_ongoing_requests or 2.0,
        look_back_ms=_ms(config.look_back_period_s),
        upscale_delay_ms=_ms(config.upscale_delay_s),
        downscale_delay_ms=_ms(config.downscale_delay_s),
        downscale_to_zero_delay_ms=None if zero_s is None else _ms(zero_s),
        upscaling_factor=config.get_upscaling_factor(),
        downscaling_factor=config.get_downscaling_factor(),
        aggregation=str(getattr(config.aggregation_function, "value", config.aggregation_function)),
        metrics_interval_ms=_ms(config.metrics_interval_s),
        policy=config.policy.get_serialized_policy_def(),
        policy_name=str(config.policy.policy_function),
        policy_kwargs=config.policy.policy_kwargs,
        fields=config.model_dump(mode="json", exclude={"policy"}, exclude_defaults=True),
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
