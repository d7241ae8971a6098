"""The split form on this machine: GCS and raylet as processes of their own, speaking gRPC, and nodes that join them.

What ``raybook start`` does. The processes outlive their starter; the registry's record and the session folder say which
ones they are. Knows nothing of options' spelling (the CLI does) nor of what the daemons do.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from raybook.api.local_cluster import READY_FD_UNSET, START_TIMEOUT_S, list_clusters
from raybook.base import ids
from raybook.base.errors import RaySystemError
from raybook.base.tls_files import TlsFiles
from raybook.base.version import VERSION
from raybook.io import cluster_registry, daemon, session_dir
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.process import start_time
from raybook.io.store_address import SQLITE, parse_store
from raybook.protocol.auth import new_token
from raybook.protocol.messages.daemons import (
    AutoscalerOptions,
    GcsOptions,
    NodeAmounts,
    NodeOptions,
    OwnerProcess,
    Ready,
)

KEEPER_MODULE = "raybook.gcs.keeper"
RAYLET_MODULE = "raybook.raylet.main"
AUTOSCALER_MODULE = "raybook.autoscaler.main"
STORE_FILE = "gcs.sqlite"
STORE_SECRET_FILE = "store"


class StartedProcess(msgspec.Struct):
    """A daemon of ours that serves."""

    process: subprocess.Popen[bytes]
    ready: Ready


def start_head(
    amounts: NodeAmounts,
    *,
    name: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    store: str = "",
    labels: dict[str, str] | None = None,
    metrics_port: int | None = 0,
    http_host: str = "127.0.0.1",
    http_port: int | None = None,
    token: bytes | None = None,
    owner: OwnerProcess | None = None,
    tls: TlsFiles | None = None,
    session_port: int | None = None,
) -> ClusterRecord:
    """Start a GCS with its keeper, and the raylet of its machine; returns the cluster's record when both serve. store: an
    address (``io/store_address``), by default a SQLite file in the session folder. ValueError for a taken name or for no
    address of a store; RaySystemError, with the end of the log, when one of them does not start (the other one is ended
    then). metrics_port: of the page for Prometheus; 0: any free one, None: no page. http_host, http_port: of the HTTP door,
    likewise. session_port: where thin clients knock, on ``host``, likewise. token: of a cluster whose nodes this head finds
    again by its store; a fresh one by default. tls: what is shown to other nodes and asked of them. owner: the cluster
    ends with that process; it persists by default."""
    if name and any(record.name == name for record in list_clusters()):
        raise ValueError(f"A cluster named {name!r} is running already; stop it, or choose another name.")
    address = parse_store(store) if store else None
    if address is not None and address.kind == SQLITE:
        store = address.target
    cluster_id = ids.random_id().hex()
    folder = session_dir.create(cluster_id)
    started: list[StartedProcess] = []
    try:
        token_file = session_dir.write_token(folder, token or new_token())
        secret = address is not None and address.has_password
        options = GcsOptions(
            READY_FD_UNSET,
            cluster_id,
            str(folder),
            str(token_file),
            name,
            host,
            port,
            "" if secret else store or str(folder / STORE_FILE),
            metrics_port,
            http_host,
            http_port,
            owner=owner,
            store_file=str(session_dir.write_secret(folder, STORE_SECRET_FILE, store.encode())) if secret else "",
            tls=tls,
        )
        started.append(_start(KEEPER_MODULE, options, folder))
        gcs = started[0].ready
        node = NodeOptions(
            READY_FD_UNSET,
            str(folder),
            str(token_file),
            gcs.address,
            gcs.cluster_id,
            amounts,
            labels or {},
            host,
            is_head=True,
            owner=owner,
            tls=tls,
            session_port=session_port,
        )
        started.append(_start(RAYLET_MODULE, node, folder))
        record = _record(name, gcs, started[1].ready, amounts, owner)
        cluster_registry.write_record(record, cluster_registry.registry_dir())
        return record
    except BaseException:
        for each in started:
            daemon.stop(each.process, timeout_s=3.0)
        session_dir.remove(folder)
        raise


def join(
    gcs_address: str,
    token_file: str,
    amounts: NodeAmounts,
    host: str = "127.0.0.1",
    labels: dict[str, str] | None = None,
    owner: OwnerProcess | None = None,
    tls: TlsFiles | None = None,
) -> StartedProcess:
    """Start a raylet here that joins the cluster at ``gcs_address``. On a machine that knows nothing of that cluster yet,
    drivers find it by its address from then on, through this node. owner: the node ends with that process.
    RaySystemError."""
    folder = session_dir.create(ids.random_id().hex())
    options = NodeOptions(
        READY_FD_UNSET,
        str(folder),
        token_file,
        gcs_address,
        "",
        amounts,
        labels or {},
        host,
        is_head=False,
        owner=owner,
        tls=tls,
    )
    try:
        started = _start(RAYLET_MODULE, options, folder)
    except BaseException:
        session_dir.remove(folder)
        raise
    gcs = msgspec.structs.replace(started.ready, address=gcs_address, metrics_address="")
    cluster_registry.write_node(_record("", gcs, started.ready, amounts, owner), cluster_registry.registry_dir())
    return started


def start_autoscaler(
    record: ClusterRecord, configuration: Mapping[str, Any], host: str = "127.0.0.1"
) -> StartedProcess:
    """Start an autoscaler beside the GCS of a cluster. configuration: in the words of Ray's YAML. RaySystemError, with the
    end of its log, for one that it cannot use. Ends with ``stop_cluster``, and takes nodes that it started on this machine
    along."""
    folder = Path(record.session_dir)
    options = AutoscalerOptions(
        READY_FD_UNSET, record.session_dir, record.token_file, record.address, dict(configuration), host
    )
    return _start(AUTOSCALER_MODULE, options, folder)


def _start(module: str, options: GcsOptions | NodeOptions | AutoscalerOptions, folder: Path) -> StartedProcess:
    log_path = folder / session_dir.LOGS / f"{module.split('.')[1]}.log"
    try:
        process, said = daemon.spawn(module, msgspec.to_builtins(options), log_path, START_TIMEOUT_S)
    except daemon.DaemonFailed as failure:
        raise RaySystemError(f"{module} could not be started: {failure}") from None
    return StartedProcess(process, msgspec.convert(said, Ready))


def _record(
    name: str, gcs: Ready, node: Ready, amounts: NodeAmounts, owner: OwnerProcess | None = None
) -> ClusterRecord:
    return ClusterRecord(
        cluster_id=gcs.cluster_id,
        name=name,
        address=gcs.address,
        node_socket=node.node_socket,
        session_dir=gcs.session_dir,
        token_file=gcs.token_file,
        # The raylet's: a driver can work while the GCS is away, so the record is good as long as the node is.
        head_pid=node.pid,
        head_start_time=start_time(node.pid) or 0,
        owner=None if owner is None else cluster_registry.Owner(owner.pid, owner.start_time, owner.kernel_id),
        persist=owner is None,
        env_prefix=sys.prefix,
        python_version=platform.python_version(),
        raybook_version=VERSION,
        created_unix_ms=time.time_ns() // 1_000_000,
        resources={"CPU": amounts.num_cpus} if amounts.num_cpus is not None else {},
        metrics_address=gcs.metrics_address,
        http_address=gcs.http_address,
        session_address=node.session_address,
    )
