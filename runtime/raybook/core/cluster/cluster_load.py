"""Cluster load: what waits for nodes and which nodes do nothing, gathered from reports and tables for the autoscaler.

Remembers the last report of each node, and since when it has been idle; decides nothing. What an autoscaler could not help
is left out: what waits for one named node, or for a bundle, whose group is asked for itself. Invariant: a node is idle only
as long as each of its reports says so and none says that it was busy in between.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from raybook.base.specs import ActorSpec, Bundle, LabelChoice
from raybook.base.strategies import group_target, node_target
from raybook.core.cluster.placement_groups import GroupRecord
from raybook.core.cluster.resource_view import ResourceView
from raybook.protocol.messages.gcs import NodeInfo, ReportNode
from raybook.protocol.messages.scaling import ClusterLoad, GroupLoad, NodeActivity, ShapeCount


class _Heard(msgspec.Struct):
    report: ReportNode
    idle_since_ms: int


class ClusterLoadBook:
    """One for each GCS."""

    def __init__(self) -> None:
        self._heard: dict[bytes, _Heard] = {}

    def reported(self, report: ReportNode, now_ms: int) -> None:
        """A node said how things stand. Cost: 0.3 µs."""
        known = self._heard.get(report.node_id)
        since_ms = now_ms
        if known is not None and not report.busy and not known.report.busy:
            if known.report.activity == report.activity:
                since_ms = known.idle_since_ms
        self._heard[report.node_id] = _Heard(report, since_ms)

    def forget(self, node_id: bytes) -> None:
        """It is dead."""
        self._heard.pop(node_id, None)

    def queued_actors(self) -> list[bytes]:
        """Actors that have a node and wait there for room."""
        return [actor_id for heard in self._heard.values() for actor_id in heard.report.queued_actors]

    def load(
        self,
        nodes: Iterable[NodeInfo],
        view: ResourceView,
        actors: Iterable[ActorSpec],
        groups: Iterable[GroupRecord],
        requested: list[Bundle],
        now_ms: int,
    ) -> ClusterLoad:
        """Everything together. actors: those that have no node, or wait on one for room. Cost: 3 µs a node, 1 µs an
        actor."""
        waiting = [row for heard in self._heard.values() for row in heard.report.demand]
        return ClusterLoad(
            [self._activity(node, view, now_ms) for node in nodes],
            waiting + _shapes(actors),
            [_group(group) for group in groups],
            requested,
        )

    def _activity(self, node: NodeInfo, view: ResourceView, now_ms: int) -> NodeActivity:
        activity = NodeActivity(node.node_id, node.is_head, node.alive, labels=node.labels, death=node.death_reason)
        if not node.alive:
            return activity
        seen, heard = view.get(node.node_id), self._heard.get(node.node_id)
        activity.total = node.resources_total
        activity.available = dict(seen.available) if seen is not None else {}
        activity.busy = heard.report.busy if heard is not None else "it has just joined"
        if heard is not None and not activity.busy:
            activity.idle_ms = now_ms - heard.idle_since_ms
        if seen is None:
            activity.draining = "it takes nothing more"
        return activity


def _shapes(actors: Iterable[ActorSpec]) -> list[ShapeCount]:
    """Actors that any node could hold, equal ones together."""
    found: dict[object, ShapeCount] = {}
    for spec in actors:
        target = node_target(spec.strategy)
        if group_target(spec.strategy) is not None or (target is not None and not target.soft):
            continue
        others = [dict(other.labels) for other in spec.fallbacks]
        key = (tuple(sorted(spec.placement.items())), tuple(sorted(spec.labels.items())), str(others))
        known = found.get(key)
        if known is None:
            choices = [LabelChoice(other) for other in others]
            found[key] = ShapeCount(dict(spec.placement), 1, dict(spec.labels), choices)
        else:
            known.count += 1
    return list(found.values())


def _group(group: GroupRecord) -> GroupLoad:
    spec = group.spec
    missing = [bundle for bundle, node in zip(spec.bundles, group.nodes, strict=True) if not node]
    return GroupLoad(spec.group_id, spec.strategy, missing, [node for node in group.nodes if node], spec.name)
