"""Clusters of several nodes on one machine, as processes of their own: for tests, and for trying out what many nodes do.

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    worker = cluster.add_node(num_cpus=2, resources={"disk": 1})
    raybook.init(address=cluster.address)
    cluster.remove_node(worker)
    cluster.shutdown()

Every node is a real raylet with workers, an object store and ports of its own; only the machine is shared. With
``RAY_USE_TLS`` and its companions set, nodes speak TLS.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import raybook
from raybook.api import local_cluster, split_cluster
from raybook.base.config import environment_of
from raybook.base.errors import RaySystemError
from raybook.base.tls_files import choose_tls
from raybook.core.autoscaler.configuration import read_configuration
from raybook.io import daemon, session_dir
from raybook.io.process import descendants, is_alive, start_time
from raybook.io.rpc import GrpcChannel
from raybook.io.tls import load_tls, usable_tls
from raybook.protocol.messages.daemons import NodeAmounts
from raybook.protocol.messages.gcs import ListNodes, NodeInfo

GRACE_S = 5.0
GCS_MODULE = "raybook.gcs.main"
AUTOSCALER_GRACE_S = 10.0
"""Its nodes have five seconds."""
_AMOUNTS = {
    "num_cpus": "num_cpus",
    "num_gpus": "num_gpus",
    "memory": "memory_bytes",
    "object_store_memory": "object_store_bytes",
}
_ACCEPTED = frozenset(
    """
    dashboard_agent_listen_port dashboard_host dashboard_port env_vars include_dashboard num_redis_shards port
    redis_max_memory redis_port storage temp_dir
    """.split()
)
"""Options of Ray's that change nothing here."""


class ClusterNode:
    """One node: its id, processes and addresses. Made by ``Cluster.add_node``."""

    def __init__(self, node_id: str, pid: int, socket: str, folder: str, is_head: bool, gcs_address: str) -> None:
        self.node_id = node_id
        self.unique_id = node_id
        self.pid = pid
        self.raylet_socket_name = socket
        self.session_dir = folder
        self.is_head = is_head
        self.gcs_address = gcs_address
        self.address = gcs_address
        self.node_ip_address = gcs_address.rpartition(":")[0] or "127.0.0.1"
        self._started = start_time(pid) or 0

    def __repr__(self) -> str:
        return f"ClusterNode({self.node_id}, pid {self.pid}, {'head' if self.is_head else 'worker'})"

    def is_alive(self) -> bool:
        """Whether its raylet runs."""
        return is_alive(self.pid, self._started)

    def kill_raylet(self, check_alive: bool = True) -> None:
        """SIGKILL to the raylet: its workers end with it, and nobody says goodbye."""
        self._signal(signal.SIGKILL)

    def kill_gcs_server(self, check_alive: bool = True) -> None:
        """SIGKILL to the head's GCS; its keeper starts it again. RuntimeError on a node that has none."""
        pid = self.gcs_server_pid()
        if pid is None:
            if check_alive:
                raise RuntimeError(f"{self!r} runs no GCS now.")
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def gcs_server_pid(self) -> int | None:
        """The pid of the head's GCS; None on other nodes, and for the moment between two of them."""
        for pid, _ in session_dir.claimants(Path(self.session_dir)):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if GCS_MODULE.encode() in words:
                    return pid
        return None

    def end(self, graceful: bool) -> None:
        """End it and wait until every process of it is gone, ``GRACE_S`` at most before it is killed."""
        tree = [(self.pid, self._started), *((pid, start_time(pid) or 0) for pid in descendants(self.pid))]
        self._signal(signal.SIGTERM if graceful else signal.SIGKILL)
        if not _gone(tree, GRACE_S):
            self._signal(signal.SIGKILL)
            _gone(tree, GRACE_S)
        session_dir.release(Path(self.session_dir), self.pid)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(self.pid)
            try:
                if self.is_alive():
                    signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)


