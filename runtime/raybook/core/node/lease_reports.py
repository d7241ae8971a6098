"""Lease reports: what a node says of its leases and of what waits, in figures and in words. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raybook.base.label_selector import NODE_ID_LABEL
from raybook.base.resources import Shape, describe
from raybook.base.specs import LabelChoice
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.node.lease_events import WaitingRequest
from raybook.core.node.lease_table import LeaseTable, WorkerState
from raybook.core.node.request_queue import Group, Request, RequestQueue
from raybook.core.node.resource_pools import ResourcePools
from raybook.protocol.messages.scaling import ShapeCount

ACTORS_TOLD_MAX = 256
"""More than a report needs to say: the GCS moves some, and hears of the others then."""


@dataclass(slots=True, frozen=True)
class Occupant:
    """Who has a worker. owner: the process it works for, b"" when it is idle. name: of a function for whose tasks it was
    leased (it may run others by now), or of its actor."""

    worker: bytes
    owner: bytes = b""
    since_ms: int = 0
    is_retriable: bool = True
    name: str = ""


class LeaseReports:
    """Views of the lease manager's tables."""

    def __init__(self, table: LeaseTable, queue: RequestQueue, pools: ResourcePools) -> None:
        self._table = table
        self._queue = queue
        self._pools = pools
        self.draining = ""
        """Why this node takes no more work; "" while it does."""
        self.view: ResourceView | None = None
        """Set where there are other nodes."""

    def available(self) -> Shape:
        """Free amounts, counting leases whose workers said that they are idle; never below zero. What is free inside a
        bundle is not free for others."""
        root = self._pools.root
        amounts = dict(root.available)
        for worker in self._table.leases.values():
            lease = worker.lease
            held = root.held(lease.lease_id) if lease and lease.idle and not lease.blocked else None
            for name, amount in held.resources.items() if held else ():
                amounts[name] += amount
        return {name: max(0, amount) for name, amount in amounts.items()}

    def task_leases(self) -> list[tuple[bytes, int]]:
        """(worker, epoch) of every task lease that is not blocked: those worth a probe."""
        return [
            (worker.worker_id, worker.epoch)
            for worker in self._table.leases.values()
            if worker.lease is not None and not worker.lease.blocked
        ]

    def demand(self) -> list[ShapeCount]:
        """How many leases wait for what that another node could serve, too: not what waits for a bundle, or for one node.
        Actors are left out, the GCS knows them. Cost: 1 µs a row; a row for each shape, however many wait."""
        rows = []
        for group in self._queue:
            labels = dict(group.key[4])
            if group.target is None and not group.key[2] and NODE_ID_LABEL not in labels:
                others = [LabelChoice(dict(labels)) for labels in group.queue[0].fallbacks]
                rows.append(ShapeCount(dict(group.shape), group.count, labels, others))
        return rows

    def queued_actors(self) -> list[bytes]:
        """Actors that wait here for room, at most ``ACTORS_TOLD_MAX``."""
        found: list[bytes] = []
        for group in self._queue:
            if group.key[2] and group.target is None:
                found += [request.actor.spec.actor_id for request in group.queue if request.actor is not None]
        return found[:ACTORS_TOLD_MAX]

    def occupation(self) -> str:
        """What keeps this node from being idle, "" when nothing does. Cost: 0.1 µs a worker unless it is idle."""
        if self._pools.root.is_free() and not len(self._queue):
            return ""
        tasks = len(self._table.leases)
        actors = sum(worker.state is WorkerState.ACTOR for worker in self._table.workers.values())
        parts = [f"{count} {noun}{'s' * (count > 1)}" for count, noun in ((tasks, "task"), (actors, "actor")) if count]
        if parts:
            return f"{' and '.join(parts)} on it"
        return "something waits on it" if len(self._queue) else "bundles or ending processes on it"

    def occupants(self) -> list[Occupant]:
        """Every worker that is not about to end, and who has it. Cost: 1 µs a worker."""
        found = []
        for worker in self._table.workers.values():
            lease = worker.lease
            if worker.state is WorkerState.IDLE:
                found.append(Occupant(worker.worker_id))
            elif worker.state is WorkerState.ENDING or lease is None:
                continue
            elif lease.actor is None:
                found.append(Occupant(worker.worker_id, lease.client, lease.granted_ms, lease.is_retriable, lease.name))
            else:
                spec = lease.actor.spec
                retriable = spec.max_restarts != 0
                name = f"actor {spec.class_name} {spec.name}".rstrip()
                found.append(Occupant(worker.worker_id, spec.owner.client_id, lease.granted_ms, retriable, name))
        return found

    def queued(self) -> list[WaitingRequest]:
        """Everything that waits, with the reason in words."""
        return [
            WaitingRequest(dict(group.shape), request.count, request.name or "tasks", self.why_waiting(group, request))
            for group in self._queue
            for request in group.queue
        ]

    def waiting_in(self, environment: str) -> list[Request]:
        """Every queued request for workers of this runtime environment."""
        return [request for group in self._queue for request in group.queue if group.environment == environment]

    def waits_for_group(self, group_id: bytes) -> bool:
        """Whether something is queued for a placement group of which there is no bundle here."""
        targets = [group.target for group in self._queue if group.target is not None]
        return any(target.group_id == group_id and not self._pools.has_bundle(target) for target in targets)

    def why_waiting(self, group: Group, request: Request) -> str:
        """What this request waits for."""
        name, target = request.name or "tasks", group.target
        if self.draining:
            return f"{request.count} × {name} wait for another node: this one drains ({self.draining})."
        if group.missing or group.refusal:
            return self.why_never(name, group)
        if target is not None and not self._pools.has_bundle(target):
            return f"{request.count} × {name} wait for a bundle of placement group {target.group_id.hex()}."
        _, compared = self._pools.compared(group.shape, target)
        free = {name.partition("@")[0]: amount for name, amount in compared.items()}
        place = "here" if target is None else "in its placement group"
        return f"{request.count} × {name} wait for {describe(group.shape)}; free {place}: {describe(free)}."

    def why_never(self, name: str, group: Group) -> str:
        """Why this node, and any other, can never serve a group of requests."""
        if group.refusal:
            return f"{name} asks for {group.refusal}. It stays queued; add a node that has them, or ask for others."
        if group.target is None and self.view is not None and len(self.view) > 1:
            return (
                f"{name} asks for {describe(group.shape)}, and no node of the cluster has that: its {len(self.view)} nodes "
                f"have at most {describe(self.view.most(group.shape))} each. It stays queued; ask for less, or add a node "
                f"that has it."
            )
        totals = self._pools.total_for(group.target)
        total = {name: amount for name, amount in totals.items() if name in group.shape}
        place, remedy = "this node has", "add a node that has it"
        if group.target is not None:
            place, remedy = "its placement group has in one bundle", "make a group with larger bundles"
        return (
            f"{name} asks for {describe(group.shape)}, but {place} {describe(total)} in all, "
            f"{describe(group.missing)} too little. It stays queued; ask for less, or {remedy}."
        )


def story_of(key: bytes, history: Iterable[tuple[int, Any]]) -> str:
    """Events and effects of a history that name this client, worker or actor, one a line."""
    lines = []
    for moment_ms, record in history:
        names = [getattr(record, name, None) for name in ("client", "worker", "actor_id")]
        spec = getattr(record, "spec", None)
        if key in names or (spec is not None and spec.actor_id == key):
            lines.append(f"{moment_ms} ms: {record}")
    return "\n".join(lines)
