"""Scaling: more and fewer nodes in the cluster that this process is connected to, and a cluster of several on this machine.

A node leaves in good order: it is drained (``core/node/drain``), so that nothing has to be done again. Knows nothing of
how a raylet is started (``split_cluster`` does), nor of demand (the autoscaler does).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raybook.api import local_cluster, split_cluster
from raybook.api.context import current_runtime, started_engine
from raybook.api.startup import init
from raybook.base.config import read_environment
from raybook.base.drains import NO_DEADLINE, PREEMPTION, REASONS
from raybook.base.tls_files import choose_tls
from raybook.io import hardware
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.process import start_time
from raybook.io.tls import usable_tls
from raybook.protocol.messages.daemons import NodeAmounts, OwnerProcess
from raybook.protocol.messages.gcs import DrainNode, DrainNodeReply, ListNodes, NodeInfo

LEAVE_S = 30
"""What runs on a node that is scaled away has so long to end."""
LOOK_S = 0.05
LISTENS_S = 10.0
"""A head that was started on this machine listens to other nodes within this."""
SETTLE_S = 5.0
"""From the deadline on, until the cluster has noticed."""
PARALLEL_STARTS_MAX = 8


class OwnedCluster:
    """A cluster of several processes that this process started, for ``shutdown`` to end. ``before_stop``: ended first, in
    order; nodes on other machines, for instance."""

    def __init__(self, record: ClusterRecord, amounts: NodeAmounts) -> None:
        self.record = record
        self.amounts = amounts
        self.http_address = record.http_address
        self.persist = record.persist
        self.before_stop: list[Callable[[], None]] = []
        self._pid = os.getpid()

    def stop(self) -> None:
        """End it, and what was attached to it. Idempotent; in a forked child it does nothing."""
        if os.getpid() != self._pid:
            return
        steps, self.before_stop = self.before_stop, []
        for step in steps:
            step()
        local_cluster.stop_cluster(self.record)


def start_nodes(
    count: int,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: int | None = None,
    object_store_memory: int | None = None,
    name: str = "",
    persist: bool = False,
    host: str = "127.0.0.1",
    session: str = "",
) -> OwnedCluster:
    """Start a cluster of ``count`` nodes on this machine and connect this process to it.

    Amounts are a node's; by default its share of what the machine has. memory, object_store_memory: bytes. persist: it
    outlives this process. host: where everything listens. session: that keeps what this process makes, "": none. Errors of
    ``init``; RaySystemError when a node does not start, and then nothing is left. Blocks until all have joined: 0.8 s, and
    0.3 s for each further node.
    """
    if current_runtime.engine is not None:
        raise RuntimeError(
            f"This process is connected already, to {current_runtime.engine.address}; shut that down first."
        )
    amounts = NodeAmounts(
        max(1, hardware.cpu_count() // count) if num_cpus is None else num_cpus,
        num_gpus,
        memory,
        _store_share(count) if object_store_memory is None else object_store_memory,
    )
    pid = os.getpid()
    owner = None if persist else OwnerProcess(pid, start_time(pid) or 0, current_runtime.kernel_id)
    tls = usable_tls(choose_tls(os.environ))
    record = split_cluster.start_head(amounts, name=name, host=host, metrics_port=None, owner=owner, tls=tls)
    cluster = OwnedCluster(record, amounts)
    try:
        _join(record, count - 1, amounts)
        init(address=record.cluster_id, session=session or None)
    except BaseException:
        cluster.stop()
        raise
    current_runtime.cluster = cluster
    return cluster


def scale(count: int, say: Callable[[str], None] = lambda text: None) -> int:
    """Have ``count`` nodes in this process's cluster: start more on this machine, or drain the newest ones (never the head);
    how many there are then.

    say: told what is being waited for. ValueError for fewer than one; RuntimeError when the cluster can have one node only,
    or is not of this machine; TimeoutError naming the nodes that have not left. Blocks until it is so.
    """
    if count < 1:
        raise ValueError(f"A cluster has one node at least, got {count}. `shutdown` ends it.")
    nodes = [node for node in _nodes() if not node.draining]
    if count > len(nodes):
        record = _record_for_joining(nodes)
        say(f"Starting {count - len(nodes)} more on this machine.")
        cluster = current_runtime.cluster
        amounts = cluster.amounts if isinstance(cluster, OwnedCluster) else NodeAmounts(num_gpus=0)
        _join(record, count - len(nodes), amounts)
    elif count < len(nodes):
        leaving = [node for node in reversed(nodes) if not node.is_head][: len(nodes) - count]
        say(f"Draining {len(leaving)}; what runs there has {LEAVE_S} s to end.")
        for node in leaving:
            drain_node(node.node_id.hex(), reason=PREEMPTION, message="the cluster was scaled down", deadline_s=LEAVE_S)
        _wait_until_gone({node.node_id for node in leaving})
    return len(_nodes())


def drain_node(node_id: str, *, reason: str = PREEMPTION, message: str = "", deadline_s: float | None = None) -> None:
    """Have a node emptied, and leave: it takes no new work, what runs may end, actors that may restart begin anew elsewhere
    (which costs them no restart), objects move to their owners' nodes.

    node_id: as ``nodes()`` has it. reason: a name of Ray's (``DRAIN_NODE_REASON_…``). deadline_s: after which it leaves with
    whatever is left, None: it waits. Returns when the drain has begun. RuntimeError when it is refused (the head, or a busy
    node for IDLE_TERMINATION), ValueError for what makes no sense.
    """
    if reason not in REASONS:
        raise ValueError(f"reason must be one of {', '.join(REASONS)}, got {reason!r}.")
    try:
        key = bytes.fromhex(node_id)
    except (ValueError, TypeError):
        raise ValueError(f"node_id is a node's id in hex, as nodes() has it, got {node_id!r}.") from None
    if deadline_s is not None and deadline_s < 0:
        raise ValueError(f"deadline_s lies ahead, got {deadline_s}.")
    deadline_ms = NO_DEADLINE if deadline_s is None else int(deadline_s * 1_000)
    reply: DrainNodeReply = started_engine().gcs_call("DrainNode", DrainNode(key, reason, message, deadline_ms))
    if not reply.accepted:
        raise RuntimeError(f"Node {node_id} was not drained: {reply.rejection}")


def _join(record: ClusterRecord, count: int, amounts: NodeAmounts) -> None:
    """Nodes that end with the cluster's first one, started side by side."""
    owner = OwnerProcess(record.head_pid, record.head_start_time)
    tls = usable_tls(choose_tls(os.environ))

    def one(_: int) -> None:
        split_cluster.join(record.address, record.token_file, amounts, _host_of(record.address), owner=owner, tls=tls)

    with ThreadPoolExecutor(PARALLEL_STARTS_MAX, thread_name_prefix="nodes") as threads:
        list(threads.map(one, range(count)))


