"""What an execution may use of the cluster: asked once, when it starts."""

from __future__ import annotations

import math

from raybook.api import cluster_resources
from raybook.data.context import DataContext
from raybook.data.core.scheduler import Limits

STORE_SHARE = 0.5
"""Of the object store, for blocks in flight: the rest is the user's, and room for what tasks are just writing."""
STORE_UNKNOWN = 1 << 30


def cluster_cpus() -> float:
    """CPUs of the whole cluster; at least one, so that plans have a shape where all nodes are still to come."""
    return max(1.0, float(cluster_resources().get("CPU", 1.0)))


def limits_of(context: DataContext) -> Limits:
    """Limits from the context's options, and from what the cluster has where they say nothing."""
    there = cluster_resources()
    options = context.execution_options
    limits, excluded = options.resource_limits, options.exclude_resources
    cpus = min(limits.cpu, max(1.0, float(there.get("CPU", 1.0)) - excluded.cpu))
    gpus = min(limits.gpu, max(0.0, float(there.get("GPU", 0.0)) - excluded.gpu))
    store = float(there.get("object_store_memory", STORE_UNKNOWN))
    share = context.override_object_store_memory_limit_fraction or STORE_SHARE
    by_share = max(0.0, store * share - excluded.object_store_memory)
    memory = limits.object_store_memory if not math.isinf(limits.object_store_memory) else by_share
    slack = 1.0 if math.isinf(limits.cpu) else 0.0
    return Limits(cpus, gpus, memory, context.op_resource_reservation_ratio, slack)
