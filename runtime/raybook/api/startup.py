"""Start-up: init, shutdown, is_initialized: how a driver gets its engine and lets go of it.

It decides when a cluster is started or joined and refuses doing so twice. Which engine that is, is the factory's
business. Invariant: after an ``init`` that raised, nothing of it is left.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from typing import Any

from raybook.api.connect import attach_engine
from raybook.api.context import WORKER, current_runtime
from raybook.api.engine_factory import start_engine
from raybook.api.init_options import (
    NATIVE,
    check_job_config,
    check_logging_config,
    check_unused,
    make_init_options,
    python_version,
)
from raybook.api.ray_context import RayContext
from raybook.api.session import Session
from raybook.api.submitted_job import announce, merged_environment
from raybook.api.worker_output import WorkerOutput
from raybook.base.version import VERSION
from raybook.engines.engine import Engine


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    namespace: str | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: Any = None,
    configure_logging: bool = True,
    logging_level: int | str = logging.INFO,
    logging_format: str | None = None,
    logging_config: Any = None,
    log_to_driver: bool = True,
    runtime_env: Mapping[str, Any] | None = None,
    enable_resource_isolation: bool = False,
    _temp_dir: str | None = None,
    name: str | None = None,
    persist: bool = False,
    autoscale: str | int | Mapping[str, Any] | None = None,
    session: str | None = None,
    token_file: str | None = None,
    engine: str | None = None,
    _memory: float | None = None,
    _metrics_export_port: int | None = None,
    _kernel_id: str = "",
    **unused: Any,
) -> RayContext:
    """Start a cluster on this machine, or connect to one, and make it current.

    address: None or "local" starts one that lives and dies with this process (None looks at RAYBOOK_ADDRESS and
    RAY_ADDRESS first); "auto" connects to the newest on this machine; a name, an id or a socket to that one; HOST:PORT,
    or ray://HOST:PORT, to one on another machine, as a thin client: a process of its head owns what this one makes, and a
    connection that breaks is made again. token_file: the other cluster's token (else RAYBOOK_TOKEN_FILE names it).
    session: a name for that process, which lives on without this one: ``init`` with the same name goes on with it, and the
    context's ``session`` has what was made before.
    num_cpus, num_gpus, memory (bytes), resources, labels, object_store_memory (bytes): of the node that is started;
    found out where left out. autoscale: nodes that come when work waits and go when they are idle, "MIN:MAX" or MAX of
    them beside the first, or a dict with min_nodes, max_nodes, node_cpus, idle_timeout_s. name: by which others on this
    machine find the cluster; persist: it outlives this process.
    include_dashboard, dashboard_host, dashboard_port: where the head answers HTTP (the Jobs API); at no port unless one of
    the first and the last is given; 0: any free one.
    _metrics_export_port: of a page for Prometheus on the head; 0: any free one; none is served without it.
    engine: "native", or "ray" for a real Ray cluster (extra raybook[ray]; RAYBOOK_ENGINE says it for all): one that is
    started, or that at the address.
    local_mode: everything in this process, for debuggers. job_config: namespace and runtime_env in one object.
    logging_config: how Python's logging looks here and in workers. What is about parts of Ray that raybook does not have
    (Redis, plasma, ...) is accepted and has no effect.

    RuntimeError when already started (see ``ignore_reinit_error``), ValueError or TypeError for wrong arguments,
    ConnectionError when nothing answers at the address. Blocks until the cluster is up: 0.3 s.
    """
    check_logging_config(logging_config)
    check_job_config(job_config)
    if job_config is not None:
        namespace = job_config.ray_namespace if namespace is None else namespace
        runtime_env = job_config.runtime_env or None if runtime_env is None else runtime_env
        logging_config = logging_config or job_config.py_logging_config
    check_unused(unused)
    if enable_resource_isolation:
        raise ValueError("enable_resource_isolation comes with a later version of raybook. Leave it out.")
    asked = {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "memory": _memory if memory is None else memory,
        "resources": resources,
        "labels": labels,
        "object_store_memory": object_store_memory,
        "namespace": namespace,
        "local_mode": local_mode,
        "log_to_driver": log_to_driver,
        "runtime_env": merged_environment(runtime_env, os.environ),
        "_temp_dir": _temp_dir,
        "persist": persist,
        "metrics_port": _metrics_export_port,
        "include_dashboard": include_dashboard,
        "dashboard_host": dashboard_host,
        "dashboard_port": dashboard_port,
        "logging": logging_config.to_json() if logging_config is not None else "",
        "name": name,
        "autoscale": autoscale,
        "session": session,
        "token_file": token_file,
        "engine": engine,
        "_kernel_id": _kernel_id or current_runtime.kernel_id,
    }
    with current_runtime.changing:
        if current_runtime.engine is not None:
            if not ignore_reinit_error:
                raise RuntimeError(
                    "Maybe you called ray.init twice by accident? This error can be suppressed by passing in "
                    "'ignore_reinit_error=True' or by calling 'ray.shutdown()' prior to 'ray.init()'. It runs already, at "
                    f"{current_runtime.engine.address}, and nothing was changed."
                )
            return _current_context(current_runtime.engine)
        options = make_init_options(address, os.environ, asked)
        if logging_config is not None:
            logging_config.install(_speaker)
        elif configure_logging:
            logging.getLogger("raybook").setLevel(_level(logging_level))
        output = (
            WorkerOutput(options.folds_output, options.never_folded, options.hidden_output)
            if options.log_to_driver and not options.local_mode and options.engine == NATIVE
            else None
        )
        connected, mode, cluster = start_engine(options, output)
        attach_engine(connected, mode, cluster)
        announce(connected, os.environ)
        if output is not None:
            output.attach(connected.node_id, connected.flush_output)
            current_runtime.output = output
        return _current_context(connected)


def shutdown(*, wait_for_processes: bool = False) -> None:
    """Leave the cluster; end it when this process owns it. Refs and handles become inert. Idempotent; blocks until the
    cluster is gone. Without effect inside a task, whose worker is not the task's to end."""
    with current_runtime.changing:
        engine = current_runtime.engine
        if engine is None:
            return
        if current_runtime.mode == WORKER:
            warnings.warn("raybook.shutdown() has no effect inside a task or actor.", stacklevel=2)
            return
        cluster = current_runtime.cluster
        if current_runtime.output is not None:
            current_runtime.output.finish()
        current_runtime.clear()
        try:
            engine.shutdown()
        finally:
            if cluster is not None and not cluster.persist:
                cluster.stop()


