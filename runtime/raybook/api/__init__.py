"""The public Python API above the Engine protocol: verbs, decorators, handles, options. Knows no socket and no process.

startup          init shutdown is_initialized      (options: init_options; engine: engine_factory; result: ray_context)
context          the one current runtime           (connect makes an engine current)
session          what outlives this process, of a thin client
decorator        remote                            (remote_function, actor, actor_handle; signature checks arguments)
options          every keyword and its check       (option_checks, strategies)
placement_group  PlacementGroup and its verbs
object_ref       ObjectRef                         object_ops: get put wait cancel kill get_actor
object_ref_generator  ObjectRefGenerator           returns: what a call gives back
runtime_context  who and where the code is         state: nodes, resources, actors
facts            rows for panels, from libraries
memory           who holds what                    (holders: variables, memory_table: as text)
"""

from raybook.api.actor import ActorClass, exit_actor, method
from raybook.api.actor_handle import ActorHandle, ActorMethod
from raybook.api.context import current_runtime
from raybook.api.decorator import remote
from raybook.api.facts import publish_fact
from raybook.api.job_config import JobConfig
from raybook.api.memory import memory
from raybook.api.object_ops import cancel, get, get_actor, kill, put, wait
from raybook.api.object_ref import ObjectRef
from raybook.api.object_ref_generator import ObjectRefGenerator
from raybook.api.other_languages import Language
from raybook.api.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from raybook.api.public_ids import (
    ActorClassID,
    ActorID,
    ClusterID,
    FunctionID,
    JobID,
    NodeID,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)
from raybook.api.ray_context import RayContext
from raybook.api.remote_function import RemoteFunction
from raybook.api.runtime_context import RuntimeContext, get_gpu_ids, get_runtime_context
from raybook.api.session import current_session
from raybook.api.startup import init, is_initialized, shutdown
from raybook.api.state import available_resources, cluster_resources, list_actors, nodes
from raybook.api.strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy
from raybook.api.timeline import timeline
from raybook.base.dynamic_generator import DynamicObjectRefGenerator
from raybook.base.logging_config import LoggingConfig

__all__ = [
    "ActorClassID",
    "ActorID",
    "ClusterID",
    "FunctionID",
    "JobConfig",
    "JobID",
    "Language",
    "LoggingConfig",
    "NodeID",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "ActorClass",
    "ActorHandle",
    "ActorMethod",
    "NodeAffinitySchedulingStrategy",
    "DynamicObjectRefGenerator",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroup",
    "PlacementGroupSchedulingStrategy",
    "RayContext",
    "RemoteFunction",
    "RuntimeContext",
    "available_resources",
    "cancel",
    "cluster_resources",
    "current_runtime",
    "current_session",
    "exit_actor",
    "get",
    "get_actor",
    "get_current_placement_group",
    "get_gpu_ids",
    "get_placement_group",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "memory",
    "list_actors",
    "method",
    "nodes",
    "placement_group",
    "placement_group_table",
    "publish_fact",
    "put",
    "remote",
    "remove_placement_group",
    "shutdown",
    "timeline",
    "wait",
]
