"""Object records: what the object table remembers of regions, of waiting requests and of questions to clients.

Plain records without behaviour, and the one check that looks at all regions together.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import msgspec

from raybook.core.node.arena_allocator import ExtentTable

Index = Mapping[bytes, Mapping[int, None]]


class Region(msgspec.Struct):
    """A sealed return value. piece_offset: the piece of a carved extent that holds it, or -1 while its client lives."""

    object_id: bytes
    owner_id: bytes
    client_id: bytes
    offset: int
    size: int
    is_orphan: bool = False
    piece_offset: int = -1


class Waiting(msgspec.Struct):
    """A request that does not fit. unanswered: how many answers about idle extents each client still owes."""

    client_id: bytes
    request_id: int
    bytes_wanted: int
    query_id: int
    deadline_ms: int
    unanswered: dict[bytes, int]
    settled_ms: int = 0
    may_spill: bool = False
    """Objects may still go to disk to make room for it."""
    trouble: str = ""


class Reclaim(msgspec.Struct):
    """A question to all clients. orphans: regions to free after it. dead_client: whose extents to carve, or b""."""

    query_id: int
    unanswered: dict[bytes, None]
    orphans: list[Region]
    dead_client: bytes


class Pressure(msgspec.Struct, frozen=True):
    """wanted_bytes: of the first request, while it waits for spilling; request: its query. owners: who have objects
    here, those with most bytes first. returned_bytes: all that was ever given back."""

    used_bytes: int
    wanted_bytes: int
    request: int
    owners: list[bytes]
    returned_bytes: int


class StoreStatistics(msgspec.Struct, frozen=True):
    """An immutable snapshot, in bytes. used_bytes counts whole extents: what is in them, only their clients know."""

    capacity_bytes: int
    used_bytes: int
    warm_idle_bytes: int
    sealed_bytes: int
    sealed_count: int
    client_count: int
    waiting_count: int
    reclaim_count: int
    unknown_free_count: int


def check_regions(
    regions: Mapping[int, Region],
    extents: ExtentTable,
    by_owner: Index,
    by_client: Index,
    pieces: Mapping[int, Container[int]],
) -> None:
    """Regions do not overlap, lie in an extent of the client that wrote them, and every index knows them. Raises
    AssertionError naming the first that does not. Cost: O(n log n)."""
    granted = sorted((extent, client) for client in extents.clients() for extent in extents.extents_of(client))
    index, position = 0, 0
    for offset in sorted(regions):
        region = regions[offset]
        assert region.offset == offset >= position, f"the region at {offset} overlaps the one before"
        position = offset + region.size
        while index < len(granted) and granted[index][0].end <= offset:
            index += 1
        assert index < len(granted), f"the region at {offset} is in no extent"
        extent, client_id = granted[index]
        assert extent.offset <= offset and position <= extent.end, f"the region at {offset} leaves its extent"
        assert client_id == region.client_id, f"the region at {offset} is in somebody else's extent"
        assert offset in by_owner[region.owner_id], f"the region at {offset} is not indexed by owner"
        assert offset in by_client[region.client_id], f"the region at {offset} is not indexed by client"
        assert (region.piece_offset >= 0) == (offset in pieces.get(region.piece_offset, ()))
    for by_id in (by_owner, by_client):
        assert sum(map(len, by_id.values())) == len(regions), "an index holds regions that are gone"


def discard(index: dict[bytes, dict[int, None]], key: bytes, offset: int) -> None:
    """Take one member out of an index of sets, and an empty set with it."""
    members = index[key]
    del members[offset]
    if not members:
        del index[key]


def mib(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / (1 << 20):.1f} MiB"


def row_of(region: Region) -> dict[str, str | int | bool]:
    """One sealed object, for panels."""
    return {
        "object_id": region.object_id.hex(),
        "size_bytes": region.size,
        "owner_id": region.owner_id.hex(),
        "client_id": region.client_id.hex(),
        "offset": region.offset,
        "is_orphan": region.is_orphan,
    }