class Cluster:
    """See the module; the arguments are Ray's. initialize_head: start the head now, with ``head_node_args``. connect:
    ``raybook.init`` to it, too. shutdown_at_exit: end it with this process at the latest."""

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: dict[str, Any] | None = None,
        shutdown_at_exit: bool = True,
    ) -> None:
        if connect and not initialize_head:
            raise RuntimeError("Cannot connect to uninitialized cluster.")
        self.head_node: ClusterNode | None = None
        self.worker_nodes: dict[ClusterNode, bool] = {}
        self.connected = False
        self._record: Any = None
        self._settings: dict[str, str] = {}
        self._tls = usable_tls(choose_tls(os.environ))
        if shutdown_at_exit:
            atexit.register(self.shutdown)
        if initialize_head:
            self.add_node(**(head_node_args or {}))
            if connect:
                self.connect()

    @property
    def address(self) -> str | None:
        """What ``init(address=…)`` takes; None before there is a head."""
        return None if self._record is None else self._record.address

    @property
    def record(self) -> Any:
        """The registry's record of this cluster; None before there is a head."""
        return self._record

    @property
    def gcs_address(self) -> str | None:
        return self.address

    def connect(self, namespace: str | None = None) -> None:
        """``raybook.init`` this process to the cluster."""
        assert self.address is not None, "There is no head to connect to."
        assert not self.connected, "This process is connected already."
        context = raybook.init(address=self.address, namespace=namespace, ignore_reinit_error=True)
        self.connected = context is not None

    def add_node(self, wait: bool = True, **node_args: Any) -> ClusterNode:
        """Start a node, the first one as the head. node_args: num_cpus, num_gpus, memory and object_store_memory in bytes,
        resources, labels; of the head also store (see ``raybook start --store``) and ``_system_config``, settings of the
        whole cluster (``base/config``). wait: until the cluster knows it. Cost: 0.5 s. TypeError for an unknown argument."""
        own = {"resources", "labels", "_system_config"} | ({"store"} if self._record is None else set())
        unknown = node_args.keys() - _AMOUNTS.keys() - _ACCEPTED - own
        if unknown:
            raise TypeError(f"add_node() got an unexpected keyword argument {sorted(unknown)[0]!r}.")
        amounts = NodeAmounts(
            **{field: node_args.get(name) for name, field in _AMOUNTS.items()},
            custom=dict(node_args.get("resources") or {}),
        )
        labels = dict(node_args.get("labels") or {})
        if self._record is None:
            self._settings = environment_of(node_args.get("_system_config") or {})
            with _environment(self._settings):
                node = self._start_head(amounts, labels, node_args.get("store", ""))
        else:
            with _environment(self._settings):
                started = split_cluster.join(
                    self._record.address, self._record.token_file, amounts, labels=labels, tls=self._tls
                )
            ready = started.ready
            node = ClusterNode(
                ready.node_id, ready.pid, ready.node_socket, ready.session_dir, False, self._record.address
            )
            self.worker_nodes[node] = True
        if wait:
            self.wait_for_nodes()
        return node

    def _start_head(self, amounts: NodeAmounts, labels: dict[str, str], store: str) -> ClusterNode:
        self._record = split_cluster.start_head(amounts, labels=labels, metrics_port=None, store=store, tls=self._tls)
        record = self._record
        # A store may know of a head that was here before.
        (found,) = [node for node in self._nodes() if node.is_head and node.socket_address == record.node_socket]
        self.head_node = ClusterNode(
            found.node_id.hex(), record.head_pid, record.node_socket, record.session_dir, True, record.address
        )
        return self.head_node

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:
        """End a node. allow_graceful: it may say goodbye; else it is killed, and the cluster finds out. Removing the head
        ends the cluster."""
        if node is self.head_node:
            self.shutdown()
            return
        node.end(allow_graceful)
        self.worker_nodes.pop(node, None)

    def wait_for_nodes(self, timeout: float = 30.0) -> None:
        """Until the cluster has exactly the nodes that were added and not removed. TimeoutError saying which it has."""
        wanted = {node.node_id for node in self.list_all_nodes() if node.is_alive()}
        deadline = time.monotonic() + timeout
        while True:
            alive: set[str] = set()
            with contextlib.suppress(ConnectionError):  # Its GCS may be on its way back.
                alive = {node.node_id.hex() for node in self._nodes() if node.alive}
            if alive == wanted:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"Timed out after {timeout:g} s waiting for nodes {wanted} to join; there are {alive}."
                )
            time.sleep(0.02)

    def list_all_nodes(self) -> list[ClusterNode]:
        """The head first."""
        head = [] if self.head_node is None else [self.head_node]
        return [*head, *self.worker_nodes]

    def remaining_processes_alive(self) -> bool:
        """Whether every node that was added, and not removed, still runs."""
        return all(node.is_alive() for node in self.list_all_nodes())

    def _nodes(self) -> list[NodeInfo]:
        record = self._record

        async def ask() -> list[NodeInfo]:
            token = Path(record.token_file).read_bytes()
            channel = GrpcChannel("Gcs", record.address, token, GRACE_S, load_tls(record.session_dir))
            try:
                return list((await channel.call("ListNodes", ListNodes())).nodes)
            finally:
                await channel.close()

        # In a notebook this thread has a loop that runs.
        with ThreadPoolExecutor(1) as other_thread:
            return other_thread.submit(asyncio.run, ask()).result()

    def shutdown(self) -> None:
        """End all nodes. Idempotent."""
        if self.connected:
            raybook.shutdown()
            self.connected = False
        workers, self.worker_nodes = self.worker_nodes, {}
        for node in workers:
            node.end(graceful=False)
        head, self.head_node = self.head_node, None
        record, self._record = self._record, None
        if record is not None:
            with contextlib.suppress(RaySystemError):
                local_cluster.stop_cluster(record)
        if head is not None and head.is_alive():
            head.end(graceful=False)
        atexit.unregister(self.shutdown)


