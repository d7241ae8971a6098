"""Engine factory: from checked options to a connected engine. The one place where engines are named.

They are imported here when they are needed: a script that only defines functions needs none, and a driver never needs
the local mode.
"""

from __future__ import annotations

from typing import Any

from raybook.api.context import DRIVER, LOCAL
from raybook.api.init_options import InitOptions
from raybook.api.worker_output import WorkerOutput
from raybook.engines.engine import Engine
from raybook.io.process import raise_file_limit


def start_engine(options: InitOptions, output: WorkerOutput | None) -> tuple[Engine, str, Any]:
    """(engine, mode, cluster that was started here or None). output: gets what workers print; None: nobody does.
    ConnectionError when there is no cluster at the address; RaySystemError, with the log of the step that failed, when
    one cannot be started. Blocks until it is up."""
    if options.local_mode:
        from raybook.engines.local_mode import LocalModeEngine

        engine: Engine = LocalModeEngine(
            num_cpus=options.num_cpus,
            num_gpus=options.num_gpus,
            memory=options.memory,
            resources=options.resources,
            labels=options.labels,
            namespace=options.namespace,
        )
        return engine, LOCAL, None
    from raybook.api.local_cluster import find_cluster, start_local

    # Every actor and worker that this process talks to is a socket, and 1,024 files are what many systems allow at first.
    raise_file_limit()
    if options.address is not None:
        found = find_cluster(options.address)
        engine = _native_engine().connect(
            found.node_socket,
            found.token,
            namespace=options.namespace,
            kernel_id=options.kernel_id,
            environment=options.environment,
            logging=options.logging,
            on_output=output.take if output is not None else None,
        )
        return engine, DRIVER, None
    cluster = start_local(
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        memory=int(options.memory) if options.memory is not None else None,
        object_store_memory=options.object_store_memory,
        resources=options.resources,
        labels=options.labels,
        persist=options.persist,
        metrics_port=options.metrics_port,
        http_host=options.http_host,
        http_port=options.http_port,
        name=options.name,
        kernel_id=options.kernel_id,
        autoscale=options.autoscale,
        # The engine's imports take as long as half the head's start, so they happen during it.
        meanwhile=_native_engine,
    )
    try:
        engine = _native_engine().connect(
            cluster.node_socket,
            cluster.token,
            namespace=options.namespace,
            kernel_id=options.kernel_id,
            stop_cluster=None if options.persist else cluster.stop,
            environment=options.environment,
            logging=options.logging,
            on_output=output.take if output is not None else None,
        )
    except BaseException:
        cluster.stop()
        raise
    return engine, DRIVER, cluster


def _native_engine() -> Any:
    from raybook.engines.native import NativeEngine

    return NativeEngine
