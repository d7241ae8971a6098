"""Starting and finding clusters on this machine: a head process of our own, or the registry's record of another one.

Starts no thread and relies on no exit handler: the head watches this process and ends with it. Knows nothing of tasks.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from raybook.base import ids
from raybook.base.errors import RaySystemError
from raybook.io import cluster_registry, daemon, session_dir
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.process import is_alive, start_time
from raybook.protocol.auth import TOKEN_BYTES
from raybook.protocol.messages.daemons import AutoscaleBounds, HeadOptions, NodeAmounts, OwnerProcess, Ready

HEAD_MODULE = "raybook.head.main"
START_TIMEOUT_S = 30.0
"""A head is ready in 0.3 s; on a machine that swaps or reads its packages over a network, in ten or twenty."""

STOP_TIMEOUT_S = 5.0
READY_FD_UNSET = -1
SESSIONS_SOCKET = "sessions.sock"


class ClusterAddress(msgspec.Struct, frozen=True):
    """What a driver on this machine needs to join a cluster."""

    cluster_id: str
    name: str
    node_socket: str
    token: bytes
    session_dir: str
    persist: bool
    record: ClusterRecord | None = None


class LocalCluster:
    """A cluster that this process started. ``process`` is its head."""

    def __init__(self, process: subprocess.Popen[bytes], ready: Ready, name: str, token: bytes, persist: bool) -> None:
        self.process = process
        self.cluster_id = ready.cluster_id
        self.node_id = bytes.fromhex(ready.node_id)
        self.node_socket = ready.node_socket
        self.session_dir = ready.session_dir
        self.http_address = ready.http_address
        self.token = token
        self._persists = persist
        self.name = name
        self._pid = os.getpid()

    @property
    def persist(self) -> bool:
        """Whether it outlives this process: as it was started, or because somebody has decided so since."""
        if self._persists:
            return True
        mine = (self._pid, start_time(self._pid))
        for record in list_clusters():
            if record.cluster_id == self.cluster_id:
                return record.owner is None or (record.owner.pid, record.owner.start_time) != mine
        return False

    @property
    def address(self) -> ClusterAddress:
        """How to join it."""
        return ClusterAddress(self.cluster_id, self.name, self.node_socket, self.token, self.session_dir, self.persist)

    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the cluster and wait until its head is reaped; nothing of it is left then. Idempotent; in a forked child
        it does nothing, because the cluster is the parent's."""
        if os.getpid() != self._pid:
            return
        daemon.stop(self.process, timeout_s)
        self._remove_leftovers()

    def stop_unless_kept(self) -> None:
        """``stop``, unless somebody has decided meanwhile that it outlives this process."""
        if not self.persist:
            self.stop()

    def wait_until_gone(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """The end has been asked for on another way (a ``Stop`` message): wait, then insist. Idempotent."""
        if os.getpid() == self._pid and not daemon.wait(self.process, timeout_s):
            self.stop(timeout_s=1.0)

    def _remove_leftovers(self) -> None:
        """Of a head that had to be killed; a no-op after an orderly end."""
        session_dir.remove(Path(self.session_dir))
        cluster_registry.remove_record(self.cluster_id, cluster_registry.registry_dir())


def start_local(
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: int | None = None,
    object_store_memory: int | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    persist: bool = False,
    metrics_port: int | None = None,
    http_host: str = "127.0.0.1",
    http_port: int | None = None,
    name: str = "",
    kernel_id: str = "",
    autoscale: AutoscaleBounds | None = None,
    timeout_s: float = START_TIMEOUT_S,
    meanwhile: Callable[[], object] = lambda: None,
) -> LocalCluster:
    """Start a cluster on this machine and wait until it serves.

    Amounts are the user's numbers, None for what the machine has; memory in bytes. persist: it outlives this process.
    metrics_port: of the page for Prometheus (0: any free one), None for none. http_host, http_port: of the HTTP door,
    likewise.
    name: for people and ``find_cluster``; unique among the living. ValueError for a taken name; RaySystemError, with
    the end of the head's log, when it does not start. autoscale: nodes of this machine come and go within these bounds.
    meanwhile: called once while the head starts. Cost: 0.2 s.
    """
    if name and any(record.name == name for record in list_clusters()):
        raise ValueError(
            f"A cluster named {name!r} is running already; connect to it, stop it, or choose another name."
        )
    cluster_id = ids.random_id().hex()
    folder = session_dir.create(cluster_id)
    options = HeadOptions(
        ready_fd=READY_FD_UNSET,
        cluster_id=cluster_id,
        session_dir=str(folder),
        name=name,
        owner=None if persist else OwnerProcess(os.getpid(), start_time(os.getpid()) or 0, kernel_id),
        amounts=NodeAmounts(num_cpus, num_gpus, memory, object_store_memory, dict(resources or {})),
        labels=dict(labels or {}),
        metrics_port=metrics_port,
        http_host=http_host,
        http_port=http_port,
        autoscale=autoscale,
    )
    log_path = folder / session_dir.LOGS / "head.log"
    try:
        process, said = daemon.spawn(HEAD_MODULE, msgspec.to_builtins(options), log_path, timeout_s, meanwhile)
    except daemon.DaemonFailed as failure:
        session_dir.remove(folder)
        raise RaySystemError(f"The cluster could not be started: {failure}") from None
    except BaseException:
        session_dir.remove(folder)
        cluster_registry.remove_record(cluster_id, cluster_registry.registry_dir())
        raise
    ready = msgspec.convert(said, Ready)
    return LocalCluster(process, ready, name, _read_token(ready.token_file), persist)


def list_clusters() -> list[ClusterRecord]:
    """All living clusters of this user on this machine, oldest first."""
    return cluster_registry.list_records(cluster_registry.registry_dir())


def find_cluster(address: str) -> ClusterAddress:
    """The cluster that ``address`` means: "auto" (the only one, or the newest), its name, its id or the start of it,
    ``unix:/path`` of its node socket, or ``host:port`` of its GCS. ConnectionError, listing what there is, when there
    is no such cluster."""
    records = list_clusters()
    matches = [record for record in records if _matches(record, address)]
    if address == "auto":
        matches = records[-1:]
    if not matches:
        node = _node_at(address)
        if node is None:
            raise ConnectionError(_nothing_there(address, records))
        return node
    record = matches[-1]
    try:
        token = _read_token(record.token_file)
    except OSError as error:
        raise ConnectionError(
            f"The cluster at {address} cannot be joined: its token is unreadable ({error})."
        ) from None
    return ClusterAddress(
        record.cluster_id, record.name, record.node_socket, token, record.session_dir, record.persist, record
    )


def _node_at(address: str) -> ClusterAddress | None:
    """A node that is not a cluster's first, by its own socket: its folder has the token. None when there is none."""
    folder = Path(address.removeprefix("unix:")).parent
    if not address.startswith("unix:") or not session_dir.claimants(folder):
        return None
    try:
        token = _read_token(str(folder / session_dir.TOKEN_FILE))
    except OSError:
        return None
    return ClusterAddress("", "", address, token, str(folder), persist=True)


def session_door_of(folder: str) -> str:
    """Where thin clients of this machine knock, of the head whose session folder this is."""
    return f"unix:{Path(folder) / SESSIONS_SOCKET}"


def read_token(address: str, token_file: str) -> bytes:
    """The token for the head at ``address``, where thin clients knock: from that file; "": from the record of a cluster of
    this machine. ConnectionError when there is none, ValueError for a file that holds none."""
    if not token_file:
        for record in list_clusters():
            if record.session_address == address:
                return _read_token(record.token_file)
        raise ConnectionError(
            f"The cluster at {address} runs on another machine, and asks for its token. Copy the file that `raybook start` "
            f"names there to this machine (mode 0600), and give its path: init(..., token_file=...), or RAYBOOK_TOKEN_FILE."
        )
    try:
        return _read_token(token_file)
    except OSError as error:
        raise ValueError(f"token_file={token_file!r} is no token of a cluster: {error}.") from None


def stop_cluster(record: ClusterRecord, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End a cluster of the registry that this process did not start: the processes that its record and its session
    folder name, those of nodes that have joined it from this machine, and no other. Where its head is elsewhere, it goes on
    without these nodes. Idempotent; returns when they are gone."""
    registry = cluster_registry.registry_dir()
    for each in (record, *joined_nodes(record)):
        folder = Path(each.session_dir)
        claimed = session_dir.claimants(folder)
        for pid, started in dict.fromkeys([*claimed, (each.head_pid, each.head_start_time)]):
            _end_process(pid, started, timeout_s)
        session_dir.remove(folder)
    cluster_registry.remove_record(record.cluster_id, registry)


def joined_nodes(record: ClusterRecord) -> list[ClusterRecord]:
    """The living nodes of this machine that have joined this cluster, oldest first."""
    return cluster_registry.list_nodes(cluster_registry.registry_dir(), record.cluster_id)


def is_split(record: ClusterRecord) -> bool:
    """Whether its GCS and its first node are processes of their own: both are to be ended."""
    return len(session_dir.claimants(Path(record.session_dir))) > 1


def _end_process(pid: int, started: int, timeout_s: float) -> None:
    """SIGTERM, then SIGKILL, to a process that is not our child, by pidfd: a number that cannot be reused meanwhile."""

    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if not is_alive(pid, started):
                return
            signal.pidfd_send_signal(pidfd, signum)
            if poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return
            deadline = time.monotonic() + 1.0
    finally:
        os.close(pidfd)


def _matches(record: ClusterRecord, address: str) -> bool:
    if not address:
        return False
    by_id = len(address) >= 4 and record.cluster_id.startswith(address)
    return by_id or address in (record.name, record.node_socket, record.address, record.session_address)


def _nothing_there(address: str, records: list[ClusterRecord]) -> str:
    what = "No cluster is running on this machine" if address == "auto" else f"There is no cluster at {address!r}"
    if not records:
        return f"{what}, and none other either. Start one with init() or `raybook start --head`."
    lines = [f"  {record.name or '(no name)'}  id {record.cluster_id}  {record.node_socket}" for record in records]
    return "\n".join([f"{what}. Running are:", *lines])


def _read_token(path: str) -> bytes:
    token = Path(path).read_bytes()
    if len(token) != TOKEN_BYTES:
        raise OSError(f"{path} holds {len(token)} bytes, a token has {TOKEN_BYTES}")
    return token
