"""Policy: reads a scheduling strategy and asks the chooser that it names.

Decides nothing by itself but what a strategy string means. Strategies: "" (pack, then spread), "spread",
"node:<hex>" and "node:<hex>:soft". A strategy that cannot be met is an answer with a reason, not an error: the actor
waits, visibly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from raybook.base.resources import Shape, describe, fits, missing
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling import hybrid

Rng = Callable[[int], int]
"""``rng(n)`` is a number in [0, n): handed in, because core draws no random numbers itself."""


class Choice(msgspec.Struct, frozen=True):
    """A node, or None with the reason why no node will do."""

    node_id: bytes | None
    reason: str = ""


def choose_node(
    request: Shape, strategy: str, view: ResourceView, rng: Rng, refused: Mapping[bytes, str] = {}
) -> Choice:
    """Pick the node to place an actor on.

    request: fixed point, 10,000 = one CPU. view: at most one report old. refused: nodes that said they can never hold
    it, with reasons. Cost: O(k) sampled nodes, k = 8; only an answer "nowhere" walks the nodes that have the rarest
    requested resource. Source: hybrid policy (RAY.md); we sample before scoring.
    """
    kind, _, rest = strategy.partition(":")
    if kind == "node":
        return _on_named_node(request, rest, view, rng, refused)
    if kind == "":
        node_id = hybrid.pack_then_spread(request, view, rng, refused)
    elif kind == "spread":
        node_id = hybrid.spread(request, view, rng, refused)
    else:
        return Choice(None, f"this cluster knows no scheduling strategy {strategy!r}.")
    return Choice(node_id) if node_id is not None else Choice(None, why_nowhere(request, view, refused))


def _on_named_node(request: Shape, argument: str, view: ResourceView, rng: Rng, refused: Mapping[bytes, str]) -> Choice:
    name, _, softness = argument.partition(":")
    wanted = bytes.fromhex(name)
    node = view.get(wanted)
    if node is not None and wanted not in refused and fits(request, node.total):
        return Choice(wanted)
    if softness == "soft":
        return choose_node(request, "", view, rng, refused)
    if node is None:
        return Choice(None, f"it must run on node {name}, which is not in the cluster.")
    lack = refused.get(wanted) or f"it lacks {describe(missing(request, node.total))}."
    return Choice(None, f"it must run on node {name}, which cannot hold it: {lack}")


def why_nowhere(request: Shape, view: ResourceView, refused: Mapping[bytes, str]) -> str:
    """The sentence people read while something infeasible waits. Cost: one pass over the nodes, only on this path."""
    if not len(view):
        return f"it needs {describe(request)}, and the cluster has no node yet."
    nodes = "1 node" if len(view) == 1 else f"{len(view)} nodes"
    text = f"it needs {describe(request)}, and no node can ever hold that; the most on one node of {nodes} is "
    text += f"{describe(view.largest())}. It runs when a node that can joins; or ask for less."
    for node_id, reason in refused.items():
        text += f" Node {node_id.hex()} refused it: {reason}"
    return text
