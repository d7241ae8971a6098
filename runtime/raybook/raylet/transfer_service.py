"""Transfer service: objects of other nodes for the clients of this one. Message → event → PullManager → effects.

Bytes move in threads, with blocking sockets, from one arena into the other (``range_reader``, ``range_senders``); a
connection serves one object. What this node keeps for its readers lies in extents of the arena that it holds as a
client of its own store, under its node's id (``copy_room``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raybook.core.node import pull_events as pe
from raybook.core.node.pull_manager import PullManager
from raybook.core.node.push_manager import RELAY_BYTES_MIN
from raybook.io.loop_transport import Connection
from raybook.io.range_stream import Inflow
from raybook.io.shm_arena import Arena
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm
from raybook.protocol.messages.neighbours import ReadOver, ReadRange
from raybook.raylet.copy_room import CopyRoom
from raybook.raylet.neighbours import Neighbours
from raybook.raylet.range_reader import RangeReader, Refused, Unreachable
from raybook.raylet.range_relay import RangeRelay
from raybook.raylet.range_senders import RangeSenders

logger = logging.getLogger(__name__)

THREADS = 8
"""Bytes bound what is on its way; threads, only how many nodes that do not answer hold up the others."""
IN_FLIGHT_SHARE = 0.25
"""Of the store: what may be on its way into it at once."""
RETRY_S = 0.2
GIVE_UP_S = 600.0
"""A node that lives, and cannot be read from for so long (Ray: ``fetch_fail_timeout_milliseconds``)."""
TIMED_OUT = "ObjectFetchTimedOutError"
NODE_DIED = "NodeDiedError"
"""What a client is told then, which may be younger than that death."""


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
        self._neighbours = neighbours
        self._send = send
        self._machine = PullManager(int(capacity_bytes * IN_FLIGHT_SHARE))
        self._room = CopyRoom(self._decide, to_store)
        self._reader = RangeReader(node_id, token, arena, neighbours)
        self._senders = RangeSenders(node_id, arena, spill_folder, self._decide, to_store)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")
        self._loop = asyncio.get_running_loop()
        self._inflows: dict[bytes, Inflow] = {}
        """Of each object on its way here, how much has come."""
        self._stuck: dict[bytes, tuple[int, float]] = {}
        """Of those that do not get on: how much had come, and since when that is so."""
        self._takes: dict[int, tuple[bytes, int]] = {}
        """Requests, below 0, of owners that take an object here: (object, size)."""
        self._next_take = 0
        self._closed = False
        self._relay = RangeRelay(token, neighbours)
        neighbours.on_range = self._serve
        self.read_over = self._senders.read_over
        self._carry_out: dict[type, Callable[[Any], None]] = {
            pe.AllocateCopy: lambda effect: self._room.allocate(effect.object_id, effect.size),
            pe.StartTransfer: self._begin,
            pe.FreeCopy: lambda effect: self._room.free(effect.offset),
            pe.Fetched: self._fetched,
            pe.FetchDelayed: self._delayed,
            pe.RecallCopies: lambda effect: self._send(effect.client, rm.RecallCopies(effect.recall_id)),
            pe.RoomAnswered: lambda effect: self._room.answered(effect.recall_id),
            pe.Lend: self._lend,
            pe.RefuseLending: lambda effect: self._senders.lend(effect, None),
        }

    # --- readers of this node -----------------------------------------------------------------------------------------

    def fetch(self, client_id: bytes, message: rm.FetchObject) -> None:
        """A client wants an object of another node."""
        self._decide(pe.FetchWanted(client_id, message.request_id, message.object_id, message.location))

    def take(self, client_id: bytes, message: rm.TakeObject) -> None:
        """A client's own object is to lie here from now on, as if its task had run here."""
        self._next_take -= 1
        self._takes[self._next_take] = (message.object_id, message.location.size)
        self._decide(pe.FetchWanted(client_id, self._next_take, message.object_id, message.location))

    def _fetched(self, effect: pe.Fetched) -> None:
        if effect.request_id < 0:
            self._taken(effect)
            return
        self._send(effect.client, rm.ObjectFetched(effect.request_id, effect.offset, effect.reason, effect.code))

    def _delayed(self, effect: pe.FetchDelayed) -> None:
        if effect.request_id >= 0:
            self._send(effect.client, rm.FetchDelayed(effect.request_id, effect.reason))

    def _taken(self, effect: pe.Fetched) -> None:
        object_id, size = self._takes.pop(effect.request_id)
        if effect.offset >= 0:
            self._decide(pe.CopyTaken(object_id))
            self._loop.call_soon(self._room.hand_over, sm.Sealed(object_id, effect.client, effect.offset, size))
        self._send(effect.client, rm.ObjectTaken(object_id, effect.offset, effect.reason))

    def drop(self, client_id: bytes, message: rm.DropCopies) -> None:
        self._decide(pe.CopiesDropped(client_id, message.object_ids))

    def recalled(self, client_id: bytes, message: rm.CopiesRecalled) -> None:
        self._decide(pe.CopiesRecalled(client_id, message.recall_id))

    def client_gone(self, client_id: bytes) -> None:
        self._decide(pe.ReaderGone(client_id))

    def _serve(self, connection: Connection, message: ReadRange) -> None:
        if message.origin:
            self._relay.serve(connection, message)
        else:
            self._senders.serve(connection, message)

    def node_died(self, node_id: bytes) -> None:
        """Nothing comes from it, and nothing goes there."""
        self._senders.node_died(node_id)

    def from_store(self, message: Any) -> None:
        """What the store says to this node as one of its clients. Later: it may be in the middle of a decision."""
        self._loop.call_soon(self._heard, message)

    def _heard(self, message: Any) -> None:
        if self._closed:
            return
        if isinstance(message, sm.ReclaimQuery):
            self._senders.reclaim_asked(message)
        else:
            self._room.heard(message)

    def story(self, object_id: bytes) -> str:
        """What becomes of an object's copy on this node, for people."""
        return self._machine.story(object_id)

    def statistics(self) -> dict[str, int]:
        return {**self._machine.statistics(), **self._senders.statistics()}

    def close(self) -> None:
        """Cut what is on its way."""
        self._closed = True
        for inflow in self._inflows.values():
            inflow.fail()
        self._reader.close()
        self._senders.close()
        self._relay.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _decide(self, *events: Any) -> None:
        if not self._closed:
            self._execute(self._machine.handle(events))

    def _execute(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            self._carry_out[type(effect)](effect)

    # --- transfers ----------------------------------------------------------------------------------------------------

    def _begin(self, effect: pe.StartTransfer) -> None:
        size = effect.source.size
        self._inflows[effect.object_id] = Inflow(size, is_warm=self._room.begin_write(effect.offset, size))
        self._go_on(effect)

    def _go_on(self, effect: pe.StartTransfer) -> None:
        if self._closed:
            return
        node_id = effect.source.node_id
        if not self._neighbours.gateway(node_id):
            if self._neighbours.is_dead(node_id):
                text = f"its node {node_id.hex()} is not in the cluster any more"
                self._loop.call_soon(self._end, effect, text, NODE_DIED)
            else:
                # One of the two has just joined, and the GCS is about to say so.
                self._try_again(effect, f"node {node_id.hex()} is not known here yet")
            return
        inflow = self._inflows[effect.object_id]
        done = self._loop.run_in_executor(
            self._threads, self._reader.read, effect.object_id, effect.source, effect.offset, inflow
        )
        done.add_done_callback(lambda done: self._pulled(effect, done))

    def _pulled(self, effect: pe.StartTransfer, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or self._closed:
            return
        error = done.exception()
        if error is None:
            self._end(effect, "")
        elif isinstance(error, Unreachable):
            self._try_again(effect, f"node {effect.source.node_id.hex()} cannot be read from ({error})")
        elif isinstance(error, Refused):
            self._end(effect, str(error))
        else:
            logger.error("A transfer failed.", exc_info=error)
            self._end(effect, f"the transfer failed ({error})")

    def _try_again(self, effect: pe.StartTransfer, why: str) -> None:
        """Either it comes back, or its death is known soon; then those who wait can be told the truth."""
        inflow, now_s = self._inflows[effect.object_id], self._loop.time()
        position, since_s = self._stuck.get(effect.object_id, (-1, now_s))
        if inflow.position != position:
            since_s = now_s
            logger.info("Object %s: %s; it is tried again.", effect.object_id.hex(), why)
        if now_s - since_s > GIVE_UP_S:
            self._end(effect, f"{why}, for {GIVE_UP_S:g} s", TIMED_OUT)
            return
        self._stuck[effect.object_id] = (inflow.position, since_s)
        self._decide(pe.TransferDelayed(effect.object_id, f"{why}; it is tried again every {RETRY_S:g} s"))
        self._loop.call_later(RETRY_S, self._go_on, effect)

    def _end(self, effect: pe.StartTransfer, reason: str, code: str = "") -> None:
        if self._closed:
            return
        inflow = self._inflows.pop(effect.object_id)
        self._stuck.pop(effect.object_id, None)
        if reason:
            inflow.fail()
        if inflow.size >= RELAY_BYTES_MIN:
            self._neighbours.send(effect.source.node_id, ReadOver(effect.object_id, not reason))
        self._decide(pe.TransferEnded(effect.object_id, reason, code))

    def _lend(self, effect: pe.Lend) -> None:
        self._senders.lend(effect, self._inflows.get(effect.object_id) if effect.is_moving else None)
