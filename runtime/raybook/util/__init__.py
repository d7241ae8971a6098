"""raybook.util: Ray's utilities, at Ray's names. All of them are written above the public API.

actor_pool        ActorPool             queue             Queue, Empty, Full
helpers           as_completed, map_unordered (batching: many small items in one task)
multiprocessing   Pool                  joblib            register_ray
state             what the cluster has and does           metrics   Counter, Gauge, Histogram
scheduling_strategies                   check_serialize   inspect_serializability
serialization     register_serializer   named_actors      list_named_actors
"""

from raybook.util.actor_pool import ActorPool
from raybook.util.check_serialize import inspect_serializability
from raybook.util.helpers import as_completed, map_unordered
from raybook.util.named_actors import list_named_actors
from raybook.util.node_address import get_node_ip_address
from raybook.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "get_node_ip_address",
    "inspect_serializability",
    "list_named_actors",
    "map_unordered",
    "register_serializer",
]
