"""Room index: nodes filed by how much of each resource they have, so that those with enough are found without a look at the
others.

A bin holds the nodes whose amounts differ by less than a thirty-second, so whole CPUs up to 50 have bins of their own.
What is asked for may begin in the middle of its lowest bin: whoever walks compares amounts himself. Decides nothing.
Invariant: a node is in one bin of each resource of which it has something, and in no other.
Source: the bins of HdrHistogram. A sorted list would be moved by every report (10,000 nodes: 3 µs against 0.5 µs).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar

BITS = 5
"""Of an amount's leading digits; 32 bins for each doubling."""


class Filed(Protocol):
    """What is filed, by its id."""

    node_id: bytes


Node = TypeVar("Node", bound=Filed)


class Pool(Generic[Node]):
    """A list that can be sampled and that forgets a member in one step (the last one takes its place)."""

    __slots__ = ("_cursor", "nodes", "position")

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.position: dict[bytes, int] = {}
        self._cursor = 0

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, node: Node) -> None:
        self.position[node.node_id] = len(self.nodes)
        self.nodes.append(node)

    def remove(self, node_id: bytes) -> None:
        index = self.position.pop(node_id)
        last = self.nodes.pop()
        if last.node_id != node_id:
            self.nodes[index] = last
            self.position[last.node_id] = index

    def in_turns(self) -> Iterator[Node]:
        """All of them once, from where the last walk ended: who looks at some only sees others the next time."""
        nodes = self.nodes
        first = self._cursor
        for step in range(len(nodes)):
            self._cursor = first + step + 1
            yield nodes[(first + step) % len(nodes)]


class _Bins(Generic[Node]):
    """The nodes of one resource. ``order``: the numbers of the bins that hold any, ascending."""

    __slots__ = ("bins", "of", "order")

    def __init__(self) -> None:
        self.bins: dict[int, Pool[Node]] = {}
        self.order: list[int] = []
        self.of: dict[bytes, int] = {}

    def file(self, node: Node, number: int) -> None:
        """Move a node to this bin; 0: to none."""
        node_id = node.node_id
        old = self.of.get(node_id, 0)
        if old == number:
            return
        if old:
            pool = self.bins[old]
            pool.remove(node_id)
            if not pool.nodes:
                del self.bins[old]
                del self.order[bisect_left(self.order, old)]
            del self.of[node_id]
        if number:
            found = self.bins.get(number)
            if found is None:
                found = self.bins[number] = Pool()
                insort(self.order, number)
            found.add(node)
            self.of[node_id] = number

    def from_bin(self, number: int) -> list[Pool[Node]]:
        """This bin and those above it, the fullest amounts first."""
        return [self.bins[each] for each in reversed(self.order[bisect_left(self.order, number) :])]


class RoomIndex(Generic[Node]):
    """See the module."""

    def __init__(self) -> None:
        self._resources: dict[str, _Bins[Node]] = {}

    def file(self, node: Node, amounts: Mapping[str, int]) -> None:
        """This node has so much from now on. Cost: 0.2 µs a resource, 1 µs for one that changes its bin."""
        for name, amount in amounts.items():
            bins = self._resources.get(name)
            if bins is None:
                bins = self._resources[name] = _Bins()
            bins.file(node, bin_of(amount))

    def forget(self, node: Node, names: Mapping[str, int]) -> None:
        """It is gone. names: the resources under which it was filed."""
        for name in names:
            bins = self._resources.get(name)
            if bins is not None:
                bins.file(node, 0)
                if not bins.of:
                    del self._resources[name]

    def candidates(self, request: Mapping[str, int]) -> tuple[int, Iterator[Node]] | None:
        """(how many, the nodes) that surely contain every node with the whole request, and few others: those that have
        enough of the resource which fewest have enough of, the fullest amounts first. None when nothing is asked for.
        Cost: one look at each bin in question."""
        fewest: tuple[int, list[Pool[Node]]] | None = None
        for name, amount in request.items():
            if amount <= 0:
                continue
            bins = self._resources.get(name)
            pools = bins.from_bin(bin_of(amount)) if bins is not None else []
            count = sum(map(len, pools))
            if fewest is None or count < fewest[0]:
                fewest = (count, pools)
        if fewest is None:
            return None
        return fewest[0], (node for pool in fewest[1] for node in pool.in_turns())

    def check_invariants(self, node: Node, amounts: Mapping[str, int]) -> None:
        """Raise AssertionError unless this node is filed under exactly these amounts."""
        for name, bins in self._resources.items():
            filed, right = bins.of.get(node.node_id, 0), bin_of(amounts.get(name, 0))
            assert filed == right, f"Node {node.node_id.hex()} is in bin {filed} of {name}, and belongs into {right}."
            if filed:
                pool = bins.bins[filed]
                assert pool.nodes[pool.position[node.node_id]] is node, f"A node is missing from a bin of {name}."


def bin_of(amount: int) -> int:
    """The number of an amount's bin; larger amounts never have smaller ones. 0 for nothing."""
    if amount <= 0:
        return 0
    shift = amount.bit_length() - 1 - BITS
    if shift <= 0:
        return amount
    return (shift << BITS) + (amount >> shift)
