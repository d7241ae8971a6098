"""raybook: Ray's programming model for people who work in notebooks.

    import raybook as ray

    @ray.remote
    def square(x):
        return x * x

    ray.get([square.remote(i) for i in range(4)])    # [0, 1, 4, 9]

A plain function has no ``.remote``: decorate it with ``@ray.remote``, or write ``ray.remote(f).remote(x)``.

The rooms, in reading order; each opens with what it decides and what it does not know:

    base        vocabulary: ids, resources, specs, errors, configuration
    protocol    bytes in, messages out: frames, messages, serialization
    core        what decides: owner, lease manager, tables; pure state machines
    io          what touches the world: sockets, shared memory, processes
    gcs raylet worker session head    the daemons: thin shells that carry out what core decides
    engines     who runs tasks: the owner in this process, on the head, or in-process for debuggers; one protocol
    api         the verbs below, decorators, handles, options
    observe     what panels see: facts, mirror, views
    ml train tune    the libraries, above the API

A task's way: api/remote_function → engines/native → core/owner → core/node/lease_manager → worker/executor →
core/owner.

Importing this package imports nothing else of it: names are found when they are first used.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module

from raybook.base.version import VERSION as __version__

TYPE_CHECKING = False  # Spares the import of typing, which is most of what importing raybook would cost.
if TYPE_CHECKING:
    from typing import Any

    from raybook import exceptions
    from raybook.api import (
        ActorClass,
        ActorHandle,
        DynamicObjectRefGenerator,
        ObjectRef,
        ObjectRefGenerator,
        RayContext,
        RemoteFunction,
        available_resources,
        cancel,
        cluster_resources,
        current_session,
        get,
        get_actor,
        get_gpu_ids,
        get_runtime_context,
        init,
        is_initialized,
        kill,
        memory,
        method,
        nodes,
        publish_fact,
        put,
        remote,
        shutdown,
        timeline,
        wait,
    )
    from raybook.as_ray import install_as_ray

_VERBS = frozenset(
    """
    ActorClass ActorHandle ActorClassID ActorID ClusterID DynamicObjectRefGenerator FunctionID JobConfig JobID Language
    LoggingConfig NodeID ObjectRef ObjectRefGenerator PlacementGroupID RayContext RemoteFunction TaskID UniqueID WorkerID
    available_resources cancel cluster_resources current_session get get_actor get_gpu_ids get_runtime_context init
    is_initialized kill memory method nodes publish_fact put remote shutdown timeline wait
    """.split()
)
_HOMES = {
    "ClientBuilder": "raybook.client_builder",
    "client": "raybook.client_builder",
    "drain_node": "raybook.api.scaling",
    "install_as_ray": "raybook.as_ray",
    "cpp_function": "raybook.api.other_languages",
    "java_actor_class": "raybook.api.other_languages",
    "java_function": "raybook.api.other_languages",
}
"""Names that are in none of these places."""
_ALIASES = {"ObjectID": "ObjectRef"}
"""Older names of Ray's."""
_CONSTANTS = {
    "SCRIPT_MODE": 0,
    "WORKER_MODE": 1,
    "LOCAL_MODE": 2,
    "SPILL_WORKER_MODE": 3,
    "RESTORE_WORKER_MODE": 4,
    "__commit__": "",
}
"""Numbers that code written for Ray compares modes with, and the commit that nobody knows."""
_MODULES = frozenset(
    """
    _common _private _raylet actor air api autoscaler cloudpickle cluster_utils cross_language dag exceptions
    experimental job_config job_submission k8s ml observe remote_function runtime_context runtime_env train tune data
    serve types util
    """.split()
)

__all__ = [
    "ActorClass",
    "ActorHandle",
    "DynamicObjectRefGenerator",
    "ObjectRef",
    "ObjectRefGenerator",
    "RayContext",
    "RemoteFunction",
    "__version__",
    "available_resources",
    "cancel",
    "cluster_resources",
    "current_session",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "install_as_ray",
    "is_initialized",
    "kill",
    "memory",
    "method",
    "nodes",
    "publish_fact",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        value = getattr(import_module("raybook.api"), name)
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _ALIASES:
        value = __getattr__(_ALIASES[name])
    elif name in _CONSTANTS:
        value = _CONSTANTS[name]
    elif name in _MODULES:
        try:
            value = import_module(f"raybook.{name}")
        except ModuleNotFoundError as error:
            # The second name is what install_as_ray calls it.
            if error.name not in (f"raybook.{name}", f"ray.{name}"):
                raise
            raise AttributeError(f"raybook.{name} comes with a later version of raybook.") from None
    else:
        raise AttributeError(f"module 'raybook' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_VERBS, *_MODULES, *_HOMES})


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext raybook``: magics, panels and worker output for this notebook."""
    import_module("raybook_kernel").load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext raybook``."""
    import_module("raybook_kernel").unload_ipython_extension(shell)


def _load_in_kernel() -> None:
    """In a running Jupyter kernel, importing raybook is enough to have its magics; without what they need, it goes on
    without them and says so."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return
    try:
        import_module("raybook_kernel").register_if_in_kernel()
    except ImportError as error:
        warning = (
            f"raybook's magics and panels are not loaded ({error}). Install them: pip install 'raybook[notebook]'."
        )
        warnings.warn(warning, stacklevel=3)


_load_in_kernel()
