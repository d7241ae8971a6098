"""What a node offers: from what the machine has and what its starter asked for.

Pure arithmetic: whoever calls has measured the machine. Source of the shares: ``Config.object_store_*`` (Ray: 30 % of
memory for objects, the rest for processes).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from raybook.base.config import Config
from raybook.base.resources import CPU, GPU, MEMORY, OBJECT_STORE_MEMORY, Shape, shape_of


class Machine(msgspec.Struct, frozen=True):
    """What this process may use of the machine."""

    cpus: int
    gpus: int
    memory_bytes: int


def node_resources(
    config: Config,
    machine: Machine,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory_bytes: int | None = None,
    object_store_bytes: int | None = None,
    custom: Mapping[str, float] | None = None,
) -> Shape:
    """Fixed-point totals of a node; None means "as the machine has". ValueError or TypeError naming the resource for
    amounts that make no sense, and for names that have an option of their own."""
    for name in custom or {}:
        if name in (CPU, GPU, MEMORY, OBJECT_STORE_MEMORY):
            raise ValueError(f"The resource {name!r} has an option of its own; it cannot be in `resources`.")
    if object_store_bytes is None:
        share = int(machine.memory_bytes * config.object_store_fraction)
        object_store_bytes = min(max(share, config.object_store_bytes_min), config.object_store_bytes_max)
    elif object_store_bytes < config.object_store_bytes_min:
        raise ValueError(
            f"The object store needs at least {config.object_store_bytes_min} bytes, got {object_store_bytes}."
        )
    if memory_bytes is None:
        memory_bytes = max(0, machine.memory_bytes - object_store_bytes)
    return shape_of(
        {
            CPU: machine.cpus if num_cpus is None else num_cpus,
            GPU: machine.gpus if num_gpus is None else num_gpus,
            MEMORY: memory_bytes,
            OBJECT_STORE_MEMORY: object_store_bytes,
            **(custom or {}),
        }
    )
