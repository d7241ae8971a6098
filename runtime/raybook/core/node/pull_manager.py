"""Pull manager: copies of other nodes' objects in this node's arena: which are fetched, who uses them, which may go.

One transfer serves all readers of an object. Transfers under way are bounded by bytes, so that a burst of large arguments
cannot fill the store with halves; one is always let through, whatever its size. Small ones pass a large one that does not
fit yet, until as much as may be under way at once has passed it: so neither waits for ever.

Copies that somebody uses stay; the others are kept as long as nobody needs their room, the one used longest ago goes first.
When that is not enough, users are asked back what they do not look at just now: no copy holds its room against somebody
who needs it. A copy that is being sent to another node, whole or while it comes, stays until that is over.

    FetchWanted → QUEUED → (AllocateCopy → RoomGranted) ALLOCATING → (StartTransfer → TransferEnded) MOVING → HERE → gone
    RoomWanted → unused copies go → RecallCopies → CopiesRecalled by all → more copies go → RoomAnswered
    CopyWanted → Lend … LendingEnded, or RefuseLending

Knows nothing of sockets or extents, and not whether the bytes are right. Invariants: one transfer an object; a copy with
users, or lent, is never freed; a reader gets one answer; every RoomWanted and CopyWanted is answered once. Source:
ARCHITECTURE.md §5, "one transfer for many local readers"; that all copies can go, ray issue 62093.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

from raybook.base.specs import Location
from raybook.core.node import pull_events as pe
from raybook.core.node.object_records import mib

SMALL_SHARE = 16
"""Whatever takes less than this part of what may be under way counts as small."""
RELAYS_MAX = 8
"""So many copies are passed on at once while they come. Each keeps a thread of the sender's waiting; the others must
suffice for what need not wait (``raylet/range_senders``), or two nodes could wait for each other's threads."""
FULL = "ObjectStoreFullError"


class CopyState(Enum):
    QUEUED = "QUEUED"
    """Too much is on its way; its turn comes."""
    ALLOCATING = "ALLOCATING"
    MOVING = "MOVING"
    HERE = "HERE"
    LEAVING = "LEAVING"
    """Forgotten; its room is free when nobody is being sent it any more."""


class _Copy(msgspec.Struct):
    object_id: bytes
    source: Location
    number: int
    """Of its arrival."""
    state: CopyState = CopyState.QUEUED
    offset: int = -1
    lent: int = 0
    """So many other nodes are being sent it."""
    waiting: list[tuple[bytes, int]] = []
    """(client, request) of the readers that are to be told."""
    users: dict[bytes, bool] = {}
    """Clients that were told, and have not dropped it."""


class _Recall(msgspec.Struct):
    recall_id: int
    bytes_wanted: int
    unanswered: dict[bytes, bool]


