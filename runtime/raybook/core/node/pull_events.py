"""Pull events: what the pull manager is told, and what it asks for. Records only."""

from __future__ import annotations

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
    """The answer to StartTransfer. reason: "" when all bytes are there. code: the class of the error."""

    object_id: bytes
    reason: str = ""
    code: str = ""


class TransferDelayed(msgspec.Struct, frozen=True):
    """A transfer has begun and does not get on, for this reason. It goes on."""

    object_id: bytes
    reason: str


class CopiesDropped(msgspec.Struct, frozen=True):
    """The client uses these copies no longer."""

    client: bytes
    object_ids: list[bytes]


class CopiesRecalled(msgspec.Struct, frozen=True):
    """The client has dropped what it could spare, as it was asked by RecallCopies."""

    client: bytes
    recall_id: int


class CopyTaken(msgspec.Struct, frozen=True):
    """A copy that is here has become its owner's object: its room is not ours to give away any more."""

    object_id: bytes


class ReaderGone(msgspec.Struct, frozen=True):
    """A client is dead."""

    client: bytes


class RoomWanted(msgspec.Struct, frozen=True):
    """Somebody else needs so many bytes: copies go. Answered by RoomAnswered when no more can."""

    bytes_wanted: int
    recall_id: int


class CopyWanted(msgspec.Struct, frozen=True):
    """Another node wants to read the copy of an object of so many bytes. Answered by Lend or RefuseLending."""

    lending_id: int
    object_id: bytes
    size: int


class LendingEnded(msgspec.Struct, frozen=True):
    """It looks at the copy no longer."""

    lending_id: int


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
    """Tell a client where the copy is; offset -1: there is none, for this reason. code: the class of the error, where it
    is not that the object cannot be read."""

    client: bytes
    request_id: int
    offset: int
    reason: str = ""
    code: str = ""


class FetchDelayed(msgspec.Struct, frozen=True):
    """Tell a client why its fetch waits."""

    client: bytes
    request_id: int
    reason: str


class RecallCopies(msgspec.Struct, frozen=True):
    """Ask a client for the copies that it does not look at; it answers with CopiesDropped, then CopiesRecalled."""

    client: bytes
    recall_id: int


class RoomAnswered(msgspec.Struct, frozen=True):
    """No more copies can go for this RoomWanted."""

    recall_id: int


class Lend(msgspec.Struct, frozen=True):
    """Send the copy at ``offset``. is_moving: it is not whole yet; send as it comes."""

    lending_id: int
    object_id: bytes
    offset: int
    is_moving: bool


class RefuseLending(msgspec.Struct, frozen=True):
    lending_id: int
    reason: str
