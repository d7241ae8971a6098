"""Spillover: which nodes a client's demand for leases goes to, its own first.

A client states to its own raylet how many leases of a class it could use. This machine lays that number out over the
nodes, and lays it out anew when the client, the nodes' free amounts or the nodes themselves change:

    default        this node as long as it has room, then others with room, the emptiest first; what is left queues here
    near a node    that node first, because the arguments lie there; then like the default
    SPREAD         in turns over all nodes that could hold it
    a named node   there alone; a soft one like the default, when it is gone
    a bundle       on the node that holds it
What queues on a node comes back when another one has room, so nobody waits beside free resources for longer than a report
takes. A hop is one hop: what was sent to a node is never sent on.

Knows nothing of workers, leases or sockets, and not what other clients of other nodes ask for: free amounts are at most one
report old, so that two nodes may send to the same place; what does not fit queues there until the next layout. Invariant:
the parts of a demand add up to it, once some node could hold it. Source: Ray's hybrid policy, for many tasks at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from raybook.base.label_selector import matches
from raybook.base.resources import Shape, fits
from raybook.base.specs import SchedulingClass
from raybook.base.strategies import SPREAD, GroupTarget, NodeTarget, group_target, near_target, node_target
from raybook.core.cluster.resource_view import NodeResources, ResourceView
from raybook.core.scheduling.hybrid import load_permille

DemandKey = tuple[bytes, int]
NEAR_LOOKS = 3
"""So many looks at the nodes, 50 ms apart, a node near the arguments is waited for."""
UNKNOWN_LOOKS = 2
"""After so many looks at the nodes, what none of them can ever hold is told to be so, and a node that is not there is no
more waited for."""
PLENTY = 1 << 30
"""Room of a node for tasks that ask for nothing."""
ALL_LOOKED_AT = 64
"""Among so many nodes that could hold a demand, all are compared. Of more, the view's index names as many as this that have
room. A demand for more nodes is laid out in steps, the next when the last has been granted."""
SPARE = 8
"""More nodes are asked for than could be needed: what an earlier demand of the pass took may be among them."""


class DemandStated(msgspec.Struct, frozen=True):
    """A client of this node wants so many leases beside those it has; replaces what it said before."""

    client: bytes
    class_key: int
    what: SchedulingClass
    count: int
    name: str = ""


class GrantPassed(msgspec.Struct, frozen=True):
    """A lease of this class reached the client: one less is wanted."""

    client: bytes
    class_key: int
    node_id: bytes


class DemandEnded(msgspec.Struct, frozen=True):
    """This class will get no lease (it was refused by the node that was asked): nothing of it is wanted any more."""

    client: bytes
    class_key: int


class PartUndelivered(msgspec.Struct, frozen=True):
    """A node could not be told of its part: it is not known here yet, or out of reach."""

    client: bytes
    class_key: int
    node_id: bytes


class PartsForgotten(msgspec.Struct, frozen=True):
    """A node has forgotten all that was asked of it."""

    node_id: bytes


class ClientLeft(msgspec.Struct, frozen=True):
    client: bytes


class GroupPlaced(msgspec.Struct, frozen=True):
    """Where the bundles of a placement group lie, by index; b"" for one without a place."""

    group_id: bytes
    nodes: list[bytes]


class ViewChanged(msgspec.Struct, frozen=True):
    """The nodes, or what they have free, may have changed."""


class SetDemandAt(msgspec.Struct, frozen=True):
    """Tell a node how much of a demand is its own; 0 withdraws."""

    node_id: bytes
    client: bytes
    class_key: int
    what: SchedulingClass
    count: int
    name: str


class RefuseDemand(msgspec.Struct, frozen=True):
    """It can never be met: tell the client."""

    client: bytes
    class_key: int
    code: str
    text: str


class _Demand(msgspec.Struct):
    what: SchedulingClass
    shape: Shape
    wanted: int
    name: str
    parts: dict[bytes, int] = {}
    """Node → how much of it was asked for there. Adds up to ``wanted``."""
    looks: int = 0
    """How often the nodes were looked at since the client said something."""
    has_more: bool = False
    """There may be room on nodes that were not looked at."""
    step: int = 0
    """So many grants are to come of those that were laid out where there is room; then there is another step."""


class Spillover:
    """One for each raylet that has neighbours. here: its node. view: what the nodes have; somebody else keeps it, this
    machine only reserves in it what was granted until the next report says so. why_absent: what is known of a node that is
    not in the view, as "which …"."""

    def __init__(
        self,
        here: bytes,
        view: ResourceView,
        free_here: Callable[[], Shape],
        why_absent: Callable[[bytes], str] = lambda node_id: "",
    ) -> None:
        self._here = here
        self._view = view
        self._free_here = free_here
        self._why_absent = why_absent
        self._demands: dict[DemandKey, _Demand] = {}
        self._groups: dict[bytes, list[bytes]] = {}
        self.is_draining = False
        """This node takes no work. It is not in the view either, nor is any other that drains."""
        self._turn = 0
        self._effects: list[Any] = []
        self._edges: dict[type, Callable[[Any], None]] = {
            DemandStated: self._stated,
            GrantPassed: self._granted,
            DemandEnded: self._ended,
            PartUndelivered: self._undelivered,
            ClientLeft: self._client_left,
            GroupPlaced: self._group_placed,
            PartsForgotten: self._parts_forgotten,
            ViewChanged: lambda event: self._lay_out_all(),
        }

    def handle(self, events: Iterable[Any]) -> list[Any]:
        """Apply events in order; the effects, in order. Cost of a demand that does not fit here: 3 µs for each lease that is
        wanted, and 100 µs at most for a look at the nodes, however many there are (benchmarks/simulator.py)."""
        for event in events:
            self._edges[type(event)](event)
        effects, self._effects = self._effects, []
        return effects

    def is_waiting(self) -> bool:
        """Whether some demand is unmet: a fresh view would help."""
        return any(demand.wanted for demand in self._demands.values())

    # --- edges --------------------------------------------------------------------------------------------------------

    def _stated(self, event: DemandStated) -> None:
        key = (event.client, event.class_key)
        demand = self._demands.get(key)
        if demand is None:
            if event.count <= 0:
                return
            shape = {name: amount for name, amount in event.what.resources if amount}
            demand = self._demands[key] = _Demand(event.what, shape, 0, event.name)
        demand.wanted = max(0, event.count)
        demand.name = event.name or demand.name
        demand.looks = 0
        self._lay_out(key, demand, {})
        if not demand.wanted:
            del self._demands[key]

    def _granted(self, event: GrantPassed) -> None:
        key = (event.client, event.class_key)
        demand = self._demands.get(key)
        if demand is None:
            return
        if event.node_id != self._here:
            self._view.reserve(event.node_id, demand.shape)
        demand.wanted = max(0, demand.wanted - 1)
        left = demand.parts.get(event.node_id, 0)
        if left > 1:
            demand.parts[event.node_id] = left - 1
        else:
            demand.parts.pop(event.node_id, None)
            if not left:
                # It had been withdrawn there when the grant was on its way.
                self._take_one_back(key, demand)
        demand.step -= 1
        if not demand.step and demand.wanted:
            self._lay_out(key, demand, {})
        if not demand.wanted and not demand.parts:
            del self._demands[key]

    def _take_one_back(self, key: DemandKey, demand: _Demand) -> None:
        """One part has one too many: the one that was laid out last, which has waited least."""
        parts = dict(demand.parts)
        if parts:
            last = next(reversed(parts))
            parts[last] -= 1
            self._set_parts(key, demand, {node_id: count for node_id, count in parts.items() if count})

    def _ended(self, event: DemandEnded) -> None:
        key = (event.client, event.class_key)
        demand = self._demands.pop(key, None)
        if demand is not None:
            self._set_parts(key, demand, {})

    def _undelivered(self, event: PartUndelivered) -> None:
        """It queues here until the next layout."""
        key = (event.client, event.class_key)
        demand = self._demands.get(key)
        count = demand.parts.pop(event.node_id, 0) if demand is not None else 0
        if demand is not None and count:
            parts = dict(demand.parts)
            parts[self._here] = parts.get(self._here, 0) + count
            self._set_parts(key, demand, parts)

    def _parts_forgotten(self, event: PartsForgotten) -> None:
        """What is wanted there still, the next layout says anew."""
        for demand in self._demands.values():
            demand.parts.pop(event.node_id, None)
        self._lay_out_all()

    def _client_left(self, event: ClientLeft) -> None:
        """The other nodes hear of its end, too: nothing need be withdrawn."""
        for key in [key for key in self._demands if key[0] == event.client]:
            del self._demands[key]

    def _group_placed(self, event: GroupPlaced) -> None:
        if self._groups.get(event.group_id) != event.nodes:
            self._groups[event.group_id] = event.nodes
            self._lay_out_all()

    def _lay_out_all(self) -> None:
        left: dict[bytes, Shape] = {}
        for key, demand in list(self._demands.items()):
            demand.looks += 1
            self._lay_out(key, demand, left)

    # --- layout -------------------------------------------------------------------------------------------------------

    def _lay_out(self, key: DemandKey, demand: _Demand, left: dict[bytes, Shape]) -> None:
        """left: what is still free on nodes that earlier demands of this pass drew from."""
        parts = self._parts(key, demand, left) if demand.wanted else {}
        if parts is None:
            self._demands.pop(key, None)
            parts = {}
        self._set_parts(key, demand, parts)

    def _set_parts(self, key: DemandKey, demand: _Demand, parts: dict[bytes, int]) -> None:
        for node_id in {**demand.parts, **parts}:
            count = parts.get(node_id, 0)
            if demand.parts.get(node_id, 0) != count:
                self._effects.append(SetDemandAt(node_id, *key, demand.what, count, demand.name))
        demand.parts = parts

    def _parts(self, key: DemandKey, demand: _Demand, left: dict[bytes, Shape]) -> dict[bytes, int] | None:
        strategy = demand.what.strategy
        node = node_target(strategy) if strategy else None
        if node is not None:
            named = self._on_named_node(key, demand, node)
            if named is not None or not node.soft:
                return named
        group = group_target(strategy) if strategy else None
        if group is not None:
            return self._on_bundles(demand, group)
        if not strategy and not demand.what.labels and self._fits_here(demand, left):
            return {self._here: demand.wanted}
        candidates = self._candidates(demand)
        if not candidates:
            # Nobody known can ever hold it. A node that joined a moment ago may not be known yet.
            return {self._here: demand.wanted} if demand.looks >= UNKNOWN_LOOKS else {}
        if strategy == SPREAD:
            return self._in_turns(demand, candidates)
        return self._with_room_first(demand, candidates, left)

    def _candidates(self, demand: _Demand) -> list[NodeResources]:
        """Nodes that could hold it: those that meet its label selector, or else the first of its fallbacks that any
        meets."""
        demand.has_more, demand.step = False, 0
        for selector in (demand.what.labels, *demand.what.fallbacks):
            labels = dict(selector)
            pool = self._view.pool(demand.shape, labels)
            nodes = pool if len(pool) <= ALL_LOOKED_AT else self._some(demand, labels)
            found = [node for node in nodes if fits(demand.shape, node.total) and matches(labels, node.labels)]
            if found:
                return found
        return []

    def _some(self, demand: _Demand, labels: Mapping[str, str]) -> list[NodeResources]:
        """Of very many nodes: this one, the one near the arguments, those that hold parts of the demand, and as many with
        room as could be needed; where that is too few, others that could hold it at all."""
        view, shape, strategy = self._view, demand.shape, demand.what.strategy
        count = demand.wanted + SPARE
        known = filter(None, map(view.get, (self._here, near_target(strategy), *demand.parts)))
        nodes = {n.node_id: n for n in known if fits(shape, n.total) and matches(labels, n.labels)}
        count_max = count if strategy == SPREAD else min(count, max(SPARE, ALL_LOOKED_AT - len(nodes)))
        found = view.with_room(shape, count_max, labels)
        demand.has_more = count > len(found) >= count_max
        nodes |= {node.node_id: node for node in found}
        if strategy == SPREAD and len(nodes) < count:
            nodes |= {node.node_id: node for node in view.able(shape, count, labels)}
        if not nodes:
            nodes = {node.node_id: node for node in view.able(shape, SPARE, labels)}
        return list(nodes.values())

    def _on_named_node(self, key: DemandKey, demand: _Demand, target: NodeTarget) -> dict[bytes, int] | None:
        if self._view.get(target.node_id) is not None or (target.node_id == self._here and not self.is_draining):
            return {target.node_id: demand.wanted}
        if target.soft:
            return None
        why = self._why_absent(target.node_id)
        if not why and demand.looks < UNKNOWN_LOOKS and target.node_id != self._here:
            # It may have joined a moment ago, and whoever names it may have heard of that first.
            return {}
        why = why or "which is dead or was never in this cluster"
        text = (
            f"`{demand.name}` must run on node {target.node_id.hex()}, {why}. It was not started; name a living node "
            "(raybook.nodes()), or pass soft=True."
        )
        self._effects.append(RefuseDemand(*key, "TaskUnschedulableError", text))
        return None

    def _on_bundles(self, demand: _Demand, target: GroupTarget) -> dict[bytes, int]:
        """To the node of its bundle, or in turns to those that hold any; here, until the group's places are known."""
        nodes = self._groups.get(target.group_id, [])
        if target.index >= 0:
            nodes = nodes[target.index : target.index + 1]
        # A node that is not in the view yet cannot be told.
        places = [node_id for node_id in dict.fromkeys(nodes) if node_id and self._view.get(node_id) is not None]
        if not places or self._here in places:
            return {self._here: demand.wanted} if not places or len(places) == 1 else self._evenly(demand, places)
        return self._evenly(demand, places)

    def _in_turns(self, demand: _Demand, candidates: list[NodeResources]) -> dict[bytes, int]:
        candidates.sort(key=lambda node: (load_permille(node), node.order))
        return self._evenly(demand, [node.node_id for node in candidates])

    def _evenly(self, demand: _Demand, places: list[bytes]) -> dict[bytes, int]:
        """A node keeps what it has of the demand already, as far as that is fair."""
        share, rest = divmod(demand.wanted, len(places))
        self._turn += rest
        first = (self._turn - rest) % len(places)
        ordered = places[first:] + places[:first]
        kept = sorted(ordered, key=lambda node_id: -demand.parts.get(node_id, 0))
        parts = {node_id: share + (index < rest) for index, node_id in enumerate(kept)}
        return {node_id: count for node_id, count in parts.items() if count}

    def _with_room_first(
        self, demand: _Demand, candidates: list[NodeResources], left: dict[bytes, Shape]
    ) -> dict[bytes, int]:
        near = near_target(demand.what.strategy)
        here = next((node for node in candidates if node.node_id == self._here), None)
        candidates.sort(key=lambda node: (node.node_id != near, node is not here, load_permille(node), node.order))
        parts: dict[bytes, int] = {}
        wanted = demand.wanted
        for node in candidates:
            if node.node_id == near and demand.looks < NEAR_LOOKS and demand.shape:
                # What looks taken there may be idle; only its raylet knows. It is asked before others are.
                count = min(wanted, *(node.total[name] // amount for name, amount in demand.shape.items()))
            else:
                count = min(wanted, self._take_room(node, demand.shape, wanted, left))
            if count:
                parts[node.node_id] = count
                wanted -= count
            if not wanted:
                return parts
        if demand.has_more:
            demand.step = demand.wanted - wanted
        # What has no room anywhere queues: here if it can run here, so that no other node holds what we may serve first.
        queues_at = here or max(candidates, key=lambda node: (demand.parts.get(node.node_id, 0), -node.order))
        parts[queues_at.node_id] = parts.get(queues_at.node_id, 0) + wanted
        return parts

    def _fits_here(self, demand: _Demand, left: dict[bytes, Shape]) -> bool:
        """Whether all of it has room on this node, which is where it goes then without a look at others."""
        here, shape = self._view.get(self._here), demand.shape
        if here is None or not fits(shape, here.total):
            return False
        free = left.get(self._here) or self._free_here()
        if any(free.get(name, 0) < amount * demand.wanted for name, amount in shape.items()):
            return False
        self._take_room(here, shape, demand.wanted, left)
        return True

    def _take_room(self, node: NodeResources, shape: Shape, wanted: int, left: dict[bytes, Shape]) -> int:
        """How many of them start there at once; they count as taken for the rest of this pass."""
        if not shape:
            return PLENTY
        free = left.get(node.node_id)
        if free is None:
            free = left[node.node_id] = dict(self._free_here() if node.node_id == self._here else node.available)
        count = min(wanted, min(free.get(name, 0) // amount for name, amount in shape.items()))
        for name, amount in shape.items():
            free[name] = free.get(name, 0) - amount * max(0, count)
        return max(0, count)

    # --- looking ------------------------------------------------------------------------------------------------------

    def parts_of(self, client: bytes, class_key: int) -> Mapping[bytes, int]:
        """Node → count of one demand."""
        demand = self._demands.get((client, class_key))
        return {} if demand is None else demand.parts

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for key, demand in self._demands.items():
            is_held_back = not demand.parts and demand.looks < UNKNOWN_LOOKS
            assert is_held_back or sum(demand.parts.values()) == demand.wanted, (
                f"The parts of demand {key} do not add up."
            )
            assert all(count > 0 for count in demand.parts.values()), f"Demand {key} keeps an empty part."
