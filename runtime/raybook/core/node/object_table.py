"""Object table: whose bytes lie where in this node's arena, and when they may be used again.

It decides who gets an extent and who has to wait or is refused, to whom a sealed region belongs, and when what the dead
leave behind is free. It does not know values, reference counts, other nodes' arenas, or what a client writes into its
own extents: an owner that puts an object into its own extent tells nobody.

The life of a region. A worker seals a return value in its own extent: the region now is the owner's. The owner frees
it: the worker, if alive, may reuse it; else its pages are free. An owner who dies leaves *orphans*, and a client who
dies leaves *extents*; readers elsewhere on the node may hold views into both. So every other live client is asked, and
only when all have answered (or died) are the bytes free. Regions of living owners inside a dead client's extents stay.

The life of a request: granted at once; or, when the budget is used up, it waits while all holders are asked to return
idle extents, and is granted as soon as it fits, refused when all have answered in vain or at its deadline. First come,
first served: a large request is not starved by small ones. While objects can go to disk (`spill_policy`), a request
waits for that as long as it takes: producers are slowed to the speed of the disk, not refused.

Invariants: regions never overlap, and lie in extents of the client that sealed them; a query waits for live clients
only; the first request of the queue does not fit; granted bytes stay within the budget.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, repeat

from raybook.core.node import store_events as ev
from raybook.core.node.arena_allocator import PAGE_BYTES, Extent, ExtentTable
from raybook.core.node.early_frees import EarlyFrees
from raybook.core.node.object_records import (
    Pressure,
    Reclaim,
    Region,
    StoreStatistics,
    Waiting,
    check_regions,
    discard,
    mib,
    row_of,
)

# A request waits so long for idle extents of others, then it is refused. Ray's grace before it falls back, in
# `oom_grace_period_s`, is 2 s.
RECALL_TIMEOUT_MS = 2_000
# What a borrower lets go of reaches the owner while both have answered already: so long, answers in vain are not final.
RECALL_SETTLE_MS = 100
DEAD_IDS_MAX = 65_536
STORY_EVENTS_MAX = 8_192
HOLDERS_NAMED_MAX = 3


class ObjectTable:
    """The raylet's books of its node's arena. A machine as in `base/machine.py`.

    arena_bytes: address space. capacity_bytes: memory that may be in use. keep_warm_bytes: idle memory kept for the
    next client, because warm pages are written several times faster; what is above it goes back to the machine.
    spill_bytes: from so much in use on, objects go to disk; None if they never do.
    """

    def __init__(
        self,
        arena_bytes: int,
        capacity_bytes: int,
        keep_warm_bytes: int | None = None,
        spill_bytes: int | None = None,
    ) -> None:
        self._extents = ExtentTable(arena_bytes, capacity_bytes, spill_bytes)
        self._spill_bytes = spill_bytes
        self.keep_warm_bytes = capacity_bytes // 8 if keep_warm_bytes is None else keep_warm_bytes
        self._clients: dict[bytes, str] = {}
        self._regions: dict[int, Region] = {}
        self._by_owner: dict[bytes, dict[int, None]] = {}
        self._by_client: dict[bytes, dict[int, None]] = {}
        # Regions still in each piece of the carved extents of dead clients.
        self._pieces: dict[int, dict[int, None]] = {}
        self._queue: deque[Waiting] = deque()
        self._reclaims: dict[int, Reclaim] = {}
        self._next_query_id = 1
        # A seal may come from a worker that does not know yet that its owner is dead.
        self._dead_ids: dict[bytes, None] = {}
        self._sealed_bytes = 0
        self._early_frees = EarlyFrees()
        self._events: deque[tuple[tuple[bytes, ...], str]] = deque(maxlen=STORY_EVENTS_MAX)
        self._effects: list[ev.Effect] = []
        self._now_ms = 0
        self._edges: dict[type, Callable[..., None]] = {
            ev.ClientJoined: self._client_joined,
            ev.ClientDied: self._client_died,
            ev.OwnerDied: self._owner_died,
            ev.ExtentRequested: self._extent_requested,
            ev.ExtentReturned: self._extent_returned,
            ev.RegionSealed: self._region_sealed,
            ev.RegionsFreed: self._regions_freed,
            ev.ReclaimAcked: self._reclaim_acked,
            ev.RecallAnswered: self._recall_answered,
            ev.SpillingEnded: self._spilling_ended,
            ev.HolePunched: self._hole_punched,
        }

    def handle(self, events: Iterable[ev.Event], now_ms: int) -> list[ev.Effect]:
        """Apply events in order; return the effects to execute, in order. Cost: 2 to 3 µs an event; a death costs about
        2 µs for each region that the dead client sealed or owned."""
        self._now_ms = now_ms
        for event in events:
            self._edges[type(event)](event)
        if self._queue:
            self._serve_queue()
        for offset, size in self._extents.take_idle_ranges(self.keep_warm_bytes):
            self._effects.append(ev.PunchHole(offset, size))
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        """When the first waiting request is to be refused, if nothing else happens."""
        if not self._queue:
            return None
        first = self._queue[0]
        if first.may_spill:
            return None
        if first.query_id and not first.unanswered and not self._reclaims:
            return min(first.settled_ms, first.deadline_ms)
        return first.deadline_ms

    # --- clients ------------------------------------------------------------------------------------------------------

    def _client_joined(self, event: ev.ClientJoined) -> None:
        self._clients[event.client_id] = event.name
        self._note(f"client {event.name} joined", event.client_id)

    def _client_died(self, event: ev.ClientDied) -> None:
        client_id = event.client_id
        if self._clients.pop(client_id, None) is None:
            return
        self._note("client died", client_id)
        self._remember_dead(client_id)
        self._queue = deque(waiting for waiting in self._queue if waiting.client_id != client_id)
        for waiting in self._queue:
            waiting.unanswered.pop(client_id, None)
        for reclaim in list(self._reclaims.values()):
            self._answered(reclaim, client_id)
        orphans = self._orphans_of(client_id)
        ranges = self._ranges_left_by(client_id)
        ranges += [(region.offset, region.size) for region in orphans if region.client_id != client_id]
        if ranges or self._extents.extents_of(client_id):
            self._ask(Reclaim(self._new_query_id(), dict.fromkeys(self._clients), orphans, client_id), ranges)

    def _owner_died(self, event: ev.OwnerDied) -> None:
        self._remember_dead(event.owner_id)
        self._reclaim_orphans(self._orphans_of(event.owner_id))

    def _orphans_of(self, owner_id: bytes) -> list[Region]:
        """Mark the owner's regions as nobody's; return those that were not before."""
        orphans = []
        for offset in self._by_owner.get(owner_id, ()):
            region = self._regions[offset]
            if not region.is_orphan:
                region.is_orphan = True
                orphans.append(region)
                self._note("its owner died", region.object_id)
        return orphans

    def _reclaim_orphans(self, orphans: list[Region]) -> None:
        if orphans:
            ranges = [(region.offset, region.size) for region in orphans]
            self._ask(Reclaim(self._new_query_id(), dict.fromkeys(self._clients), orphans, b""), ranges)

    def _ranges_left_by(self, client_id: bytes) -> list[tuple[int, int]]:
        """The dead client's extents without the regions of living owners, which may be pinned as long as they like, and
        without the orphans of other owners, for which a question is out already."""
        kept = sorted(
            offset for offset in self._by_client.get(client_id, ()) if self._regions[offset].owner_id != client_id
        )
        ranges = []
        index = 0
        for extent in self._extents.extents_of(client_id):
            position = extent.offset
            while index < len(kept) and kept[index] < extent.end:
                if kept[index] > position:
                    ranges.append((position, kept[index] - position))
                position = kept[index] + self._regions[kept[index]].size
                index += 1
            if position < extent.end:
                ranges.append((position, extent.end - position))
        return ranges

    def _remember_dead(self, client_id: bytes) -> None:
        self._dead_ids[client_id] = None
        if len(self._dead_ids) > DEAD_IDS_MAX:
            del self._dead_ids[next(iter(self._dead_ids))]

    # --- reclaiming ---------------------------------------------------------------------------------------------------

    def _new_query_id(self) -> int:
        self._next_query_id += 1
        return self._next_query_id - 1

    def _ask(self, reclaim: Reclaim, ranges: list[tuple[int, int]]) -> None:
        if not ranges:
            reclaim.unanswered.clear()
        self._reclaims[reclaim.query_id] = reclaim
        for client_id in reclaim.unanswered:
            self._effects.append(ev.AskReclaim(client_id, reclaim.query_id, ranges))
        if not reclaim.unanswered:
            self._finish(reclaim)

    def _reclaim_acked(self, event: ev.ReclaimAcked) -> None:
        reclaim = self._reclaims.get(event.query_id)
        if reclaim is not None:
            self._answered(reclaim, event.client_id)

    def _answered(self, reclaim: Reclaim, client_id: bytes) -> None:
        if client_id in reclaim.unanswered:
            del reclaim.unanswered[client_id]
            if not reclaim.unanswered:
                self._finish(reclaim)

    def _finish(self, reclaim: Reclaim) -> None:
        del self._reclaims[reclaim.query_id]
        # The owner may have freed an orphan itself, in a message that was on its way when it died; another object may
        # lie there since.
        self._release([region.offset for region in reclaim.orphans if self._regions.get(region.offset) is region])
        if not reclaim.dead_client:
            return
        left = sorted(self._by_client.get(reclaim.dead_client, ()))
        index = 0
        for extent in self._extents.extents_of(reclaim.dead_client):
            inside = []
            while index < len(left) and left[index] < extent.end:
                inside.append(self._regions[left[index]])
                index += 1
            self._carve(reclaim.dead_client, extent, inside)
        self._note(f"extents reclaimed, {len(left)} regions of living owners stay", reclaim.dead_client)

    def _carve(self, client_id: bytes, extent: Extent, inside: list[Region]) -> None:
        pieces = self._extents.carve(client_id, extent.offset, [(region.offset, region.size) for region in inside])
        index = 0
        for region in inside:
            while region.offset >= pieces[index].end:
                index += 1
            region.piece_offset = pieces[index].offset
            self._pieces.setdefault(region.piece_offset, {})[region.offset] = None

    # --- extents ------------------------------------------------------------------------------------------------------

    def _extent_requested(self, event: ev.ExtentRequested) -> None:
        client_id = event.client_id
        if client_id not in self._clients:
            return
        if event.bytes_wanted <= 0:
            self._misbehaved(client_id, f"It asked for an extent of {event.bytes_wanted} bytes.")
            return
        waiting = Waiting(
            client_id, event.request_id, event.bytes_wanted, 0, self._now_ms + RECALL_TIMEOUT_MS, unanswered={}
        )
        if event.bytes_wanted > self._extents.budget_bytes:
            self._refuse(waiting)
            return
        self._queue.append(waiting)
        self._serve_queue()

    def _grant(self, waiting: Waiting) -> bool:
        extent = self._extents.grant(waiting.client_id, waiting.bytes_wanted)
        if extent is None:
            return False
        grant = ev.GrantExtent(waiting.client_id, waiting.request_id, extent.offset, extent.size, extent.warm_bytes)
        self._effects.append(grant)
        self._note(f"granted {extent.size} bytes at {extent.offset}", waiting.client_id)
        return True

    def _serve_queue(self) -> None:
        """Grant from the front while it fits; refuse in front what has nothing more to hope for."""
        while self._queue:
            first = self._queue[0]
            if self._grant(first):
                self._queue.popleft()
            elif first.query_id == 0:
                self._recall_for(first)
            # What is being reclaimed is on its way, and comes sooner than a second attempt of the client would.
            elif not first.may_spill and (self._now_ms >= first.deadline_ms or self._is_in_vain(first)):
                self._queue.popleft()
                self._refuse(first)
            else:
                return

    def _is_in_vain(self, waiting: Waiting) -> bool:
        return not waiting.unanswered and not self._reclaims and self._now_ms >= waiting.settled_ms

    def _recall_for(self, waiting: Waiting) -> None:
        """Ask for idle extents, once, when the request is at the front: those behind it gain by the same answers."""
        waiting.query_id = self._new_query_id()
        waiting.settled_ms = self._now_ms + RECALL_SETTLE_MS
        waiting.may_spill = self._spill_bytes is not None
        # All clients: owners and borrowers, too, first let go of what is garbage. And the asking one: what it holds
        # idle may be in pieces that are too small, and counts all the same.
        waiting.unanswered = dict.fromkeys(self._clients, 1)
        for client_id in self._clients:
            self._effects.append(ev.RecallIdle(client_id, waiting.query_id, waiting.bytes_wanted))
        self._note(f"waits for {waiting.bytes_wanted} bytes", waiting.client_id)

    def _refuse(self, waiting: Waiting) -> None:
        capacity, used = self._extents.budget_bytes, self._extents.granted_bytes
        if waiting.bytes_wanted > capacity:
            why = "It is larger than the whole store."
        else:
            why = f"Largest holders: {self._largest_holders()}."
            if waiting.trouble:
                why += f" Nothing could be moved to disk: {waiting.trouble}."
        reason = (
            f"The object store of this node cannot hold {mib(waiting.bytes_wanted)} more: {mib(used)} of "
            f"{mib(capacity)} are in use. {why} Delete references that are not needed any more, return smaller "
            f"results, or start the cluster with a larger object_store_memory."
        )
        self._effects.append(ev.RefuseExtent(waiting.client_id, waiting.request_id, reason, used, capacity))
        self._note(f"refused {waiting.bytes_wanted} bytes", waiting.client_id)

    def _largest_holders(self) -> str:
        held = [(self._extents.granted_to(client_id), client_id) for client_id in self._extents.clients()]
        named = []
        for size, client_id in heapq.nlargest(HOLDERS_NAMED_MAX, held):
            name = self._clients.get(client_id, "a dead client whose objects are still referenced")
            named.append(f"{name or client_id.hex()} ({mib(size)})")
        return ", ".join(named) or "none"

    def _recall_answered(self, event: ev.RecallAnswered) -> None:
        for waiting in self._queue:
            if waiting.query_id == event.query_id and event.client_id in waiting.unanswered:
                waiting.unanswered[event.client_id] -= 1
                if not waiting.unanswered[event.client_id]:
                    del waiting.unanswered[event.client_id]

    def _spilling_ended(self, event: ev.SpillingEnded) -> None:
        for waiting in self._queue:
            if waiting.query_id == event.query_id:
                waiting.may_spill = False
                waiting.trouble = event.trouble
                # What was given up last is still on its way.
                waiting.settled_ms = self._now_ms + RECALL_SETTLE_MS
                waiting.deadline_ms = max(waiting.deadline_ms, waiting.settled_ms)

    def pressure(self) -> Pressure:
        """What spilling has to know. Cost: O(clients + extents)."""
        first = self._queue[0] if self._queue else None
        spilling = first is not None and first.may_spill
        owned: dict[bytes, int] = {}
        for client_id in self._clients:
            owned[client_id] = self._extents.granted_to(client_id)
        for owner_id, offsets in self._by_owner.items():
            for offset in offsets:
                region = self._regions[offset]
                owned[owner_id] = owned.get(owner_id, 0) + region.size
                owned[region.client_id] = owned.get(region.client_id, 0) - region.size
        holders = [owner for owner in owned if owned[owner] > 0 and owner not in self._dead_ids]
        return Pressure(
            self._extents.granted_bytes,
            first.bytes_wanted if spilling and first is not None else 0,
            first.query_id if spilling and first is not None else 0,
            sorted(holders, key=lambda client_id: -owned[client_id]),
            self._extents.returned_bytes,
        )

    def is_pressed(self) -> bool:
        """Whether objects should go to disk. Cost: 0.2 µs."""
        if self._spill_bytes is None:
            return False
        return self._extents.granted_bytes > self._spill_bytes or (bool(self._queue) and self._queue[0].may_spill)

    def _extent_returned(self, event: ev.ExtentReturned) -> None:
        client_id, offset = event.client_id, event.offset
        if client_id not in self._clients:
            return
        extent = self._extents.extent_around(client_id, offset, event.size or 1)
        size = event.size or (extent.size if extent is not None and extent.offset == offset else 0)
        if extent is None or size <= 0 or offset % PAGE_BYTES or size % PAGE_BYTES:
            self._misbehaved(client_id, f"It returned an extent at {offset}, where it has none.")
            return
        regions = (self._regions[inside] for inside in self._by_client.get(client_id, ()))
        if any(region.offset < offset + size and offset < region.offset + region.size for region in regions):
            self._misbehaved(client_id, f"It returned the extent at {offset}, in which others' objects lie.")
            return
        written_bytes = size if event.written_bytes is None else event.written_bytes
        self._extents.return_range(client_id, offset, size, written_bytes)
        self._note(f"returned {size} bytes at {offset}", client_id)

    def _hole_punched(self, event: ev.HolePunched) -> None:
        self._extents.punched(event.offset)

    # --- regions ------------------------------------------------------------------------------------------------------

    def _region_sealed(self, event: ev.RegionSealed) -> None:
        client_id, offset, size = event.client_id, event.offset, event.size
        holds = any(e.offset <= offset and offset + size <= e.end for e in self._extents.extents_of(client_id))
        is_dead = client_id not in self._clients
        carved = is_dead and not any(reclaim.dead_client == client_id for reclaim in self._reclaims.values())
        if carved or (is_dead and not holds):
            reason = "The worker that wrote it died, and its memory is in use again."
            self._effects.append(ev.SealRejected(event.object_id, event.owner_id, reason))
            return
        if not holds or offset in self._regions or size <= 0:
            self._misbehaved(client_id, f"It sealed {size} bytes at {offset}, which is not a free place of its own.")
            return
        self._regions[offset] = Region(event.object_id, event.owner_id, client_id, offset, size)
        self._by_owner.setdefault(event.owner_id, {})[offset] = None
        self._by_client.setdefault(client_id, {})[offset] = None
        self._sealed_bytes += size
        self._note(f"sealed {size} bytes at {offset}", event.object_id, event.owner_id, client_id)
        if event.owner_id in self._dead_ids:
            self._reclaim_orphans(self._orphans_of(event.owner_id))
        elif self._early_frees.take(event.owner_id, event.object_id, offset):
            self._release([offset])

    def _regions_freed(self, event: ev.RegionsFreed) -> None:
        known: list[int] = []
        unknown: list[tuple[bytes, int]] = []
        for offset, object_id in zip(event.offsets, chain(event.object_ids, repeat(b"")), strict=False):
            region = self._regions.get(offset)
            if region is None or region.owner_id != event.owner_id:
                unknown.append((object_id, offset))
            else:
                known.append(offset)
        self._early_frees.note(event.owner_id, unknown)
        self._release(known)

    def _release(self, offsets: Iterable[int]) -> None:
        """Forget regions; give their bytes to the client that allocated them, or to the table if that is dead."""
        forward: dict[bytes, list[int]] = {}
        for offset in offsets:
            region = self._regions.pop(offset)
            self._sealed_bytes -= region.size
            discard(self._by_owner, region.owner_id, offset)
            discard(self._by_client, region.client_id, offset)
            self._note("freed", region.object_id)
            if region.client_id in self._clients:
                forward.setdefault(region.client_id, []).append(offset)
            elif region.piece_offset >= 0:
                piece = self._pieces[region.piece_offset]
                del piece[offset]
                if not piece:
                    del self._pieces[region.piece_offset]
                    self._extents.return_extent(region.client_id, region.piece_offset)
        for client_id, freed in forward.items():
            self._effects.append(ev.ForwardFree(client_id, freed))
            self._recall_again(client_id)

    def _recall_again(self, client_id: bytes) -> None:
        """The client has more to spare than when it answered: it is asked again, for the request at the front."""
        if self._queue and self._queue[0].query_id:
            first = self._queue[0]
            first.unanswered[client_id] = first.unanswered.get(client_id, 0) + 1
            self._effects.append(ev.RecallIdle(client_id, first.query_id, first.bytes_wanted))
        elif self._spill_bytes is not None and self._extents.granted_bytes > self._spill_bytes:
            self._effects.append(ev.RecallIdle(client_id, 0, self._extents.granted_bytes - self._spill_bytes))

    def _misbehaved(self, client_id: bytes, text: str) -> None:
        self._effects.append(ev.ClientMisbehaved(client_id, text))
        self._note(f"misbehaved: {text}", client_id)

    # --- looking ------------------------------------------------------------------------------------------------------

    def rows(self, limit: int) -> list[dict[str, str | int | bool]]:
        """The largest sealed objects, largest first, for panels. Cost: 0.1 µs a region."""
        largest = heapq.nlargest(limit, self._regions.values(), key=lambda region: (region.size, -region.offset))
        return [row_of(region) for region in largest]

    def statistics(self) -> StoreStatistics:
        extents = self._extents.statistics()
        return StoreStatistics(
            capacity_bytes=extents.budget_bytes,
            used_bytes=extents.granted_bytes,
            warm_idle_bytes=extents.warm_idle_bytes,
            sealed_bytes=self._sealed_bytes,
            sealed_count=len(self._regions),
            client_count=len(self._clients),
            waiting_count=len(self._queue),
            reclaim_count=len(self._reclaims),
            unknown_free_count=self._early_frees.count,
        )

    def _note(self, text: str, *about: bytes) -> None:
        self._events.append((about, text))

    def story(self, key: bytes) -> str:
        """What happened to an object, client or owner, a line each, as far as the last 8,192 events go."""
        return "\n".join(text for about, text in self._events if key in about)

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken rule. Cost: O(n log n)."""
        self._extents.check_invariants()
        check_regions(self._regions, self._extents, self._by_owner, self._by_client, self._pieces)
        assert self._sealed_bytes == sum(region.size for region in self._regions.values())
        for reclaim in self._reclaims.values():
            assert reclaim.unanswered, f"reclaim {reclaim.query_id} waits for nobody"
            assert reclaim.unanswered.keys() <= self._clients.keys(), f"reclaim {reclaim.query_id} waits for the dead"
        for waiting in self._queue:
            assert waiting.client_id in self._clients, "a dead client waits for an extent"
            assert waiting.unanswered.keys() <= self._clients.keys(), "a request waits for the dead"
