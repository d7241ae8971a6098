"""Store events: what can happen to a node's object store, and what its object table wants done.

Words of the table's language, without behaviour. The raylet turns messages into events and effects into messages; most
of them have a namesake in `protocol/messages/store.py`. Offsets and sizes are bytes of the arena.
"""

from __future__ import annotations

import msgspec

# --- events -----------------------------------------------------------------------------------------------------------


class ClientJoined(msgspec.Struct, frozen=True):
    """A driver, a worker or the raylet itself may ask for extents from now on. name: to show, such as its pid."""

    client_id: bytes
    name: str = ""


class ClientDied(msgspec.Struct, frozen=True):
    """Its process is gone for certain, and its last message was read. Objects that it owned have no owner any more."""

    client_id: bytes


class OwnerDied(msgspec.Struct, frozen=True):
    """An owner on another node is gone."""

    owner_id: bytes


class ExtentRequested(msgspec.Struct, frozen=True):
    client_id: bytes
    request_id: int
    bytes_wanted: int


class ExtentReturned(msgspec.Struct, frozen=True):
    """The client uses nothing in the extent, or in these whole pages of one. written_bytes: how far from the offset it
    ever wrote, None if it does not say. size: None for the whole extent."""

    client_id: bytes
    offset: int
    written_bytes: int | None = None
    size: int | None = None


class RegionSealed(msgspec.Struct, frozen=True):
    """A return value lies in the client's extent and is its owner's from now on."""

    client_id: bytes
    object_id: bytes
    owner_id: bytes
    offset: int
    size: int


class RegionsFreed(msgspec.Struct, frozen=True):
    """The owner's count of these sealed regions is zero. object_ids: whose values they are, where that is known; then the
    news may come before that of their sealing."""

    owner_id: bytes
    offsets: list[int]
    object_ids: list[bytes] = []


class ReclaimAcked(msgspec.Struct, frozen=True):
    """No view of the client looks into the query's ranges."""

    client_id: bytes
    query_id: int


class RecallAnswered(msgspec.Struct, frozen=True):
    """The client has returned the idle extents that it can spare; the returns came before this."""

    client_id: bytes
    query_id: int


class SpillingEnded(msgspec.Struct, frozen=True):
    """Nothing more can go to disk for the request of this query now. trouble: "" or what the disk said."""

    query_id: int
    trouble: str = ""


class HolePunched(msgspec.Struct, frozen=True):
    """A `PunchHole` is done."""

    offset: int


Event = (
    ClientJoined
    | ClientDied
    | OwnerDied
    | ExtentRequested
    | ExtentReturned
    | RegionSealed
    | RegionsFreed
    | ReclaimAcked
    | RecallAnswered
    | SpillingEnded
    | HolePunched
)

# --- effects ----------------------------------------------------------------------------------------------------------


class GrantExtent(msgspec.Struct, frozen=True):
    client_id: bytes
    request_id: int
    offset: int
    size: int
    warm_bytes: int


class RefuseExtent(msgspec.Struct, frozen=True):
    """reason: whole sentences for people, with use, capacity and the largest holders."""

    client_id: bytes
    request_id: int
    reason: str
    used_bytes: int
    capacity_bytes: int


class ForwardFree(msgspec.Struct, frozen=True):
    """Tell the client that it may reuse these regions of its extents."""

    client_id: bytes
    offsets: list[int]


class AskReclaim(msgspec.Struct, frozen=True):
    """Ask the client to answer once no view of its own looks into these (offset, size) ranges."""

    client_id: bytes
    query_id: int
    ranges: list[tuple[int, int]]


class RecallIdle(msgspec.Struct, frozen=True):
    """Ask the client to return extents that it does not use, because somebody waits for `bytes_wanted`."""

    client_id: bytes
    query_id: int
    bytes_wanted: int


class PunchHole(msgspec.Struct, frozen=True):
    """Give the range's memory back to the machine, in any thread, and report `HolePunched`."""

    offset: int
    size: int


class SealRejected(msgspec.Struct, frozen=True):
    """A seal came too late, its extent is reclaimed: for its owner the object is lost."""

    object_id: bytes
    owner_id: bytes
    reason: str


class ClientMisbehaved(msgspec.Struct, frozen=True):
    """The client broke the protocol; nothing was changed. Its books cannot be trusted: end it, and log the text."""

    client_id: bytes
    text: str


Effect = (
    GrantExtent | RefuseExtent | ForwardFree | AskReclaim | RecallIdle | PunchHole | SealRejected | ClientMisbehaved
)
