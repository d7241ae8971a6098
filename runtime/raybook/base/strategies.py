"""Strategies on the wire: the grammar of ``SchedulingClass.strategy``, for those who write it and those who decide by it.

    ""                        wherever the cluster likes       "spread"   evenly
    "node:<hex>[:soft]"       that node (or, soft, elsewhere)
    "near:<hex>"              that node as long as it has room
    "group:<hex>:<index>[:capture]"   a bundle of a placement group; index -1: any of its bundles. ``capture``: tasks and
                              actors submitted from there go to the same group unless they say otherwise
It knows the strings and decides nothing.
"""

from __future__ import annotations

import msgspec

ANY_BUNDLE = -1
SPREAD = "spread"
_GROUP = "group:"
_NODE = "node:"
_CAPTURE = "capture"
_SOFT = "soft"
_NEAR = "near:"


class GroupTarget(msgspec.Struct, frozen=True, gc=False):
    """Which bundle to run in."""

    group_id: bytes
    index: int = ANY_BUNDLE
    captures: bool = False

    def encode(self) -> str:
        """The strategy's string."""
        text = f"{_GROUP}{self.group_id.hex()}:{self.index}"
        return f"{text}:{_CAPTURE}" if self.captures else text


class NodeTarget(msgspec.Struct, frozen=True, gc=False):
    """Which node to run on."""

    node_id: bytes
    soft: bool = False

    def encode(self) -> str:
        """The strategy's string."""
        text = f"{_NODE}{self.node_id.hex()}"
        return f"{text}:{_SOFT}" if self.soft else text


def group_target(strategy: str) -> GroupTarget | None:
    """The bundle that a strategy names; None for every other strategy. Cost: 0.1 µs when it names none."""
    if not strategy.startswith(_GROUP):
        return None
    name, index, *rest = strategy[len(_GROUP) :].split(":")
    return GroupTarget(bytes.fromhex(name), int(index), _CAPTURE in rest)


def node_target(strategy: str) -> NodeTarget | None:
    """The node that a strategy names; None for every other strategy."""
    if not strategy.startswith(_NODE):
        return None
    name, _, softness = strategy[len(_NODE) :].partition(":")
    return NodeTarget(bytes.fromhex(name), softness == _SOFT)


def near_node(node_id: bytes) -> str:
    """The strategy of a task that would rather run on this node than on others: most of what it reads lies there."""
    return _NEAR + node_id.hex()


def near_target(strategy: str) -> bytes:
    """The node of such a strategy; b"" for every other one."""
    return bytes.fromhex(strategy[len(_NEAR) :]) if strategy.startswith(_NEAR) else b""
