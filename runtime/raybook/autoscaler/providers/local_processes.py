"""Local processes: nodes of this machine, each a raylet with workers, an object store and ports of its own.

For notebooks, and to see what a program does on many nodes. They share the machine, so that a type's CPUs are what may be
*reserved*; memory and the store are divided up (``with_shares``). A node lives in a folder inside the cluster's session
folder and ends with the process that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from raybook.autoscaler.providers import Cluster, LaunchFailure, NodeProvider, ProvidedNode
from raybook.base.ids import random_id
from raybook.base.resources import CPU, GPU, MEMORY, OBJECT_STORE_MEMORY, to_float
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.io import daemon, session_dir
from raybook.io.process import start_time
from raybook.protocol.messages.daemons import NodeAmounts, OwnerProcess
from raybook.protocol.messages.scaling import INSTANCE_LABEL, NODE_TYPE_LABEL

logger = logging.getLogger(__name__)

RAYLET_MODULE = "raybook.raylet.main"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0


class _Node(msgspec.Struct, eq=False):
    """folder: of its session. process: None while it starts. is_ending: it was told to go."""

    node_type: str
    request: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    is_ending: bool = False


class LocalProcesses(NodeProvider):
    """See the module."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._failures: list[LaunchFailure] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    def create_nodes(self, node_type: str, count: int, request: str) -> None:
        kind = self._cluster.settings.type_named(node_type)
        if kind is None:
            raise ValueError(f"There is no node type {node_type!r}.")
        for _ in range(count):
            name = f"n{random_id()[:4].hex()}"
            node = _Node(node_type, request, Path(self._cluster.node.session_dir) / name)
            with self._lock:
                if self._closed:
                    raise RuntimeError("The cluster ends; no node was started.")
                self._nodes[name] = node
            self._in_thread(self._start, name, node, kind)

    def terminate_nodes(self, instance_ids: Sequence[str]) -> None:
        for name in instance_ids:
            with self._lock:
                node = self._nodes.get(name)
                if node is None or node.is_ending:
                    continue
                node.is_ending = True
                if node.process is None:
                    continue  # Its starter ends it.
            self._in_thread(self._end, name, node)

    def non_terminated_nodes(self) -> list[ProvidedNode]:
        for name, node in list(self._nodes.items()):
            if node.process is not None and node.process.poll() is not None:
                self._forget(name, node)
        with self._lock:
            return [ProvidedNode(name, node.node_type, node.request) for name, node in self._nodes.items()]

    def take_failures(self) -> list[LaunchFailure]:
        with self._lock:
            found, self._failures = self._failures, []
        return found

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.terminate_nodes(list(self._nodes))
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_S + 1)

    # In threads

    def _start(self, name: str, node: _Node, kind: NodeType) -> None:
        try:
            node.folder.mkdir(mode=0o700)
            (node.folder / session_dir.LOGS).mkdir(mode=0o700)
            options = msgspec.structs.replace(
                self._cluster.node,
                session_dir=str(node.folder),
                amounts=amounts_of(kind),
                labels={**kind.labels, INSTANCE_LABEL: name, NODE_TYPE_LABEL: kind.name},
                is_head=False,
                owner=OwnerProcess(os.getpid(), start_time(os.getpid()) or 0),
            )
            log_path = node.folder / session_dir.LOGS / "raylet.log"
            process, _ = daemon.spawn(RAYLET_MODULE, msgspec.to_builtins(options), log_path, START_TIMEOUT_S)
        except (daemon.DaemonFailed, OSError) as error:
            logger.warning("Node %s could not be started: %s", name, error)
            with self._lock:
                self._failures.append(LaunchFailure(node.node_type, 1, str(error), node.request))
            self._forget(name, node)
            return
        with self._lock:
            node.process = process
            is_ending = node.is_ending or self._closed
        if is_ending:
            self._end(name, node)

    def _end(self, name: str, node: _Node) -> None:
        assert node.process is not None, "Only what runs is ended."
        daemon.stop(node.process, STOP_TIMEOUT_S)
        self._forget(name, node)

    def _forget(self, name: str, node: _Node) -> None:
        with self._lock:
            self._nodes.pop(name, None)
        with contextlib.suppress(OSError):
            session_dir.remove(node.folder)

    def _in_thread(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="local-node", daemon=True)  # type: ignore[arg-type]
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()


def amounts_of(kind: NodeType) -> NodeAmounts:
    """What a raylet of this type is to offer. What the type does not name, it does not have, but memory, which every node
    has; GPUs of the machine are not shared out unasked."""
    known = {CPU, GPU, MEMORY, OBJECT_STORE_MEMORY}
    resources = kind.resources
    memory, store = resources.get(MEMORY), resources.get(OBJECT_STORE_MEMORY)
    custom = {name: to_float(name, amount) for name, amount in resources.items() if name not in known}
    return NodeAmounts(
        to_float(CPU, resources.get(CPU, 0)), to_float(GPU, resources.get(GPU, 0)), memory, store, custom
    )


def with_shares(settings: Settings, machine_memory: int, store_share: float, store_least: int) -> Settings:
    """The same types, with memory and room for objects where they name none: an equal part for each node there may be and
    the head. machine_memory: bytes. store_share: of a node's part, what its store takes, at least ``store_least``."""
    part = machine_memory // (settings.max_nodes + 1)
    store = max(store_least, int(part * store_share))

    def filled(resources: Mapping[str, int]) -> dict[str, int]:
        return {MEMORY: max(0, part - store), OBJECT_STORE_MEMORY: store, **resources}

    types = tuple(msgspec.structs.replace(kind, resources=filled(kind.resources)) for kind in settings.types)
    return msgspec.structs.replace(settings, types=types)
