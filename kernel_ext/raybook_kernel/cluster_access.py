"""Cluster access: the one place where the notebook touches the runtime's API. Start, connect, leave, stop.

Knows nothing of cells, panels or magics. Errors of the runtime pass through; they say what to do.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import raybook
from raybook.api import local_cluster, scaling
from raybook.api.context import current_runtime
from raybook.observe import ClusterRecord, FactSource, find_cluster, living_clusters
from raybook.ssh_hosts import AttachedHosts, HostsFile, Progress

DEFAULT_SESSION = "main"
"""The session of `--persist`, unless a name is given."""
CLIENT_SCHEME = "ray://"
STOP_TIMEOUT_S = 5.0
"""A head ends within two seconds, by force if need be; more means that it is not ours to wait for."""


def ray_is_chosen() -> bool:
    """Whether RAYBOOK_ENGINE says that clusters are real Rays."""
    return os.environ.get("RAYBOOK_ENGINE") == "ray"


class ClusterAccess:
    """The runtime of this process, as the notebook uses it. kernel_id: the Jupyter server's name for this kernel; the
    clusters that this process starts carry it, so that the page finds them in the registry."""

    def __init__(self, kernel_id: str = "") -> None:
        current_runtime.kernel_id = kernel_id

    def route_output(self, is_routed: bool) -> None:
        """Whether the notebook brings what workers print to its cells; else the runtime prints it itself."""
        current_runtime.routes_output = is_routed

    def start(
        self,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: int | None = None,
        object_store_memory: int | None = None,
        name: str | None = None,
        persist: bool = False,
        autoscale: dict[str, Any] | None = None,
        engine: str | None = None,
    ) -> None:
        """Start a cluster on this machine and connect to it. memory, object_store_memory: bytes; None: the runtime's
        default. autoscale, engine: as ``init`` takes them. RuntimeError when this process has one already. Blocks until it
        is ready (0.3 s; a real Ray takes ten)."""
        given = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "memory": memory,
            "object_store_memory": object_store_memory,
            "name": name,
            "autoscale": autoscale,
            "engine": engine,
        }
        options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if persist:
            # What this kernel makes shall be there for the next one, too.
            options |= {"persist": True, "session": DEFAULT_SESSION}
        raybook.init(**options)

    def start_nodes(
        self, count: int, hosts: HostsFile | None = None, say: Callable[[str], None] = print, **options: Any
    ) -> None:
        """Start a cluster of ``count`` nodes on this machine, and one on each machine of ``hosts``, which live as long as
        this process, and connect to it. options: as ``start`` takes them, for each node here. say: told what happens.
        SshError when no machine can be reached; one that fails is told of, and missing. Blocks until all have joined."""
        if hosts is None:
            if options.get("persist"):
                options["session"] = DEFAULT_SESSION
            scaling.start_nodes(count, **_given(options))
            return
        attached = AttachedHosts(hosts, lambda progress: say(_told(progress)))
        try:
            cluster = scaling.start_nodes(count, **_given(options), host=attached.own_address())
        except BaseException:
            attached.close()
            raise
        cluster.before_stop.append(attached.close)
        joined = attached.join(cluster.record.address, Path(cluster.record.token_file).read_bytes())
        if attached.failures:
            say(f"{joined} of {len(hosts.workers)} machines have joined; the cluster runs without the others.")

    def scale(self, count: int, say: Callable[[str], None] = print) -> int:
        """Have ``count`` nodes; how many there are then. Errors of ``raybook.api.scaling.scale``."""
        return scaling.scale(count, say)

    def node_rows(self) -> list[dict[str, Any]]:
        """Every node, as ``raybook.nodes()`` has them."""
        return raybook.nodes()

    def connect(self, address: str, session: str = "", token_file: str = "", engine: str | None = None) -> None:
        """Connect this process to a running cluster. session: name of the session that keeps its results, "": none.
        token_file: of a cluster on another machine. engine: "ray" when a real Ray is there. ConnectionError when nobody
        answers."""
        raybook.init(address=address, session=session or None, token_file=token_file or None, engine=engine)

    def ray_title(self) -> str:
        """What to call the Ray that this process is connected to; "" when it is none, or has no address."""
        engine = self.engine()
        address = str(getattr(engine, "address", "") or "")
        return f"Ray at {address}" if address and not getattr(engine, "session_dir", "") else ""

    def session_text(self) -> str:
        """The session that keeps this kernel's results, and what it has of former kernels; "" when there is none."""
        session = getattr(current_runtime.context, "session", None)
        return str(session) if session is not None and session.name else ""

    def leave(self) -> None:
        """Disconnect; a cluster that this process owns ends with it. Blocks until that is done. Idempotent."""
        raybook.shutdown()

    def engine(self) -> FactSource | None:
        """What this process is connected to; None when it is not. Cost: 0.1 µs."""
        return current_runtime.engine

    def record(self) -> ClusterRecord | None:
        """The registry's record of the cluster this process is connected to; None when there is none (any more)."""
        engine = self.engine()
        session_dir = str(getattr(engine, "session_dir", "") or "")
        return find_cluster(session_dir) if session_dir else None

    def clusters(self) -> list[ClusterRecord]:
        """Every living cluster of this user, oldest first."""
        return living_clusters()

    def stop_cluster(self, record: ClusterRecord) -> bool:
        """End a cluster of this machine, whoever started it: ask its head, wait until it is gone. False when it has not
        ended in time. PermissionError when it belongs to another user."""
        try:
            pidfd = os.pidfd_open(record.head_pid)
        except ProcessLookupError:
            return True
        try:
            # The descriptor names one process for ever; only now is it certain that the record means this one.
            if not any(known.cluster_id == record.cluster_id for known in self.clusters()):
                return True
            if record.address and local_cluster.is_split(record):
                local_cluster.stop_cluster(record)
                return True
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            return bool(poller.poll(STOP_TIMEOUT_S * 1_000))
        finally:
            os.close(pidfd)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Without what was not said."""
    return {key: value for key, value in options.items() if value is not None}


def _told(progress: Progress) -> str:
    return (
        f"{progress.host}: {progress.text}" if progress.failed else f"{progress.host}: {progress.step}, {progress.text}"
    )
