"""The verbs: run, start, delete, status, shutdown, and the ways to a handle. Checks of what the user passed, then the
client."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raybook.api import get as get_value
from raybook.api import get_runtime_context
from raybook.api.context import current_engine
from raybook.serve import client
from raybook.serve.build_app import BuiltApplication, build_app
from raybook.serve.config import ControllerOptions, HTTPOptions, ProxyLocation, gRPCOptions
from raybook.serve.context import ReplicaContext, batch_context, replica_context, request_context
from raybook.serve.core.names import DEFAULT_APP
from raybook.serve.core.routes import check_prefix
from raybook.serve.deployment import Application
from raybook.serve.exceptions import RayServeException
from raybook.serve.handle import DeploymentHandle
from raybook.serve.local_testing import build_local_app
from raybook.serve.logging_config import LoggingConfig, TracingConfig
from raybook.serve.status_overview import ServeStatus, status_of

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class RunTarget:
    """One application of ``run_many``."""

    target: Application
    name: str = DEFAULT_APP
    route_prefix: str | None = "/"
    logging_config: dict[str, Any] | LoggingConfig | None = None
    external_scaler_enabled: bool = False


def start(
    proxy_location: str | ProxyLocation | None = None,
    http_options: dict[str, Any] | HTTPOptions | None = None,
    grpc_options: dict[str, Any] | gRPCOptions | None = None,
    logging_config: dict[str, Any] | LoggingConfig | None = None,
    tracing_config: dict[str, Any] | TracingConfig | None = None,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
    **kwargs: Any,
) -> None:
    """Start Serve in this cluster with these options, and wait until it listens. ``run`` does it with the defaults.

    controller_options: variables of the environment for the controller. The options stay until ``shutdown``: where Serve
    runs already, it goes on as it is, with a warning if others were asked for. RayServeException when the port is taken;
    ValueError for options that are wrong.
    """
    if kwargs:
        raise TypeError(f"serve.start() got unexpected arguments: {', '.join(sorted(kwargs))}.")
    options = _http(http_options)
    location = ProxyLocation._normalize(proxy_location) or options.location or ProxyLocation.EveryNode
    if options.host is None:
        location = ProxyLocation.Disabled
    _logging(logging_config)
    if isinstance(tracing_config, dict):
        TracingConfig(**tracing_config)
    wanted = _plain_http(options)
    grpc = _grpc(grpc_options).model_dump(mode="json")
    controller = client.start(wanted, grpc, location.value, _environment(controller_options))
    in_force = get_value(controller.ready.remote())
    if http_options is not None and in_force["http"] != wanted:
        logger.warning("Serve runs already, with other HTTP options, which stay: %s", in_force["http"])


def _http(options: dict[str, Any] | HTTPOptions | None) -> HTTPOptions:
    if options is None:
        return HTTPOptions()
    if isinstance(options, HTTPOptions):
        return options
    if isinstance(options, dict):
        return HTTPOptions(**options)
    raise TypeError(f"http_options must be a dict or HTTPOptions, got {type(options)}.")


def _plain_http(options: HTTPOptions) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude={"location", "middlewares", "num_cpus"})


def _grpc(options: dict[str, Any] | gRPCOptions | None) -> gRPCOptions:
    if options is None:
        return gRPCOptions()
    return options if isinstance(options, gRPCOptions) else gRPCOptions(**options)


def _environment(options: dict[str, Any] | ControllerOptions | None) -> dict[str, Any] | None:
    if options is None:
        return None
    return (options if isinstance(options, ControllerOptions) else ControllerOptions(**options)).runtime_env


def _logging(config: dict[str, Any] | LoggingConfig | None) -> dict[str, Any] | None:
    if config is None:
        return None
    return (config if isinstance(config, LoggingConfig) else LoggingConfig(**config)).model_dump(mode="json")


def run(
    target: Application,
    blocking: bool = False,
    name: str = DEFAULT_APP,
    route_prefix: str | None = "/",
    logging_config: dict[str, Any] | LoggingConfig | None = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> DeploymentHandle:
    """Deploy an application (``Deployment.bind()``), wait until it serves, and return a handle of its ingress.

    It answers HTTP under route_prefix (None: by handles only). An application of the same name is updated: replicas of new
    code start before old ones stop, and no request is lost. blocking: stay until interrupted. RuntimeError saying why it
    cannot be deployed (a constructor that raises, for example; what served before goes on); ValueError for a prefix that
    another application has; TypeError for what is no application.
    """
    handle = _run_many(
        [RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled)],
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )[0]
    if blocking:
        _stay([name])
    return handle


def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> list[DeploymentHandle]:
    """The same for several applications at once: they start side by side."""
    handles = _run_many(
        targets,
        wait_for_applications_running=wait_for_applications_running,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )
    if blocking:
        _stay([target.name for target in targets])
    return handles


def _run_many(
    targets: Sequence[RunTarget],
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> list[DeploymentHandle]:
    if not targets:
        raise ValueError("No applications provided.")
    for each in targets:
        if not isinstance(each.name, str) or not each.name:
            raise RayServeException("Application name must a non-empty string.")
        if not isinstance(each.target, Application):
            raise TypeError(
                "`serve.run` expects an `Application` returned by `Deployment.bind()`, got "
                f"{type(each.target).__name__}."
            )
        check_prefix(each.route_prefix)
    if _local_testing_mode:
        return [build_local_app(each.target, each.name) for each in targets]
    current_engine()
    environment = dict(get_runtime_context().runtime_env or {})
    built = [
        build_app(each.target, each.name, each.route_prefix, _logging(each.logging_config), environment)
        for each in targets
    ]
    deploy_built(built, wait_for_applications_running, environment=_environment(controller_options))
    return [each.handle for each in built]


def _run(
    target: Application,
    *,
    _blocking: bool = True,
    name: str = DEFAULT_APP,
    route_prefix: str | None = "/",
    logging_config: dict[str, Any] | LoggingConfig | None = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> DeploymentHandle:
    """``run`` that need not wait until the application serves."""
    return _run_many(
        [RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled)],
        wait_for_applications_running=_blocking,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )[0]


def deploy_built(built: list[BuiltApplication], wait: bool = True, environment: dict[str, Any] | None = None) -> None:
    """Start Serve with its defaults if need be, and deploy."""
    found = controller = client.find_controller(must_exist=False)
    if controller is None:
        plain, grpc = _plain_http(HTTPOptions()), gRPCOptions().model_dump(mode="json")
        controller = client.create(plain, grpc, ProxyLocation.EveryNode.value, environment)
    client.deploy(controller, built, wait, is_new=found is None)


def _stay(names: list[str]) -> None:
    """Until an interrupt, which ends Serve."""
    try:
        while True:
            time.sleep(10)
    except KeyboardInterrupt:
        logger.warning("Got KeyboardInterrupt, exiting...")
        shutdown()


def delete(name: str, _blocking: bool = True) -> None:
    """Delete an application with its deployments, and wait until its replicas have ended. No effect for an unknown name;
    RayServeException when Serve does not run."""
    client.delete(client.find_controller(), [name], _blocking)


def status() -> ServeStatus:
    """What there is and how it is; empty when Serve does not run."""
    controller = client.find_controller(must_exist=False)
    return ServeStatus() if controller is None else status_of(get_value(controller.details.remote()))


def details() -> dict[str, Any]:
    """Everything about proxies, applications, deployments and replicas as plain data; {} when Serve does not run."""
    controller = client.find_controller(must_exist=False)
    return {} if controller is None else get_value(controller.details.remote())


def shutdown() -> None:
    """Delete all applications and end Serve's actors. No effect when it does not run."""
    controller = client.find_controller(must_exist=False)
    if controller is not None:
        client.shutdown(controller)


