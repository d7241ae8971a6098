"""Raylet ⇄ raylet, over framed TCP sockets: the requests of one node's clients to another node, and objects on the move.

A client speaks to its own raylet only. What it asks of another node travels inside ``FromClient``, and what that node has
to say to it inside ``ToClient``; the bodies are messages of ``messages/raylet``. One connection in each direction carries
them in order, and is made again when it breaks (``core/node/links``): what follows ``Greet`` is numbered from ``first`` on,
and the far end confirms how much it has heard.
Bytes of objects have connections of their own, so that a large one delays no lease: ``ReadRange``, then the bytes. The
reader closes such a connection when it has them all: until then they may be on their way straight out of the sender's
memory.
"""

from __future__ import annotations

import msgspec

from raybook.base.specs import Endpoint


class Greet(msgspec.Struct, tag=1, array_like=True):
    """First message of the connecting raylet: which node it is, and the number of the message that comes next. Answered
    by ``Received`` at once, or by ``Fenced``."""

    node_id: bytes
    first: int = 1


class FromClient(msgspec.Struct, tag=2, array_like=True):
    """home → other node: a client of mine says this to you. ``name``: to show to people."""

    client: Endpoint
    body: bytes
    name: str = ""


class ToClient(msgspec.Struct, tag=3, array_like=True):
    """other node → home: tell this client of yours."""

    client_id: bytes
    body: bytes


class ClientEnded(msgspec.Struct, tag=4, array_like=True):
    """home → other node: this client of mine is dead."""

    client_id: bytes


class ReadRange(msgspec.Struct, tag=5, array_like=True):
    """reader → the node where an object lies: send me these bytes of your arena, or of your file ``spill_path``.
    Answered by ``RangeFollows`` and exactly ``size - begin`` bytes, by ``RangeRefused`` or by ``RangeElsewhere``."""

    object_id: bytes
    offset: int
    size: int
    spill_path: str = ""
    checksum: int = 0
    begin: int = 0
    """So many bytes of it the reader has already."""
    reader: bytes = b""
    """Its node; b"": do not name another node."""
    avoid: list[bytes] = []
    """Nodes that were named, and could not be read from."""
    is_copy: bool = False
    """Read your copy of the object, whole or as it comes; it has no offset that the reader knows."""
    origin: bytes = b""
    """To a node in between: pass it on to this one, and hand through what comes."""


class RangeFollows(msgspec.Struct, tag=6, array_like=True):
    """The bytes come next, as they are."""

    size: int


class RangeRefused(msgspec.Struct, tag=7, array_like=True):
    """There is no such range here (any more)."""

    reason: str


class RangeElsewhere(msgspec.Struct, tag=8, array_like=True):
    """Read the copy that this node has, or is getting (``ReadRange`` with ``is_copy``); it is nearer, or less busy."""

    node_id: bytes


class ReadOver(msgspec.Struct, tag=9, array_like=True):
    """reader → the node that named another one: I have the object now, or have given up."""

    object_id: bytes
    is_whole: bool


class Fenced(msgspec.Struct, tag=20, array_like=True):
    """I hold you for dead, as the GCS does: what you ran, others run. Ask it, and end."""

    reason: str


class Received(msgspec.Struct, tag=21, array_like=True):
    """I have heard so many of your messages, over all connections."""

    count: int


class Parted(msgspec.Struct, tag=22, array_like=True):
    """I could not reach you for so long that all leases of your clients here are over, and what they asked for here is
    forgotten. Their objects are as they were."""

    reason: str


NeighbourMessage = (
    Greet
    | FromClient
    | ToClient
    | ClientEnded
    | ReadRange
    | RangeFollows
    | RangeRefused
    | RangeElsewhere
    | ReadOver
    | Fenced
    | Received
    | Parted
)
