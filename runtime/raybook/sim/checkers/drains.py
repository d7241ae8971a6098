"""Drains: a node that left in good order took nothing along, and served nobody after it had agreed to go.

Looks at owners and at the node from outside, at the moment at which the node says goodbye.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.sim.checkers.violation import Violation

if TYPE_CHECKING:
    from raybook.sim.node import Node
    from raybook.sim.world import World


class Drains:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def granted(self, node: Node, grant: Any) -> None:
        """A worker is given away."""
        if node.drain.why:
            raise Violation("drains", f"{node.name} drains, and gave a worker away: {grant}", grant.worker)

    def left(self, node: Node) -> None:
        """It holds itself for empty."""
        for process in self._world.processes.values():
            if not process.is_alive or process.node is node or process.node.node_id not in self._world.nodes:
                continue
            for key, value in process.owner.objects.values.items():
                if value.location is not None and value.location.node_id == node.node_id:
                    if process.owner.references.is_owned(key):
                        text = f"{node.name} leaves with an object of {process.name}, which lives and wants it"
                        raise Violation("drains", text, key)
        busy = [str(row) for row in node.leases.worker_states()]
        if busy:
            raise Violation("drains", f"{node.name} leaves with workers: {busy}", node.node_id)
