"""Raylet ⇄ raylet, over framed TCP sockets: the requests of one node's clients to another node, and objects on the move.

A client speaks to its own raylet only. What it asks of another node travels inside ``FromClient``, and what that node
has to say to it inside ``ToClient``; the bodies are messages of ``messages/raylet``. One connection carries them in
order. Bytes of objects have connections of their own, so that a large one delays no lease: ``ReadRange``, then the
bytes. The reader closes such a connection when it has them all: until then they may be on their way straight out of
the sender's memory.
"""

from __future__ import annotations

import msgspec

from raybook.base.specs import Endpoint


class Greet(msgspec.Struct, tag=1, array_like=True):
    """First message of the connecting raylet: which node it is."""

    node_id: bytes


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


NeighbourMessage = (
    Greet | FromClient | ToClient | ClientEnded | ReadRange | RangeFollows | RangeRefused | RangeElsewhere | ReadOver
)
