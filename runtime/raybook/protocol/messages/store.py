"""About the arena: extents from the raylet to its clients, and the lives of regions inside them.

An *extent* is a range of the arena granted to one client, which allocates *regions* inside it without a message.
A region written by a worker as a return value is *sealed*: it then belongs to the object's owner, who frees it.
"""

from __future__ import annotations

import msgspec


class RequestExtent(msgspec.Struct, tag=40, array_like=True):
    """client → raylet: I need room for an object of ``bytes_wanted``."""

    request_id: int
    bytes_wanted: int


class ExtentGranted(msgspec.Struct, tag=41, array_like=True):
    """raylet → client: yours. ``warm_bytes`` from the start of it have pages already."""

    request_id: int
    offset: int
    size: int
    warm_bytes: int = 0


class ExtentRefused(msgspec.Struct, tag=42, array_like=True):
    """raylet → client: no room. ``text`` names use, capacity and the largest holders. ``spill_dir``: a folder of this
    node into which the client may write the object instead; "" for none."""

    request_id: int
    text: str
    spill_dir: str = ""


class ReturnExtent(msgspec.Struct, tag=43, array_like=True):
    """client → raylet: this extent, or a range of whole pages inside one, is empty and not needed. ``warm_bytes`` from
    the start of it have pages."""

    offset: int
    size: int
    warm_bytes: int = 0


class Sealed(msgspec.Struct, tag=44, array_like=True):
    """worker → raylet: a return value lies here and belongs to ``owner_id`` from now on."""

    object_id: bytes
    owner_id: bytes
    offset: int
    size: int


class FreeRegions(msgspec.Struct, tag=45, array_like=True):
    """owner → raylet: these sealed regions (by offset) of a node's arena are garbage."""

    offsets: list[int]
    node_id: bytes = b""
    """Whose arena; b"" for the raylet's own. What owners say to the store of another node goes by way of their raylet."""
    object_ids: list[bytes] = []
    """What lay there, in the same order: this may overtake the worker's ``Sealed``, and must not be forgotten then. None
    for what is sealed for certain."""


class RegionsFreed(msgspec.Struct, tag=46, array_like=True):
    """raylet → the client that allocated them: reuse these offsets."""

    offsets: list[int]


class ReclaimQuery(msgspec.Struct, tag=47, array_like=True):
    """raylet → every client: the holder of these (offset, size) ranges died. Answer when no view of yours pins them."""

    query_id: int
    ranges: list[tuple[int, int]]


class ReclaimAck(msgspec.Struct, tag=48, array_like=True):
    """client → raylet: nothing of mine looks into the ranges of this query (any more)."""

    query_id: int


class RecallIdle(msgspec.Struct, tag=49, array_like=True):
    """raylet → client: somebody waits for ``bytes_wanted``; return what you do not use, then answer."""

    query_id: int
    bytes_wanted: int


class RecallAnswered(msgspec.Struct, tag=50, array_like=True):
    """client → raylet: what I could spare was returned before this."""

    query_id: int


class SpillWanted(msgspec.Struct, tag=51, array_like=True):
    """raylet → owner: choose about ``bytes_wanted`` of your objects on ``node_id`` that may go to disk."""

    query_id: int
    bytes_wanted: int
    node_id: bytes


class SpillItem(msgspec.Struct, array_like=True, gc=False):
    """One object in the arena that may go to disk. The owner keeps it until it has read ``ObjectsSpilled``."""

    object_id: bytes
    offset: int
    size: int


class SpillObjects(msgspec.Struct, tag=52, array_like=True):
    """owner → raylet: write these to disk. None: nothing of mine can go now."""

    query_id: int
    items: list[SpillItem]
    node_id: bytes = b""


class SpilledItem(msgspec.Struct, array_like=True, gc=False):
    """Where one object begins in the file, and its CRC-32."""

    object_id: bytes
    offset: int
    checksum: int


class ObjectsSpilled(msgspec.Struct, tag=53, array_like=True):
    """raylet → owner: they are on disk in the file ``path``, yours to delete. No items: nothing was written."""

    query_id: int
    path: str
    items: list[SpilledItem]


class SpillDone(msgspec.Struct, tag=54, array_like=True):
    """owner → raylet: what nobody looked at has left the arena; its regions were freed before this."""

    query_id: int
    freed_bytes: int
    node_id: bytes = b""


class DeleteSpilled(msgspec.Struct, tag=55, array_like=True):
    """owner → raylet: no living object is in these files any more; nor in these (path, offset, size) ranges of others.
    Nobody looks at them."""

    paths: list[str]
    ranges: list[tuple[str, int, int]] = []
    node_id: bytes = b""
