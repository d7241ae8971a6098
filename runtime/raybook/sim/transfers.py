"""Transfers: objects on their way from one simulated arena into another.

As ``raylet/transfer_service``, around the shipped pull manager: room is taken from this node's own store, whose client the
node is under its own id; a source that cannot be reached is tried again until it is known to be dead. The bytes are what
lies there at the end of the transfer, and the source keeps its ranges until then. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.core.node import pull_events as pe
from raybook.core.node.arena_allocator import Extent, LocalAllocator
from raybook.core.node.pull_manager import PullManager
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm
from raybook.sim.arena import Region

if TYPE_CHECKING:
    from raybook.sim.abroad import Abroad
    from raybook.sim.node import Node

IN_FLIGHT_SHARE = 0.25
GIVE_BACK_BYTES_MIN = 64 << 10
RETRY_US = 200_000
"""As in ``raylet/transfer_service``."""
BYTES_A_US = 1_000
"""A gigabyte a second."""
GARBAGE = b"garbage"
NODE_DIED = "NodeDiedError"


class Transfers:
    """One per node."""

    def __init__(self, node: Node, abroad: Abroad) -> None:
        self.machine = PullManager(int(node.store_bytes * IN_FLIGHT_SHARE))
        self._node = node
        self._abroad = abroad
        self._timeline = node.world.timeline
        self._room = LocalAllocator()
        self._requests: dict[int, tuple[bytes, int]] = {}
        self._next_request = 1
        self._sending: dict[int, tuple[int, int]] = {}
        self._next_sending = 1
        self._reclaims: list[sm.ReclaimQuery] = []
        self._recalls: dict[int, Any] = {}
        self._next_recall = 1
        self._takes: dict[int, tuple[bytes, int]] = {}
        self._next_take = 0

    # Readers

    def heard(
        self, client_id: bytes, message: rm.FetchObject | rm.TakeObject | rm.DropCopies | rm.CopiesRecalled
    ) -> None:
        """A client of this node wants a copy, or some no longer; or an object of its own is to lie here."""
        if isinstance(message, rm.TakeObject):
            self._next_take -= 1
            self._takes[self._next_take] = (message.object_id, message.location.size)
            self._decide(pe.FetchWanted(client_id, self._next_take, message.object_id, message.location))
        elif isinstance(message, rm.FetchObject):
            self._decide(pe.FetchWanted(client_id, message.request_id, message.object_id, message.location))
        elif isinstance(message, rm.DropCopies):
            self._decide(pe.CopiesDropped(client_id, message.object_ids))
        else:
            self._decide(pe.CopiesRecalled(client_id, message.recall_id))

    def client_gone(self, client_id: bytes) -> None:
        """It is dead."""
        self._decide(pe.ReaderGone(client_id))

    def give_up_all(self) -> None:
        """Make room as if all of it were needed."""
        self._give_room(1 << 62, None)

    def region_count(self) -> int:
        """How many copies lie here, or are about to."""
        return self._room.statistics().region_count

    def _decide(self, *events: Any) -> None:
        if not self._node.is_alive:
            return
        for effect in self.machine.handle(events):
            if isinstance(effect, pe.AllocateCopy):
                self._allocate(effect.object_id, effect.size)
            elif isinstance(effect, pe.StartTransfer):
                self._start(effect)
            elif isinstance(effect, pe.FreeCopy):
                self._node.world.check.memory.copy_freed(self._node, effect.offset)
                self._room.free(effect.offset)
            elif isinstance(effect, pe.FetchDelayed):
                if effect.request_id < 0:
                    continue
                self._node.send(effect.client, rm.FetchDelayed(effect.request_id, effect.reason))
            elif isinstance(effect, pe.RecallCopies):
                self._node.send(effect.client, rm.RecallCopies(effect.recall_id))
            elif isinstance(effect, pe.RoomAnswered):
                self._timeline.after(0, self._room_answered, effect.recall_id)
            else:
                assert isinstance(effect, pe.Fetched), f"nobody carries out a {type(effect).__name__}"
                if effect.request_id < 0:
                    self._taken(effect)
                    continue
                fetched = rm.ObjectFetched(effect.request_id, effect.offset, effect.reason, effect.code)
                self._node.send(effect.client, fetched)
        self.machine.check_invariants()

    def _taken(self, effect: pe.Fetched) -> None:
        object_id, size = self._takes.pop(effect.request_id)
        if effect.offset >= 0:
            self._timeline.after(0, self._decide, pe.CopyTaken(object_id))
            sealed = sm.Sealed(object_id, effect.client, effect.offset, size)
            self._timeline.after(0, self._to_store, sealed)
            self._node.world.ledger.count("object moved")
        self._node.send(effect.client, rm.ObjectTaken(object_id, effect.offset, effect.reason))

    # Room

    def _allocate(self, object_id: bytes, size: int) -> None:
        offset = self._room.allocate(size)
        if offset is not None:
            self._timeline.after(0, self._decide, pe.RoomGranted(object_id, offset))
            return
        number = self._next_request
        self._next_request += 1
        self._requests[number] = (object_id, size)
        self._timeline.after(0, self._to_store, sm.RequestExtent(number, size))

    def _to_store(self, message: Any) -> None:
        if self._node.is_alive:
            self._node.store.received(self._node.node_id, message)

    def from_store(self, message: Any) -> None:
        """What the store says to this node as one of its clients."""
        self._timeline.after(0, self._heard_store, message)

    def _heard_store(self, message: Any) -> None:
        if not self._node.is_alive:
            return
        if isinstance(message, sm.ExtentGranted):
            self._room.add_extent(Extent(message.offset, message.size, message.warm_bytes))
            self._allocate(*self._requests.pop(message.request_id))
        elif isinstance(message, sm.ExtentRefused):
            object_id, _ = self._requests.pop(message.request_id)
            self._decide(pe.RoomGranted(object_id, -1, message.text))
        elif isinstance(message, sm.RegionsFreed):
            for offset in message.offsets:
                self._node.world.check.memory.copy_freed(self._node, offset)
                self._room.free(offset)
        elif isinstance(message, sm.RecallIdle):
            self._give_room(message.bytes_wanted, sm.RecallAnswered(message.query_id))
        elif isinstance(message, sm.SpillWanted):
            self._give_room(message.bytes_wanted, sm.SpillObjects(message.query_id, []))
        elif isinstance(message, sm.ReclaimQuery):
            self._reclaims.append(message)
            self._answer_reclaims()

    def _give_room(self, bytes_wanted: int, answer: Any) -> None:
        number = self._next_recall
        self._next_recall += 1
        self._recalls[number] = answer
        self._decide(pe.RoomWanted(bytes_wanted - self._give_back(), number))
        self._give_back()

    def _room_answered(self, recall_id: int) -> None:
        self._give_back()
        answer = self._recalls.pop(recall_id)
        if answer is not None:
            self._to_store(answer)

    def _give_back(self) -> int:
        given = self._room.give_up_idle(1 << 62, GIVE_BACK_BYTES_MIN)
        for extent in given:
            self._to_store(sm.ReturnExtent(extent.offset, extent.size, extent.warm_bytes))
        return sum(extent.size for extent in given)

    def _answer_reclaims(self) -> None:
        waiting = []
        for query in self._reclaims:
            if any(_overlap(sent, ranges) for sent in self._sending.values() for ranges in query.ranges):
                waiting.append(query)
            else:
                self._to_store(sm.ReclaimAck(query.query_id))
        self._reclaims = waiting

    # In

    def _start(self, effect: pe.StartTransfer) -> None:
        node_id = effect.source.node_id
        if not self._node.is_alive:
            return
        if self._abroad.is_dead(node_id):
            text = f"its node {node_id.hex()} is not in the cluster any more"
            self._timeline.after(0, self._decide, pe.TransferEnded(effect.object_id, text, NODE_DIED))
            return
        source = self._reachable(node_id) if self._abroad.knows(node_id) else None
        if source is None or source.abroad is None:
            # Out of reach, or one of the two has just joined.
            self._abroad.look_soon()
            self._timeline.after(RETRY_US, self._start, effect)
            return
        number = source.abroad.transfers.begin_sending(effect)
        latency_us = 2 * self._node.world.network.latency_us()
        self._timeline.after(latency_us + effect.source.size // BYTES_A_US, self._arrived, effect, number)

    def _reachable(self, node_id: bytes) -> Node | None:
        world = self._node.world
        return None if world.network.is_cut(self._node.node_id, node_id) else world.nodes.get(node_id)

    def _arrived(self, effect: pe.StartTransfer, number: int) -> None:
        source = self._node.world.nodes.get(effect.source.node_id)
        found = None if source is None or source.abroad is None else source.abroad.transfers.end_sending(effect, number)
        if not self._node.is_alive:
            return
        if self._reachable(effect.source.node_id) is None or found is None:
            # It broke off.
            self._timeline.after(RETRY_US, self._start, effect)
        elif isinstance(found, str):
            self._decide(pe.TransferEnded(effect.object_id, found))
        else:
            key, payload = found
            size = effect.source.size
            self._node.arena.write(Region(effect.offset, size, key, payload, self._node.node_id))
            self._decide(pe.TransferEnded(effect.object_id))

    # Out

    def begin_sending(self, effect: pe.StartTransfer) -> int:
        """A reader has connected."""
        number = self._next_sending
        self._next_sending += 1
        if not effect.source.spill_path:
            self._sending[number] = (effect.source.offset, effect.source.size)
        return number

    def end_sending(self, effect: pe.StartTransfer, number: int) -> tuple[bytes, bytes] | str:
        """(object, payload) that the reader got, or why there was nothing to send."""
        self._sending.pop(number, None)
        self._answer_reclaims()
        source = effect.source
        if source.spill_path:
            payload = self._node.disk.read(source, effect.object_id)
            return "its file is gone" if payload is None else (effect.object_id, payload)
        region = self._node.arena.read(source.offset)
        # What is not guarded any more may be anything by now.
        return (GARBAGE, b"") if region is None else (region.key, region.payload)


def _overlap(left: tuple[int, int], right: tuple[int, int]) -> bool:
    return left[0] < right[0] + right[1] and right[0] < left[0] + left[1]