class AutoscalingCluster:
    """A cluster on this machine whose worker nodes come and go, for tests of what programs do then; the arguments are Ray's.

        cluster = AutoscalingCluster(
            head_resources={"CPU": 1},
            worker_node_types={"worker": {"resources": {"CPU": 2}, "min_workers": 0, "max_workers": 3}},
            idle_timeout_minutes=0.1,
        )
        cluster.start()
        raybook.init("auto")

    head_resources: what the head offers. worker_node_types and other keywords: as in
    ``raybook.core.autoscaler.configuration``. ValueError, TypeError for a configuration that makes no sense."""

    def __init__(
        self,
        head_resources: Mapping[str, float],
        worker_node_types: Mapping[str, Mapping[str, Any]],
        autoscaler_v2: bool = True,
        **config_kwargs: Any,
    ) -> None:
        self._head_resources = dict(head_resources)
        self._config = {**config_kwargs, "available_node_types": worker_node_types}
        read_configuration(self._config)
        self._cluster = Cluster()
        self._process: Any = None

    @property
    def address(self) -> str | None:
        """What ``init(address=…)`` takes."""
        return self._cluster.address

    def start(self, _system_config: Any = None, override_env: Mapping[str, str] | None = None) -> None:
        """Start the head and its autoscaler. override_env: added to their environment."""
        known = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory", "object_store_memory": "object_store_memory"}
        args: dict[str, Any] = {known[name]: value for name, value in self._head_resources.items() if name in known}
        custom = {name: value for name, value in self._head_resources.items() if name not in known}
        try:
            with _environment(dict(override_env or {})):
                self._cluster.add_node(
                    **{"num_cpus": 0, "num_gpus": 0, **args}, resources=custom, _system_config=_system_config
                )
                self._process = split_cluster.start_autoscaler(self._cluster.record, self._config)
        except BaseException:
            self.shutdown()
            raise

    def shutdown(self) -> None:
        """End all of it. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            daemon.stop(process.process, AUTOSCALER_GRACE_S)
        self._cluster.shutdown()


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Processes that are started meanwhile have these variables."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _gone(processes: list[tuple[int, int]], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while any(is_alive(pid, started) for pid, started in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
