"""Resource view: what every living node has and has free, as last reported, less what was placed since.

Decides nothing. Amounts are fixed point. A placement is subtracted at once, so that a burst of actors does not pile up
on one node between two reports; the next report of the node replaces the guess.
Invariants: a node is in the pool of each resource it has, and in no other; totals are positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from raybook.base.resources import Shape


class NodeResources(msgspec.Struct):
    """One node. ``order``: age rank, lower is older. ``queued``: placements since the last report that had no room."""

    node_id: bytes
    order: int
    total: Shape
    available: Shape
    labels: dict[str, str]
    queued: int = 0


class _Pool:
    """A list that can be sampled and that forgets a member in one step (the last one takes its place)."""

    __slots__ = ("nodes", "position")

    def __init__(self) -> None:
        self.nodes: list[NodeResources] = []
        self.position: dict[bytes, int] = {}

    def add(self, node: NodeResources) -> None:
        self.position[node.node_id] = len(self.nodes)
        self.nodes.append(node)

    def remove(self, node_id: bytes) -> None:
        index = self.position.pop(node_id)
        last = self.nodes.pop()
        if last.node_id != node_id:
            self.nodes[index] = last
            self.position[last.node_id] = index


class ResourceView:
    """The index that policies choose from."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, NodeResources] = {}
        self._all = _Pool()
        self._with: dict[str, _Pool] = {}
        self._next_order = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[NodeResources]:
        return iter(self._nodes.values())

    def get(self, node_id: bytes) -> NodeResources | None:
        return self._nodes.get(node_id)

    def most(self, names: Iterable[str]) -> Shape:
        """The most that one node has of each of these in all, not necessarily the same node. Cost: a look at each node."""
        return {name: max((node.total.get(name, 0) for node in self), default=0) for name in names}

    def add(self, node_id: bytes, total: Shape, available: Shape, labels: dict[str, str]) -> None:
        """A node joined, or came back with other amounts (it keeps its age then)."""
        old = self._nodes.get(node_id)
        order = self._next_order
        if old is not None:
            order = old.order
            self.remove(node_id)
        else:
            self._next_order += 1
        total = {name: amount for name, amount in total.items() if amount > 0}
        node = NodeResources(node_id, order, total, dict(available), dict(labels))
        self._nodes[node_id] = node
        self._all.add(node)
        for name in total:
            self._with.setdefault(name, _Pool()).add(node)

    def remove(self, node_id: bytes) -> None:
        """Forget a node. Idempotent."""
        node = self._nodes.pop(node_id, None)
        if node is None:
            return
        self._all.remove(node_id)
        for name in node.total:
            self._with[name].remove(node_id)
            if not self._with[name].nodes:
                del self._with[name]

    def report(self, node_id: bytes, available: Shape) -> None:
        """The node's own figure; replaces what was guessed. Unknown nodes are ignored."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.available = dict(available)
            node.queued = 0

    def reserve(self, node_id: bytes, shape: Shape) -> None:
        """Something was placed there: subtract it until the node reports, or count it as queued."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        if any(node.available.get(name, 0) < amount for name, amount in shape.items()):
            node.queued += 1
            return
        for name, amount in shape.items():
            node.available[name] -= amount

    def give_back(self, node_id: bytes, shape: Shape) -> None:
        """What was reserved there is free again, until the node's next report says so itself."""
        node = self._nodes.get(node_id)
        if node is not None:
            for name, amount in shape.items():
                node.available[name] = min(node.available.get(name, 0) + amount, node.total.get(name, 0))

    def pool(self, request: Shape) -> list[NodeResources]:
        """The smallest group that surely contains every feasible node: those with the rarest requested resource.
        Read-only for the caller. Cost: one look-up per requested resource."""
        smallest = self._all.nodes
        for name, amount in request.items():
            if amount > 0:
                pool = self._with.get(name)
                if pool is None:
                    return []
                if len(pool.nodes) < len(smallest):
                    smallest = pool.nodes
        return smallest

    def largest(self) -> Shape:
        """For each resource, the most that one node has. Cost: one pass over the nodes."""
        most: Shape = {}
        for node in self._nodes.values():
            for name, amount in node.total.items():
                most[name] = max(most.get(name, 0), amount)
        return most

    def check_invariants(self) -> None:
        assert len(self._all.nodes) == len(self._nodes), "The pool of all nodes is not all nodes."
        for name, pool in self._with.items():
            assert pool.nodes, f"The pool of {name} is empty but kept."
            assert len(pool.nodes) == len(pool.position), f"The pool of {name} is torn."
            for node in pool.nodes:
                assert node.total.get(name, 0) > 0, f"Node {node.node_id.hex()} has no {name} but is in its pool."
        for node in self._nodes.values():
            for name in node.total:
                pool = self._with[name]
                assert pool.nodes[pool.position[node.node_id]] is node, f"A node is missing from the pool of {name}."
