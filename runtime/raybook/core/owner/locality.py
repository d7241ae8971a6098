"""Locality: near which node a task should run, because most of what it reads lies there.

Decides nothing but the wish: a task with large arguments elsewhere gets a scheduling class of its own, "near that node", and
the raylet tries that node first. Tasks that were given a strategy keep it. Source: Ray's locality-aware leasing.
"""

from __future__ import annotations

import msgspec

from raybook.base.specs import SchedulingClass
from raybook.base.strategies import near_node
from raybook.core.owner.dependencies import slots_of
from raybook.core.owner.records import TaskRecord

WORTH_BYTES = 1 << 20
"""Less than this is moved in a few milliseconds, as fast as a worker elsewhere is found."""


class Locality:
    """node_id: of this owner; objects there are near anyway."""

    def __init__(self, node_id: bytes) -> None:
        self._node_id = node_id
        self._classes: dict[tuple[SchedulingClass, bytes], SchedulingClass] = {}

    def aim(self, record: TaskRecord) -> None:
        """Give the task the class of its place. Cost: a look at its arguments."""
        what = record.scheduling_class
        if what.strategy:
            return
        by_node: dict[bytes, int] = {}
        for slot in slots_of(record):
            location = slot.value.location if slot.value is not None else None
            if location is not None:
                by_node[location.node_id] = by_node.get(location.node_id, 0) + location.size
        if not by_node:
            return
        node_id = max(by_node, key=lambda node: (by_node[node], node == self._node_id))
        if node_id == self._node_id or by_node[node_id] < WORTH_BYTES:
            return
        key = (what, node_id)
        near = self._classes.get(key)
        if near is None:
            near = self._classes[key] = msgspec.structs.replace(what, strategy=near_node(node_id))
        record.scheduling_class = near
