"""Transfer service: objects between this node's arena and those of others. Message → event → PullManager → effects.

Bytes move in threads, with blocking sockets, from one arena into the other without a copy in between; a connection serves
one object. What this node keeps for its readers lies in extents of the arena that it holds as a client of its own store,
under its node's id.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from raybook.base.specs import Location
from raybook.core.node import pull_manager as pm
from raybook.core.node.arena_allocator import Extent, LocalAllocator
from raybook.io.loop_transport import Connection
from raybook.io.shm_arena import Arena
from raybook.io.transport import connect
from raybook.protocol.frames import Codec
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm
from raybook.protocol.messages.neighbours import NeighbourMessage, RangeFollows, RangeRefused, ReadRange
from raybook.raylet.neighbours import Neighbours

logger = logging.getLogger(__name__)

THREADS = 4
IN_FLIGHT_SHARE = 0.25
"""Of the store: what may be on its way into it at once."""
TIMEOUT_S = 30.0
"""A socket that moves nothing for this long is given up."""
CHUNK_BYTES = 4 << 20
"""Read, and checked, at a time."""
GIVE_BACK_BYTES_MIN = 64 << 10
RETRY_S = 0.2


class TransferService:
    """to_store: hands the store a message from this node itself. send: to a client of this node."""

    def __init__(
        self,
        node_id: bytes,
        token: bytes,
        arena: Arena,
        capacity_bytes: int,
        spill_folder: str,
        neighbours: Neighbours,
        to_store: Callable[[Any], None],
        send: Callable[[bytes, Any], None],
    ) -> None:
        self._node_id = node_id
        self._token = token
        self._arena = arena
        self._spill_folder = spill_folder
        self._neighbours = neighbours
        self._to_store = to_store
        self._send = send
        self._machine = pm.PullManager(int(capacity_bytes * IN_FLIGHT_SHARE))
        self._room = LocalAllocator()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="transfer")
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, tuple[bytes, int]] = {}
        self._next_request = 1
        self._sending: dict[int, tuple[int, int]] = {}
        self._next_sending = 1
        self._reclaims: list[sm.ReclaimQuery] = []
        self._sockets: set[socket.socket] = set()
        self._closed = False
        neighbours.on_range = self._serve

    # --- readers of this node -----------------------------------------------------------------------------------------

    def fetch(self, client_id: bytes, message: rm.FetchObject) -> None:
        """A client wants an object of another node."""
        self._decide(pm.FetchWanted(client_id, message.request_id, message.object_id, message.location))

    def drop(self, client_id: bytes, message: rm.DropCopies) -> None:
        self._decide(pm.CopiesDropped(client_id, message.object_ids))

    def client_gone(self, client_id: bytes) -> None:
        self._decide(pm.ReaderGone(client_id))

    def statistics(self) -> dict[str, int]:
        return self._machine.statistics()

    def close(self) -> None:
        """Cut what is on its way."""
        self._closed = True
        for each in list(self._sockets):
            _shut(each)
        self._threads.shutdown(wait=False)

    def _decide(self, *events: Any) -> None:
        if not self._closed:
            self._execute(self._machine.handle(events))

    def _execute(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if isinstance(effect, pm.AllocateCopy):
                self._allocate(effect.object_id, effect.size)
            elif isinstance(effect, pm.StartTransfer):
                self._start(effect)
            elif isinstance(effect, pm.FreeCopy):
                self._room.free(effect.offset)
            else:
                assert isinstance(effect, pm.Fetched)
                self._send(effect.client, rm.ObjectFetched(effect.request_id, effect.offset, effect.reason))

    def _start(self, effect: pm.StartTransfer) -> None:
        if self._closed:
            return
        address = self._neighbours.gateway(effect.source.node_id)
        if not address:
            text = f"its node {effect.source.node_id.hex()} is not in the cluster any more"
            self._loop.call_soon(self._decide, pm.TransferEnded(effect.object_id, text))
            return
        done = self._loop.run_in_executor(self._threads, self._pull, effect, address)
        done.add_done_callback(lambda done: self._pulled(effect, done))

    def _pulled(self, effect: pm.StartTransfer, done: asyncio.Future[pm.TransferEnded | None]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            logger.error("A transfer failed.", exc_info=error)
            self._decide(pm.TransferEnded(effect.object_id, f"the transfer failed ({error})"))
        elif (ended := done.result()) is not None:
            self._decide(ended)
        else:
            # Out of reach. Either it comes back, or its death is known soon; then those who wait can be told the truth.
            self._loop.call_later(RETRY_S, self._start, effect)

    # --- room in the arena --------------------------------------------------------------------------------------------

    def _allocate(self, object_id: bytes, size: int) -> None:
        offset = self._room.allocate(size)
        if offset is not None:
            self._loop.call_soon(self._decide, pm.RoomGranted(object_id, offset))
            return
        number = self._next_request
        self._next_request += 1
        self._requests[number] = (object_id, size)
        self._loop.call_soon(self._to_store, sm.RequestExtent(number, size))

    def from_store(self, message: Any) -> None:
        """What the store says to this node as one of its clients. Later: it may be in the middle of a decision."""
        self._loop.call_soon(self._heard, message)

    def _heard(self, message: Any) -> None:
        if self._closed:
            return
        if isinstance(message, sm.ExtentGranted):
            self._room.add_extent(Extent(message.offset, message.size, message.warm_bytes))
            object_id, size = self._requests.pop(message.request_id)
            self._decide(pm.RoomGranted(object_id, self._room.allocate(size) or 0))
        elif isinstance(message, sm.ExtentRefused):
            object_id, _ = self._requests.pop(message.request_id)
            self._decide(pm.RoomGranted(object_id, -1, message.text))
        elif isinstance(message, sm.RecallIdle):
            self._give_room(message.bytes_wanted)
            self._to_store(sm.RecallAnswered(message.query_id))
        elif isinstance(message, sm.SpillWanted):
            # Copies need no file: the original is on another node.
            self._give_room(message.bytes_wanted)
            self._to_store(sm.SpillObjects(message.query_id, []))
        elif isinstance(message, sm.ReclaimQuery):
            self._reclaims.append(message)
            self._answer_reclaims()

    def _give_room(self, bytes_wanted: int) -> None:
        self._decide(pm.RoomWanted(bytes_wanted))
        for extent in self._room.give_up_idle(1 << 62, GIVE_BACK_BYTES_MIN):
            self._to_store(sm.ReturnExtent(extent.offset, extent.size, extent.warm_bytes))

    def _answer_reclaims(self) -> None:
        """The holder of some ranges died: they may be used again when none of them is being sent."""
        waiting = []
        for query in self._reclaims:
            if any(_overlap(sent, ranges) for sent in self._sending.values() for ranges in query.ranges):
                waiting.append(query)
            else:
                self._to_store(sm.ReclaimAck(query.query_id))
        self._reclaims = waiting

    # --- in: in a thread ----------------------------------------------------------------------------------------------

    def _pull(self, effect: pm.StartTransfer, address: str) -> pm.TransferEnded | None:
        """None: its node is out of reach."""
        source = effect.source
        try:
            framed = connect(address, self._token, NeighbourMessage, TIMEOUT_S, self._neighbours.security)
        except (OSError, ConnectionError) as error:
            logger.info("Node %s cannot be reached: %s", source.node_id.hex(), error)
            return None
        sock = framed.sock
        self._sockets.add(sock)
        try:
            sock.settimeout(TIMEOUT_S)
            wanted = ReadRange(effect.object_id, source.offset, source.size, source.spill_path, source.checksum)
            sock.sendall(Codec(NeighbourMessage).encode(wanted))
            answer = _read_frame(sock)
            if isinstance(answer, RangeRefused):
                return pm.TransferEnded(effect.object_id, answer.reason)
            checksum = self._receive(sock, effect.offset, source)
            if source.spill_path and checksum != source.checksum:
                return pm.TransferEnded(effect.object_id, f"its file {source.spill_path} is damaged")
            return pm.TransferEnded(effect.object_id)
        except (OSError, ConnectionError) as error:
            logger.info("The transfer from node %s broke off: %s", source.node_id.hex(), error)
            return None
        finally:
            self._sockets.discard(sock)
            framed.close()

    def _receive(self, sock: socket.socket, offset: int, source: Location) -> int:
        """Straight into the arena; the CRC-32 of what came from a file."""
        target = self._arena.writable(offset, source.size)
        position, checksum = 0, 0
        while position < source.size:
            count = sock.recv_into(target[position : position + CHUNK_BYTES])
            if not count:
                raise ConnectionError("the other side closed the connection")
            if source.spill_path:
                checksum = zlib.crc32(target[position : position + count], checksum)
            position += count
        return checksum

    # --- out: in a thread ---------------------------------------------------------------------------------------------

    def _serve(self, connection: Connection, message: ReadRange) -> None:
        sock = connection.detach()
        number = self._next_sending
        self._next_sending += 1
        if not message.spill_path:
            self._sending[number] = (message.offset, message.size)
        done = self._loop.run_in_executor(self._threads, self._send_range, sock, message)
        done.add_done_callback(lambda _: self._sent(number))

    def _sent(self, number: int) -> None:
        self._sending.pop(number, None)
        if self._reclaims and not self._closed:
            self._answer_reclaims()

    def _send_range(self, sock: socket.socket, message: ReadRange) -> None:
        self._sockets.add(sock)
        encode = Codec(NeighbourMessage).encode
        try:
            sock.settimeout(TIMEOUT_S)
            if not message.spill_path:
                view = self._arena.view(message.offset, message.size)
                sock.sendall(encode(RangeFollows(message.size)))
                sock.sendall(view)
            elif os.path.dirname(message.spill_path) != self._spill_folder:
                sock.sendall(encode(RangeRefused(f"{message.spill_path} is no file of this node's objects")))
            else:
                with open(message.spill_path, "rb") as file:
                    sock.sendall(encode(RangeFollows(message.size)))
                    sock.sendfile(file, message.offset, message.size)
        except FileNotFoundError as error:
            _try_send(sock, encode(RangeRefused(f"its file is gone ({error})")))
        except ValueError as error:
            _try_send(sock, encode(RangeRefused(str(error))))
        except OSError as error:
            logger.warning("Sending object %s broke off: %s", message.object_id.hex(), error)
        finally:
            self._sockets.discard(sock)
            sock.close()


def _read_frame(sock: socket.socket) -> Any:
    """One message, and not a byte more: what follows goes elsewhere."""
    (length,) = struct.unpack("<I", _read_exactly(sock, 4))
    if length > CHUNK_BYTES:
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


def _try_send(sock: socket.socket, frame: bytes | bytearray) -> None:
    try:
        sock.sendall(frame)
    except OSError as error:
        logger.info("A reader did not wait for the refusal: %s", error)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _overlap(left: tuple[int, int], right: tuple[int, int]) -> bool:
    return left[0] < right[0] + right[1] and right[0] < left[0] + left[1]
