"""Deployment options: their names, once: for the decorator, for ``Deployment.options``, and for what `help` shows."""

from __future__ import annotations

import inspect
from typing import Any, TypedDict

from raybook.serve.config import (
    AutoscalingConfig,
    BackpressureConfig,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from raybook.serve.handle_options import DEFAULT
from raybook.serve.logging_config import LoggingConfig


class DeploymentOptions(TypedDict, total=False):
    """What ``serve.deployment`` and ``Deployment.options`` take, in Ray's order."""

    name: str
    version: Any
    num_replicas: int | str | None
    ray_actor_options: dict[str, Any] | None
    placement_group_bundles: list[dict[str, float]] | None
    placement_group_strategy: str | None
    placement_group_bundle_label_selector: list[dict[str, str]] | None
    max_replicas_per_node: int | None
    user_config: Any
    max_ongoing_requests: int
    max_queued_requests: int
    backpressure_config: dict[str, Any] | BackpressureConfig | None
    autoscaling_config: dict[str, Any] | AutoscalingConfig | None
    graceful_shutdown_wait_loop_s: float
    graceful_shutdown_timeout_s: float
    health_check_period_s: float
    health_check_timeout_s: float
    logging_config: dict[str, Any] | LoggingConfig | None
    request_router_config: dict[str, Any] | RequestRouterConfig | None
    max_constructor_retry_count: int
    gang_scheduling_config: dict[str, Any] | GangSchedulingConfig | None
    deployment_actors: list[dict[str, Any] | DeploymentActorConfig] | None
    rolling_update_percentage: float
    max_surge_percent: int


def signature_of(*first: str, last: tuple[str, ...] = ()) -> inspect.Signature:
    """Parameters `first`, None or nothing by default, then every option, then `last`; "not given" by default."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    begin = [
        inspect.Parameter(name, kind, default=inspect.Parameter.empty if name == "self" else None) for name in first
    ]
    options = [
        inspect.Parameter(name, kind, default=DEFAULT.VALUE) for name in (*DeploymentOptions.__annotations__, *last)
    ]
    return inspect.Signature([*begin, *options])


def given_options(whose: str, signature: inspect.Signature, args: tuple, options: Any) -> dict[str, Any]:
    """What was given of a signature's options. TypeError for unknown ones; ValueError for what Ray has removed."""
    try:
        bound = signature.bind(*args, **options).arguments
    except TypeError as error:
        raise TypeError(f"{whose} {error}.") from None
    given = {name: value for name, value in bound.items() if value is not DEFAULT.VALUE}
    if "version" in given:
        raise ValueError(f"`version` in `{whose}` has been removed. Serve manages deployment versions internally.")
    return given
