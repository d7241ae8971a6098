"""Pull manager: copies of other nodes' objects in this node's arena: which are fetched, who uses them, which may go.

One transfer serves all readers of an object. Copies that somebody refers to stay; the others are kept as long as nobody
needs their room, the one used longest ago goes first. Transfers under way are bounded by bytes, so that a burst of large
arguments cannot fill the store with halves; one is always let through, whatever its size.

    FetchWanted → (room: AllocateCopy → RoomGranted) → StartTransfer → TransferEnded → Fetched to all who wait
Knows nothing of sockets or extents, and not whether the bytes are right. Invariants: one transfer an object; a copy with
users is never freed; a reader gets one answer. Source: ARCHITECTURE.md §5, "one transfer for many local readers".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

from raybook.base.specs import Location


class FetchWanted(msgspec.Struct, frozen=True):
    """A client of this node wants an object that lies at ``location`` on another one. It keeps a reference until it is
    answered, so that the object stays there."""

    client: bytes
    request_id: int
    object_id: bytes
    location: Location


class RoomGranted(msgspec.Struct, frozen=True):
    """The answer to AllocateCopy. offset: -1 when there is no room, with the reason."""

    object_id: bytes
    offset: int
    reason: str = ""


class TransferEnded(msgspec.Struct, frozen=True):
    """The answer to StartTransfer. reason: "" when all bytes are there."""

    object_id: bytes
    reason: str = ""


class CopiesDropped(msgspec.Struct, frozen=True):
    """The client refers to these objects no longer."""

    client: bytes
    object_ids: list[bytes]


class CopyTaken(msgspec.Struct, frozen=True):
    """A copy that is here has become its owner's object: its room is not ours to give away any more."""

    object_id: bytes


class ReaderGone(msgspec.Struct, frozen=True):
    """A client is dead."""

    client: bytes


class RoomWanted(msgspec.Struct, frozen=True):
    """Somebody else needs room: unused copies go until so many bytes are free."""

    bytes_wanted: int


class AllocateCopy(msgspec.Struct, frozen=True):
    """Find room in the arena; answer with RoomGranted."""

    object_id: bytes
    size: int


class StartTransfer(msgspec.Struct, frozen=True):
    """Read the object from where it is into the arena at ``offset``; answer with TransferEnded."""

    object_id: bytes
    source: Location
    offset: int


class FreeCopy(msgspec.Struct, frozen=True):
    """The room of a copy is free again."""

    offset: int


class Fetched(msgspec.Struct, frozen=True):
    """Tell a client where the copy is; offset -1: there is none, for this reason."""

    client: bytes
    request_id: int
    offset: int
    reason: str = ""


class CopyState(Enum):
    QUEUED = "QUEUED"
    """Too much is on its way; its turn comes."""
    ALLOCATING = "ALLOCATING"
    MOVING = "MOVING"
    HERE = "HERE"


class _Copy(msgspec.Struct):
    object_id: bytes
    source: Location
    state: CopyState = CopyState.QUEUED
    offset: int = -1
    waiting: list[tuple[bytes, int]] = []
    """(client, request) of the readers that are to be told."""
    users: dict[bytes, bool] = {}
    """Clients that were told, and have not dropped it."""


