"""Engine factory: from checked options to a connected engine. The one place where engines are named.

They are imported here when they are needed: a script that only defines functions needs none, and a driver never needs
the local mode.
"""

from __future__ import annotations

from typing import Any

from raybook.api.context import DRIVER, LOCAL
from raybook.api.init_options import RAY, InitOptions, split_host_port
from raybook.api.worker_output import WorkerOutput
from raybook.base.tls_files import TlsFiles
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
    if options.engine == RAY:
        return _ray_engine(options), DRIVER, None
    from raybook.api.local_cluster import session_door_of, start_local

    # Every actor and worker that this process talks to is a socket, and 1,024 files are what many systems allow at first.
    raise_file_limit()
    common = {
        "namespace": options.namespace,
        "kernel_id": options.kernel_id,
        "environment": options.environment,
        "logging": options.logging,
        "on_output": output.take if output is not None else None,
    }
    if options.address is not None:
        return _join(options, options.address, common), DRIVER, None
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
        meanwhile=_session_engine if options.session else _native_engine,
    )
    try:
        if options.session:
            door = session_door_of(cluster.session_dir)
            engine = _session_engine().knock(door, cluster.token, session=options.session, **common)
        else:
            stop_cluster = None if options.persist else cluster.stop_unless_kept
            engine = _native_engine().connect(cluster.node_socket, cluster.token, stop_cluster=stop_cluster, **common)
    except BaseException:
        cluster.stop()
        raise
    return engine, DRIVER, cluster


def _ray_engine(options: InitOptions) -> Engine:
    """On a real Ray cluster, which is started when there is no address."""
    try:
        from raybook.engines.ray.engine import RayEngine
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ModuleNotFoundError(
            "engine='ray' needs Ray itself: pip install 'raybook[ray]'. (After raybook.install_as_ray() `ray` is raybook in "
            "this process, and the real one cannot be had.)",
            name="ray",
        ) from None

    engine: Engine = RayEngine.start(
        f"ray://{options.address}" if options.is_distant else options.address,
        options.environment,
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        object_store_memory=options.object_store_memory,
        resources=options.resources or None,
        labels=options.labels or None,
        namespace=options.namespace,
        log_to_driver=options.log_to_driver,
    )
    return engine


def _join(options: InitOptions, address: str, common: dict[str, Any]) -> Engine:
    """Become a driver of the cluster there: of its own, when a node of it runs here; else as a thin client."""
    from raybook.api.local_cluster import find_cluster, read_token, session_door_of

    distant = split_host_port(address)
    try:
        found = None if options.is_distant else find_cluster(address)
    except ConnectionError:
        if distant is None:
            raise
        found = None
    if found is not None and not options.session:
        engine: Engine = _native_engine().connect(found.node_socket, found.token, **common)
        return engine
    if found is not None:
        door, token = session_door_of(found.session_dir), found.token
    else:
        door, token = f"tcp:{address}", read_token(address, options.token_file)
    security = _tls(options.tls) if options.tls is not None and door.startswith("tcp:") else None
    engine = _session_engine().knock(door, token, session=options.session, security=security, **common)
    return engine


def _tls(files: TlsFiles) -> Any:
    from raybook.io.tls import Tls

    return Tls(files)


def _session_engine() -> Any:
    from raybook.engines.session import SessionEngine

    return SessionEngine


def _native_engine() -> Any:
    from raybook.engines.native import NativeEngine

    return NativeEngine
