"""Request queue: what waits for a worker on this node, grouped by what it needs.

Requests of one shape and environment form a group; when its first request cannot be served, none of them can, so a
pass costs one try for each group and not for each request. Inside a group the (client, class) demands take turns, one
lease each; groups take turns as well. Knows nothing of free resources, workers or leases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from raybook.base.label_selector import NODE_ID_LABEL, matches
from raybook.base.resources import Shape
from raybook.base.specs import SchedulingClass
from raybook.base.strategies import GroupTarget, node_target
from raybook.core.node.lease_events import ActorRequested

GroupKey = tuple[tuple[tuple[str, int], ...], str, bool, GroupTarget | None, tuple[tuple[str, str], ...]]
"""Shape, environment, whether they are actors, the bundle they draw from, label selector of the node."""
RequestKey = tuple[bytes, int]


@dataclass(slots=True)
class Request:
    """The standing demand of one client for one class, or one actor that waits to be placed (``actor`` set)."""

    key: RequestKey
    client: bytes
    class_key: int
    count: int
    name: str = ""
    actor: ActorRequested | None = None
    is_retriable: bool = True
    fallbacks: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Label selectors to try where no node meets its group's."""


@dataclass(slots=True)
class Group:
    """All queued requests of one shape, environment and sort (tasks or actors)."""

    key: GroupKey
    shape: Shape
    environment: str
    missing: Shape
    """What the shape asks beyond the whole node; not empty means: it can never be served here."""
    target: GroupTarget | None = None
    """The bundle of a placement group that they draw from; None for the node's own amounts."""
    refusal: str = ""
    """Why this node may not serve them, although it could: its labels."""
    queue: deque[Request] = field(default_factory=deque)
    count: int = 0
    """Leases wanted by all requests together."""


class RequestQueue:
    """Groups in the order in which they are tried next."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, Group] = {}
        self._requests: dict[RequestKey, tuple[Group, Request]] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, key: RequestKey) -> bool:
        return key in self._requests

    def group(self, key: GroupKey, missing: Shape) -> Group:
        """The group of this key, made when it is new."""
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = Group(key, dict(key[0]), key[1], missing, key[3])
        return found

    def put(self, group: Group, request: Request) -> None:
        """Add a request, or set a known one's number; it keeps its place in the queue."""
        known = self._requests.get(request.key)
        if known is not None and known[0] is group:
            group.count += request.count - known[1].count
            known[1].count = request.count
            return
        self.remove(request.key)
        self._groups.setdefault(group.key, group)
        group.queue.append(request)
        group.count += request.count
        self._requests[request.key] = (group, request)

    def remove(self, key: RequestKey) -> Request | None:
        """Take a request out, whatever it still wants. None when there is none. Cost: linear in its group."""
        known = self._requests.pop(key, None)
        if known is None:
            return None
        group, request = known
        group.queue.remove(request)
        group.count -= request.count
        if not group.queue:
            del self._groups[group.key]
        return request

    def take_turn(self, group: Group, request: Request) -> None:
        """This request of the group got one lease: it and the group go to the end of their lines."""
        group.queue.remove(request)
        request.count -= 1
        group.count -= 1
        if request.count > 0:
            group.queue.append(request)
        else:
            del self._requests[request.key]
        del self._groups[group.key]
        if group.queue:
            self._groups[group.key] = group

    def to_back(self, key: RequestKey) -> None:
        """Who was asked to make room does not take it back at once: the request and its group go to the end."""
        known = self._requests.get(key)
        if known is not None:
            group, request = known
            group.queue.remove(request)
            group.queue.append(request)
            self._groups[group.key] = self._groups.pop(group.key)

    def of_client(self, client: bytes) -> list[Request]:
        """Every queued task demand of one client."""
        return [request for _, request in self._requests.values() if request.client == client and not request.actor]

    def of_group(self, group_id: bytes) -> list[Request]:
        """Every queued request that draws from this placement group."""
        return [
            request
            for group, request in self._requests.values()
            if group.target is not None and group.target.group_id == group_id
        ]

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for group in self._groups.values():
            assert group.queue, f"Group {group.key} is empty but kept."
            assert group.count == sum(request.count for request in group.queue), f"Group {group.key} miscounts."
            assert all(request.count > 0 for request in group.queue), f"Group {group.key} keeps a served request."
        assert len(self._requests) == sum(len(group.queue) for group in self._groups.values()), "A request is lost."


def shortage(group_id: bytes, attempt: int, bundles: Iterable[tuple[int, Shape]]) -> Group:
    """Bundles that could not be reserved, as if they were queued: so ``lease_recall`` can look for who makes room."""
    together: Shape = {}
    for _, shape in bundles:
        for name, amount in shape.items():
            together[name] = together.get(name, 0) + amount
    request = Request((group_id, -attempt), b"", 0, 1)
    return Group(
        (tuple(sorted(together.items())), "", True, None, ()), together, "", {}, queue=deque([request]), count=1
    )


def labels_wanted(what: SchedulingClass, own: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The label selector of a class: of its fallbacks, the first that a node with ``own`` labels meets, where it does not
    meet the one asked for. A node that the class must run on is a label too."""
    labels = what.labels
    if what.fallbacks and not matches(dict(labels), own):
        labels = next((other for other in what.fallbacks if matches(dict(other), own)), labels)
    node = node_target(what.strategy)
    return labels if node is None or node.soft else (*labels, (NODE_ID_LABEL, node.node_id.hex()))
