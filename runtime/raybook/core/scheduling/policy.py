"""Policy: reads a scheduling strategy and asks the chooser that it names.

Decides nothing by itself but what a strategy string means (``base/strategies`` has the grammar; bundles of placement
groups are looked up in their table, not here). A strategy that cannot be met is an answer with a reason, not an error:
the actor waits, visibly. Only what can never come true, such as a dead node, has a ``code``: the actor is dead then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from raybook.base.label_selector import describe_selector, matches
from raybook.base.resources import Shape, describe, fits, missing
from raybook.base.specs import ActorSpec
from raybook.base.strategies import SPREAD, NodeTarget, node_target
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling import hybrid

Rng = Callable[[int], int]
"""``rng(n)`` is a number in [0, n): handed in, because core draws no random numbers itself."""


class Choice(msgspec.Struct, frozen=True):
    """A node, or None with the reason why no node will do. ``code``: exception class of an actor that can never run."""

    node_id: bytes | None
    reason: str = ""
    code: str = ""


def choose_node(
    request: Shape,
    strategy: str,
    view: ResourceView,
    rng: Rng,
    refused: Mapping[bytes, str] = {},
    labels: Mapping[str, str] = {},
) -> Choice:
    """Pick the node to place an actor on.

    request: fixed point, 10,000 = one CPU. view: at most one report old. refused: nodes that said they can never hold
    it, with reasons. labels: what the node's labels must match. Cost: O(k) sampled nodes, k = 8; only an answer
    "nowhere" walks the nodes that have the rarest requested resource. Source: hybrid policy (RAY.md); we sample before
    scoring.
    """
    target = node_target(strategy)
    if target is not None:
        return _on_named_node(request, target, view, rng, refused, labels)
    if strategy == "":
        node_id = hybrid.pack_then_spread(request, view, rng, refused, labels)
    elif strategy == SPREAD:
        node_id = hybrid.spread(request, view, rng, refused, labels)
    else:
        return Choice(None, f"this cluster knows no scheduling strategy {strategy!r}.")
    return Choice(node_id) if node_id is not None else Choice(None, why_nowhere(request, view, refused, labels))


def choose_among(spec: ActorSpec, view: ResourceView, rng: Rng, refused: Mapping[bytes, str]) -> Choice:
    """The node for an actor: by its label selector, or by the first of its fallbacks that some node meets."""
    first = choose_node(spec.placement, spec.strategy, view, rng, refused, spec.labels)
    if first.node_id is not None or first.code:
        return first
    for other in spec.fallbacks:
        choice = choose_node(spec.placement, spec.strategy, view, rng, refused, other.labels)
        if choice.node_id is not None:
            return choice
    return first


def _on_named_node(
    request: Shape,
    target: NodeTarget,
    view: ResourceView,
    rng: Rng,
    refused: Mapping[bytes, str],
    labels: Mapping[str, str],
) -> Choice:
    wanted, name = target.node_id, target.node_id.hex()
    node = view.get(wanted)
    if node is not None and wanted not in refused and fits(request, node.total) and matches(labels, node.labels):
        return Choice(wanted)
    if target.soft:
        return choose_node(request, "", view, rng, refused, labels)
    if node is None:
        text = f"it must run on node {name}, which is not in the cluster (a node that died does not come back)."
        return Choice(None, text, "ActorUnschedulableError")
    lack = refused.get(wanted) or f"it lacks {describe(missing(request, node.total))}."
    if not matches(labels, node.labels):
        lack = f"its labels do not match {describe_selector(labels)}."
    return Choice(None, f"it must run on node {name}, which cannot hold it: {lack}")


def why_nowhere(request: Shape, view: ResourceView, refused: Mapping[bytes, str], labels: Mapping[str, str]) -> str:
    """The sentence people read while something infeasible waits. Cost: one pass over the nodes, only on this path."""
    if not len(view):
        return f"it needs {describe(request)}, and the cluster has no node yet."
    nodes = "1 node" if len(view) == 1 else f"{len(view)} nodes"
    wanted = f"{describe(request)} on a node with {describe_selector(labels)}" if labels else describe(request)
    text = f"it needs {wanted}, and no node can ever hold that; the most on one node of {nodes} is "
    text += f"{describe(view.largest())}. It runs when a node that can joins; or ask for less."
    for node_id, reason in refused.items():
        text += f" Node {node_id.hex()} refused it: {reason}"
    return text
