"""Resource view: what every living node has and has free, as last reported, less what was placed since.

Decides nothing. Amounts are fixed point. A placement is subtracted at once, so that a burst of actors does not pile up
on one node between two reports; the next report of the node replaces the guess. Nodes are found by index (which resource,
which label, how much in all, how much free), so that a question costs the same among ten nodes and ten thousand
(benchmarks/simulator.py).
Invariants: a node is in the pool of each resource and label it has, and in no other; totals are positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from raybook.base.label_selector import NO_LABELS, is_equality, matches
from raybook.base.resources import Shape, fits
from raybook.core.cluster.joint_room import LOG_MAX, JointRoom
from raybook.core.cluster.room_index import Pool, RoomIndex

LOOKS_MAX = 512
"""Nodes that are looked at for room at most. Where many have enough of the rarest resource asked for and lack another one,
a list is kept for the request (``joint_room``), and the next look goes on in that."""


class NodeResources(msgspec.Struct):
    """One node. ``order``: age rank, lower is older. ``queued``: placements since the last report that had no room."""

    node_id: bytes
    order: int
    total: Shape
    available: Shape
    labels: dict[str, str]
    queued: int = 0


class ResourceView:
    """The index that policies choose from."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, NodeResources] = {}
        self._all: Pool[NodeResources] = Pool()
        self._with: dict[str, Pool[NodeResources]] = {}
        self._labelled: dict[tuple[str, str], Pool[NodeResources]] = {}
        self._totals: RoomIndex[NodeResources] = RoomIndex()
        self._free: RoomIndex[NodeResources] = RoomIndex()
        self._joint_totals: JointRoom[NodeResources] = JointRoom()
        self._joint_free: JointRoom[NodeResources] = JointRoom()
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
            self._with.setdefault(name, Pool()).add(node)
        for label in node.labels.items():
            self._labelled.setdefault(label, Pool()).add(node)
        self._totals.file(node, total)
        self._free.file(node, node.available)
        self._joint_totals.gained(node)
        self._joint_free.gained(node)

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
        for label in node.labels.items():
            self._labelled[label].remove(node_id)
            if not self._labelled[label].nodes:
                del self._labelled[label]
        self._totals.forget(node, node.total)
        self._free.forget(node, node.available)

    def report(self, node_id: bytes, available: Shape) -> bool:
        """The node's own figure; replaces what was guessed. Unknown nodes are ignored. True when more of something is free
        than was believed: what waits may fit now. Cost: 0.2 µs when nothing changed, 3 µs else."""
        node = self._nodes.get(node_id)
        if node is None:
            return False
        has_grown = bool(node.queued)
        node.queued = 0
        if node.available == available:
            return has_grown
        before = node.available
        if any(amount > before.get(name, 0) for name, amount in available.items()):
            has_grown = True
            self._joint_free.gained(node)
        gone = {name: 0 for name in before if name not in available}
        node.available = dict(available)
        self._free.file(node, available | gone if gone else available)
        return has_grown

    def reserve(self, node_id: bytes, shape: Shape) -> None:
        """Something was placed there: subtract it until the node reports, or count it as queued."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        if not fits(shape, node.available):
            node.queued += 1
            return
        for name, amount in shape.items():
            node.available[name] -= amount
        self._free.file(node, {name: node.available[name] for name in shape})

    def give_back(self, node_id: bytes, shape: Shape) -> None:
        """What was reserved there is free again, until the node's next report says so itself."""
        node = self._nodes.get(node_id)
        if node is not None:
            for name, amount in shape.items():
                node.available[name] = min(node.available.get(name, 0) + amount, node.total.get(name, 0))
            self._free.file(node, {name: node.available[name] for name in shape})
            self._joint_free.gained(node)

    # --- finding ------------------------------------------------------------------------------------------------------

    def pool(self, request: Shape, labels: Mapping[str, str] = NO_LABELS) -> list[NodeResources]:
        """The smallest group that surely contains every feasible node: those with the rarest requested resource or label.
        Read-only for the caller. Cost: one look-up per requested resource and label."""
        return self._pool(request, labels).nodes

    def _pool(self, request: Shape, labels: Mapping[str, str]) -> Pool[NodeResources]:
        pools = [self._with.get(name) for name, amount in request.items() if amount > 0]
        pools += [self._labelled.get(label) for label in labels.items() if is_equality(label[1])]
        smallest = self._all
        for pool in pools:
            if pool is None:
                return Pool()
            if len(pool) < len(smallest):
                smallest = pool
        return smallest

    def with_room(self, request: Shape, count_max: int, labels: Mapping[str, str] = NO_LABELS) -> list[NodeResources]:
        """Up to so many nodes with these labels that have all of the request free now, those with most of it first unless
        they are found by a list of the request's own. Empty means: none was found among ``LOOKS_MAX``, which is all but
        in odd cases, and then the next looks go on. Cost: 3 µs, and 1 µs for each that is found."""

        def has_it(node: NodeResources) -> bool:
            return (
                fits(request, node.available)
                and self._nodes.get(node.node_id) is node
                and (not labels or matches(labels, node.labels))
            )

        key = (tuple(request.items()), tuple(labels.items()))
        if key in self._joint_free:
            return self._joint_free.find(key, has_it, count_max, LOOKS_MAX)
        found, is_cut_short = self._walk(self._free, request, labels, has_it, count_max, LOOKS_MAX)
        if is_cut_short and 2 * len(found) < LOOKS_MAX:
            self._joint_free.begin(key, self._candidates(self._free, request, labels)[1])
        return found

    def able(self, request: Shape, count_max: int, labels: Mapping[str, str] = NO_LABELS) -> list[NodeResources]:
        """Up to so many nodes with these labels that could hold the request when empty, others at each call. Empty is
        certain. Cost: as ``with_room``; the first time where only a few can, and by two resources, one look at each that has
        one."""

        def has_it(node: NodeResources) -> bool:
            return (
                fits(request, node.total)
                and self._nodes.get(node.node_id) is node
                and (not labels or matches(labels, node.labels))
            )

        key = (tuple(request.items()), tuple(labels.items()))
        if key in self._joint_totals:
            return self._joint_totals.find(key, has_it, count_max, LOG_MAX)
        found, is_cut_short = self._walk(self._totals, request, labels, has_it, count_max, LOOKS_MAX + count_max)
        if is_cut_short:
            # Nobody who lacks something today will ever have it: all are looked at once, and then those who join.
            found = [node for node in self._candidates(self._totals, request, labels)[1] if has_it(node)]
            self._joint_totals.begin(key, found)
        return found[:count_max]

    def _candidates(
        self, index: RoomIndex[NodeResources], request: Shape, labels: Mapping[str, str]
    ) -> tuple[int, Iterable[NodeResources]]:
        """(how many, the nodes) that surely contain all that are looked for."""
        pool = self._pool(request, labels)
        candidates = index.candidates(request)
        if candidates is not None and candidates[0] <= len(pool):
            return candidates
        return len(pool), pool.in_turns()

    def _walk(
        self,
        index: RoomIndex[NodeResources],
        request: Shape,
        labels: Mapping[str, str],
        has_it: Callable[[NodeResources], bool],
        count_max: int,
        looks_max: int,
    ) -> tuple[list[NodeResources], bool]:
        """(those found, whether more candidates are left than may be looked at)."""
        found: list[NodeResources] = []
        for looks, node in enumerate(self._candidates(index, request, labels)[1]):
            if looks >= looks_max:
                return found, True
            if has_it(node):
                found.append(node)
                if len(found) >= count_max:
                    break
        return found, False

    def largest(self) -> Shape:
        """For each resource, the most that one node has. Cost: one pass over the nodes."""
        most: Shape = {}
        for node in self._nodes.values():
            for name, amount in node.total.items():
                most[name] = max(most.get(name, 0), amount)
        return most

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant. Cost: a look at each node."""
        assert len(self._all.nodes) == len(self._nodes), "The pool of all nodes is not all nodes."
        for pools in (self._with, self._labelled):
            for name, pool in pools.items():
                assert pool.nodes, f"The pool of {name} is empty but kept."
                assert len(pool.nodes) == len(pool.position), f"The pool of {name} is torn."
        for name, pool in self._with.items():
            for node in pool.nodes:
                assert node.total.get(name, 0) > 0, f"Node {node.node_id.hex()} has no {name} but is in its pool."
        for node in self._nodes.values():
            self._totals.check_invariants(node, node.total)
            self._free.check_invariants(node, node.available)
            for name in node.total:
                pool = self._with[name]
                assert pool.nodes[pool.position[node.node_id]] is node, f"A node is missing from the pool of {name}."
            for label in node.labels.items():
                pool = self._labelled[label]
                assert pool.nodes[pool.position[node.node_id]] is node, f"A node is missing from those with {label}."