class PullManager:
    """in_flight_bytes_max: of all transfers together."""

    def __init__(self, in_flight_bytes_max: int) -> None:
        self._in_flight_bytes_max = in_flight_bytes_max
        self._copies: dict[bytes, _Copy] = {}
        """By object; in the order of their last use."""
        self._in_flight_bytes = 0
        self._pulled_bytes = 0
        self._pulled_count = 0
        self._evicted_count = 0
        self._effects: list[Any] = []
        self._edges: dict[type, Callable[[Any], None]] = {
            FetchWanted: self._wanted,
            RoomGranted: self._room_granted,
            TransferEnded: self._transfer_ended,
            CopiesDropped: lambda event: self._dropped(event.client, event.object_ids),
            CopyTaken: self._taken,
            ReaderGone: self._reader_gone,
            RoomWanted: self._room_wanted,
        }

    def handle(self, events: Iterable[Any]) -> list[Any]:
        """Apply events in order; the effects, in order. Cost: 1 µs an event; a reader's death, one look at each copy."""
        for event in events:
            self._edges[type(event)](event)
        self._begin_queued()
        effects, self._effects = self._effects, []
        return effects

    # --- readers ------------------------------------------------------------------------------------------------------

    def _wanted(self, event: FetchWanted) -> None:
        key = event.object_id
        copy = self._copies.pop(key, None)
        if copy is None:
            copy = _Copy(key, event.location, waiting=[], users={})
        self._copies[key] = copy
        if copy.state is CopyState.HERE:
            self._tell(copy, event.client, event.request_id)
        else:
            copy.waiting.append((event.client, event.request_id))
            if copy.state is CopyState.QUEUED:
                # The newest reader knows best where it lies now.
                copy.source = event.location

    def _tell(self, copy: _Copy, client: bytes, request_id: int) -> None:
        copy.users[client] = True
        self._effects.append(Fetched(client, request_id, copy.offset))

    def _dropped(self, client: bytes, object_ids: Iterable[bytes]) -> None:
        for key in object_ids:
            copy = self._copies.get(key)
            if copy is not None:
                copy.users.pop(client, None)

    def _taken(self, event: CopyTaken) -> None:
        self._copies.pop(event.object_id, None)

    def _reader_gone(self, event: ReaderGone) -> None:
        for copy in list(self._copies.values()):
            copy.users.pop(event.client, None)
            if copy.waiting:
                copy.waiting = [reader for reader in copy.waiting if reader[0] != event.client]
                if not copy.waiting and copy.state is CopyState.QUEUED:
                    del self._copies[copy.object_id]

    # --- transfers ----------------------------------------------------------------------------------------------------

    def _begin_queued(self) -> None:
        for copy in self._copies.values():
            if copy.state is not CopyState.QUEUED:
                continue
            size = copy.source.size
            if self._in_flight_bytes and self._in_flight_bytes + size > self._in_flight_bytes_max:
                return
            self._in_flight_bytes += size
            copy.state = CopyState.ALLOCATING
            self._effects.append(AllocateCopy(copy.object_id, size))

    def _room_granted(self, event: RoomGranted) -> None:
        copy = self._copies.get(event.object_id)
        if copy is None or copy.state is not CopyState.ALLOCATING:
            if event.offset >= 0:
                self._effects.append(FreeCopy(event.offset))
            return
        if event.offset < 0:
            self._fail(copy, event.reason)
        elif not copy.waiting:
            self._effects.append(FreeCopy(event.offset))
            self._forget(copy)
        else:
            copy.state = CopyState.MOVING
            copy.offset = event.offset
            self._effects.append(StartTransfer(copy.object_id, copy.source, copy.offset))

    def _transfer_ended(self, event: TransferEnded) -> None:
        copy = self._copies.get(event.object_id)
        if copy is None or copy.state is not CopyState.MOVING:
            return
        # With its last reader went whatever kept the source as it was: the bytes may be another object's.
        if event.reason or not copy.waiting:
            self._effects.append(FreeCopy(copy.offset))
            self._fail(copy, event.reason)
            return
        self._in_flight_bytes -= copy.source.size
        self._pulled_bytes += copy.source.size
        self._pulled_count += 1
        copy.state = CopyState.HERE
        readers, copy.waiting = copy.waiting, []
        for client, request_id in readers:
            self._tell(copy, client, request_id)

    def _fail(self, copy: _Copy, reason: str) -> None:
        for client, request_id in copy.waiting:
            self._effects.append(Fetched(client, request_id, -1, reason))
        self._forget(copy)

    def _forget(self, copy: _Copy) -> None:
        del self._copies[copy.object_id]
        self._in_flight_bytes -= copy.source.size

    # --- room ---------------------------------------------------------------------------------------------------------

    def _room_wanted(self, event: RoomWanted) -> None:
        wanted = event.bytes_wanted
        for copy in list(self._copies.values()):
            if wanted <= 0:
                return
            if copy.state is CopyState.HERE and not copy.users:
                del self._copies[copy.object_id]
                self._evicted_count += 1
                wanted -= copy.source.size
                self._effects.append(FreeCopy(copy.offset))

    # --- looking ------------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, int]:
        """Counts and bytes, for ``status``."""
        here = [copy.source.size for copy in self._copies.values() if copy.state is CopyState.HERE]
        return {
            "copies": len(here),
            "copy_bytes": sum(here),
            "in_flight_bytes": self._in_flight_bytes,
            "pulled": self._pulled_count,
            "pulled_bytes": self._pulled_bytes,
            "evicted": self._evicted_count,
        }

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        on_its_way = [c for c in self._copies.values() if c.state in (CopyState.ALLOCATING, CopyState.MOVING)]
        assert self._in_flight_bytes == sum(copy.source.size for copy in on_its_way), "Bytes in flight are miscounted."
        for copy in self._copies.values():
            assert (copy.offset >= 0) == (copy.state in (CopyState.MOVING, CopyState.HERE)), "A copy has no place."
            assert not copy.users or copy.state is CopyState.HERE, "Somebody uses a copy that is not here."
            assert not copy.waiting or copy.state is not CopyState.HERE, "Somebody waits for a copy that is here."
