"""Settings: which types of nodes there may be, how many of each, and how patient the autoscaler is. Records only.

Source of the defaults: Ray's cluster configuration (``upscaling_speed`` 1, ``idle_timeout_minutes`` 5) and its
``AUTOSCALER_NODE_START_WAIT_S`` (900 s).
"""

from __future__ import annotations

import msgspec

from raybook.base.resources import Shape

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS


class NodeType(msgspec.Struct, frozen=True):
    """One kind of node. resources: fixed point, what an empty one offers. idle_timeout_ms: None: the cluster's."""

    name: str
    resources: Shape
    labels: dict[str, str] = {}
    min_nodes: int = 0
    max_nodes: int = 1
    idle_timeout_ms: int | None = None


class Settings(msgspec.Struct, frozen=True):
    """max_nodes: of all types together, the head not counted."""

    types: tuple[NodeType, ...]
    max_nodes: int
    upscaling_speed: float = 1.0
    """So many nodes may be on their way for each that runs, and ``LAUNCHES_MIN`` in any case."""
    idle_timeout_ms: int = 5 * MINUTE_MS
    launch_timeout_ms: int = 15 * MINUTE_MS
    """A node that was asked for and that the provider does not list by then was not made."""
    join_timeout_ms: int = 15 * MINUTE_MS
    """A node that the provider lists and that has not joined by then is taken down."""
    end_timeout_ms: int = 5 * MINUTE_MS
    """The provider is asked again to take down what it still lists."""
    retire_timeout_ms: int = 10 * SECOND_MS
    backoff_ms: int = 5 * SECOND_MS
    """After a failed launch its type rests; twice as long after each further one."""
    backoff_ms_max: int = 5 * MINUTE_MS
    patience_ms: int = 500
    """What waits counts when it has waited this long: reports of two nodes about one task are some milliseconds apart."""
    absence_ms: int = 30 * SECOND_MS
    """A node that the GCS does not mention any more is not held for dead at once: a restarted GCS learns of nodes again."""

    def type_named(self, name: str) -> NodeType | None:
        return next((node_type for node_type in self.types if node_type.name == name), None)

    def idle_timeout_of(self, node_type: NodeType) -> int:
        """In milliseconds."""
        return self.idle_timeout_ms if node_type.idle_timeout_ms is None else node_type.idle_timeout_ms


LAUNCHES_MIN = 5
"""Ray: ``UPSCALING_INITIAL_NUM_NODES``."""


def check_settings(settings: Settings) -> None:
    """ValueError that names the type and what is wrong with it."""
    names = [node_type.name for node_type in settings.types]
    for name in names:
        if not name or names.count(name) > 1:
            raise ValueError(f"Node types need names of their own, got {names}.")
    for node_type in settings.types:
        if not 0 <= node_type.min_nodes <= node_type.max_nodes:
            raise ValueError(
                f"Node type {node_type.name!r} has min_workers {node_type.min_nodes} and max_workers "
                f"{node_type.max_nodes}; 0 <= min_workers <= max_workers is needed."
            )
        if any(amount < 0 for amount in node_type.resources.values()):
            raise ValueError(f"Node type {node_type.name!r} has a negative amount: {node_type.resources}.")
    least = sum(node_type.min_nodes for node_type in settings.types)
    if settings.max_nodes < least:
        raise ValueError(
            f"The cluster may have {settings.max_nodes} nodes (max_workers), and the min_workers of its types add up to "
            f"{least}. Raise the one or lower the others."
        )
    if settings.upscaling_speed < 0:
        raise ValueError(f"upscaling_speed cannot be negative, got {settings.upscaling_speed}.")
    if settings.idle_timeout_ms < 0:
        raise ValueError(f"The idle timeout cannot be negative, got {settings.idle_timeout_ms / MINUTE_MS:g} minutes.")
