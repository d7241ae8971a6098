"""Providers for tests: one that makes nothing, and one that makes local nodes after it has failed as often as told."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from raybook.autoscaler.providers import Cluster, LaunchFailure, NodeProvider, ProvidedNode
from raybook.autoscaler.providers.local_processes import LocalProcesses


class ScriptedProvider(NodeProvider):
    """Books only. ``refusal``: what ``create_nodes`` raises, if anything. ``gate``: calls wait for it. ``calls``: all of
    them, in order."""

    def __init__(self, node_types: Sequence[str] = ("worker",)) -> None:
        self.nodes: dict[str, ProvidedNode] = {}
        self.failures: list[LaunchFailure] = []
        self.refusal: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[tuple[object, ...]] = []
        self.is_closed = False
        self._node_types = tuple(node_types)
        self._next = 0

    def create_nodes(self, node_type: str, count: int, request: str) -> None:
        self.calls.append(("create", node_type, count, request))
        self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        if node_type not in self._node_types:
            raise ValueError(f"There is no node type {node_type!r}.")
        for _ in range(count):
            self._next += 1
            name = f"node-{self._next}"
            self.nodes[name] = ProvidedNode(name, node_type, request)

    def terminate_nodes(self, instance_ids: Sequence[str]) -> None:
        self.calls.append(("terminate", *instance_ids))
        for name in instance_ids:
            self.nodes.pop(name, None)

    def non_terminated_nodes(self) -> list[ProvidedNode]:
        return list(self.nodes.values())

    def take_failures(self) -> list[LaunchFailure]:
        found, self.failures = self.failures, []
        return found

    def close(self) -> None:
        self.is_closed = True


class FlakyLocalProcesses(LocalProcesses):
    """Local nodes; the first ``failures`` launches (a key of the provider's configuration) fail."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._failures_left = int(cluster.provider.get("failures", 0))

    def create_nodes(self, node_type: str, count: int, request: str) -> None:
        if self._failures_left:
            self._failures_left -= 1
            raise RuntimeError("the quota of this account is used up")
        super().create_nodes(node_type, count, request)
