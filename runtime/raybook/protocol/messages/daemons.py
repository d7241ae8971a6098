"""Options and ready lines of our daemons: what a starter hands over as JSON, and what comes back on the ready pipe.

Amounts are the user's numbers; None means "as the machine has".
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.base.tls_files import TlsFiles

REPLACED_CODE = 3
"""Exit code of a GCS whose store another one has taken over."""


class OwnerProcess(msgspec.Struct):
    """The process that a daemon lives and dies with."""

    pid: int
    start_time: int
    kernel_id: str = ""


class NodeAmounts(msgspec.Struct, frozen=True):
    """What a node shall offer."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    memory_bytes: int | None = None
    object_store_bytes: int | None = None
    custom: dict[str, float] = {}


class AutoscaleBounds(msgspec.Struct):
    """How many nodes there may be beside the head, and what each has. ``node_cpus`` None: as many as the head."""

    min_nodes: int
    max_nodes: int
    node_cpus: float | None = None
    idle_timeout_s: float = 60.0


class HeadOptions(msgspec.Struct):
    """Starter → head. ``owner`` None: the cluster persists until it is stopped. ``serve_grpc``: listen for the CLI and
    the Jupyter server too, in the background."""

    ready_fd: int
    cluster_id: str
    session_dir: str
    name: str = ""
    owner: OwnerProcess | None = None
    amounts: NodeAmounts = NodeAmounts()
    labels: dict[str, str] = {}
    serve_grpc: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    metrics_port: int | None = None
    """Serve Prometheus' page there, on ``host``; 0: on any free port; None: not at all."""
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    """Where the HTTP door listens beside its Unix socket; 0: at any free port; None: at none."""
    autoscale: AutoscaleBounds | None = None
    """Nodes of this machine come and go; None: the head is the only one."""
    session_port: int | None = None
    """Where thin clients knock, on ``host``, beside the Unix socket; 0: at any free port; None: at none."""


class AutoscalerOptions(msgspec.Struct):
    """Starter → autoscaler process beside a GCS. ``configuration``: as ``core/autoscaler/configuration`` has it."""

    ready_fd: int
    session_dir: str
    token_file: str
    gcs_address: str
    configuration: dict[str, Any]
    host: str = "127.0.0.1"


class GcsOptions(msgspec.Struct):
    """``raybook start --head`` → keeper → GCS process. ``store``: an address as ``io/store_address`` has it."""

    ready_fd: int
    cluster_id: str
    session_dir: str
    token_file: str
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    store: str = "memory"
    metrics_port: int | None = None
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    owner: OwnerProcess | None = None
    """The cluster ends with this process; None: when it is stopped."""
    tls: TlsFiles | None = None
    """What the GCS shows to nodes and asks of them; None: no TLS."""
    store_file: str = ""
    """A file with the store's address in the place of ``store``: one with a password is for nobody's process list."""
    is_restart: bool = False
    """An earlier one died: what of it still ends may hold a port for a moment."""


class NodeOptions(msgspec.Struct):
    """``raybook start`` → raylet process that joins the GCS at ``gcs_address``."""

    ready_fd: int
    session_dir: str
    token_file: str
    gcs_address: str
    cluster_id: str = ""
    amounts: NodeAmounts = NodeAmounts()
    labels: dict[str, str] = {}
    host: str = "127.0.0.1"
    is_head: bool = False
    owner: OwnerProcess | None = None
    """The node ends with this process; None: with its cluster."""
    session_port: int | None = None
    """Of a head: where thin clients knock, on ``host``; 0: at any free port; None: at the Unix socket only."""
    tls: TlsFiles | None = None


class Ready(msgspec.Struct):
    """What a daemon says when it serves. Fields that do not apply stay empty."""

    cluster_id: str = ""
    node_id: str = ""
    node_socket: str = ""
    address: str = ""
    session_dir: str = ""
    token_file: str = ""
    pid: int = 0
    metrics_address: str = ""
    """host:port of Prometheus' page, when it is served."""
    http_address: str = ""
    """host:port of the HTTP door, when it listens at a port."""
    session_address: str = ""
    """host:port at which thin clients knock, when it is a port."""
