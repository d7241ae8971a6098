"""Configuration: a cluster's scaling configuration, in the words of Ray's YAML, checked and made into settings.

    max_workers: 10                      of all types together; the sum of the types' without it
    upscaling_speed: 1.0
    idle_timeout_minutes: 5
    provider: {type: local_processes}    or type: external, module: package.module.Class; other keys are the provider's
    available_node_types:
      worker: {resources: {CPU: 4}, labels: {}, min_workers: 0, max_workers: 10, idle_timeout_s: 60, node_config: {}}
    head_node_type: head                 a type of that name is the head's and is never launched
Beyond Ray's words: launch_timeout_s, join_timeout_s, patience_s, backoff_s. What configures Ray's cluster launcher (auth,
docker, setup commands, …) is not read here. Pure: a mapping in, records out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from raybook.base.label_selector import ACCELERATOR_TYPE_LABEL
from raybook.base.resources import ACCELERATOR_RESOURCE, CPU, Shape, shape_of
from raybook.core.autoscaler.settings import NodeType, Settings, check_settings
from raybook.protocol.messages.daemons import AutoscaleBounds

LOCAL_PROCESSES = "local_processes"
EXTERNAL = "external"
LAUNCHER_KEYS = frozenset(
    """
    auth cluster_name cluster_synced_files docker file_mounts file_mounts_sync_continuously head_setup_commands
    head_start_ray_commands initialization_commands no_restart rsync_exclude rsync_filter setup_commands
    worker_setup_commands worker_start_ray_commands worker_default_node_type
    """.split()
)
"""Words of Ray's that configure its cluster launcher."""
KEYS = frozenset(
    """
    available_node_types backoff_s head_node_type idle_timeout_minutes join_timeout_s launch_timeout_s max_workers patience_s
    provider upscaling_speed
    """.split()
)
TYPE_KEYS = frozenset("resources labels min_workers max_workers idle_timeout_s node_config".split())
_TIMES = {
    "launch_timeout_s": "launch_timeout_ms",
    "join_timeout_s": "join_timeout_ms",
    "patience_s": "patience_ms",
    "backoff_s": "backoff_ms",
}


LOCAL_TYPE = "node"
"""Name of the only type of nodes that a notebook's cluster has beside its head."""


def local_configuration(bounds: AutoscaleBounds, node_cpus: float) -> dict[str, Any]:
    """Of a cluster on one machine whose nodes are all alike."""
    kind = {"resources": {CPU: node_cpus}, "min_workers": bounds.min_nodes, "max_workers": bounds.max_nodes}
    return {
        "provider": {"type": LOCAL_PROCESSES},
        "idle_timeout_minutes": bounds.idle_timeout_s / 60,
        "available_node_types": {LOCAL_TYPE: kind},
    }


class ScalingConfiguration(msgspec.Struct):
    """provider: its part of the configuration, as written. node_types: each type's ``node_config``, for the provider."""

    settings: Settings
    provider: dict[str, Any]
    node_types: dict[str, dict[str, Any]]


def read_configuration(config: Mapping[str, Any]) -> ScalingConfiguration:
    """Check and gather. ValueError or TypeError that names the key and what would do."""
    _check_keys("the scaling configuration", config, KEYS | LAUNCHER_KEYS)
    listed = config.get("available_node_types") or {}
    if not isinstance(listed, Mapping):
        raise TypeError(f"available_node_types must map names to types, got {listed!r}.")
    head = config.get("head_node_type")
    types = tuple(_node_type(str(name), body) for name, body in listed.items() if name != head)
    most = config.get("max_workers")
    if most is None:
        most = sum(node_type.max_nodes for node_type in types)
    values: dict[str, Any] = {
        "types": types,
        "max_nodes": _count("max_workers", most),
        "upscaling_speed": _number("upscaling_speed", config.get("upscaling_speed", 1.0)),
        "idle_timeout_ms": int(60_000 * _number("idle_timeout_minutes", config.get("idle_timeout_minutes", 5))),
    }
    values.update({field: int(1000 * _number(key, config[key])) for key, field in _TIMES.items() if key in config})
    settings = Settings(**values)
    check_settings(settings)
    bodies = {str(name): dict(body.get("node_config") or {}) for name, body in listed.items()}
    return ScalingConfiguration(settings, _provider(config.get("provider")), bodies)


def _provider(provider: Any) -> dict[str, Any]:
    if provider is None:
        return {"type": LOCAL_PROCESSES}
    if not isinstance(provider, Mapping):
        raise TypeError(f"provider must be a mapping with a type, got {provider!r}.")
    kind = provider.get("type")
    if kind not in (LOCAL_PROCESSES, EXTERNAL):
        raise ValueError(
            f"provider has the type {kind!r}; there are {LOCAL_PROCESSES!r} (nodes on this machine) and {EXTERNAL!r}, with "
            "module: package.module.Class, for a provider of your own."
        )
    if kind == EXTERNAL and not isinstance(provider.get("module"), str):
        raise ValueError("A provider of type 'external' needs module: package.module.Class.")
    return dict(provider)


def _node_type(name: str, body: Any) -> NodeType:
    where = f"node type {name!r}"
    if not isinstance(body, Mapping):
        raise TypeError(f"The {where} must be a mapping, got {body!r}.")
    _check_keys(where, body, TYPE_KEYS)
    amounts = body.get("resources") or {}
    labels = body.get("labels") or {}
    if not isinstance(amounts, Mapping) or not isinstance(labels, Mapping):
        raise TypeError(f"The {where} needs mappings for resources and labels, got {amounts!r} and {labels!r}.")
    try:
        resources = shape_of({str(resource): amount for resource, amount in amounts.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"The {where} cannot have these resources: {error}") from None
    idle = body.get("idle_timeout_s")
    least = _count(f"{where}: min_workers", body.get("min_workers", 0))
    return NodeType(
        name,
        resources,
        _labels(resources, labels),
        least,
        _count(f"{where}: max_workers", body.get("max_workers", max(least, 1))),
        None if idle is None else int(1000 * _number(f"{where}: idle_timeout_s", idle)),
    )


def _labels(resources: Shape, labels: Mapping[Any, Any]) -> dict[str, str]:
    """The user's, and the type of accelerator that the resources name."""
    found = {str(key): str(value) for key, value in labels.items()}
    for name in resources:
        if name.startswith(ACCELERATOR_RESOURCE):
            found.setdefault(ACCELERATOR_TYPE_LABEL, name.removeprefix(ACCELERATOR_RESOURCE))
    return found


def _check_keys(where: str, body: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(str(key) for key in body if key not in known)
    if unknown:
        raise ValueError(f"There is no {unknown[0]!r} in {where}; there is {', '.join(sorted(known - LAUNCHER_KEYS))}.")


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number of nodes, got {value!r}.")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number that is not negative, got {value!r}.")
    return float(value)
