"""Autoscaler ⇄ GCS, and what raylets tell the GCS for it: what waits for what, which nodes do nothing, and what was decided.

Amounts are fixed point. Texts are for people and are made where something was decided: whoever shows them only lays out.
"""

from __future__ import annotations

import msgspec

from raybook.base.specs import Bundle, LabelChoice

INSTANCE_LABEL = "raybook.io/instance-id"
"""Label of a node that a provider made: the provider's own name for it. How a node and an instance find each other."""
NODE_TYPE_LABEL = "ray.io/node-group"
"""Label of a node that a provider made: its node type (Ray's name for the same)."""
SCALING_NAMESPACE = "_autoscaler"
REQUESTED_KEY = b"requested"
"""In the key-value table: the bundles of ``request_resources``, so that they outlive the GCS's process."""


class ShapeCount(msgspec.Struct):
    """So many tasks or actors wait for this shape. labels: selector of the node; fallbacks: others, to try in turn."""

    shape: dict[str, int]
    count: int
    labels: dict[str, str] = {}
    fallbacks: list[LabelChoice] = []


class NodeActivity(msgspec.Struct):
    """One node. busy: what keeps it from being idle, "" when nobody computes there; idle_ms: for how long so. draining: why
    it takes nothing more, "" while it does."""

    node_id: bytes
    is_head: bool = False
    alive: bool = True
    total: dict[str, int] = {}
    available: dict[str, int] = {}
    labels: dict[str, str] = {}
    busy: str = ""
    idle_ms: int = 0
    death: str = ""
    draining: str = ""


class GroupLoad(msgspec.Struct):
    """A placement group that is not whole. bundles: those without a place; taken: the nodes of the others."""

    group_id: bytes
    strategy: str
    bundles: list[Bundle]
    taken: list[bytes] = []
    name: str = ""


class GetClusterLoad(msgspec.Struct):
    pass


class ClusterLoad(msgspec.Struct):
    """Everything the autoscaler decides by. requested: what ``request_resources`` asked for."""

    nodes: list[NodeActivity] = []
    waiting: list[ShapeCount] = []
    groups: list[GroupLoad] = []
    requested: list[Bundle] = []


class AutoscalerStatus(msgspec.Struct):
    """What the autoscaler sees and has decided, for people. active, idle: living nodes by type. pending: nodes that were
    asked for and have not joined, a line each. failures: launches that failed lately, newest last. decisions: the last
    ones, newest last. unmet: why what waits gets no node. bounds: each type with its count and limits. notes: which idle
    nodes go when, and what keeps the others."""

    updated_ms: int = 0
    active: dict[str, int] = {}
    idle: dict[str, int] = {}
    pending: list[str] = []
    failures: list[str] = []
    decisions: list[str] = []
    unmet: list[str] = []
    bounds: list[str] = []
    notes: list[str] = []
    trouble: str = ""
    """The provider does not answer, or what else is wrong with it; "" when nothing is."""


class ReportAutoscaler(msgspec.Struct):
    status: AutoscalerStatus


class GetAutoscaler(msgspec.Struct):
    """For whoever shows it."""


class AutoscalerReply(msgspec.Struct):
    """status None: this cluster has no autoscaler, or none that has said anything lately."""

    load: ClusterLoad
    status: AutoscalerStatus | None = None
