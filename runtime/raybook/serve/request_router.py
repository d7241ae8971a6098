"""Request routers of the user's: the class to derive from, what it is shown of requests and replicas, and Ray's mixins.

``choose_replicas`` ranks; who of the best rank has room gets the request (`custom_routing`). A router sees what its own
process has sent: loads are this caller's, as everywhere in Serve here.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raybook.serve.core.names import DeploymentID, ReplicaID

__all__ = [
    "FIFOMixin", "LocalityMixin", "MultiplexMixin", "PendingRequest", "ReplicaID", "RequestRouter", "RunningReplica",
]  # fmt: skip


@dataclass(frozen=True)
class RequestMetadata:
    """Of one request. call_method: which method it calls."""

    request_id: str
    internal_request_id: str
    call_method: str = "__call__"
    route: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    is_streaming: bool = False


@dataclass
class RequestRoutingContext:
    """What mixins have tried for one request."""

    tried_same_node: bool = False
    tried_first_multiplexed_models: bool = False
    should_backoff: bool = False


@dataclass
class PendingRequest:
    """A request that has no replica yet. args and kwargs: of the call; of HTTP requests, the scope and the body."""

    args: list[Any]
    kwargs: dict[str, Any]
    metadata: RequestMetadata
    created_at: float = field(default_factory=time.time)
    routing_context: RequestRoutingContext = field(default_factory=RequestRoutingContext)
    resolved: bool = False


class RunningReplica:
    """A replica as this process sees it now."""

    def __init__(self, replica_id: ReplicaID, slot: Any) -> None:
        self.replica_id = replica_id
        self._slot = slot

    @property
    def actor_id(self) -> Any:
        """Of its actor."""
        return self._slot.handle._actor_id

    @property
    def node_id(self) -> str:
        """Where it runs."""
        return self._slot.node_id

    @property
    def availability_zone(self) -> None:
        """Not known here."""

    @property
    def multiplexed_model_ids(self) -> set[str]:
        """Models that it has loaded."""
        return set(self._slot.models)

    @property
    def routing_stats(self) -> dict[str, Any]:
        """What its ``record_routing_stats`` returned last."""
        return self._slot.routing_stats

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests it is sent at a time."""
        return self._slot.limit

    @property
    def is_cross_language(self) -> bool:
        """False."""
        return False

    @property
    def queue_len(self) -> int:
        """How many requests of this process it has."""
        return self._slot.load

    async def get_queue_len(self, *, deadline_s: float = 0.0) -> int:
        """The same."""
        return self._slot.load

    def __repr__(self) -> str:
        return f"RunningReplica({self.replica_id})"


class QueueLengths:
    """How many requests of this process each replica has."""

    def __init__(self, replicas: dict[ReplicaID, RunningReplica]) -> None:
        self._replicas = replicas

    def get(self, replica_id: ReplicaID) -> int | None:
        """None for a replica that is not known."""
        replica = self._replicas.get(replica_id)
        return None if replica is None else replica.queue_len


class RequestRouter(ABC):
    """Derive from it, with the mixins before it, and name the class in ``RequestRouterConfig(request_router_class=...)``.
    One instance for each process and deployment, on an event loop of its own."""

    def __init__(self, deployment_id: DeploymentID, self_node_id: str = "", **options: Any) -> None:
        self._deployment_id = deployment_id
        self._self_node_id = self_node_id
        self._replicas: dict[ReplicaID, RunningReplica] = {}

    def initialize_state(self, **kwargs: Any) -> None:  # noqa: B027 - may be left as it is.
        """Called once, with ``request_router_kwargs``."""

    @property
    def app_name(self) -> str:
        """The application's name."""
        return self._deployment_id.app_name

    @property
    def curr_replicas(self) -> dict[ReplicaID, RunningReplica]:
        """Those that run."""
        return self._replicas

    @property
    def replica_queue_len_cache(self) -> QueueLengths:
        """Loads, by replica."""
        return QueueLengths(self._replicas)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Other replicas run now."""
        self._replicas = {replica.replica_id: replica for replica in replicas}

    def select_available_replicas(self, candidates: list[RunningReplica] | None = None) -> list[RunningReplica]:
        """Those of the candidates (of all, by default) that have room."""
        chosen = self._replicas.values() if candidates is None else candidates
        return [replica for replica in chosen if replica.queue_len < replica.max_ongoing_requests]

    @abstractmethod
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas, the best first. When none of them has room, it is asked again after a pause."""

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:  # noqa: B027 - may be left as it is.
        """A request was sent to a replica."""

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:  # noqa: B027 - may be left as it is.
        """A request is over."""

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:  # noqa: B027 - may be left as it is.
        """A replica has gone."""


class LocalityMixin:
    """Ranks by nearness."""

    _replicas: dict[ReplicaID, RunningReplica]
    _self_node_id: str

    def rank_replicas_via_locality(self, replicas: list[RunningReplica]) -> list[list[RunningReplica]]:
        """[those on this node, [], the others]: availability zones are not known here."""
        near = [replica for replica in replicas if replica.node_id == self._self_node_id]
        return [near, [], [replica for replica in replicas if replica not in near]]

    def apply_locality_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """Replicas on this node, the first time a request asks; then all."""
        if pending_request is not None and not pending_request.routing_context.tried_same_node:
            pending_request.routing_context.tried_same_node = True
            near = {key for key, replica in self._replicas.items() if replica.node_id == self._self_node_id}
            if near:
                return near
        return set(self._replicas)


class MultiplexMixin:
    """Ranks by loaded models."""

    _replicas: dict[ReplicaID, RunningReplica]

    def rank_replicas_via_multiplex(
        self, replicas: list[RunningReplica], multiplexed_model_id: str
    ) -> list[list[RunningReplica]]:
        """[those that have the model, those with the fewest models, the others]."""
        fewest = self._with_fewest_models()
        ranks: list[list[RunningReplica]] = [[], [], []]
        for replica in replicas:
            has_model = multiplexed_model_id in replica.multiplexed_model_ids
            ranks[0 if has_model else 1 if replica.replica_id in fewest else 2].append(replica)
        return ranks

    def apply_multiplex_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """Replicas with the request's model, the first time it asks; then those with the fewest models."""
        if pending_request is None:
            return set(self._replicas)
        wanted, context = pending_request.metadata.multiplexed_model_id, pending_request.routing_context
        having = {key for key, replica in self._replicas.items() if wanted in replica.multiplexed_model_ids}
        if context.tried_first_multiplexed_models or not having:
            having = self._with_fewest_models()
        context.tried_first_multiplexed_models = context.should_backoff = True
        return having

    def _with_fewest_models(self) -> set[ReplicaID]:
        counts = {key: len(replica.multiplexed_model_ids) for key, replica in self._replicas.items()}
        least = min(counts.values(), default=0)
        return {key for key, count in counts.items() if count == least}


class FIFOMixin:
    """Requests are sent in the order in which they came: here they are asked about in that order in any case."""


def shown_replicas(deployment: DeploymentID, slots: Iterable[Any]) -> list[RunningReplica]:
    """What a router is shown of the replicas of this process's router."""
    return [RunningReplica(ReplicaID(slot.unique_id, deployment), slot) for slot in slots]
