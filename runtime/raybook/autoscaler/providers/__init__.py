"""Providers: who makes nodes and takes them down. This page is the contract; a provider of your own is a class like it.

    class Racks(NodeProvider):
        def create_nodes(self, node_type, count, request): ...
        def terminate_nodes(self, instance_ids): ...
        def non_terminated_nodes(self): ...

    provider: {type: external, module: my_package.racks.Racks}      in the scaling configuration

A provider is asked again and again what there is, and what it says counts: it keeps no promises and need not remember
anything. Its methods run in threads, one call of each method at a time; they may block for a while and may raise. What they
raise is shown and the request is tried again later.

Nodes that it makes find the cluster by ``Cluster`` and carry two labels, by which they are told apart:
``raybook.io/instance-id`` with the provider's own name for the node and ``ray.io/node-group`` with its type. Where a node's
command line is not the provider's to write, the variables RAY_CLOUD_INSTANCE_ID and RAY_NODE_TYPE_NAME say the same (KubeRay
sets them).

How this fits a replica set (KubeRay): ``create_nodes`` raises ``replicas`` of the group; the pods that appear carry no
request, so ``ProvidedNode.request`` stays "" and they are taken for the oldest request of their type. ``terminate_nodes``
writes the pods' names into ``workersToDelete`` and lowers ``replicas`` by their number. ``non_terminated_nodes`` lists the
pods of the cluster that have no deletion time. Pods that nothing has room for stay listed, so they count as on their way,
and what makes room for them (Karpenter, a cluster autoscaler) does not disturb.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from raybook.core.autoscaler.events import ProvidedNode
from raybook.core.autoscaler.settings import Settings
from raybook.protocol.messages.daemons import NodeOptions

__all__ = ["Cluster", "LaunchFailure", "NodeProvider", "ProvidedNode"]


class Cluster(msgspec.Struct):
    """What a provider needs to know to make nodes that join. node: options of a raylet that does, all but what is its own.
    settings: the types, as they are decided by. node_types: each type's ``node_config``, as it was written. provider: the
    provider's part of the configuration."""

    node: NodeOptions
    settings: Settings
    node_types: Mapping[str, Mapping[str, Any]] = {}
    provider: Mapping[str, Any] = {}


class LaunchFailure(msgspec.Struct, frozen=True):
    """So many nodes that were asked for will not come. request: whose they were, "" when that cannot be told."""

    node_type: str
    count: int
    error: str
    request: str = ""


class NodeProvider(ABC):
    """See the module. Made with a ``Cluster``."""

    @abstractmethod
    def create_nodes(self, node_type: str, count: int, request: str) -> None:
        """Ask for so many more nodes of a type; need not wait for them. request: a name that is used once; nodes of it may
        carry it. Anything raised means that none of them will come."""

    @abstractmethod
    def terminate_nodes(self, instance_ids: Sequence[str]) -> None:
        """Take these down; need not wait for it. Called again for what is still listed after a while. What is gone already
        is no mistake."""

    @abstractmethod
    def non_terminated_nodes(self) -> list[ProvidedNode]:
        """Everything of this cluster that exists or is on its way, also what an earlier autoscaler asked for, and what is
        being taken down for as long as it is there."""

    def take_failures(self) -> list[LaunchFailure]:
        """Launches that failed after ``create_nodes`` had returned, since the last call."""
        return []

    def close(self) -> None:  # noqa: B027 Most have nothing to do.
        """The cluster ends. Nodes that cannot live on by themselves end with it."""
