"""raybook.util: Ray's utilities, at Ray's names. All of them are written above the public API.

    actor_pool        ActorPool             queue             Queue, Empty, Full
    helpers           as_completed, map_unordered (batching: many small items in one task)
    multiprocessing   Pool                  joblib            register_ray
    state             what the cluster has and does           metrics   Counter, Gauge, Histogram
    scheduling_strategies                   check_serialize   inspect_serializability
    placement_group   PlacementGroup, placement_group, remove_placement_group, placement_group_table, ...
    serialization     register_serializer   named_actors      list_named_actors
    collective        allreduce, broadcast, send, ... between actors
    dask              Dask collections computed by tasks      rpdb      a debugger for tasks
    client            whether this is a thin client
    debug             log_once              accelerators      names of accelerator types

Names are found when they are first used: a worker that needs one of them need not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybook.util.actor_pool import ActorPool
    from raybook.util.check_serialize import inspect_serializability
    from raybook.util.client import connect, disconnect
    from raybook.util.debug import disable_log_once_globally, enable_periodic_logging, log_once
    from raybook.util.helpers import as_completed, map_unordered
    from raybook.util.named_actors import list_named_actors
    from raybook.util.node_address import get_node_ip_address
    from raybook.util.placement_group import (
        get_current_placement_group,
        get_placement_group,
        placement_group,
        placement_group_table,
        remove_placement_group,
    )
    from raybook.util.serialization import deregister_serializer, register_serializer

_HOMES = {
    "ActorPool": "actor_pool",
    "as_completed": "helpers",
    "connect": "client",
    "deregister_serializer": "serialization",
    "disable_log_once_globally": "debug",
    "disconnect": "client",
    "enable_periodic_logging": "debug",
    "get_current_placement_group": "placement_group",
    "get_node_ip_address": "node_address",
    "get_placement_group": "placement_group",
    "inspect_serializability": "check_serialize",
    "list_named_actors": "named_actors",
    "log_once": "debug",
    "map_unordered": "helpers",
    "placement_group": "placement_group",
    "placement_group_table": "placement_group",
    "register_serializer": "serialization",
    "remove_placement_group": "placement_group",
}
"""Which module of this package a name is from."""

_MODULES = frozenset(
    """
    accelerators actor_pool annotations check_serialize client collective debug helpers joblib metrics multiprocessing pdb
    queue rpdb scheduling_strategies serialization state
    """.split()
)
"""What may be used as ``raybook.util.<module>`` without an import of its own."""

_OTHER_NAMES = {"pdb": "rpdb"}

__all__ = [
    "ActorPool",
    "as_completed",
    "connect",
    "deregister_serializer",
    "disable_log_once_globally",
    "disconnect",
    "enable_periodic_logging",
    "get_current_placement_group",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "register_serializer",
    "remove_placement_group",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"raybook.util.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"raybook.util.{_OTHER_NAMES.get(name, name)}")
    else:
        raise AttributeError(f"module 'raybook.util' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
