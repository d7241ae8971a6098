"""Cluster access: the one place where the notebook touches the runtime's API. Start, connect, leave, stop.

Knows nothing of cells, panels or magics. Errors of the runtime pass through; they say what to do.
"""

from __future__ import annotations

import os
import select
import signal
from typing import Any

import raybook
from raybook.api.context import current_runtime
from raybook.observe import ClusterRecord, FactSource, find_cluster, living_clusters

DEFAULT_SESSION = "main"
"""The session of `--persist`, unless a name is given."""
STOP_TIMEOUT_S = 5.0
"""A head ends within two seconds, by force if need be; more means that it is not ours to wait for."""


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
    ) -> None:
        """Start a cluster on this machine and connect to it. memory, object_store_memory: bytes; None: the runtime's
        default. RuntimeError when this process has one already. Blocks until it is ready (0.3 s)."""
        given = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "memory": memory,
            "object_store_memory": object_store_memory,
            "name": name,
        }
        options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if persist:
            # What this kernel makes shall be there for the next one, too.
            options |= {"persist": True, "session": DEFAULT_SESSION}
        raybook.init(**options)

    def connect(self, address: str, session: str = "", token_file: str = "") -> None:
        """Connect this process to a running cluster. session: name of the session that keeps its results, "": none.
        token_file: of a cluster on another machine. ConnectionError when nobody answers there."""
        raybook.init(address=address, session=session or None, token_file=token_file or None)

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
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            return bool(poller.poll(STOP_TIMEOUT_S * 1_000))
        finally:
            os.close(pidfd)
