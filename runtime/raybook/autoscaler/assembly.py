"""Assembly: from a scaling configuration to a loop with its provider. Composition only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import msgspec

from raybook.autoscaler.loop import AutoscalerLoop
from raybook.autoscaler.provider_calls import TIMEOUT_S
from raybook.autoscaler.providers import Cluster, NodeProvider
from raybook.autoscaler.providers.local_processes import LocalProcesses, with_shares
from raybook.base.config import Config
from raybook.core.autoscaler.configuration import LOCAL_PROCESSES, read_configuration
from raybook.io import hardware
from raybook.io.channel import Channel
from raybook.io.clock import Clock
from raybook.protocol.messages.daemons import NodeOptions


def make_loop(
    configuration: Mapping[str, Any], node: NodeOptions, gcs: Channel, clock: Clock, config: Config
) -> AutoscalerLoop:
    """A loop that has not begun. node: options of a raylet that joins, as in ``providers.Cluster``. ValueError, TypeError
    for a configuration or a provider that cannot be used."""
    read = read_configuration(configuration)
    settings = read.settings
    if read.provider["type"] == LOCAL_PROCESSES:
        share, least = config.object_store_fraction, config.object_store_bytes_min
        settings = with_shares(settings, hardware.memory_bytes(), share, least)
        # What is on this machine is seen at once: a node is here in a second, or not at all.
        settings = msgspec.structs.replace(settings, **{**_LOCAL_TIMES, **_given(configuration, settings)})
    cluster = Cluster(node, settings, read.node_types, read.provider)
    provider = (
        LocalProcesses(cluster) if read.provider["type"] == LOCAL_PROCESSES else _external(read.provider, cluster)
    )
    timeout_s = float(read.provider.get("timeout_s", TIMEOUT_S))
    return AutoscalerLoop(gcs, provider, settings, clock, timeout_s)


_LOCAL_TIMES = {
    "launch_timeout_ms": 90_000,
    "join_timeout_ms": 90_000,
    "end_timeout_ms": 30_000,
    "backoff_ms": 1_000,
    "backoff_ms_max": 60_000,
}


def _given(configuration: Mapping[str, Any], settings: Any) -> dict[str, int]:
    """What the configuration says itself goes before what suits local nodes."""
    pairs = {"launch_timeout_s": "launch_timeout_ms", "join_timeout_s": "join_timeout_ms", "backoff_s": "backoff_ms"}
    return {field: getattr(settings, field) for key, field in pairs.items() if key in configuration}


def _external(provider: Mapping[str, Any], cluster: Cluster) -> NodeProvider:
    name = str(provider["module"])
    module, _, attribute = name.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), attribute)(cluster)
    except Exception as error:  # Whatever a stranger's class raises.
        raise ValueError(
            f"The provider {name!r} cannot be used: {error}. It must be package.module.Class of a class that takes a "
            "raybook.autoscaler.providers.Cluster, importable where the head runs."
        ) from error
    if not isinstance(made, NodeProvider):
        raise ValueError(f"The provider {name!r} is no raybook.autoscaler.providers.NodeProvider.")
    return made
