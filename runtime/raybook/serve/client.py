"""Client: the driver's side of the controller: found or started, asked, ended."""

from __future__ import annotations

import time
from typing import Any

from raybook.api import get as get_value
from raybook.api import get_actor, is_initialized, kill, remote
from raybook.api.context import current_engine
from raybook.api.kv import kv_put
from raybook.exceptions import ActorDiedError, RayActorError, RayTaskError
from raybook.serve.build_app import BuiltApplication
from raybook.serve.controller import ServeController
from raybook.serve.core.names import CONTROLLER_NAME, NAMESPACE
from raybook.serve.exceptions import RayServeException

END_STATES = ["RUNNING", "DEPLOY_FAILED", "UNHEALTHY"]
SHUTDOWN_S = 30.0


def find_controller(must_exist: bool = True) -> Any:
    """The controller's handle; None, or RayServeException, when there is none."""
    if is_initialized() or must_exist:
        current_engine()
        try:
            return get_actor(CONTROLLER_NAME, NAMESPACE)
        except ValueError:
            pass
    if must_exist:
        raise RayServeException(
            "There is no Serve instance running on this Ray cluster. Deploy something with serve.run(...), or start it with "
            "serve.start()."
        )
    return None


def start(
    http: dict[str, Any], grpc: dict[str, Any], proxy_location: str, environment: dict[str, Any] | None = None
) -> Any:
    """The controller, started (in this runtime environment) if there is none, once its proxy listens. RayServeException
    when the port is taken."""
    current_engine()
    found = find_controller(must_exist=False)
    controller = create(http, grpc, proxy_location, environment) if found is None else found
    await_ports(controller, is_new=found is None)
    return controller


def create(http: dict[str, Any], grpc: dict[str, Any], proxy_location: str, environment: dict[str, Any] | None) -> Any:
    """A controller that starts, with its proxy."""
    options = {
        "name": CONTROLLER_NAME, "namespace": NAMESPACE, "lifetime": "detached", "num_cpus": 0, "max_restarts": -1,
        "max_task_retries": -1, "max_concurrency": 100_000, "get_if_exists": True,
    }  # fmt: skip
    if environment:
        options["runtime_env"] = environment
    return remote(**options)(ServeController).remote(http, grpc, proxy_location)


def await_ports(controller: Any, is_new: bool) -> None:
    """Until the first proxy listens. RayServeException when its port is taken, which ends a controller that is new."""
    try:
        get_value(controller.ready.remote())
    except RayServeException as error:
        if is_new:
            get_value(controller.shutdown.remote())
            kill(controller)
        raise RayServeException(_message(error)) from None


def deploy(controller: Any, applications: list[BuiltApplication], wait: bool, is_new: bool) -> None:
    """Send applications; with ``wait`` until each serves. is_new: the controller starts just now, and replicas beside its
    proxy. ValueError for a prefix that is taken; RuntimeError saying why one cannot serve (what served under its name
    before goes on); RayServeException when the port is taken."""
    for built in applications:
        for key, blob in built.blobs.items():
            kv_put(NAMESPACE, key, blob)
    try:
        get_value(controller.deploy.remote([built.target for built in applications]))
    except RayTaskError as error:
        if isinstance(error, ValueError):
            raise ValueError(_message(error)) from None
        raise
    if is_new:
        await_ports(controller, is_new)
    if wait:
        wait_until_running(controller, [built.target.name for built in applications])


def wait_until_running(controller: Any, names: list[str], timeout_s: float | None = None) -> None:
    """Until each application serves, or one cannot: RuntimeError. TimeoutError."""
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = 10.0 if end_s is None else min(10.0, end_s - time.monotonic())
        rows = get_value(controller.wait_for.remote(names, END_STATES, left_s))
        for name, row in rows.items():
            if row["status"] == "DEPLOY_FAILED":
                raise RuntimeError(f"Deploying application {name} failed: {row['message']}")
        if all(row["status"] == "RUNNING" for row in rows.values()):
            return
        if end_s is not None and time.monotonic() >= end_s:
            states = {name: row["status"] for name, row in rows.items()}
            raise TimeoutError(f"Applications did not become RUNNING within {timeout_s} s: {states}.")


def delete(controller: Any, names: list[str], wait: bool) -> None:
    """Forget applications, and wait for the ends of their replicas."""
    get_value(controller.delete.remote(names))
    while wait:
        rows = get_value(controller.wait_for.remote(names, ["NOT_STARTED"], 10.0))
        wait = any(row["status"] != "NOT_STARTED" for row in rows.values())


def shutdown(controller: Any) -> None:
    """End all of Serve in this cluster."""
    try:
        get_value(controller.shutdown.remote(), timeout=SHUTDOWN_S)
    except (RayActorError, ActorDiedError):
        pass
    finally:
        try:
            kill(controller)
        except RayActorError:
            pass


def _message(error: BaseException) -> str:
    """The words of the original error alone."""
    cause = getattr(error, "cause", None)
    return str(cause) if cause is not None else str(error)
