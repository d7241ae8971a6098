"""Lineage: a task that has ended well runs again only for a result that is really lost.

Knows where each result was put, and looks there. What lies on a node that the GCS holds for dead counts as lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.base.ids import task_of
from raybook.base.specs import Location
from raybook.sim.checkers.violation import Violation

if TYPE_CHECKING:
    from raybook.sim.process import Process
    from raybook.sim.world import World


class Lineage:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._places: dict[bytes, dict[bytes, Location]] = {}
        """Task → its results that lie in an arena, or did."""
        self._totals: dict[bytes, int] = {}
        self._seen: dict[bytes, int] = {}

    def made(self, key: bytes, location: Location) -> None:
        """A result was written."""
        self._places.setdefault(task_of(key), {})[key] = location

    def after_turn(self, process: Process) -> None:
        """An owner may have had tasks run again."""
        recovery = process.owner.recovery
        if self._totals.get(process.client_id, 0) == recovery.rebuilt_count:
            return
        self._totals[process.client_id] = recovery.rebuilt_count
        for task_id, times in recovery.rebuilt.items():
            if times > self._seen.get(task_id, 0):
                self._seen[task_id] = times
                self._world.ledger.count("made again")
                self._check(task_id)

    def _check(self, task_id: bytes) -> None:
        places = self._places.get(task_id, {})
        if places and all(self._is_there(key, location) for key, location in places.items()):
            name = self._world.ledger.tasks[task_id].name
            text = f"`{name}` ({task_id.hex()}) runs again, and all that it made is there"
            raise Violation("lineage", text, task_id)

    def _is_there(self, key: bytes, location: Location) -> bool:
        node = self._world.nodes.get(location.node_id)
        if node is None or node.node_id in self._world.ledger.dead_nodes:
            return False
        region = node.arena.read(location.offset)
        if region is not None and region.key == key:
            return True
        return any(key == found for file in node.disk.files.values() for _, found in file.values())
