"""Relocations: how values leave the arena for disk while others may look at them.

    raylet: SpillWanted → choose objects that nobody looks at → SpillObjects
    raylet: ObjectsSpilled → the location is changed *in place*: from now on everybody here reads the file
    next batch and later: a place is left as soon as nothing looks at it → its region is freed → SpillDone

A place is looked at by views of this process (pins), by tasks that were pushed with the old location, and by borrowers,
who may have handed it on. Borrowers are told (ObjectMoved) and answer (MoveNoted) when for them the same holds; those
who become borrowers meanwhile are told too. If one of them had handed it on, all are asked once more: a task of its may
have run in a process that had answered already. Both copies are good until then, so no reader is wrong or waits.

Why the next batch: a user thread that read the old location has appended its pin before the change, and is seen in the
next batch; or it notices the change and looks again (`worker/values`). The location is changed inside the Value, which
queued tasks share, so they are pushed with the new one.

Knows nothing of files but their paths. Invariants: a region is freed once; a file is deleted when its last object is
gone; every SpillWanted is answered, every ObjectMoved too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from raybook.base.specs import Location
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.pins import Pins
from raybook.core.owner.records import FreeOwn, GiveBackIdle, LookAgain, TaskRecord, ToPeer, ToRaylet
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.task_manager import TaskManager
from raybook.protocol.messages.store import (
    DeleteSpilled,
    FreeRegions,
    ObjectsSpilled,
    SpillDone,
    SpillItem,
    SpillObjects,
    SpillWanted,
)
from raybook.protocol.messages.worker import MoveNoted, ObjectMoved

# Places that somebody holds on to are looked at again after this, and after twice as long each time nothing changed.
LOOK_MS = 20
LOOK_MS_MAX = 1_000
# A borrower that does not answer holds up the report of a round for so long, and its object as long as it likes.
BORROWER_TIMEOUT_MS = 1_000
# Objects on one list to the raylet; the message stays below a megabyte.
ITEMS_MAX = 10_000


class Move(msgspec.Struct):
    """One old place that is being left. asker: who is told when it is: our own raylet (b""), or the object's owner.
    tasks: pushed with the old location. passed_on: a borrower had such tasks, too."""

    key: bytes
    old: Location
    asker: bytes
    is_own_region: bool
    location: Location
    tasks: list[bytes]
    passed_on: bool
    is_fresh: bool = True
    told: set[bytes] = set()
    noted: set[bytes] = set()


class Round(msgspec.Struct):
    """One SpillWanted of the raylet, from its arrival to SpillDone."""

    query_id: int
    node_id: bytes
    offered: dict[bytes, tuple[int, int]]
    """Object → (offset, size) of its place in the arena."""
    moving: set[bytes] = set()
    freed_bytes: int = 0
    is_written: bool = False
    deadline_ms: int = 0


class Relocations:
    """One per owner machine. ``effects``: where messages to send are put."""

    def __init__(
        self,
        references: ReferenceCounter,
        objects: ObjectDirectory,
        tasks: TaskManager,
        pins: Pins,
        effects: list[Any],
    ) -> None:
        self._references = references
        self._objects = objects
        self._tasks = tasks
        self._pins = pins
        self._effects = effects
        self._moves: dict[bytes, Move] = {}
        self._files: dict[str, int] = {}
        self._dead_files: dict[str, bytes] = {}
        """Path → node."""
        self._dead_ranges: list[tuple[bytes, str, int, int]] = []
        self._round: Round | None = None
        self._look_ms = 0
        self._pause_ms = LOOK_MS
        self.has_work = False
        """Something happened, or goes on, that ``settle`` must be called for."""

    # What the raylet says

    def on_spill_wanted(self, message: SpillWanted) -> None:
        """Offer the oldest objects that nobody looks at; those that others have borrowed come last. One node at a time."""
        if self._round is not None and self._round.node_id != message.node_id:
            self._effects.append(ToRaylet(SpillObjects(message.query_id, [], message.node_id)))
            return
        busy = self._arguments_in_flight()
        items: list[SpillItem] = []
        found = 0
        for lent in (False, True):
            for key, location in self._places(message.node_id):
                if found >= message.bytes_wanted or len(items) == ITEMS_MAX:
                    break
                if (key in self._references.borrowers) is lent and key not in busy and key not in self._moves:
                    items.append(SpillItem(key, location.offset, location.size))
                    found += location.size
        offered = {item.object_id: (item.offset, item.size) for item in items}
        self._round = Round(message.query_id, message.node_id, offered)
        self._effects.append(ToRaylet(SpillObjects(message.query_id, items, message.node_id)))

    def _places(self, node_id: bytes) -> Iterator[tuple[bytes, Location]]:
        """Our own objects in that node's arena without a view of ours, oldest first: returns of tasks, then puts."""
        values, pins, references = self._objects.values, self._pins, self._references
        for places in (self._objects.elsewhere, self._objects.own_regions):
            for key, offset in places.items():
                location = values[key].location
                assert location is not None, "an object with a place has no location"
                if location.node_id == node_id and not location.spill_path and not pins.is_pinned(offset):
                    if references.is_owned(key):
                        yield key, location

    def on_objects_spilled(self, message: ObjectsSpilled) -> None:
        """They are on disk: from now on that is where they are read. An object that died meanwhile is forgotten."""
        spilling = self._round
        if spilling is None or spilling.query_id != message.query_id:
            if message.path:
                node_id = spilling.node_id if spilling is not None else b""
                self._effects.append(ToRaylet(DeleteSpilled([message.path], node_id=node_id)))
            return
        busy = self._arguments_in_flight() if message.items else {}
        alive = 0
        dead: list[tuple[bytes, str, int, int]] = []
        for item in message.items:
            key = item.object_id
            value = self._objects.values.get(key)
            old = value.location if value is not None else None
            offset, size = spilling.offered.get(key, (-1, 0))
            where = (old.node_id, old.offset, old.spill_path) if old is not None else None
            if value is None or old is None or where != (spilling.node_id, offset, ""):
                dead.append((spilling.node_id, message.path, item.offset, size))
                continue
            alive += 1
            new = Location(old.node_id, item.offset, old.size, message.path, item.checksum)
            self._start(key, old, new, b"", busy.get(key, []))
            value.location = new
            spilling.moving.add(key)
        if alive:
            self._files[message.path] = alive
            self._dead_ranges += dead
        elif message.path:
            self._effects.append(ToRaylet(DeleteSpilled([message.path], node_id=spilling.node_id)))
        spilling.is_written = True
        self.has_work = True
        self._look_ms = 0
        self._effects.append(LookAgain())

    def _start(self, key: bytes, old: Location, new: Location, asker: bytes, tasks: list[bytes]) -> None:
        is_own = self._objects.own_regions.get(key) == old.offset
        passed_on = bool(asker and tasks)
        self.has_work = True
        self._moves[key] = Move(key, old, asker, is_own, new, tasks, passed_on, told=set(), noted=set())

    def _arguments_in_flight(self) -> dict[bytes, list[bytes]]:
        """Objects that pushed tasks have as arguments. Cost: a walk over all unfinished tasks, 40 ns each."""
        busy: dict[bytes, list[bytes]] = {}
        for task_id, record in self._tasks.tasks.items():
            if record.held is not None and _is_pushed(record):
                for ref in record.held:
                    busy.setdefault(ref.object_id, []).append(task_id)
        return busy

    # What leaves its node

    def move_away(self, key: bytes, new: Location) -> None:
        """An object of ours has been brought to another node: from now on that is where it is read."""
        value = self._objects.values[key]
        assert value.location is not None, "what lies nowhere cannot be moved"
        self._start(key, value.location, new, b"", self._arguments_in_flight().get(key, []))
        value.location = new
        self._look_ms = 0
        self._effects.append(LookAgain())

    def is_moving(self, key: bytes) -> bool:
        """Whether its old place is being left."""
        return key in self._moves

    # What other processes say

    def on_object_moved(self, owner_id: bytes, message: ObjectMoved) -> None:
        """The owner of what we borrow tells where it is now."""
        key = message.object_id
        value = self._objects.values.get(key)
        old = value.location if value is not None else None
        tasks: list[bytes] = []
        # A file is left only together with its node, for another one.
        is_old = old is not None and (not old.spill_path or old.node_id != message.location.node_id)
        if value is not None and is_old and old is not None and old.offset == message.old_offset:
            value.location = message.location
            self._objects.elsewhere.pop(key, None)
            tasks = self._arguments_in_flight().get(key, [])
        if old is None or old.offset != message.old_offset:
            old = Location(message.location.node_id, message.old_offset, message.location.size)
        self._start(key, old, message.location, owner_id, tasks)
        self._look_ms = 0
        self._effects.append(LookAgain())

    def on_move_noted(self, client_id: bytes, message: MoveNoted) -> None:
        """A borrower looks at the old place no longer."""
        move = self._moves.get(message.object_id)
        if move is not None and move.old.offset == message.old_offset:
            move.noted.add(client_id)
            move.passed_on = move.passed_on or message.passed_on
            self._look_ms = 0

    # Leaving

    def settle(self, now_ms: int) -> None:
        """At the end of a batch, if there is work: leave the places at which nothing looks any more."""
        if self._dead_files or self._dead_ranges:
            self._delete()
        if not self._moves and (self._round is None or not self._round.is_written):
            self.has_work = False
            return
        if now_ms < self._look_ms:
            return
        before = len(self._moves)
        self._look_ms = now_ms + self._pause_ms
        freed: dict[bytes, list[int]] = {}
        for move in list(self._moves.values()):
            if move.is_fresh:
                move.is_fresh = False
                self._look_ms = 0
            elif self._is_left(move):
                self._leave(move, freed)
        self._tell_freed(freed)
        self._pause_ms = LOOK_MS if len(self._moves) < before else min(2 * self._pause_ms, LOOK_MS_MAX)
        self._report(now_ms)

    def _is_left(self, move: Move) -> bool:
        if self._pins.is_pinned(move.old.offset):
            return False
        tasks = self._tasks.tasks
        move.tasks = [task_id for task_id in move.tasks if task_id in tasks]
        if move.tasks:
            return False
        if move.asker:
            return True
        borrowers = self._references.borrowers.get(move.key)
        if not borrowers:
            return True
        for client_id in sorted(borrowers - move.told):
            move.told.add(client_id)
            self._effects.append(ToPeer(client_id, "", ObjectMoved(move.key, move.old.offset, move.location)))
        if not borrowers <= move.noted:
            return False
        # A borrower that left without an answer may have handed it on, too.
        if not move.passed_on and move.told <= move.noted:
            return True
        # From now on nobody hands the old place on; who got it meanwhile still looks at it, or answers at once.
        move.passed_on = False
        move.told.clear()
        move.noted.clear()
        return self._is_left(move)

    def _tell_freed(self, freed: dict[bytes, list[int]]) -> None:
        for node_id, offsets in freed.items():
            self._effects.append(ToRaylet(FreeRegions(offsets, node_id)))

    def _leave(self, move: Move, freed: dict[bytes, list[int]]) -> None:
        del self._moves[move.key]
        if move.asker:
            self._effects.append(ToPeer(move.asker, "", MoveNoted(move.key, move.old.offset, move.passed_on)))
            return
        self._free(move, freed)
        if move.is_own_region:
            del self._objects.own_regions[move.key]
        else:
            self._objects.elsewhere.pop(move.key, None)
        if not move.location.spill_path:
            self._objects.elsewhere[move.key] = move.location.offset
        if self._round is not None and move.key in self._round.moving:
            self._round.moving.discard(move.key)
            self._round.freed_bytes += move.old.size

    def _free(self, move: Move, freed: dict[bytes, list[int]]) -> None:
        if move.is_own_region:
            self._effects.append(FreeOwn(move.old.offset))
        elif move.old.spill_path:
            # Whoever has mapped the file keeps it, so it may go as a whole, and no part of it before.
            self._leave_file(move.old, clears=False)
        else:
            freed.setdefault(move.old.node_id, []).append(move.old.offset)

    def _report(self, now_ms: int) -> None:
        """Answer the raylet once what can leave soon has left."""
        spilling = self._round
        if spilling is None or not spilling.is_written:
            return
        if not spilling.deadline_ms:
            spilling.deadline_ms = now_ms + BORROWER_TIMEOUT_MS
        waiting = [self._moves[key] for key in spilling.moving if key in self._moves]
        if now_ms < spilling.deadline_ms and any(map(self._is_soon_left, waiting)):
            self._look_ms = min(self._look_ms, now_ms + LOOK_MS)
            return
        self._effects.append(GiveBackIdle())
        self._effects.append(ToRaylet(SpillDone(spilling.query_id, spilling.freed_bytes, spilling.node_id)))
        self._round = None

    def _is_soon_left(self, move: Move) -> bool:
        """Whether only answers of borrowers are missing."""
        borrowers = self._references.borrowers.get(move.key, set())
        return move.is_fresh or not (move.told & borrowers) <= move.noted

    def next_deadline_ms(self) -> int | None:
        """When to look again if nothing else happens."""
        return self._look_ms if self._moves else None

    # Ends

    def forgotten(self, key: bytes) -> None:
        """An object of ours that lies in an arena is garbage: so is the place that it was leaving, if it was."""
        move = self._moves.pop(key, None)
        if move is not None and not move.asker:
            freed: dict[bytes, list[int]] = {}
            self._free(move, freed)
            self._tell_freed(freed)

    def removed(self, key: bytes, location: Location) -> None:
        """An object of ours that was on disk is garbage: so is its range of the file, and the file after the last one."""
        self.has_work = True
        self.forgotten(key)
        self._leave_file(location)

    def _leave_file(self, location: Location, clears: bool = True) -> None:
        """One object less lies in a file. clears: its range may be used for nothing any more."""
        left = self._files.get(location.spill_path, 1) - 1
        if left:
            self._files[location.spill_path] = left
            if clears:
                self._dead_ranges.append((location.node_id, location.spill_path, location.offset, location.size))
            return
        self._files.pop(location.spill_path, None)
        self._dead_files[location.spill_path] = location.node_id

    def lost(self, key: bytes, location: Location) -> None:
        """An object was lost with its node: nothing of it is to be freed there."""
        self._moves.pop(key, None)
        if self._round is not None:
            self._round.moving.discard(key)
        path = location.spill_path
        if path and path in self._files:
            self._files[path] -= 1
            if not self._files[path]:
                del self._files[path]

    def node_gone(self, node_id: bytes) -> None:
        """A node is dead: its store wants nothing any more."""
        if self._round is not None and self._round.node_id == node_id:
            self._round = None
        for key in [key for key, move in self._moves.items() if move.location.node_id == node_id and move.asker]:
            # Borrowed: who asked is told that nothing of ours looks there.
            self._leave(self._moves[key], {})

    def _delete(self) -> None:
        """Tell the raylet what died on disk in this batch, in one message a node."""
        files, ranges = self._dead_files, self._dead_ranges
        self._dead_files, self._dead_ranges = {}, []
        for node_id in dict.fromkeys([*files.values(), *(dead[0] for dead in ranges)]):
            paths = [path for path, node in files.items() if node == node_id]
            left = [dead[1:] for dead in ranges if dead[0] == node_id and dead[1] not in files]
            self._effects.append(ToRaylet(DeleteSpilled(paths, left, node_id)))

    def check_invariants(self) -> None:
        for key, move in self._moves.items():
            value = self._objects.values.get(key)
            if not move.asker:
                assert value is not None and value.location is move.location, "a moved object is not where it went"
                places = self._objects.own_regions if move.is_own_region else self._objects.elsewhere
                known = move.old.spill_path or places.get(key) == move.old.offset
                assert known, "a place that is being left is not known any more"
        for path, count in self._files.items():
            assert count > 0, f"the file {path} has no object and was not deleted"


def _is_pushed(record: TaskRecord) -> bool:
    # Calls of an actor that wait in its queue count too: telling them apart is not worth a look-up for each.
    return record.lease is not None or bool(record.actor_id)
