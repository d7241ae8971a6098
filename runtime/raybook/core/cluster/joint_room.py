"""Joint room: nodes that have several things at once, kept for requests that an index of single resources answers badly.

Many nodes have enough CPUs, many have a GPU, and none has both: whoever walks the bins of one resource looks at thousands of
nodes, and finds nothing, at each question. So for such a request a list is kept. It begins as everybody who is filed under
the rarest resource; who has been looked at and lacks something is looked at again only after having gained something.

Knows nothing of amounts: what "has it" means is said with each question. Invariant: who has it and is not in the list has
not been looked at yet, or is in the log of those who gained and will be. Source: decision 0046; a join's materialised view
is kept in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic

from raybook.core.cluster.room_index import Node

LISTS_MAX = 64
"""Requests that are remembered, the latest asked. A cluster's users ask for a handful of shapes at a time."""
LOG_MAX = 16_384
"""Gains that are remembered. Who has not asked for so long begins anew."""


class _List(Generic[Node]):
    """One request's. unseen: nodes of the beginning that nobody has looked at. read: how much of the log has been."""

    __slots__ = ("having", "read", "unseen")

    def __init__(self, unseen: list[Node], read: int) -> None:
        self.unseen = unseen
        self.read = read
        self.having: dict[bytes, Node] = {}


class JointRoom(Generic[Node]):
    """See the module."""

    def __init__(self) -> None:
        self._lists: dict[Hashable, _List[Node]] = {}
        self._log: list[Node] = []
        self._forgotten = 0
        """So many gains are not in the log any more."""

    def __contains__(self, request: Hashable) -> bool:
        return request in self._lists

    def gained(self, node: Node) -> None:
        """A node has more of something than before, or is new. Cost: 0.1 µs."""
        if not self._lists:
            return
        self._log.append(node)
        if len(self._log) > LOG_MAX:
            half = LOG_MAX // 2
            del self._log[:half]
            self._forgotten += half
            late = [request for request, kept in self._lists.items() if kept.read < self._forgotten]
            for request in late:
                del self._lists[request]

    def begin(self, request: Hashable, candidates: Iterable[Node]) -> None:
        """Keep a list for it. candidates: everybody who may have it now. Cost: a copy of them."""
        self._lists[request] = _List(list(candidates), self._forgotten + len(self._log))
        if len(self._lists) > LISTS_MAX:
            del self._lists[next(iter(self._lists))]

    def find(self, request: Hashable, has_it: Callable[[Node], bool], count_max: int, looks_max: int) -> list[Node]:
        """Up to so many that have it, others at each call. Fewer mean that there are no more among those looked at, which is
        everybody after some calls. has_it: also whether the node is there at all. Cost: a look at each node that gained
        something since the last call, at most ``looks_max``."""
        kept = self._lists.pop(request)
        self._lists[request] = kept
        having = kept.having
        first = kept.read - self._forgotten
        news = self._log[first : first + looks_max]
        kept.read += len(news)
        for node in news:
            if having.get(node.node_id) is not node and has_it(node):
                having[node.node_id] = node
        looks, unseen = len(news), kept.unseen
        while unseen and looks < looks_max and len(having) < count_max:
            node = unseen.pop()
            looks += 1
            if has_it(node):
                having[node.node_id] = node
        found: list[Node] = []
        while len(having) > len(found) < count_max:
            node_id = next(iter(having))
            node = having.pop(node_id)
            if has_it(node):
                having[node_id] = node
                found.append(node)
        return found
