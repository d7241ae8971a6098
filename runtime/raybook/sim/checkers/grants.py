"""Grants: one worker serves one lease at a time; what is allocated fits the node, down to shares of single GPUs.

Keeps books of its own, of messages only: who was promised which worker with what, and when that ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.base.resources import Shape
from raybook.base.strategies import group_target
from raybook.core.node import lease_events as le
from raybook.protocol.messages import raylet as rm
from raybook.sim.checkers.violation import Violation

if TYPE_CHECKING:
    from raybook.sim.node import Node
    from raybook.sim.world import World


class Grants:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._leases: dict[bytes, dict[bytes, Any]] = {}
        """Node → worker → its Grant or StartActorOn."""
        self._blocked: dict[bytes, None] = {}
        """Workers that have lent out their CPU, and those that took it back beyond the total."""
        self._ever_blocked: dict[bytes, None] = {}
        self._orphans: dict[bytes, None] = {}
        """Workers whose client is out of reach."""

    def granted(self, node: Node, grant: le.Grant) -> None:
        """A worker is promised."""
        self._bind(node, grant.worker, grant)

    def passed_on(self, node: Node, effect: Any) -> None:
        """An effect of the lease manager that is a message."""
        if isinstance(effect, le.StartActorOn):
            self._bind(node, effect.worker, effect)
        elif isinstance(effect, le.LeaseLostEffect) and not effect.died:
            self._release(node, effect.lease_id)

    def _bind(self, node: Node, worker: bytes, grant: Any) -> None:
        leases = self._leases.setdefault(node.node_id, {})
        if worker in leases:
            raise Violation("grants", f"worker {worker!r} was given away twice: {leases[worker]}, then {grant}", worker)
        if worker not in node.clients:
            raise Violation("grants", f"worker {worker!r} was given away after its end", worker)
        leases[worker] = grant
        self._orphans.pop(worker, None)
        self._ever_blocked.pop(worker, None)
        self._check_amounts(node)

    def _release(self, node: Node, lease_id: int) -> None:
        leases = self._leases.get(node.node_id, {})
        for worker, grant in list(leases.items()):
            if isinstance(grant, le.Grant) and grant.lease_id == lease_id:
                del leases[worker]

    def heard(self, node: Node, client_id: bytes, message: Any) -> None:
        """A message of a client, of this node or another, before the lease manager hears of it."""
        if isinstance(message, rm.ReturnLease) and not message.worker_broken:
            self._release(node, message.lease_id)
        elif isinstance(message, rm.RevokeAnswer) and message.idle:
            grant = self._leases.get(node.node_id, {}).get(client_id)
            # The worker of a vanished client agrees, and nobody is told.
            if isinstance(grant, le.Grant) and grant.epoch == message.epoch:
                is_orphan = client_id in self._orphans or not node.serves(grant.client)
                if is_orphan:
                    del self._leases[node.node_id][client_id]
        elif isinstance(message, rm.Blocked):
            self._blocked[client_id] = None
            self._ever_blocked[client_id] = None
        elif isinstance(message, rm.Unblocked):
            self._blocked.pop(client_id, None)

    def parted(self, node: Node, client_id: bytes) -> None:
        """A client of another node is out of reach: what it has here is over."""
        for worker, grant in self._leases.get(node.node_id, {}).items():
            if isinstance(grant, le.Grant) and grant.client == client_id:
                self._orphans[worker] = None

    def died(self, node: Node, worker: bytes) -> None:
        """Its process has ended."""
        self._leases.get(node.node_id, {}).pop(worker, None)
        self._blocked.pop(worker, None)
        self._ever_blocked.pop(worker, None)

    def leaving(self, node: Node, worker: bytes, stays: bool) -> None:
        """It ends on purpose; one that stays for others has nothing any more."""
        if stays:
            self._leases.get(node.node_id, {}).pop(worker, None)

    def _check_amounts(self, node: Node) -> None:
        taken: Shape = {}
        # Inside their bundles, which are taken as a whole.
        in_groups: dict[bytes, Shape] = {}
        devices: dict[int, int] = {}
        for worker, grant in self._leases.get(node.node_id, {}).items():
            if worker in self._ever_blocked:
                # It continues at once when its wait is over, and the node runs over for a moment, by design.
                held = {name: n for name, n in grant.assignment.resources.items() if name != "CPU"}
            elif isinstance(grant, le.StartActorOn):
                held = grant.spec.resources
            else:
                held = grant.assignment.resources
            target = group_target(grant.assignment.strategy)
            amounts = taken if target is None else in_groups.setdefault(target.group_id, {})
            for name, amount in held.items():
                amounts[name] = amounts.get(name, 0) + amount
            for device, amount in grant.assignment.instances.get("GPU", ()):
                devices[device] = devices.get(device, 0) + amount
        for shape in self._world.check.groups.reserved_on(node):
            for name, amount in shape.items():
                taken[name] = taken.get(name, 0) + amount
        for name, amount in taken.items():
            if amount > node.resources.get(name, 0):
                text = f"{amount} of {name} is allocated on {node.name}, which has {node.resources.get(name, 0)}"
                raise Violation("grants", text)
        for device, amount in devices.items():
            if amount > 10_000:
                raise Violation("grants", f"{amount} of 10000 shares of GPU {device} are allocated on {node.name}")

    def node_ended(self, node: Node) -> None:
        """Nothing runs there any more."""
        for worker in self._leases.pop(node.node_id, {}):
            self._blocked.pop(worker, None)
            self._ever_blocked.pop(worker, None)

    def looked_at(self, node: Node) -> None:
        """The node's deciders have come to rest."""
        node.leases.check_invariants()
        node.pool.check_invariants()

    def at_end(self, node: Node) -> None:
        """Everything was returned."""
        left = {w: g for w, g in self._leases.get(node.node_id, {}).items() if isinstance(g, le.Grant)}
        if left:
            raise Violation("grants", f"leases that nobody returned: {left}", *left)
        if node.leases.resources.available != node.leases.resources.total:
            raise Violation("grants", f"free at the end: {node.leases.resources.available} of {node.resources}")
