"""Range relay: hands bytes of an object through, from the node where it lies to a reader that cannot reach that node.

One hop: what is passed on names no node in between. A thread for each object, with two blocking sockets; what one node has
said the other hears byte by byte, so nothing is kept here and nothing is understood. Decides nothing: whom to ask is the
reader's choice.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import msgspec

from raybook.io.keepalive import expect_answers
from raybook.io.loop_transport import Connection
from raybook.io.transport import connect
from raybook.protocol.frames import Codec
from raybook.protocol.messages.neighbours import NeighbourMessage, ReadRange
from raybook.raylet.neighbours import Neighbours

logger = logging.getLogger(__name__)

THREADS = 4
"""More wait: a node that serves others in between should not do only that."""
PIECE_BYTES = 1 << 18
LOOK_S = 1.0
"""How long a thread that waits for either side does not look whether it is to end."""


class RangeRelay:
    """neighbours: who knows where a node listens, and whether the cluster uses TLS."""

    def __init__(self, token: bytes, neighbours: Neighbours) -> None:
        self._token = token
        self._neighbours = neighbours
        self._health_timeout_ms = neighbours.health_timeout_ms
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="relay")
        self._encode = Codec(NeighbourMessage).encode
        self._is_ended = False

    def close(self) -> None:
        """Cut what is being handed through."""
        self._is_ended = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def serve(self, connection: Connection, message: ReadRange) -> None:
        """A reader wants bytes of ``message.origin``; the connection is ours from now on."""
        sock = connection.detach()
        if self._is_ended:
            sock.close()
            return
        done = asyncio.get_running_loop().run_in_executor(self._threads, self._hand_through, sock, message)
        done.add_done_callback(_log_failure)

    def _hand_through(self, reader: socket.socket, message: ReadRange) -> None:
        """In a thread."""
        with reader:
            try:
                reader.setblocking(True)
                expect_answers(reader, self._health_timeout_ms)
                origin = self._reach(message.origin)
            except (OSError, ValueError) as error:
                # Without a word: a refusal would be final, and another way may be open.
                logger.info("Object %s cannot be handed through: %s", message.object_id.hex(), error)
                return
            with origin:
                try:
                    origin.sendall(self._encode(msgspec.structs.replace(message, origin=b"")))
                    self._copy(origin, reader)
                except OSError as error:
                    logger.info("Handing object %s through broke off: %s", message.object_id.hex(), error)

    def _reach(self, node_id: bytes) -> socket.socket:
        address = self._neighbours.gateway(node_id)
        if not address:
            raise ConnectionError("it is not in the cluster any more")
        timeout_s = self._health_timeout_ms / 1000
        sock = connect(address, self._token, NeighbourMessage, timeout_s, self._neighbours.security).sock
        sock.setblocking(True)
        expect_answers(sock, self._health_timeout_ms)
        return sock

    def _copy(self, origin: socket.socket, reader: socket.socket) -> None:
        """Until either side closes: the reader does when it has everything."""
        piece = memoryview(bytearray(PIECE_BYTES))
        poll = select.poll()
        poll.register(origin, select.POLLIN)
        poll.register(reader, select.POLLIN | select.POLLRDHUP)
        while not self._is_ended:
            ready = dict(poll.poll(LOOK_S * 1000))
            if reader.fileno() in ready:
                return
            if origin.fileno() in ready and not self._copy_what_came(origin, reader, piece):
                return

    @staticmethod
    def _copy_what_came(origin: socket.socket, reader: socket.socket, piece: memoryview) -> bool:
        """False when that was all."""
        while True:
            try:
                count = origin.recv_into(piece)
            except BlockingIOError:
                return True  # TLS had something to say to TLS.
            if not count:
                return False
            reader.sendall(piece[:count])
            if not (isinstance(origin, ssl.SSLSocket) and origin.pending()):
                return True


def _log_failure(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and done.exception() is not None:
        logger.error("Handing an object through failed.", exc_info=done.exception())
