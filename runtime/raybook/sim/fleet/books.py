"""Books: what must hold in a fleet, kept from grants and ends alone and compared with nothing that a machine believes.

One worker, one lease; what is held on a node fits it; a STRICT_SPREAD group never shares a node; of an actor one life is at
work; whoever waits for what some node could hold is served within a bounded time; and in the end everything is free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.base.resources import Shape
from raybook.base.strategies import group_target
from raybook.core.node import lease_events as le
from raybook.core.scheduling.bundles import STRICT_SPREAD
from raybook.sim.checkers.violation import Violation

if TYPE_CHECKING:
    from raybook.sim.fleet.node import FleetNode
    from raybook.sim.fleet.world import Fleet

WAIT_MS_MAX = 60_000


class Books:
    """One per fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._held: dict[bytes, dict[bytes, Shape]] = {}
        """Node → worker → what it holds of the node's own amounts."""
        self._bundles: dict[bytes, dict[tuple[bytes, int], Shape]] = {}
        """Node → (group, bundle) → its amounts."""
        self._lives: dict[bytes, tuple[int, bytes]] = {}
        """Actor → (its newest life at work, the node)."""
        self.waits_ms: list[int] = []
        """Between a demand and each of its grants."""

    # Leases

    def bound(self, node: FleetNode, effect: le.Grant | le.StartActorOn) -> None:
        """A worker is given away."""
        held = self._held.setdefault(node.node_id, {})
        if effect.worker in held:
            raise Violation("grants", f"worker {effect.worker!r} of {node.name} was given away twice", effect.worker)
        in_bundle = group_target(effect.assignment.strategy) is not None
        held[effect.worker] = {} if in_bundle else dict(effect.assignment.resources)
        self._check(node)

    def shrunk(self, node: FleetNode, worker: bytes, resources: Shape) -> None:
        """An actor is alive, and keeps less than it needed to be placed."""
        if self._held[node.node_id].get(worker):
            self._held[node.node_id][worker] = dict(resources)

    def freed(self, node: FleetNode, worker: bytes) -> None:
        """It was given back, or has ended."""
        self._held.get(node.node_id, {}).pop(worker, None)

    def _check(self, node: FleetNode) -> None:
        taken: Shape = {}
        held, bundles = self._held.get(node.node_id, {}), self._bundles.get(node.node_id, {})
        for shape in (*held.values(), *bundles.values()):
            for name, amount in shape.items():
                taken[name] = taken.get(name, 0) + amount
        for name, amount in taken.items():
            if amount > node.total.get(name, 0):
                text = f"{amount} of {name} is allocated on {node.name}, which has {node.total.get(name, 0)}"
                raise Violation("grants", text, node.node_id)

    # Groups

    def reserved(self, node: FleetNode, group_id: bytes, bundles: list[tuple[int, Shape]], strategy: str) -> None:
        """A node has reserved bundles."""
        here = self._bundles.setdefault(node.node_id, {})
        for index, shape in bundles:
            here[group_id, index] = dict(shape)
        if strategy == STRICT_SPREAD and sum(key[0] == group_id for key in here) > 1:
            raise Violation("groups", f"a STRICT_SPREAD group shares {node.name}", group_id)
        self._check(node)

    def returned(self, node: FleetNode, group_id: bytes, indices: list[int] | None) -> None:
        """It has given them back; None: all of the group."""
        here = self._bundles.get(node.node_id, {})
        for key in [key for key in here if key[0] == group_id and (indices is None or key[1] in indices)]:
            del here[key]

    # Actors

    def lives(self, node: FleetNode, actor_id: bytes, life: int) -> None:
        """A life of an actor is at work."""
        newest, where = self._lives.get(actor_id, (-1, b""))
        if life <= newest and where != node.node_id:
            raise Violation("lives", f"life {life} of an actor begins on {node.name} after life {newest}", actor_id)
        self._lives[actor_id] = (life, node.node_id)

    # Waits

    def waited(self, since_ms: int) -> None:
        """A demand of then was served now."""
        self.waits_ms.append(self._fleet.timeline.now_ms - since_ms)

    def check_wait(self, since_ms: int, what: str) -> None:
        """Somebody waits."""
        now_ms = self._fleet.timeline.now_ms
        if now_ms - max(since_ms, self._fleet.last_fault_ms) > WAIT_MS_MAX:
            raise Violation("liveness", f"{what} since {since_ms} ms, at {now_ms} ms")

    # The end

    def node_ended(self, node: FleetNode) -> None:
        """Nothing is held there any more."""
        self._held.pop(node.node_id, None)
        self._bundles.pop(node.node_id, None)

    def at_end(self) -> None:
        """Everything was given back."""
        for node in self._fleet.nodes.values():
            node.leases.check_invariants()
            free = node.leases.resources.available
            if free != node.leases.resources.total:
                held, bundles = self._held.get(node.node_id), self._bundles.get(node.node_id)
                text = f"free on {node.name} in the end: {free} of {node.total}; held: {held}, bundles: {bundles}"
                raise Violation("grants", text, node.node_id)
