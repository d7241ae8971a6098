"""Autoscaling policies: Serve's own as a function, and what a custom one is called with."""

from __future__ import annotations

import math
import time
from typing import Any

from raybook.serve.autoscaling_context import AutoscalingContext
from raybook.serve.config import AutoscalingConfig
from raybook.serve.core.autoscaling import Autoscaler
from raybook.serve.core.names import DeploymentID, ReplicaID


def replica_queue_length_autoscaling_policy(ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Serve's own: as many replicas as give each ``target_ongoing_requests``. Factors, delays and bounds are applied to
    what it returns."""
    if ctx.current_num_replicas == 0:
        return (max(1, ctx.target_num_replicas) if ctx.total_num_requests > 0 else ctx.target_num_replicas), {}
    return ctx.total_num_requests / ctx.config.get_target_ongoing_requests(), {}


default_autoscaling_policy = replica_queue_length_autoscaling_policy


def make_context(
    deployment: DeploymentID,
    scaler: Autoscaler,
    replica_ids: list[str],
    queued: int,
    custom: dict[str, dict[str, float]],
    state: dict[str, Any],
    last_up_s: float | None,
    last_down_s: float | None,
) -> AutoscalingContext:
    """What a policy is shown now. custom: replica → name → number."""
    limits = scaler.limits
    fields = {key: value for key, value in limits.fields.items() if key != "policy"}
    by_name: dict[str, dict[ReplicaID, float]] = {}
    for unique_id, metrics in custom.items():
        for name, value in metrics.items():
            by_name.setdefault(name, {})[ReplicaID(unique_id, deployment)] = value
    now_s = time.time()
    return AutoscalingContext(
        deployment_id=deployment,
        deployment_name=deployment.name,
        app_name=deployment.app_name,
        current_num_replicas=len(replica_ids),
        target_num_replicas=scaler.target,
        running_replicas=[ReplicaID(unique_id, deployment) for unique_id in replica_ids],
        total_num_requests=scaler.load(),
        total_queued_requests=float(queued),
        aggregated_metrics=by_name,
        raw_metrics={
            name: {each: [(now_s, value)] for each, value in values.items()} for name, values in by_name.items()
        },
        capacity_adjusted_min_replicas=limits.min_replicas,
        capacity_adjusted_max_replicas=limits.max_replicas,
        policy_state=state,
        last_scale_up_time=last_up_s,
        last_scale_down_time=last_down_s,
        current_time=now_s,
        config=AutoscalingConfig(**fields),
    )


def ceiling(value: float) -> int:
    """A number of replicas for a fraction of one."""
    return math.ceil(value)
