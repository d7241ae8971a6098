"""Range senders: what other nodes read from this one's arena and files. Message → event → PushManager → effects.

Each send has a thread, with a blocking socket. A thread that sends a copy while it comes waits for it; the pull manager
bounds how many do, so that there are always threads for those that need not wait. A send is over when the reader has closed:
until then its bytes may be on their way straight out of the arena, and their place may not be used for anything else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raybook.core.node import pull_events as pe
from raybook.core.node import push_manager as push
from raybook.core.node.pull_manager import RELAYS_MAX
from raybook.io import range_stream
from raybook.io.loop_transport import Connection
from raybook.io.range_stream import Inflow
from raybook.io.shm_arena import Arena
from raybook.protocol.frames import Codec
from raybook.protocol.messages import store as sm
from raybook.protocol.messages.neighbours import (
    NeighbourMessage,
    RangeElsewhere,
    RangeFollows,
    RangeRefused,
    ReadOver,
    ReadRange,
)
from raybook.raylet.range_reader import TIMEOUT_S

logger = logging.getLogger(__name__)

THREADS = 2 * RELAYS_MAX


class RangeSenders:
    """decide: tells the pull manager (who lends its copies). to_store: hands the store a message of this node."""

    def __init__(
        self,
        node_id: bytes,
        arena: Arena,
        spill_folder: str,
        decide: Callable[[Any], None],
        to_store: Callable[[Any], None],
    ) -> None:
        self._arena = arena
        self._spill_folder = spill_folder
        self._decide_copies = decide
        self._to_store = to_store
        self._machine = push.PushManager(node_id)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="send")
        self._loop = asyncio.get_running_loop()
        self._encode = Codec(NeighbourMessage).encode
        self._reads: dict[int, tuple[socket.socket, ReadRange]] = {}
        self._next_read = 1
        self._reclaims: list[sm.ReclaimQuery] = []
        self._sent_bytes = 0
        self._relayed_bytes = 0
        self._closed = False

    def close(self) -> None:
        """Cut what is being sent."""
        self._closed = True
        for sock, _ in self._reads.values():
            range_stream.shut(sock)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def statistics(self) -> dict[str, int]:
        """Of this node's own objects, and of copies that were passed on. Bytes: of those that arrived whole."""
        return {
            **self._machine.statistics(),
            "sent_bytes": self._sent_bytes,
            "relayed_bytes": self._relayed_bytes,
        }

    # --- what others say ----------------------------------------------------------------------------------------------

    def serve(self, connection: Connection, message: ReadRange) -> None:
        """Another node wants bytes; the connection is ours from now on."""
        sock = connection.detach()
        if self._closed:
            sock.close()
            return
        number = self._next_read
        self._next_read += 1
        self._reads[number] = (sock, message)
        if message.is_copy:
            self._decide_copies(pe.CopyWanted(number, message.object_id, message.size))
        else:
            self._decide(push.ReadWanted(number, message.object_id, message.size, message.reader, message.avoid))

    def read_over(self, node_id: bytes, message: ReadOver) -> None:
        """A node that was named another one has what it wanted, or has given up."""
        self._decide(push.ReadOver(node_id, message.object_id, message.is_whole))

    def node_died(self, node_id: bytes) -> None:
        """Nothing is sent to it any more."""
        self._decide(push.NodeGone(node_id))
        for sock, message in self._reads.values():
            if message.reader == node_id:
                range_stream.shut(sock)

    def lend(self, effect: pe.Lend | pe.RefuseLending, inflow: Inflow | None) -> None:
        """The pull manager's answer to CopyWanted. inflow: of a copy that is still coming."""
        if isinstance(effect, pe.RefuseLending):
            self._answer(effect.lending_id, RangeRefused(effect.reason))
        else:
            self._start(effect.lending_id, effect.offset, inflow)

    def reclaim_asked(self, query: sm.ReclaimQuery) -> None:
        """The holder of some ranges died: they may be used again when none of them is being sent."""
        self._reclaims.append(query)
        self._answer_reclaims()

    def _answer_reclaims(self) -> None:
        sent = [(read.offset, read.size) for _, read in self._reads.values() if not (read.spill_path or read.is_copy)]
        waiting = []
        for query in self._reclaims:
            if any(_overlap(one, ranges) for one in sent for ranges in query.ranges):
                waiting.append(query)
            else:
                self._to_store(sm.ReclaimAck(query.query_id))
        self._reclaims = waiting

    # --- sending ------------------------------------------------------------------------------------------------------

    def _decide(self, event: Any) -> None:
        if self._closed:
            return
        for effect in self._machine.handle([event]):
            if isinstance(effect, push.Elsewhere):
                self._answer(effect.read_id, RangeElsewhere(effect.node_id))
            else:
                assert isinstance(effect, push.Send)
                self._start(effect.read_id, self._reads[effect.read_id][1].offset, None)

    def _answer(self, number: int, answer: Any) -> None:
        """Instead of bytes. It fits into the empty buffer of a fresh connection."""
        sock, _ = self._reads.pop(number)
        with sock:
            try:
                sock.send(self._encode(answer))
            except OSError as error:
                logger.info("A reader did not wait for its answer: %s", error)

    def _start(self, number: int, offset: int, inflow: Inflow | None) -> None:
        if self._closed:
            return
        sock, message = self._reads[number]
        done = self._loop.run_in_executor(self._threads, self._send, sock, message, offset, inflow)
        done.add_done_callback(lambda done: self._sent(number, done))

    def _sent(self, number: int, done: asyncio.Future[bool]) -> None:
        sock, message = self._reads.pop(number)
        sock.close()
        if self._closed or done.cancelled():
            return
        error = done.exception()
        if error is not None:
            logger.error("Sending object %s failed.", message.object_id.hex(), exc_info=error)
        is_whole = error is None and done.result()
        sent_bytes = message.size - message.begin if is_whole else 0
        if message.is_copy:
            self._relayed_bytes += sent_bytes
            self._decide_copies(pe.LendingEnded(number))
        else:
            self._sent_bytes += sent_bytes
            self._decide(push.SendEnded(number, is_whole))
        if self._reclaims:
            self._answer_reclaims()

    def _send(self, sock: socket.socket, message: ReadRange, offset: int, inflow: Inflow | None) -> bool:
        """In a thread. Whether the reader has all bytes."""
        begin, left = message.begin, message.size - message.begin
        try:
            range_stream.set_timeouts(sock, TIMEOUT_S)
            if begin < 0 or left < 0:
                raise ValueError(f"There are no bytes from {begin} on in an object of {message.size} bytes.")
            if message.spill_path and not message.is_copy:
                if os.path.dirname(message.spill_path) != self._spill_folder:
                    raise ValueError(f"{message.spill_path} is no file of this node's objects")
                with open(message.spill_path, "rb") as file:
                    if offset < 0 or offset + message.size > os.fstat(file.fileno()).st_size:
                        raise ValueError(f"its file {message.spill_path} was cut")
                    sock.sendall(self._encode(RangeFollows(left)))
                    range_stream.send(sock, file.fileno(), offset + begin, left)
            else:
                self._arena.view(offset, message.size)  # ValueError if there is no such range.
                sock.sendall(self._encode(RangeFollows(left)))
                if inflow is not None:
                    range_stream.send_inflow(sock, self._arena.fd, offset, begin, inflow)
                else:
                    range_stream.send(sock, self._arena.fd, offset + begin, left)
            return range_stream.wait_for_close(sock)
        except (ValueError, FileNotFoundError) as error:
            text = f"its file is gone ({error})" if isinstance(error, FileNotFoundError) else str(error)
            try:
                sock.sendall(self._encode(RangeRefused(text)))
            except OSError as broken:
                logger.info("A reader did not wait for the refusal: %s", broken)
        except OSError as error:
            logger.info("Sending object %s broke off: %s", message.object_id.hex(), error)
        return False


def _overlap(left: tuple[int, int], right: tuple[int, int]) -> bool:
    return left[0] < right[0] + right[1] and right[0] < left[0] + left[1]
