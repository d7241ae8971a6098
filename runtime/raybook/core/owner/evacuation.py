"""Evacuation: objects of this process that lie on a node which is about to leave are brought to its own node.

    NodeDraining → TakeObject for each, some at a time → ObjectTaken → it is read at its new place, the old one is left
What arrives later from there (tasks that run to their end) follows at once; what finds no room is asked for again. The
old place is left by ``relocations``, as for disk: nothing that reads there is disturbed. When the last object has gone, the
node finds nobody's bytes in its store, and leaves.

Knows nothing of transfers. What this process owns dies with it if its own node drains. Invariants: an object is asked for
once at a time; nothing is moved that has another value by now.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from raybook.base.specs import Location
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import LogLine, ToRaylet
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.relocations import Relocations
from raybook.protocol.messages.raylet import NodeDraining, ObjectTaken, TakeObject
from raybook.protocol.messages.store import FreeRegions

IN_FLIGHT_MAX = 32
"""Asked for at a time: the raylet bounds bytes, this bounds what it must remember."""
RETRY_MS = 500


class Evacuation:
    """One per owner machine. here: its node, told by the shell. effects: where messages to send are put."""

    def __init__(
        self, references: ReferenceCounter, objects: ObjectDirectory, relocations: Relocations, effects: list[Any]
    ) -> None:
        self.here = b""
        self.nodes: dict[bytes, None] = {}
        """Nodes that drain, or are gone."""
        self.moved_count = 0
        self._references = references
        self._objects = objects
        self._relocations = relocations
        self._effects = effects
        self.queue: deque[bytes] = deque()
        """Objects to ask for; never replaced."""
        self._asked: dict[bytes, Location] = {}
        self._stuck: dict[bytes, None] = {}
        self._retry_ms: int | None = None
        self._has_complained = False

    def node_draining(self, message: NodeDraining) -> None:
        """What lies there is to move. Cost: a look at each object."""
        if message.node_id == self.here:
            return
        self.nodes[message.node_id] = None
        for key, value in self._objects.values.items():
            if value.location is not None and value.location.node_id == message.node_id:
                self.arrived(key)
        self.act()

    def arrived(self, key: bytes) -> None:
        """An object lies on a node that drains; ``act`` is called at the end of the batch."""
        if self._references.is_owned(key) and key not in self._asked:
            self.queue.append(key)

    def act(self) -> None:
        """Ask for what is queued, as far as may be. Called at the end of a batch in which something was."""
        while self.queue and len(self._asked) < IN_FLIGHT_MAX:
            key = self.queue.popleft()
            value = self._objects.values.get(key)
            location = value.location if value is not None else None
            if location is None or location.node_id not in self.nodes or key in self._asked:
                continue
            if self._relocations.is_moving(key):
                self._stuck[key] = None  # It is on its way to the disk over there; then from the disk to here.
                continue
            self._stuck.pop(key, None)
            self._asked[key] = location
            self._effects.append(ToRaylet(TakeObject(key, location)))

    def on_taken(self, message: ObjectTaken) -> None:
        """The raylet has brought one, or says why not."""
        key = message.object_id
        old = self._asked.pop(key)
        value = self._objects.values.get(key)
        is_the_same = value is not None and value.location is old and not self._relocations.is_moving(key)
        if message.offset < 0:
            if is_the_same:
                self._complain(message.reason)
                self._stuck[key] = None
        elif is_the_same:
            self.moved_count += 1
            self._relocations.move_away(key, Location(self.here, message.offset, old.size))
        else:
            self._effects.append(ToRaylet(FreeRegions([message.offset], self.here, [key])))
            if value is not None and value.location is not None and value.location.node_id in self.nodes:
                self.arrived(key)
        self.act()

    def _complain(self, reason: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            text = f"An object on a node that is about to leave could not be brought here: {reason} It is tried again."
            self._effects.append(LogLine(text))

    def tick(self, now_ms: int) -> None:
        """Ask again for what was stuck."""
        if self._retry_ms is not None and now_ms >= self._retry_ms:
            self._retry_ms = None
            self.queue.extend(self._stuck)
            self._stuck.clear()
            self.act()

    def next_deadline_ms(self, now_ms: int) -> int | None:
        """When ``tick`` has something to do; now_ms: of the last batch."""
        if not self._stuck:
            return None
        if self._retry_ms is None:
            self._retry_ms = now_ms + RETRY_MS
        return self._retry_ms

    def statistics(self) -> dict[str, int]:
        return {"moved": self.moved_count, "asked": len(self._asked), "queued": len(self.queue) + len(self._stuck)}

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken rule."""
        assert len(self._asked) <= IN_FLIGHT_MAX, "More objects are asked for than allowed."
        assert not self._asked.keys() & self._stuck.keys(), "An object is asked for and waits to be."
