"""Range reader: fetches one object from the node where it lies, or from one that this node names. Runs in threads.

The node where an object lies is asked first, and again whenever a named one fails; what has come by then is kept, and the
rest comes from the next. Decides nothing but to go on: who is named, ``core/node/push_manager`` of the other node decides.
"""

from __future__ import annotations

import logging
import socket
import struct
import zlib
from typing import Any

import msgspec

from raybook.base.specs import Location
from raybook.io import range_stream
from raybook.io.keepalive import expect_answers
from raybook.io.range_stream import Inflow
from raybook.io.shm_arena import Arena
from raybook.io.transport import connect
from raybook.protocol.frames import Codec
from raybook.protocol.messages.neighbours import (
    NeighbourMessage,
    RangeElsewhere,
    RangeFollows,
    RangeRefused,
    ReadRange,
)
from raybook.raylet.neighbours import Neighbours

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""A socket that moves nothing for this long is given up."""
CONNECT_S = 5.0
ANSWER_BYTES_MAX = 64 << 10
NAMED_MAX = 8
"""So many named nodes may fail; then the object comes from where it lies."""


class Unreachable(Exception):
    """The node where an object lies cannot be reached, or broke off. It may come back."""


class Refused(Exception):
    """The node where an object lies does not have it; the text says why."""


class RangeReader:
    """node_id: of this node. neighbours: who knows where a node listens, and through which others it can be read."""

    def __init__(self, node_id: bytes, token: bytes, arena: Arena, neighbours: Neighbours) -> None:
        self._node_id = node_id
        self._token = token
        self._arena = arena
        self._neighbours = neighbours
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self._encode = Codec(NeighbourMessage).encode

    def close(self) -> None:
        """Cut what is on its way. From any thread."""
        self._closed = True
        for each in list(self._sockets):
            range_stream.shut(each)

    def read(self, object_id: bytes, source: Location, offset: int, inflow: Inflow) -> bytes:
        """All bytes that have not come yet, into the arena at ``offset``; the node that the last ones came from. Raises
        Refused or Unreachable. Blocks as long as bytes come."""
        avoid: list[bytes] = []
        named = b""
        ways = iter(self._neighbours.ways(source.node_id))
        way = next(ways, b"")
        while True:
            if self._closed:
                raise Unreachable("this node ends")
            try:
                elsewhere = self._read_from(
                    named or source.node_id, object_id, source, offset, inflow, avoid, bool(named), way
                )
            except OSError as error:
                if not named:
                    other_way = next(ways, None)
                    if other_way is None:
                        raise Unreachable(str(error)) from error
                    way = other_way
                    text = "Node %s cannot be read from: %s. Its object %s is asked for by way of node %s."
                    logger.info(text, source.node_id.hex(), error, object_id.hex(), way.hex())
                    continue
                logger.info("Object %s does not come from node %s: %s", object_id.hex(), named.hex(), error)
                avoid.append(named)
                named = b""
                continue
            if not elsewhere:
                break
            named = elsewhere
        if source.spill_path and zlib.crc32(self._arena.view(offset, source.size)) != source.checksum:
            raise Refused(f"its file {source.spill_path} is damaged")
        return named or source.node_id

    def _read_from(
        self,
        node_id: bytes,
        object_id: bytes,
        source: Location,
        offset: int,
        inflow: Inflow,
        avoid: list[bytes],
        is_copy: bool,
        way: bytes,
    ) -> bytes:
        """b"" when everything has come; else the node to ask instead. Refused: by the node where it lies. way: the node
        that hands it through; b"": none."""
        through = way if way and not is_copy else b""
        address = self._neighbours.gateway(through or node_id)
        if not address:
            raise ConnectionError(f"node {(through or node_id).hex()} is not in the cluster any more")
        sock = connect(address, self._token, NeighbourMessage, CONNECT_S, self._neighbours.security).sock
        self._sockets.add(sock)
        try:
            range_stream.set_timeouts(sock, TIMEOUT_S)
            expect_answers(sock, self._neighbours.health_timeout_ms)
            # Who has seen many named nodes fail is not named another one.
            reader = self._node_id if len(avoid) < NAMED_MAX and not through else b""
            wanted = ReadRange(
                object_id, source.offset, source.size, source.spill_path, source.checksum, inflow.position, reader,
                avoid, is_copy, node_id if through else b"",
            )  # fmt: skip
            sock.sendall(self._encode(wanted))
            answer = _read_frame(sock)
            if isinstance(answer, RangeElsewhere) and reader and not is_copy:
                return answer.node_id
            if isinstance(answer, RangeRefused):
                if is_copy:
                    raise ConnectionError(answer.reason)
                raise Refused(answer.reason)
            if not isinstance(answer, RangeFollows) or answer.size != source.size - inflow.position:
                raise ConnectionError(f"the answer makes no sense: {answer}")
            range_stream.receive(sock, self._arena, offset, inflow)
            return b""
        finally:
            self._sockets.discard(sock)
            sock.close()


def _read_frame(sock: socket.socket) -> Any:
    """One message, and not a byte more: what follows goes elsewhere."""
    (length,) = struct.unpack("<I", _read_exactly(sock, 4))
    if length > ANSWER_BYTES_MAX:
        raise ConnectionError(f"an answer of {length} bytes makes no sense")
    try:
        return msgspec.msgpack.decode(_read_exactly(sock, length), type=NeighbourMessage)
    except msgspec.MsgspecError as error:
        raise ConnectionError(f"the answer is no message: {error}") from error


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionError("the other side closed the connection")
        data += part
    return data
