"""Hybrid policy: pack nodes up to half, then spread; where nothing has room now, queue at the least loaded.

Knows shapes and loads, not actors. Never returns a node that could not hold the request when empty.
Source: Ray's hybrid policy (``scheduler_spread_threshold`` 0.5). Sampling instead of scanning: a scan of 10,000 nodes
costs 340 µs, a sample of 8 costs 1.4 µs. Where no node of the sample has room, or could ever have it, the index of the
view is asked, so that a full cluster's last place is found, and "nowhere" is certain when it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raybook.base.label_selector import matches
from raybook.base.resources import Shape, fits
from raybook.core.cluster.resource_view import NodeResources, ResourceView

SAMPLE = 8
PACK_BELOW_PERMILLE = 500

Rng = Callable[[int], int]


def pack_then_spread(
    request: Shape, view: ResourceView, rng: Rng, refused: Mapping[bytes, str], labels: Mapping[str, str]
) -> bytes | None:
    """The oldest sampled node under half full with room; else the emptiest with room; else the emptiest feasible."""
    candidates = feasible_sample(request, view, rng, refused, labels)
    with_room = _with_room(candidates, request, view, refused, labels)
    below_half = [node for node in with_room if load_permille(node) < PACK_BELOW_PERMILLE]
    if below_half:
        return min(below_half, key=lambda node: node.order).node_id
    return _emptiest(with_room or candidates)


def spread(
    request: Shape, view: ResourceView, rng: Rng, refused: Mapping[bytes, str], labels: Mapping[str, str]
) -> bytes | None:
    """The emptiest sampled node, those with room now first."""
    candidates = feasible_sample(request, view, rng, refused, labels)
    return _emptiest(_with_room(candidates, request, view, refused, labels) or candidates)


def _with_room(
    candidates: list[NodeResources],
    request: Shape,
    view: ResourceView,
    refused: Mapping[bytes, str],
    labels: Mapping[str, str],
) -> list[NodeResources]:
    """Those of the sample that have room now; if none has, and there are others, some of those that have."""
    found = [node for node in candidates if fits(request, node.available)]
    if found or not candidates or len(view.pool(request, labels)) <= SAMPLE:
        return found
    return [n for n in view.with_room(request, SAMPLE + len(refused), labels) if n.node_id not in refused]


def feasible_sample(
    request: Shape, view: ResourceView, rng: Rng, refused: Mapping[bytes, str], labels: Mapping[str, str]
) -> list[NodeResources]:
    """Up to ``SAMPLE`` nodes with these labels that could hold the request when empty; none when there is none."""

    def feasible(node: NodeResources) -> bool:
        return node.node_id not in refused and fits(request, node.total) and matches(labels, node.labels)

    pool = view.pool(request, labels)
    if len(pool) <= SAMPLE:
        return [node for node in pool if feasible(node)]
    found: dict[bytes, NodeResources] = {}
    for _ in range(SAMPLE):
        node = pool[rng(len(pool))]
        if feasible(node):
            found[node.node_id] = node
    if found:
        return list(found.values())
    return [node for node in view.able(request, SAMPLE + len(refused), labels) if node.node_id not in refused]


def load_permille(node: NodeResources) -> int:
    """How full the node's fullest resource is, in thousandths."""
    return max(
        (1000 * (total - node.available.get(name, 0)) // total for name, total in node.total.items()),
        default=0,
    )


def _emptiest(nodes: list[NodeResources]) -> bytes | None:
    if not nodes:
        return None
    return min(nodes, key=lambda node: (load_permille(node), node.queued, node.order)).node_id
