"""Store: the arena's books of a simulated node: the shipped object table and spill policy, and a disk that is a table.

As ``raylet/store_service`` and ``raylet/spiller``, with files that are written in virtual time. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from raybook.base.specs import Location
from raybook.core.node import spill_policy as sp
from raybook.core.node import store_events as ev
from raybook.core.node.object_table import ObjectTable
from raybook.core.node.translation import STORE_EVENTS, STORE_MESSAGES
from raybook.protocol.messages.store import (
    DeleteSpilled,
    ExtentRefused,
    ObjectsSpilled,
    SpillDone,
    SpilledItem,
    SpillObjects,
    SpillWanted,
)
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.node import Node
    from raybook.sim.world import World

WRITE_US = 20_000
OVERCOMMIT = 8


class Disk:
    """Files by path: (offset → payload, key)."""

    def __init__(self) -> None:
        self.files: dict[str, dict[int, tuple[bytes, bytes]]] = {}

    def read(self, location: Location, key: bytes) -> bytes | None:
        """What lies there, if it is that object."""
        payload, found = self.files.get(location.spill_path, {}).get(location.offset, (b"", b""))
        return payload if found == key else None


class Store:
    """One per node. budget_bytes: of the arena."""

    def __init__(self, world: World, node: Node, budget_bytes: int) -> None:
        self._world = world
        self._node = node
        config = world.config
        self._policy = sp.SpillPolicy(budget_bytes, config.spill_threshold, config.spill_batch_bytes)
        self._spills = bool(config.spilling)
        spill_bytes = self._policy.threshold_bytes if self._spills else None
        self.table = ObjectTable(budget_bytes * OVERCOMMIT, budget_bytes, spill_bytes=spill_bytes)
        self._timers: dict[str, Timer] = {}

    def joined(self, client_id: bytes, name: str) -> None:
        """A client."""
        self._decide(ev.ClientJoined(client_id, name))

    def died(self, client_id: bytes) -> None:
        """Its last message has been read."""
        self._decide(ev.ClientDied(client_id))
        self._files_of_dead(client_id)

    def owner_died(self, owner_id: bytes) -> None:
        """An owner on another node is gone; what it had here is garbage."""
        self._decide(ev.OwnerDied(owner_id))
        self._files_of_dead(owner_id)

    def _files_of_dead(self, client_id: bytes) -> None:
        self._spill(sp.OwnerDied(client_id))
        for path in [path for path in self._node.disk.files if path.startswith(client_id.hex())]:
            del self._node.disk.files[path]

    def received(self, client_id: bytes, message: Any) -> None:
        """One of the messages of protocol/messages/store."""
        if isinstance(message, SpillObjects):
            self._spill(sp.Chosen(client_id, message.query_id, message.items))
        elif isinstance(message, SpillDone):
            self._spill(sp.LetGo(client_id, message.query_id, message.freed_bytes))
        elif isinstance(message, DeleteSpilled):
            self._delete(message)
        else:
            self._decide(STORE_EVENTS[type(message)](client_id, message))

    def _delete(self, message: DeleteSpilled) -> None:
        files = self._node.disk.files
        for path in message.paths:
            files.pop(path, None)
        for path, offset, _ in message.ranges:
            files.get(path, {}).pop(offset, None)

    def _decide(self, *events: Any) -> None:
        if not self._node.is_alive:
            return
        for effect in self.table.handle(events, self._world.timeline.now_ms):
            self._execute(effect)
        self._arm("store", self.table.next_deadline_ms(), self._decide)
        if self._spills and (self.table.is_pressed() or self._policy.is_active):
            self._spill()

    def _execute(self, effect: Any) -> None:
        make = STORE_MESSAGES.get(type(effect))
        if make is not None:
            self._node.send(effect.client_id, make(effect))
        elif isinstance(effect, ev.RefuseExtent):
            self._node.send(effect.client_id, ExtentRefused(effect.request_id, effect.reason))
        elif isinstance(effect, ev.PunchHole):
            self._world.timeline.after(100, self._decide, ev.HolePunched(effect.offset))
        elif isinstance(effect, ev.ClientMisbehaved):
            raise AssertionError(f"memory: client {effect.client_id!r} broke the store's protocol: {effect.text}")

    def _arm(self, name: str, deadline_ms: int | None, function: Any) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if deadline_ms is not None:
            self._timers[name] = self._world.timeline.at((deadline_ms + 1) * 1000, function)

    # Spilling

    def _spill(self, *events: sp.Event) -> None:
        if not self._spills:
            return
        now = self.table.pressure()
        level = sp.Level(now.used_bytes, now.wanted_bytes, now.request, now.owners, now.returned_bytes)
        self._carry_out(self._policy.handle([level, *events], self._world.timeline.now_ms))
        self._arm("spill", self._policy.next_deadline_ms(), self._spill)

    def _carry_out(self, effects: Iterable[sp.Effect]) -> None:
        after = self._world.timeline.after
        for effect in effects:
            if isinstance(effect, sp.AskOwner):
                wanted = SpillWanted(effect.query_id, effect.bytes_wanted, self._node.node_id)
                self._node.send(effect.client_id, wanted)
            elif isinstance(effect, sp.WriteFile):
                after(WRITE_US, self._written, effect)
            elif isinstance(effect, sp.TellOwner):
                self._node.send(effect.client_id, ObjectsSpilled(effect.query_id, effect.path, effect.items))
            elif isinstance(effect, sp.DropFile):
                self._node.disk.files.pop(effect.path, None)
            else:
                assert isinstance(effect, sp.GiveUp), f"nobody carries out a {type(effect).__name__}"
                after(0, self._decide, ev.SpillingEnded(effect.request, effect.trouble))

    def _written(self, effect: sp.WriteFile) -> None:
        path = f"{effect.client_id.hex()}-{effect.query_id}"
        contents: dict[int, tuple[bytes, bytes]] = {}
        placed = []
        offset = 0
        for item in effect.items:
            region = self._node.arena.read(item.offset)
            # A region whose object died meanwhile may hold anything, and is not read by anybody.
            contents[offset] = (region.payload, region.key) if region is not None else (b"", b"")
            placed.append(SpilledItem(item.object_id, offset, 0))
            offset += item.size
        self._node.disk.files[path] = contents
        self._spill(sp.Written(effect.query_id, path, placed, ""))