def _record_for_joining(nodes: list[NodeInfo]) -> ClusterRecord:
    head = next((node for node in nodes if node.is_head), None)
    if head is not None and not head.gateway_address:
        raise RuntimeError(
            "This cluster was started for one node, which listens to no other one. Stop it, and start it with several: "
            "`%ray_cluster start --nodes 2`, or `raybook start --head`."
        )
    folder = started_engine().session_dir
    deadline = time.monotonic() + LISTENS_S
    while True:
        record = next((known for known in local_cluster.list_clusters() if known.session_dir == folder), None)
        if (record is not None and record.address) or not Path(folder).exists() or time.monotonic() > deadline:
            break
        # The head of a notebook listens to other nodes a moment after it serves its own.
        time.sleep(LOOK_S)
    if record is None or not record.address or not Path(record.token_file).exists():
        raise RuntimeError(
            "This cluster is not of this machine: start nodes where it is, with `raybook start --address`."
        )
    return record


def _nodes() -> list[NodeInfo]:
    return [node for node in started_engine().gcs_call("ListNodes", ListNodes()).nodes if node.alive]


def _wait_until_gone(node_ids: set[bytes]) -> None:
    deadline = time.monotonic() + LEAVE_S + SETTLE_S
    while True:
        left = [node.node_id.hex() for node in _nodes() if node.node_id in node_ids]
        if not left:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"These nodes were told to leave and are still there: {', '.join(left)}.")
        time.sleep(LOOK_S)


def _store_share(count: int) -> int:
    """So much for each of ``count`` nodes' stores, that together they are what one would have."""
    config = read_environment(os.environ)
    share = int(hardware.memory_bytes() * config.object_store_fraction) // count
    return min(max(share, config.object_store_bytes_min), config.object_store_bytes_max)


def _host_of(address: str) -> str:
    return address.rpartition(":")[0]
