"""The registry of clusters: one small JSON file for each cluster of this user, so that any view can find them all.

The head writes its record when it is ready and removes it when it ends; records of heads that were killed are dropped
by whoever reads next. Nodes that join a cluster from this machine have records of their own, in a folder beside: the
oldest of them that lives stands for a cluster whose head is elsewhere. Standard library and msgspec only: the Jupyter server
reads this without importing the runtime.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from raybook.io.process import is_alive

RECORD_VERSION = 1
NODES = "nodes"
"""The folder of joined nodes' records."""


class Owner(msgspec.Struct):
    """The process a cluster lives and dies with."""

    pid: int
    start_time: int
    kernel_id: str = ""


class ClusterRecord(msgspec.Struct):
    """What others may know of a cluster. The token is not in here: ``token_file`` (mode 0600) holds it."""

    cluster_id: str
    name: str
    address: str
    """Of the GCS's gRPC service, host:port; "" until it serves."""
    node_socket: str
    """Of the head's raylet, unix:/path: what a driver on this machine connects to."""
    session_dir: str
    token_file: str
    head_pid: int
    head_start_time: int
    owner: Owner | None = None
    persist: bool = False
    env_prefix: str = ""
    python_version: str = ""
    raybook_version: str = ""
    created_unix_ms: int = 0
    resources: dict[str, float] = {}
    metrics_address: str = ""
    """Of the page for Prometheus, host:port; "" when none is served."""
    http_address: str = ""
    """Of the HTTP door (jobs), host:port; "" when it listens only at its Unix socket in the session folder."""
    session_address: str = ""
    """Where thin clients on other machines knock, host:port; "" when there is only the Unix socket in the session folder."""
    idle_timeout_s: float = 0.0
    """It ends when nothing has worked on it for so long; 0: never."""
    idle_since_unix_ms: int = 0
    """Since when nothing works on it; 0: something does, or there is no timeout."""
    version: int = RECORD_VERSION

    @property
    def title(self) -> str:
        """What to call it: its name, or its id when nobody named it."""
        return self.name or f"cluster {self.cluster_id}"


def registry_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where records live: ``$RAYBOOK_REGISTRY_DIR``, else ``raybook`` in Jupyter's runtime folder."""
    chosen = environ.get("RAYBOOK_REGISTRY_DIR")
    if chosen:
        return Path(chosen)
    jupyter = environ.get("JUPYTER_RUNTIME_DIR")
    if jupyter:
        return Path(jupyter) / "raybook"
    data_home = environ.get("JUPYTER_DATA_DIR") or str(
        Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "jupyter"
    )
    return Path(data_home) / "runtime" / "raybook"


def write_record(record: ClusterRecord, directory: Path) -> Path:
    """Write or replace a record; readers never see half of one."""
    return _write(record, directory, record.cluster_id)


def _write(record: ClusterRecord, directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"{name}.json"
    aside = directory / f".{name}.{os.getpid()}.tmp"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(record)))
    os.replace(aside, path)
    return path


def remove_record(cluster_id: str, directory: Path) -> None:
    """Forget a cluster. Idempotent."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(directory / f"{cluster_id}.json")


def list_records(directory: Path) -> list[ClusterRecord]:
    """All living clusters, oldest first. Records whose head is dead are removed on the way; unreadable ones are
    skipped. Cost: one small file and one /proc read for each cluster and each node that has joined one."""
    records = {record.cluster_id: record for record in _living(directory)}
    for node in list_nodes(directory):
        records.setdefault(node.cluster_id, node)
    return sorted(records.values(), key=lambda record: record.created_unix_ms)


# Nodes


def write_node(record: ClusterRecord, directory: Path) -> None:
    """Remember a node of this machine that has joined a cluster; its record is that of the cluster as seen from it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(record, directory / NODES, f"{record.cluster_id}-{record.head_pid}")


def list_nodes(directory: Path, cluster_id: str = "") -> list[ClusterRecord]:
    """The living nodes of this machine that have joined a cluster, or that cluster; oldest first."""
    nodes = [node for node in _living(directory / NODES) if cluster_id in ("", node.cluster_id)]
    return sorted(nodes, key=lambda node: node.created_unix_ms)


def _living(directory: Path) -> list[ClusterRecord]:
    records = []
    for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
        try:
            record = msgspec.json.decode(path.read_bytes(), type=ClusterRecord)
        except (OSError, msgspec.MsgspecError):
            continue
        if is_alive(record.head_pid, record.head_start_time):
            records.append(record)
        else:
            path.unlink(missing_ok=True)
    return records
