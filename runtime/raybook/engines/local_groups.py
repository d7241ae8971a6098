"""Placement groups of local mode: the cluster's own table over one pretended node, where reserving means counting.

Nothing runs beside the caller, so a group that has no room now has none until the caller removes another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.base.resources import Shape
from raybook.base.specs import Bundle, ErrorValue, PlacementGroupSpec
from raybook.core.cluster import placement_group_events as on
from raybook.core.cluster.placement_groups import PlacementGroupTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.bundles import Placing, place_bundles
from raybook.engines.local_objects import LocalObjects
from raybook.protocol.messages import gcs


class LocalPlacementGroups:
    """totals: what the node counts. Not thread-safe by itself; the engine calls under its lock."""

    def __init__(self, node_id: bytes, totals: Shape, labels: dict[str, str], objects: LocalObjects) -> None:
        self._objects = objects
        self._view = ResourceView()
        self._view.add(node_id, totals, totals, labels)
        self._table = PlacementGroupTable(self._place)
        self._promises: dict[bytes, list[tuple[bytes, Any]]] = {}

    def create(self, spec: PlacementGroupSpec) -> None:
        """ValueError when the name is taken."""
        for answer in self._handle(on.GroupRequested(0, spec)):
            if isinstance(answer, on.RefuseGroup):
                raise ValueError(answer.text)

    def remove(self, group_id: bytes) -> None:
        self._handle(on.RemovalRequested(group_id, "remove_placement_group was called"), on.RoomChanged())

    def is_created(self, group_id: bytes) -> bool:
        info = self._table.info(group_id)
        return info is not None and info.state == GROUP_CREATED

    def promise(self, group_id: bytes, object_id: bytes, value: Any) -> None:
        """Fill the object with the value when the group is created, with an error when it is removed."""
        self._promises.setdefault(group_id, []).append((object_id, value))
        self._settle(group_id)

    def answer(self, request: Any) -> Any:
        """The reply to a question of the GCS; None when it is about something else."""
        if isinstance(request, gcs.GetPlacementGroups):
            return gcs.PlacementGroupList(self._table.infos())
        if isinstance(request, gcs.GetPlacementGroup) and request.group_id:
            return gcs.PlacementGroupReply(self._table.info(request.group_id))
        if isinstance(request, gcs.GetPlacementGroup):
            return gcs.PlacementGroupReply(self._table.by_name(request.name, request.namespace))
        return None

    def _place(self, spec: PlacementGroupSpec, bundles: Mapping[int, Bundle], taken: Mapping[int, bytes]) -> Placing:
        placing = place_bundles(bundles, spec.strategy, self._view, taken)
        for index, node_id in (placing.plan or {}).items():
            self._view.reserve(node_id, bundles[index].shape)
        return placing

    def _handle(self, *events: Any) -> list[Any]:
        answers = []
        pending = list(events)
        while pending:
            effects, pending = self._table.handle(pending, 0), []
            for effect in effects:
                if isinstance(effect, on.PrepareOn):
                    pending.append(on.PrepareAnswered(effect.group_id, effect.attempt, effect.node_id, True))
                elif isinstance(effect, on.ReturnOn):
                    for _, shape in effect.bundles:
                        self._view.give_back(effect.node_id, shape)
                elif isinstance(effect, on.PublishGroup):
                    self._settle(effect.group_id)
                elif isinstance(effect, (on.AnswerGroup, on.RefuseGroup)):
                    answers.append(effect)
        return answers

    def _settle(self, group_id: bytes) -> None:
        info = self._table.info(group_id)
        if info is None or info.state not in (GROUP_CREATED, GROUP_REMOVED):
            return
        for object_id, value in self._promises.pop(group_id, ()):
            if info.state == GROUP_REMOVED:
                text = f"The placement group {group_id.hex()} was removed before it was created."
                value = ErrorValue("TaskPlacementGroupRemoved", text)
            self._objects.fill(object_id, value)
