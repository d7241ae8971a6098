"""Serve: models online: deployments that answer HTTP and handles, scale, compose and are upgraded while they serve.

Reading order: `deployment` and `build_app` what users write · `controller` with `deployment_keeper` and `replica_keeper`
what makes it so, `core/` what decides · `replica` what answers · `handle`, `router` and `hub` how requests find it ·
`proxy` and `http_replica` HTTP.

Names are found when they are first used: a replica's process needs few of them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybook.serve.api import (
        RunTarget,
        _run,
        _run_many,
        delete,
        get_app_handle,
        get_deployment_handle,
        get_multiplexed_model_id,
        get_replica_context,
        get_replica_rank,
        get_world_size,
        run,
        run_many,
        shutdown,
        shutdown_async,
        start,
        status,
    )
    from raybook.serve.asgi_ingress import ingress
    from raybook.serve.batching import batch
    from raybook.serve.config import ControllerOptions, HTTPOptions
    from raybook.serve.deployment import Application, Deployment, deployment
    from raybook.serve.deployment_actor import get_deployment_actor, get_deployment_actor_context
    from raybook.serve.logging_config import TracingConfig
    from raybook.serve.multiplex import multiplexed
    from raybook.serve.utils import get_trace_context

_NAMES_BY_MODULE = {
    "api": "RunTarget _run _run_many delete details get_app_handle get_deployment_handle get_multiplexed_model_id "
    "get_replica_context get_replica_rank get_world_size run run_many shutdown shutdown_async start status",
    "batching": "batch",
    "config": "HTTPOptions gRPCOptions AutoscalingConfig ControllerOptions ProxyLocation",
    "deploy_config": "add_to_path config_of deploy_config load_application parse_config",
    "deployment": "Application Deployment deployment",
    "deployment_actor": "get_deployment_actor get_deployment_actor_context",
    "logging_config": "TracingConfig",
    "utils": "get_trace_context",
    "asgi_ingress": "ingress",
    "multiplex": "multiplexed",
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}
_MODULES = frozenset(
    {"api", "autoscaling_policy", "batching", "config", "context", "exceptions", "gang", "grpc_util", "handle", "metrics",
     "multiplex", "request_router", "schema", "utils"}
)  # fmt: skip

__all__ = [
    "Application",
    "ControllerOptions",
    "Deployment",
    "HTTPOptions",
    "RunTarget",
    "TracingConfig",
    "_run",
    "_run_many",
    "batch",
    "delete",
    "deployment",
    "get_app_handle",
    "get_deployment_actor",
    "get_deployment_actor_context",
    "get_deployment_handle",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_replica_rank",
    "get_trace_context",
    "get_world_size",
    "ingress",
    "multiplexed",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
]


class _Package(ModuleType):
    """This package. ``deployment`` is a decorator and, as in Ray, a module: the import system, which sets a package's
    attribute to each submodule that is imported, must not put the second in the place of the first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # By name, as plain modules are pickled: functions of notebooks refer to it.
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"raybook.serve.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'raybook.serve' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"raybook.serve.{_MODULE_OF[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is not None and not error.name.startswith("raybook"):
            error.msg += ". Serve needs it: pip install 'raybook[serve]'."
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
