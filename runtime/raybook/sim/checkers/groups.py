"""Groups: bundles of placement groups lie where their strategy lets them, each in one place, and nowhere in the end.

Keeps books of its own, of what nodes were asked and said. Excused are nodes that the GCS holds for dead: what lies there is
somewhere else by now, and they have not heard of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.base.facts import GROUP_CREATED
from raybook.base.resources import Shape
from raybook.core.cluster.placement_groups import PlacementGroupTable
from raybook.core.node.lease_events import BundlesReturned, GroupRemoved
from raybook.core.scheduling.bundles import STRICT_PACK, STRICT_SPREAD
from raybook.protocol.messages.node import CommitBundles, PrepareBundles, ReturnBundles
from raybook.sim.checkers.violation import Violation

if TYPE_CHECKING:
    from raybook.sim.node import Node
    from raybook.sim.world import World


class Held:
    """Bundles of one attempt of a group on one node."""

    __slots__ = ("attempt", "is_committed", "shapes")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.shapes: dict[int, Shape] = {}
        self.is_committed = False


class Groups:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: dict[tuple[bytes, bytes], list[Held]] = {}
        """(group, node) → what it has of each attempt."""

    def prepared(self, node: Node, request: PrepareBundles) -> None:
        """The node has reserved; once more for what is there already."""
        attempts = self._held.setdefault((request.group_id, node.node_id), [])
        if all(held.attempt != request.attempt for held in attempts):
            attempts.append(Held(request.attempt))
            attempts[-1].shapes = {bundle.index: dict(bundle.shape) for bundle in request.bundles}
        spec = self._world.ledger.groups[request.group_id]
        here = {index for held in attempts for index in held.shapes}
        if spec.strategy == STRICT_SPREAD and len(here) > 1:
            text = f"bundles {sorted(here)} of a STRICT_SPREAD group lie together on {node.name}"
            raise Violation("groups", text, request.group_id)
        if request.commit:
            self._committed(node, request.group_id, request.attempt)

    def committed(self, node: Node, request: CommitBundles) -> None:
        """They may be used from now on."""
        self._committed(node, request.group_id, request.attempt)

    def _committed(self, node: Node, group_id: bytes, attempt: int) -> None:
        for held in self._held.get((group_id, node.node_id), ()):
            if held.attempt == attempt:
                held.is_committed = True
                for index in held.shapes:
                    self._check_single(node, group_id, index)

    def _check_single(self, node: Node, group_id: bytes, index: int) -> None:
        for (other_group, node_id), attempts in self._held.items():
            if other_group != group_id or node_id == node.node_id or node_id in self._world.ledger.dead_nodes:
                continue
            if node_id in self._world.nodes and self._world.nodes[node_id].drain.why:
                # What runs there may finish, while its bundle is elsewhere already.
                continue
            if any(held.is_committed and index in held.shapes for held in attempts):
                text = f"bundle {index} may be used on {node.name} and on {self._world.node(node_id).name}"
                raise Violation("groups", text, group_id)

    def returned(self, node: Node, request: ReturnBundles) -> None:
        """The node has given back."""
        self._return(node, request.group_id, request.attempt, None if request.removed else request.indices)

    def outdated(self, node: Node, event: GroupRemoved | BundlesReturned) -> None:
        """It gives back what a GCS that was started anew knows nothing of."""
        indices = event.indices if isinstance(event, BundlesReturned) else None
        self._return(node, event.group_id, event.attempt, indices)

    def _return(self, node: Node, group_id: bytes, attempt: int, indices: list[int] | None) -> None:
        key = (group_id, node.node_id)
        attempts = self._held.pop(key, [])
        if indices is not None:
            for held in attempts:
                if held.attempt <= attempt:
                    held.shapes = {i: shape for i, shape in held.shapes.items() if i not in indices}
            left = [held for held in attempts if held.shapes]
            if left:
                self._held[key] = left

    def node_ended(self, node: Node) -> None:
        """Nothing lies there any more."""
        for key in [key for key in self._held if key[1] == node.node_id]:
            del self._held[key]

    def reserved_on(self, node: Node) -> list[Shape]:
        """What bundles take of a node."""
        pairs = [attempts for (_, node_id), attempts in self._held.items() if node_id == node.node_id]
        return [shape for attempts in pairs for held in attempts for shape in held.shapes.values()]

    def after_gcs(self, table: PlacementGroupTable) -> None:
        """The table has decided."""
        table.check_invariants()
        for info in table.infos():
            if info.state == GROUP_CREATED:
                places = len(set(info.nodes))
                if info.spec.strategy == STRICT_SPREAD and places < len(info.nodes):
                    raise Violation("groups", "a STRICT_SPREAD group shares a node", info.spec.group_id)
                if info.spec.strategy == STRICT_PACK and places > 1:
                    raise Violation("groups", "a STRICT_PACK group lies on several nodes", info.spec.group_id)

    def at_end(self) -> None:
        """All groups were removed."""
        for (group_id, node_id), attempts in self._held.items():
            if node_id in self._world.nodes and any(held.shapes for held in attempts):
                text = f"{self._world.node(node_id).name} still keeps bundles of a group that was removed"
                raise Violation("groups", text, group_id)