class PullManager:
    """in_flight_bytes_max: of all transfers together."""

    def __init__(self, in_flight_bytes_max: int) -> None:
        self._in_flight_bytes_max = in_flight_bytes_max
        self._small_bytes_max = in_flight_bytes_max // SMALL_SHARE
        self._copies: dict[bytes, _Copy] = {}
        """By object; in the order of their last use."""
        self._small: deque[_Copy] = deque()
        self._large: deque[_Copy] = deque()
        """Those that are queued, in order; and some that are not any more."""
        self._next_number = 1
        self._passed_bytes = 0
        """Of small ones, since the large one in front began to wait."""
        self._lendings: dict[int, _Copy] = {}
        self._relays: dict[int, bool] = {}
        """Lendings of copies that were not whole when they began."""
        self._recalls: dict[int, _Recall] = {}
        self._in_flight_bytes = 0
        self._in_flight_count = 0
        self._pulled_bytes = 0
        self._pulled_count = 0
        self._evicted_count = 0
        self._fresh: list[tuple[_Copy, bytes, int]] = []
        """Requests of this batch: whoever of them is queued at its end is told why."""
        self._effects: list[Any] = []
        self._edges: dict[type, Callable[[Any], None]] = {
            pe.FetchWanted: self._wanted,
            pe.RoomGranted: self._room_granted,
            pe.TransferEnded: self._transfer_ended,
            pe.TransferDelayed: self._transfer_delayed,
            pe.CopiesDropped: self._dropped,
            pe.CopiesRecalled: lambda event: self._recalled(event.client, event.recall_id),
            pe.ReaderGone: self._reader_gone,
            pe.RoomWanted: self._room_wanted,
            pe.CopyWanted: self._copy_wanted,
            pe.LendingEnded: self._lending_ended,
            pe.CopyTaken: self._taken,
        }

    def handle(self, events: Iterable[Any]) -> list[Any]:
        """Apply events in order; the effects, in order. Cost: 1 µs an event; a reader's death, one look at each copy."""
        for event in events:
            self._edges[type(event)](event)
        self._begin_queued()
        for copy, client, request_id in self._fresh:
            if copy.state is CopyState.QUEUED:
                self._effects.append(pe.FetchDelayed(client, request_id, self._why_queued()))
        self._fresh.clear()
        effects, self._effects = self._effects, []
        return effects

    # --- readers ------------------------------------------------------------------------------------------------------

    def _wanted(self, event: pe.FetchWanted) -> None:
        key = event.object_id
        copy = self._copies.pop(key, None)
        if copy is None:
            copy = _Copy(key, event.location, self._next_number, waiting=[], users={})
            self._next_number += 1
            (self._small if event.location.size <= self._small_bytes_max else self._large).append(copy)
        self._copies[key] = copy
        if copy.state is CopyState.HERE:
            self._tell(copy, event.client, event.request_id)
            return
        copy.waiting.append((event.client, event.request_id))
        self._fresh.append((copy, event.client, event.request_id))
        if copy.state is CopyState.QUEUED:
            # The newest reader knows best where it lies now.
            copy.source = event.location

    def _tell(self, copy: _Copy, client: bytes, request_id: int) -> None:
        copy.users[client] = True
        self._effects.append(pe.Fetched(client, request_id, copy.offset))

    def _dropped(self, event: pe.CopiesDropped) -> None:
        for key in event.object_ids:
            copy = self._copies.get(key)
            if copy is not None:
                copy.users.pop(event.client, None)

    def _taken(self, event: pe.CopyTaken) -> None:
        self._copies.pop(event.object_id, None)

    def _reader_gone(self, event: pe.ReaderGone) -> None:
        for copy in list(self._copies.values()):
            copy.users.pop(event.client, None)
            if copy.waiting:
                copy.waiting = [reader for reader in copy.waiting if reader[0] != event.client]
                if not copy.waiting and copy.state is CopyState.QUEUED:
                    self._leave(copy)
        for recall_id in list(self._recalls):
            self._recalled(event.client, recall_id)

    # --- transfers ----------------------------------------------------------------------------------------------------

    def _begin_queued(self) -> None:
        while True:
            small, large = _front(self._small), _front(self._large)
            if large is None:
                self._passed_bytes = 0
            if small is not None and (large is None or small.number < large.number):
                if not self._fits(small):
                    return
                self._begin(self._small)
            elif large is not None and self._fits(large):
                self._begin(self._large)
                self._passed_bytes = 0
            elif large is not None and small is not None and self._may_pass(small):
                self._passed_bytes += small.source.size
                self._begin(self._small)
            else:
                return

    def _fits(self, copy: _Copy) -> bool:
        return not self._in_flight_bytes or self._in_flight_bytes + copy.source.size <= self._in_flight_bytes_max

    def _may_pass(self, copy: _Copy) -> bool:
        return self._fits(copy) and self._passed_bytes + copy.source.size <= self._in_flight_bytes_max

    def _begin(self, queue: deque[_Copy]) -> None:
        copy = queue.popleft()
        self._in_flight_bytes += copy.source.size
        self._in_flight_count += 1
        copy.state = CopyState.ALLOCATING
        self._effects.append(pe.AllocateCopy(copy.object_id, copy.source.size))

    def _room_granted(self, event: pe.RoomGranted) -> None:
        copy = self._copies.get(event.object_id)
        if copy is None or copy.state is not CopyState.ALLOCATING:
            if event.offset >= 0:
                self._effects.append(pe.FreeCopy(event.offset))
        elif event.offset < 0:
            self._fail(copy, event.reason, FULL)
        elif not copy.waiting:
            self._effects.append(pe.FreeCopy(event.offset))
            self._leave(copy)
        else:
            copy.state = CopyState.MOVING
            copy.offset = event.offset
            self._effects.append(pe.StartTransfer(copy.object_id, copy.source, copy.offset))

    def _transfer_ended(self, event: pe.TransferEnded) -> None:
        copy = self._copies.get(event.object_id)
        if copy is None or copy.state is not CopyState.MOVING:
            return
        # With its last reader went whatever kept the source as it was: the bytes may be another object's.
        if event.reason or not copy.waiting:
            self._fail(copy, event.reason, event.code)
            return
        self._in_flight_bytes -= copy.source.size
        self._in_flight_count -= 1
        self._pulled_bytes += copy.source.size
        self._pulled_count += 1
        copy.state = CopyState.HERE
        readers, copy.waiting = copy.waiting, []
        for client, request_id in readers:
            self._tell(copy, client, request_id)

    def _transfer_delayed(self, event: pe.TransferDelayed) -> None:
        copy = self._copies.get(event.object_id)
        for client, request_id in copy.waiting if copy is not None else ():
            self._effects.append(pe.FetchDelayed(client, request_id, event.reason))

    def _fail(self, copy: _Copy, reason: str, code: str) -> None:
        if code == FULL:
            reason = f"{reason} {self._in_use()}".rstrip()
        for client, request_id in copy.waiting:
            self._effects.append(pe.Fetched(client, request_id, -1, reason, code))
        self._leave(copy)

    def _in_use(self) -> str:
        used = [copy.source.size for copy in self._copies.values() if copy.state is CopyState.HERE and copy.users]
        if not used:
            return ""
        what = "One copy of another node's object" if len(used) == 1 else f"{len(used)} copies of other nodes' objects"
        return f"{what} ({mib(sum(used))}) cannot make room here, because processes look at the values."

    def _leave(self, copy: _Copy) -> None:
        """Forget a copy, and free its room if it has some, now or when it is lent no more."""
        del self._copies[copy.object_id]
        if copy.state in (CopyState.ALLOCATING, CopyState.MOVING):
            self._in_flight_bytes -= copy.source.size
            self._in_flight_count -= 1
        copy.state = CopyState.LEAVING
        if copy.offset >= 0 and not copy.lent:
            self._effects.append(pe.FreeCopy(copy.offset))

    # --- room ---------------------------------------------------------------------------------------------------------

    def _room_wanted(self, event: pe.RoomWanted) -> None:
        missing = event.bytes_wanted - self._evict(event.bytes_wanted)
        users: dict[bytes, bool] = {}
        if missing > 0:
            for copy in self._copies.values():
                if copy.state is CopyState.HERE:
                    users.update(copy.users)
        if not users:
            self._effects.append(pe.RoomAnswered(event.recall_id))
            return
        self._recalls[event.recall_id] = _Recall(event.recall_id, missing, users)
        self._effects += [pe.RecallCopies(client, event.recall_id) for client in users]

    def _recalled(self, client: bytes, recall_id: int) -> None:
        recall = self._recalls.get(recall_id)
        if recall is None or not recall.unanswered.pop(client, False) or recall.unanswered:
            return
        del self._recalls[recall_id]
        self._evict(recall.bytes_wanted)
        self._effects.append(pe.RoomAnswered(recall_id))

    def _evict(self, bytes_wanted: int) -> int:
        """Copies that nobody uses go, those used longest ago first; how many bytes that made free."""
        freed = 0
        for copy in list(self._copies.values()) if bytes_wanted > 0 else ():
            if copy.state is CopyState.HERE and not copy.users and not copy.lent:
                self._evicted_count += 1
                freed += copy.source.size
                self._leave(copy)
                if freed >= bytes_wanted:
                    break
        return freed

    # --- lending ------------------------------------------------------------------------------------------------------

    def _copy_wanted(self, event: pe.CopyWanted) -> None:
        copy = self._copies.get(event.object_id)
        is_moving = copy is not None and copy.state is CopyState.MOVING
        if copy is None or not (is_moving or copy.state is CopyState.HERE) or copy.source.size != event.size:
            self._effects.append(pe.RefuseLending(event.lending_id, "its copy here is gone"))
        elif is_moving and len(self._relays) >= RELAYS_MAX:
            self._effects.append(pe.RefuseLending(event.lending_id, "this node passes on as much as it can"))
        else:
            copy.lent += 1
            self._lendings[event.lending_id] = copy
            if is_moving:
                self._relays[event.lending_id] = True
            self._effects.append(pe.Lend(event.lending_id, copy.object_id, copy.offset, is_moving))

    def _lending_ended(self, event: pe.LendingEnded) -> None:
        copy = self._lendings.pop(event.lending_id, None)
        self._relays.pop(event.lending_id, None)
        if copy is None:
            return
        copy.lent -= 1
        if copy.state is CopyState.LEAVING and not copy.lent:
            self._effects.append(pe.FreeCopy(copy.offset))

    # --- looking ------------------------------------------------------------------------------------------------------

    def _why_queued(self) -> str:
        return (
            f"{self._in_flight_count} other objects ({mib(self._in_flight_bytes)}) are on their way to this node, where "
            f"{mib(self._in_flight_bytes_max)} may be at once; its turn comes"
        )

    def story(self, key: bytes) -> str:
        """What becomes of an object's copy just now, for people."""
        copy = self._copies.get(key)
        if copy is None:
            return "There is no copy of it on this node."
        origin = f"{mib(copy.source.size)} from node {copy.source.node_id.hex()}"
        if copy.state is CopyState.QUEUED:
            return f"It waits to be fetched ({origin}): {self._why_queued()}."
        if copy.state is CopyState.ALLOCATING:
            return f"It waits for room in this node's store ({origin})."
        if copy.state is CopyState.MOVING:
            return f"It is on its way ({origin}); {len(copy.waiting)} wait for it."
        return f"A copy is here ({origin}); {len(copy.users)} processes use it, {copy.lent} nodes are being sent it."

    def statistics(self) -> dict[str, int]:
        """Counts and bytes, for ``status``."""
        here = [copy.source.size for copy in self._copies.values() if copy.state is CopyState.HERE]
        return {
            "copies": len(here),
            "copy_bytes": sum(here),
            "queued": sum(copy.state is CopyState.QUEUED for copy in self._copies.values()),
            "in_flight_bytes": self._in_flight_bytes,
            "pulled": self._pulled_count,
            "pulled_bytes": self._pulled_bytes,
            "evicted": self._evicted_count,
            "lent": len(self._lendings),
        }

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        on_its_way = [c for c in self._copies.values() if c.state in (CopyState.ALLOCATING, CopyState.MOVING)]
        assert self._in_flight_bytes == sum(copy.source.size for copy in on_its_way), "Bytes in flight are miscounted."
        assert self._in_flight_count == len(on_its_way), "Transfers in flight are miscounted."
        assert self._in_flight_bytes <= self._in_flight_bytes_max or len(on_its_way) == 1, "Too much is on its way."
        for copy in self._copies.values():
            assert copy.state is not CopyState.LEAVING, "A copy that leaves is found."
            assert (copy.offset >= 0) == (copy.state in (CopyState.MOVING, CopyState.HERE)), "A copy has no place."
            assert not copy.users or copy.state is CopyState.HERE, "Somebody uses a copy that is not here."
            assert not copy.waiting or copy.state is not CopyState.HERE, "Somebody waits for a copy that is here."
        for copy in self._lendings.values():
            assert copy.lent > 0 and copy.offset >= 0, "A copy that is lent has no place."
        for recall in self._recalls.values():
            assert recall.unanswered, "A recall waits for nobody."


def _front(queue: deque[_Copy]) -> _Copy | None:
    """The first one that is still queued."""
    while queue and queue[0].state is not CopyState.QUEUED:
        queue.popleft()
    return queue[0] if queue else None
