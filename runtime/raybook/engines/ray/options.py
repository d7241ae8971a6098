"""Options: raybook's checked records in the words that Ray takes. Pure but for Ray's own classes."""

from __future__ import annotations

from typing import Any

from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from raybook.base.environments import as_user_dict, environment_of
from raybook.base.resources import CPU, GPU, MEMORY, to_user
from raybook.base.specs import DYNAMIC, STREAMING
from raybook.base.strategies import SPREAD, group_target, node_target
from raybook.engines.engine import ActorOptions, CallOptions, TaskOptions


def amounts(resources: Any) -> dict[str, Any]:
    """num_cpus, num_gpus, memory and resources of a shape in fixed point."""
    shape = to_user(dict(resources))
    found: dict[str, Any] = {"num_cpus": shape.pop(CPU, 0), "num_gpus": shape.pop(GPU, 0)}
    memory = shape.pop(MEMORY, 0)
    if memory:
        found["memory"] = memory
    if shape:
        found["resources"] = shape
    return found


def placed(strategy: str, groups: Any) -> dict[str, Any]:
    """The scheduling strategy. groups: group id → Ray's placement group."""
    if strategy == SPREAD:
        return {"scheduling_strategy": "SPREAD"}
    node = node_target(strategy)
    if node is not None:
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id.hex(), node.soft)}
    group = group_target(strategy)
    if group is not None:
        chosen: PlacementGroup = groups(group.group_id)
        return {
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                chosen, group.index, placement_group_capture_child_tasks=group.captures
            )
        }
    return {}


def environment(key: str) -> dict[str, Any]:
    """The runtime environment of a key."""
    if not key:
        return {}
    fields = as_user_dict(environment_of(key))
    return {"runtime_env": fields} if fields else {}


def returns(count: int) -> dict[str, Any]:
    """num_returns. ValueError for a dynamic generator."""
    if count == DYNAMIC:
        raise ValueError("num_returns='dynamic' is not to be had with engine='ray'. Use num_returns='streaming'.")
    return {"num_returns": "streaming" if count == STREAMING else count}


def _streams(count: int, backpressure: int) -> dict[str, Any]:
    return {"_generator_backpressure_num_objects": backpressure} if count == STREAMING and backpressure > 0 else {}


def of_task(options: TaskOptions, groups: Any) -> dict[str, Any]:
    """What ``.options`` of a remote function takes."""
    kind = options.scheduling_class
    found = {
        "name": options.name,
        "max_retries": options.max_retries,
        "retry_exceptions": _retried(options.retry_exceptions),
        **returns(options.num_returns),
        **_streams(options.num_returns, options.backpressure),
        **amounts(kind.resources),
        **placed(kind.strategy, groups),
        **environment(kind.environment),
    }
    if kind.labels:
        found["label_selector"] = dict(kind.labels)
    if kind.fallbacks:
        found["fallback_strategy"] = [{"label_selector": dict(labels)} for labels in kind.fallbacks]
    return found


def of_actor(options: ActorOptions, namespace: str, groups: Any) -> dict[str, Any]:
    """What ``.options`` of an actor class takes."""
    found: dict[str, Any] = {
        "max_restarts": options.max_restarts,
        "max_task_retries": options.max_task_retries,
        "max_pending_calls": options.max_pending_calls,
        **amounts(options.resources),
        **placed(options.strategy, groups),
        **environment(options.environment),
    }
    if CPU not in options.resources and options.placement.get(CPU):
        # Ray's own default: a CPU to be placed, none while it lives.
        del found["num_cpus"]
    if options.max_concurrency is not None:
        found["max_concurrency"] = options.max_concurrency
    if options.name:
        found |= {"name": options.name, "namespace": namespace, "get_if_exists": options.get_if_exists}
    if options.detached:
        found["lifetime"] = "detached"
    if options.labels:
        found["label_selector"] = dict(options.labels)
    return found


def of_call(options: CallOptions) -> dict[str, Any]:
    """What ``.options`` of an actor's method takes."""
    found = {
        "name": options.name,
        **returns(options.num_returns),
        **_streams(options.num_returns, options.backpressure),
        "max_task_retries": options.max_task_retries,
        "retry_exceptions": _retried(options.retry_exceptions),
    }
    if options.concurrency_group:
        found["concurrency_group"] = options.concurrency_group
    return found


def _retried(wanted: Any) -> Any:
    return list(wanted) if isinstance(wanted, tuple) else wanted
