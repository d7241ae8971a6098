"""Bundles: which node each bundle of a placement group goes to, all of them or none.

    PACK           as few nodes as it can be         STRICT_PACK     one node or nothing
    SPREAD         as many nodes as it can be        STRICT_SPREAD   a node for each bundle or nothing
Knows shapes, labels and what nodes have; reserves nothing and remembers nothing. Bundles that have a place already (their
nodes live, others' were lost) are ``taken`` and only told of, so that the strategy holds for all of them together.
Invariant: a plan never asks more of a node than the view says it has free. First fit, the largest bundle first, as in bin
packing; STRICT_SPREAD is a matching and is found whenever there is one among the nodes that were looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import msgspec

from raybook.base.label_selector import NO_LABELS, describe_selector, matches
from raybook.base.resources import Shape, describe, fits
from raybook.base.specs import Bundle
from raybook.core.cluster.resource_view import NodeResources, ResourceView
from raybook.core.scheduling.hybrid import load_permille

PACK = "PACK"
SPREAD = "SPREAD"
STRICT_PACK = "STRICT_PACK"
STRICT_SPREAD = "STRICT_SPREAD"
STRATEGIES = (PACK, SPREAD, STRICT_PACK, STRICT_SPREAD)

NODES_LOOKED_AT = 32
"""Nodes with room that are compared for one bundle, the emptiest there are. A group of more nodes than this looks at as many
as it needs."""

TAKEN = -1
"""Stands for the bundles that have a place already, where nodes are matched."""

Plan = dict[int, bytes]
"""Bundle index → node."""


class Placing(msgspec.Struct, frozen=True):
    """A plan for every bundle that was asked for; or None, with why. ``possible``: it would fit an empty cluster."""

    plan: Plan | None
    reason: str = ""
    possible: bool = True


def place_bundles(
    bundles: Mapping[int, Bundle], strategy: str, view: ResourceView, taken: Mapping[int, bytes] = {}
) -> Placing:
    """Choose a node for each of these bundles. taken: bundle index → node of the group's other bundles.

    Cost: for each bundle a look at ``NODES_LOOKED_AT`` nodes with room, which the view finds by index; asked once when a
    group is made and again while it waits."""
    plan = _Planner(bundles, view, taken, view.with_room, _free_of).plan(strategy)
    if plan is not None:
        return Placing(plan)
    possible = _Planner(bundles, view, taken, view.able, _total_of).plan(strategy) is not None
    return Placing(None, _why_not(bundles, strategy, view, possible), possible)


def _free_of(node: NodeResources) -> Shape:
    return node.available


def _total_of(node: NodeResources) -> Shape:
    return node.total


Look = Callable[[Shape, int, Mapping[str, str]], list[NodeResources]]
"""(shape, how many at most, labels) → nodes that have it to give."""


class _Planner:
    """One attempt: what is left on each node is counted down while bundles are laid out. ``look`` finds nodes and
    ``amounts`` says what a node has to give, which is what it has free, or everything to find out whether the group can
    ever be placed."""

    def __init__(
        self,
        bundles: Mapping[int, Bundle],
        view: ResourceView,
        taken: Mapping[int, bytes],
        look: Look,
        amounts: Callable[[NodeResources], Shape],
    ) -> None:
        self._bundles = bundles
        self._view = view
        self._taken = taken
        self._look = look
        self._amounts = amounts
        self._left: dict[bytes, Shape] = {}
        self._count: dict[bytes, int] = {}
        for node_id in taken.values():
            self._count[node_id] = self._count.get(node_id, 0) + 1

    def plan(self, strategy: str) -> Plan | None:
        if strategy == STRICT_PACK:
            return self._on_one_node()
        if strategy == STRICT_SPREAD:
            return self._one_node_each()
        if strategy == PACK:
            return self._on_one_node() or self._first_fit(self._packed)
        return self._first_fit(self._spread)

    # --- strategies ---------------------------------------------------------------------------------------------------

    def _on_one_node(self) -> Plan | None:
        together: Shape = {}
        selectors = [bundle.selector for bundle in self._bundles.values()]
        for bundle in self._bundles.values():
            for name, amount in bundle.shape.items():
                together[name] = together.get(name, 0) + amount
        held = list(dict.fromkeys(self._taken.values()))
        for node in self._nodes_with_room(together, selectors):
            # Bundles that have a place already bind the others to it.
            if not held or held == [node.node_id]:
                return dict.fromkeys(self._bundles, node.node_id)
        return None

    def _one_node_each(self) -> Plan | None:
        """Kuhn's matching of bundles to nodes; the nodes of taken bundles are out of the question."""
        choices = {
            index: [node.node_id for node in self._nodes_with_room(bundle.shape, [bundle.selector])]
            for index, bundle in self._bundles.items()
        }
        owner: dict[bytes, int] = dict.fromkeys(self._count, TAKEN)

        def find(index: int, seen: dict[bytes, None]) -> bool:
            # A free node first: else a hundred equal bundles would push each other around, a level of recursion each.
            free = next((node_id for node_id in choices[index] if node_id not in owner), None)
            if free is not None:
                owner[free] = index
                return True
            for node_id in choices[index]:
                if node_id in seen or owner[node_id] == TAKEN:
                    continue
                seen[node_id] = None
                if find(owner[node_id], seen):
                    owner[node_id] = index
                    return True
            return False

        for index in sorted(choices, key=lambda index: len(choices[index])):
            if not find(index, {}):
                return None
        return {index: node_id for node_id, index in owner.items() if index != TAKEN}

    def _first_fit(self, best: Callable[[Sequence[NodeResources]], NodeResources]) -> Plan | None:
        plan: Plan = {}
        order = sorted(self._bundles, key=lambda index: (-sum(self._bundles[index].shape.values()), index))
        for index in order:
            bundle = self._bundles[index]
            candidates = self._nodes_with_room(bundle.shape, [bundle.selector])
            if not candidates:
                return None
            node = best(candidates)
            self._take(node, bundle.shape)
            plan[index] = node.node_id
        return plan

    def _packed(self, candidates: Sequence[NodeResources]) -> NodeResources:
        """The node with most of the group; among new ones, the one that can take most of what remains."""
        return max(candidates, key=lambda node: (self._count.get(node.node_id, 0), self._how_many(node), -node.order))

    def _spread(self, candidates: Sequence[NodeResources]) -> NodeResources:
        """The node with least of the group; then the emptiest."""
        return min(candidates, key=lambda node: (self._count.get(node.node_id, 0), load_permille(node), node.order))

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _nodes_with_room(self, shape: Shape, selectors: Sequence[Mapping[str, str]]) -> list[NodeResources]:
        """Oldest first: the nodes of the group, and as many others as may be needed, beside those that are full of it."""
        count_max = max(NODES_LOOKED_AT, len(self._bundles) + len(self._taken)) + len(self._left)
        labels = selectors[0] if selectors else NO_LABELS
        ours = filter(None, map(self._view.get, self._count))
        nodes = {node.node_id: node for node in (*ours, *self._look(shape, count_max, labels))}
        fitting = [
            node
            for node in nodes.values()
            if fits(shape, self._left_on(node)) and all(matches(selector, node.labels) for selector in selectors)
        ]
        return sorted(fitting, key=attrgetter("order"))

    def _left_on(self, node: NodeResources) -> Shape:
        return self._left.get(node.node_id) or self._amounts(node)

    def _take(self, node: NodeResources, shape: Shape) -> None:
        left = self._left.setdefault(node.node_id, dict(self._amounts(node)))
        for name, amount in shape.items():
            left[name] -= amount
        self._count[node.node_id] = self._count.get(node.node_id, 0) + 1

    def _how_many(self, node: NodeResources) -> int:
        left = dict(self._left_on(node))
        count = 0
        for bundle in self._bundles.values():
            if fits(bundle.shape, left):
                count += 1
                for name, amount in bundle.shape.items():
                    left[name] -= amount
        return count


def _why_not(bundles: Mapping[int, Bundle], strategy: str, view: ResourceView, possible: bool) -> str:
    """The sentence people read while a group waits."""
    shapes: dict[str, int] = {}
    for bundle in bundles.values():
        text = describe(bundle.shape)
        if bundle.selector:
            text += f" on a node with {describe_selector(bundle.selector)}"
        shapes[text] = shapes.get(text, 0) + 1
    wanted = ", ".join(f"{count} × {text}" for text, count in shapes.items())
    nodes = "1 node" if len(view) == 1 else f"{len(view)} nodes"
    if possible:
        return f"it waits for room for {wanted} ({strategy}); so much is not free on {nodes} now."
    asked = {name: True for bundle in bundles.values() for name in bundle.shape}
    most = describe({name: view.largest().get(name, 0) for name in asked})
    return (
        f"no room for {wanted} ({strategy}), even if all of {nodes} were empty; the most on one node is {most}. It is "
        "created when nodes that can hold it join; or remove it and ask for less."
    )
