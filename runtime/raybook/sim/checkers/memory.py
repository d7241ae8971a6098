"""Memory: nothing is freed while somebody can reach it, and everything is freed in the end.

Reachable is what a handle in a living process refers to, or a view looks at. Excused are references whose way led
through a process that crashed, and objects whose owner is dead: those may be lost; so may what lies on a node that the GCS
holds for dead, and what was borrowed from a place to which the network broke. A copy of another node's object is there as
long as somebody looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.base.ids import owner_of, task_of
from raybook.sim.arena import Region, View
from raybook.sim.checkers.violation import Violation
from raybook.sim.handles import Handle, Ledger

if TYPE_CHECKING:
    from raybook.sim.node import Node
    from raybook.sim.process import Process
    from raybook.sim.world import World


class Memory:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ledger: Ledger = world.ledger

    def _is_excused(self, handle: Handle) -> bool:
        here, owner = handle.process.place, self._world.processes.get(owner_of(handle.key))
        if here in self._ledger.dead_nodes or self._is_held_for_dead(owner_of(handle.key)):
            return True
        if owner is not None and frozenset((here, owner.place)) in self._world.network.broken:
            return True
        return not self._ledger.crashed.isdisjoint(handle.via) or owner_of(handle.key) in self._ledger.crashed

    def _is_held_for_dead(self, client_id: bytes) -> bool:
        process = self._world.processes.get(client_id)
        return process is not None and process.node.node_id in self._ledger.dead_nodes

    def freed(self, process: Process, offset: int) -> None:
        """The process may use these bytes for something else from now on."""
        region = process.node.arena.read(offset)
        if region is None:
            raise Violation("memory", f"{process.name} was given {offset} back, where nothing lies")
        self._check_unused(process.node, region, f"freed by {process.name}")
        del process.node.arena.regions[offset]

    def copy_freed(self, node: Node, offset: int) -> None:
        """The node needs the room of a copy, or its transfer has failed."""
        region = node.arena.regions.pop(offset, None)
        if region is not None:
            self._check_unseen(node, region, f"freed as a copy by {node.name}")

    def overwritten(self, node: Node, old: Region, new: Region) -> None:
        """Bytes that were not freed one by one (their writer died) are used again."""
        self._check_unused(node, old, f"overwritten by {new.key.hex()} of {new.writer!r}")

    def _check_unseen(self, node: Node, region: Region, what: str) -> None:
        for view in node.arena.views:
            if view.region is region or (view.region.offset, view.region.key) == (region.offset, region.key):
                if not self._is_lost(view):
                    text = f"object {region.key.hex()} at {region.offset} is {what} while {view.holder!r} looks at it"
                    raise Violation("memory", text, region.key)

    def _check_unused(self, node: Node, region: Region, what: str) -> None:
        self._check_unseen(node, region, what)
        if node.node_id in self._ledger.dead_nodes:
            return
        for handle in self._ledger.handles:
            if handle.key == region.key and not self._is_excused(handle):
                owner = self._world.processes.get(owner_of(handle.key))
                if owner is None or not owner.is_alive:
                    continue
                if task_of(handle.key) in owner.owner.tasks.tasks:
                    continue  # Written by an attempt of which the owner never heard.
                value = owner.owner.objects.values.get(handle.key)
                location = value.location if value is not None else None
                place = (location.node_id, location.offset, location.spill_path) if location is not None else None
                is_there = place == (node.node_id, region.offset, "")
                if value is None or is_there:
                    text = f"object {region.key.hex()} is {what} while {handle.process.name} has a reference"
                    raise Violation("memory", text, region.key)

    def _is_lost(self, view: View) -> bool:
        crashed = self._ledger.crashed
        owner = owner_of(view.region.key)
        if self._is_held_for_dead(owner) or self._is_held_for_dead(view.holder):
            return True
        places = [p.place for p in map(self._world.processes.get, (owner, view.holder)) if p is not None]
        if frozenset(places) in self._world.network.broken:
            return True
        return owner in crashed or not crashed.isdisjoint(view.via)

    def looked(self, view: View) -> None:
        """A view is about to close: it must still see what it saw."""
        there = view.arena.read(view.region.offset)
        if there is None or there.payload != view.region.payload:
            if self._is_lost(view):
                return
            text = f"what {view.holder!r} looks at ({view.region.key.hex()}) has changed under its eyes"
            raise Violation("memory", text, view.region.key)

    def check_reachable(self) -> None:
        """Between any two steps: the owner of everything that has a handle knows that it is wanted."""
        for handle in self._ledger.handles:
            key = handle.key
            owner = self._world.processes.get(owner_of(key))
            if owner is None or not owner.is_alive or owner.queue or self._is_excused(handle):
                continue
            if handle.process is owner or not handle.process.queue:
                if not owner.owner.references.is_alive(key):
                    text = f"{handle.process.name} has a reference to {key.hex()}, and its owner {owner.name} forgot it"
                    raise Violation("memory", text, key)

    def copies_at_end(self, node: Node) -> None:
        """Nobody refers to a copy any more: all of them go when their room is needed."""
        if node.abroad is not None:
            left = node.abroad.transfers.region_count()
            if left:
                raise Violation("memory", f"{node.name} still keeps {left} copies of other nodes' objects")

    def at_end(self, process: Process) -> None:
        """User code holds nothing any more: neither may the machine."""
        owner = process.owner
        left = [*owner.references.counts, *owner.references.borrowers, *owner.objects.values]
        if left:
            kinds = ", ".join(
                f"{key.hex()} ({owner.references.counts.get(key, 0)} counts, borrowers "
                f"{sorted(owner.references.borrowers.get(key, ()))})"
                for key in dict.fromkeys(left)
            )
            raise Violation("memory", f"{process.name} still keeps {kinds}", *left[:3])
        allocator = process.regions.allocator.statistics()
        if allocator.region_count:
            raise Violation("memory", f"{process.name} still keeps {allocator.region_count} regions")