async def shutdown_async() -> None:
    """The same, in coroutines."""
    controller = client.find_controller(must_exist=False)
    if controller is not None:
        await controller.shutdown.remote()
        client.shutdown(controller)


def get_app_handle(name: str) -> DeploymentHandle:
    """A handle of an application's ingress. RayServeException for an unknown one, and when Serve does not run."""
    controller = client.find_controller()
    ingress = get_value(controller.ingress_of.remote(name))
    if ingress is None:
        known = sorted(get_value(controller.details.remote())["applications"])
        raise RayServeException(f"Application '{name}' does not exist. There are: {known}.")
    return DeploymentHandle(ingress, name)


def get_deployment_handle(
    deployment_name: str, app_name: str | None = None, _check_exists: bool = True, _record_telemetry: bool = True
) -> DeploymentHandle:
    """A handle of a deployment by name. app_name: inside of a replica, its own application by default.
    RayServeException for one that there is not."""
    context = replica_context()
    if app_name is None:
        if context is None:
            raise RayServeException(
                "Please specify an application name when getting a deployment handle outside of a Serve application."
            )
        app_name = context.app_name
    if _check_exists and context is None:
        known = get_value(client.find_controller().deployments_of.remote(app_name))
        if known is None or deployment_name not in known:
            raise RayServeException(
                f"Deployment with name '{deployment_name}' in application '{app_name}' does not exist. The application "
                + (f"has: {sorted(known)}." if known is not None else "does not exist.")
            )
    return DeploymentHandle(deployment_name, app_name)


def get_replica_context() -> ReplicaContext:
    """Of the replica that runs this. RayServeException elsewhere."""
    context = replica_context()
    if context is None:
        raise RayServeException("`serve.get_replica_context()` may only be called from within a Ray Serve deployment.")
    return context


def get_replica_rank() -> int:
    """The rank of the replica that runs this, from 0 on. RayServeException elsewhere."""
    return get_replica_context().rank.rank


def get_world_size() -> int:
    """How many replicas its deployment should have. RayServeException elsewhere."""
    return get_replica_context().world_size


def get_multiplexed_model_id() -> str:
    """Which model the running request is for: the handle's ``multiplexed_model_id`` or the HTTP header
    ``serve_multiplexed_model_id``; "" when none was given."""
    batch = batch_context.get()
    if batch:
        return batch[0].multiplexed_model_id
    return request_context.get().multiplexed_model_id