def is_initialized() -> bool:
    """Whether verbs have an engine to go to."""
    return current_runtime.engine is not None


def _start_automatically() -> None:
    with current_runtime.changing:
        if current_runtime.engine is None:
            init()


def _speaker() -> dict[str, str]:
    """Who writes a line of the log."""
    engine = current_runtime.engine
    if engine is None:
        return {}
    return {"job_id": engine.job_id.hex(), "worker_id": engine.client_id.hex(), "node_id": engine.node_id.hex()}


def _level(level: int | str) -> int | str:
    """Names of levels are taken in any case, as Ray takes them."""
    return level.upper() if isinstance(level, str) else level


def _current_context(engine: Engine) -> RayContext:
    context = current_runtime.context
    if context is None:
        http_address = getattr(current_runtime.cluster, "http_address", "")
        info = {
            "address": engine.address,
            "gcs_address": engine.gcs_address,
            "node_id": engine.node_id.hex(),
            "session_dir": engine.session_dir,
            "raylet_socket_name": engine.address,
            "node_ip_address": "127.0.0.1",
            "object_store_address": engine.address,
            "redis_address": None,
            "metrics_export_port": None,
            "dashboard_agent_listen_port": None,
            "webui_url": http_address,
        }
        context = current_runtime.context = RayContext(info, VERSION, python_version(), shutdown)
        context.dashboard_url = http_address
        if engine.session is not None:
            context.session = Session(engine)
    return context


current_runtime.auto_start = _start_automatically
