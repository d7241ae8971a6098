"""Placement: what a replica needs, and on which node it must be when there is a limit a node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from raybook.api import nodes
from raybook.serve.core.target import DeploymentTarget


def resources_of(target: DeploymentTarget) -> dict[str, float]:
    """Resources of one replica by name, those of its placement group if it has one."""
    if target.bundles:
        total: Counter[str] = Counter()
        for bundle in target.bundles:
            total.update(bundle)
        return dict(total)
    options = target.actor_options
    amounts = {"CPU": options.get("num_cpus", 1), "GPU": options.get("num_gpus", 0), **options.get("resources", {})}
    return {name: float(amount) for name, amount in amounts.items() if amount}


def node_for(target: DeploymentTarget, replicas: Sequence[Any]) -> str | None:
    """The node with the fewest replicas that may have another; None when there is no limit, or none may."""
    limit = target.max_replicas_per_node
    if limit is None:
        return None
    wanted = resources_of(target)
    taken = Counter(replica.placed_on for replica in replicas)
    fitting = [
        row["NodeID"]
        for row in nodes()
        if row["Alive"]
        and taken[row["NodeID"]] < limit
        and all(row["Resources"].get(name, 0.0) >= amount for name, amount in wanted.items())
    ]
    return min(fitting, key=lambda node_id: (taken[node_id], node_id)) if fitting else None
