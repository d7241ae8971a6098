"""Object table: one rule at a time, then a whole node with pins against the rule that no looked-at byte is reused."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raybook.core.node import store_events as ev
from raybook.core.node.arena_allocator import PAGE_BYTES, Extent, LocalAllocator
from raybook.core.node.object_table import RECALL_TIMEOUT_MS, ObjectTable

MIB = 1 << 20
ANNA, BOB, CARL = b"anna", b"bob", b"carl"


def table_with(*clients: bytes, capacity_mib: int = 64, keep_warm_bytes: int = 1 << 60) -> ObjectTable:
    table = ObjectTable(8 * capacity_mib * MIB, capacity_mib * MIB, keep_warm_bytes)
    table.handle([ev.ClientJoined(client, client.decode()) for client in clients], 0)
    return table


def granted(table: ObjectTable, client: bytes, size: int = MIB, now_ms: int = 0) -> ev.GrantExtent:
    (effect,) = table.handle([ev.ExtentRequested(client, 1, size)], now_ms)
    assert isinstance(effect, ev.GrantExtent)
    return effect


def only(effects: list, kind: type) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_request_is_granted_at_once_while_there_is_room():
    table = table_with(ANNA)

    grant = granted(table, ANNA)

    assert (grant.client_id, grant.request_id, grant.size) == (ANNA, 1, 4 * MIB)


def test_request_larger_than_the_store_is_refused_with_numbers():
    table = table_with(ANNA)

    (refusal,) = table.handle([ev.ExtentRequested(ANNA, 7, 65 * MIB)], 0)

    assert (refusal.request_id, refusal.used_bytes, refusal.capacity_bytes) == (7, 0, 64 * MIB)
    assert "65.0 MiB" in refusal.reason and "larger than the whole store" in refusal.reason


def test_request_beyond_the_budget_recalls_what_all_clients_can_spare():
    table = table_with(ANNA, BOB, CARL)
    granted(table, ANNA, 50 * MIB)
    granted(table, BOB, 14 * MIB)

    effects = table.handle([ev.ExtentRequested(CARL, 2, 20 * MIB)], 0)

    assert effects == [ev.RecallIdle(client, effects[0].query_id, 20 * MIB) for client in (ANNA, BOB, CARL)]


def test_waiting_request_is_granted_when_an_extent_comes_back():
    table = table_with(ANNA, BOB)
    held = granted(table, ANNA, 60 * MIB)
    table.handle([ev.ExtentRequested(BOB, 2, 20 * MIB)], 0)

    (grant,) = table.handle([ev.ExtentReturned(ANNA, held.offset)], 10)

    assert (grant.client_id, grant.request_id) == (BOB, 2)


def test_waiting_request_is_refused_when_all_have_answered_in_vain():
    table = table_with(ANNA, BOB)
    granted(table, ANNA, 60 * MIB)
    recall, _ = table.handle([ev.ExtentRequested(BOB, 2, 20 * MIB)], 0)
    answers = [ev.RecallAnswered(client, recall.query_id) for client in (ANNA, BOB)]

    assert table.handle(answers, 10) == []
    (refusal,) = table.handle([], table.next_deadline_ms())

    assert table.next_deadline_ms() is None

    assert isinstance(refusal, ev.RefuseExtent)
    assert "60.0 MiB of 64.0 MiB are in use" in refusal.reason and "anna (60.0 MiB)" in refusal.reason


def test_worker_is_asked_again_when_an_owner_frees_what_lies_in_its_extents():
    table = table_with(ANNA, BOB)
    offset = sealed_by_anna_for(BOB, table, size=4 * MIB)
    granted(table, BOB, 60 * MIB)
    query = table.handle([ev.ExtentRequested(BOB, 2, 4 * MIB)], 0)[0].query_id
    table.handle([ev.RecallAnswered(ANNA, query)], 1)

    effects = table.handle([ev.RegionsFreed(BOB, [offset]), ev.RecallAnswered(BOB, query)], 2)

    assert effects == [ev.ForwardFree(ANNA, [offset]), ev.RecallIdle(ANNA, query, 4 * MIB)]
    (grant,) = table.handle([ev.ExtentReturned(ANNA, offset, 0, 4 * MIB), ev.RecallAnswered(ANNA, query)], 3)
    assert (grant.client_id, grant.offset) == (BOB, offset)


def test_pages_in_which_a_sealed_region_lies_are_not_taken_back():
    table = table_with(ANNA, BOB)
    offset = sealed_by_anna_for(BOB, table, at=PAGE_BYTES - 64)

    effects = table.handle([ev.ExtentReturned(ANNA, offset + 64, 0, PAGE_BYTES)], 0)

    assert isinstance(effects[0], ev.ClientMisbehaved)


def test_waiting_request_is_refused_at_its_deadline():
    table = table_with(ANNA, BOB)
    granted(table, ANNA, 60 * MIB)
    table.handle([ev.ExtentRequested(BOB, 2, 20 * MIB)], 100)
    deadline = table.next_deadline_ms()

    assert deadline == 100 + RECALL_TIMEOUT_MS
    assert table.handle([], deadline - 1) == []
    (refusal,) = table.handle([], deadline)
    assert isinstance(refusal, ev.RefuseExtent)
    assert table.next_deadline_ms() is None


def test_small_request_does_not_overtake_a_waiting_large_one():
    table = table_with(ANNA, BOB, CARL)
    held = granted(table, ANNA, 60 * MIB)
    table.handle([ev.ExtentRequested(BOB, 2, 62 * MIB)], 0)

    assert table.handle([ev.ExtentRequested(CARL, 3, MIB)], 1) == []
    effects = table.handle([ev.ExtentReturned(ANNA, held.offset)], 2)

    assert [grant.client_id for grant in only(effects, ev.GrantExtent)] == [BOB, CARL]


def test_request_of_a_client_that_died_waiting_is_forgotten():
    table = table_with(ANNA, BOB)
    granted(table, ANNA, 60 * MIB)
    table.handle([ev.ExtentRequested(BOB, 2, 20 * MIB), ev.ClientDied(BOB)], 0)

    assert table.next_deadline_ms() is None
    table.check_invariants()


def sealed_by_anna_for(owner: bytes, table: ObjectTable, at: int = 0, size: int = 1000) -> int:
    """Anna seals one object for the owner in a fresh extent; returns its offset."""
    offset = granted(table, ANNA).offset + at
    assert table.handle([ev.RegionSealed(ANNA, b"obj", owner, offset, size)], 0) == []
    return offset


def test_freed_region_goes_back_to_the_client_that_allocated_it():
    table = table_with(ANNA, BOB)
    offset = sealed_by_anna_for(BOB, table)

    assert table.handle([ev.RegionsFreed(BOB, [offset])], 0) == [ev.ForwardFree(ANNA, [offset])]
    assert table.statistics().sealed_count == 0


def test_region_is_freed_by_its_owner_only():
    table = table_with(ANNA, BOB, CARL)
    offset = sealed_by_anna_for(BOB, table)

    assert table.handle([ev.RegionsFreed(CARL, [offset, 12345])], 0) == []
    assert table.statistics().unknown_free_count == 2
    assert table.statistics().sealed_count == 1


def test_a_free_that_overtook_the_seal_frees_what_is_sealed_then():
    table = table_with(ANNA, BOB)
    offset = granted(table, ANNA).offset

    assert table.handle([ev.RegionsFreed(BOB, [offset], [b"obj"])], 0) == []
    effects = table.handle([ev.RegionSealed(ANNA, b"obj", BOB, offset, 1000)], 0)

    assert effects == [ev.ForwardFree(ANNA, [offset])]
    assert table.statistics().sealed_count == 0


def test_a_free_that_overtook_its_seal_does_not_free_another_object_there():
    table = table_with(ANNA, BOB)
    offset = granted(table, ANNA).offset
    table.handle([ev.RegionsFreed(BOB, [offset], [b"old"])], 0)

    assert table.handle([ev.RegionSealed(ANNA, b"new", BOB, offset, 1000)], 0) == []
    assert table.statistics().sealed_count == 1


def test_extents_of_a_dead_client_are_free_after_all_others_have_answered():
    table = table_with(ANNA, BOB, CARL)
    grant = granted(table, ANNA)

    effects = table.handle([ev.ClientDied(ANNA)], 0)

    query = effects[0].query_id
    assert effects == [
        ev.AskReclaim(BOB, query, [(grant.offset, grant.size)]),
        ev.AskReclaim(CARL, query, [(grant.offset, grant.size)]),
    ]
    table.handle([ev.ReclaimAcked(BOB, query)], 0)
    assert table.statistics().used_bytes == grant.size
    table.handle([ev.ReclaimAcked(CARL, query)], 0)
    assert table.statistics().used_bytes == 0


def test_death_of_the_last_one_asked_counts_as_its_answer():
    table = table_with(ANNA, BOB)
    granted(table, ANNA)
    table.handle([ev.ClientDied(ANNA)], 0)

    table.handle([ev.ClientDied(BOB)], 0)

    assert table.statistics().used_bytes == 0
    assert table.statistics().reclaim_count == 0


def test_answer_given_twice_counts_once():
    table = table_with(ANNA, BOB, CARL)
    granted(table, ANNA)
    query = table.handle([ev.ClientDied(ANNA)], 0)[0].query_id

    table.handle([ev.ReclaimAcked(BOB, query), ev.ReclaimAcked(BOB, query), ev.ReclaimAcked(BOB, 999)], 0)

    assert table.statistics().reclaim_count == 1


def test_region_of_a_living_owner_survives_the_worker_that_wrote_it():
    table = table_with(ANNA, BOB)
    offset = sealed_by_anna_for(BOB, table, at=PAGE_BYTES + 64)
    extent_start = offset - PAGE_BYTES - 64

    (ask,) = table.handle([ev.ClientDied(ANNA)], 0)
    table.handle([ev.ReclaimAcked(BOB, ask.query_id)], 0)

    assert ask.ranges == [
        (extent_start, PAGE_BYTES + 64),
        (offset + 1000, 4 * MIB - PAGE_BYTES - 64 - 1000),
    ]
    assert table.statistics().used_bytes == PAGE_BYTES
    assert table.handle([ev.RegionsFreed(BOB, [offset])], 0) == []
    assert table.statistics().used_bytes == 0


def test_two_regions_in_one_page_hold_it_until_both_are_freed():
    table = table_with(ANNA, BOB)
    first = sealed_by_anna_for(BOB, table, size=64)
    table.handle([ev.RegionSealed(ANNA, b"two", BOB, first + 64, 64)], 0)
    (ask,) = table.handle([ev.ClientDied(ANNA)], 0)
    table.handle([ev.ReclaimAcked(BOB, ask.query_id)], 0)

    table.handle([ev.RegionsFreed(BOB, [first])], 0)
    assert table.statistics().used_bytes == PAGE_BYTES
    table.handle([ev.RegionsFreed(BOB, [first + 64])], 0)

    assert table.statistics().used_bytes == 0


def test_orphans_go_back_to_their_worker_after_all_have_answered():
    table = table_with(ANNA, BOB, CARL)
    offset = sealed_by_anna_for(BOB, table)

    asks = table.handle([ev.ClientDied(BOB)], 0)
    assert [(ask.client_id, ask.ranges) for ask in asks] == [(ANNA, [(offset, 1000)]), (CARL, [(offset, 1000)])]
    assert table.handle([ev.ReclaimAcked(ANNA, asks[0].query_id)], 0) == []

    assert table.handle([ev.ReclaimAcked(CARL, asks[0].query_id)], 0) == [ev.ForwardFree(ANNA, [offset])]


def test_death_of_an_owner_on_another_node_makes_orphans_too():
    table = table_with(ANNA)
    offset = sealed_by_anna_for(b"far away", table)

    (ask,) = table.handle([ev.OwnerDied(b"far away")], 0)

    assert table.handle([ev.ReclaimAcked(ANNA, ask.query_id)], 0) == [ev.ForwardFree(ANNA, [offset])]


def test_object_sealed_for_an_owner_already_dead_is_an_orphan_at_once():
    table = table_with(ANNA, BOB)
    offset = granted(table, ANNA).offset
    table.handle([ev.ClientDied(BOB)], 0)

    (ask,) = table.handle([ev.RegionSealed(ANNA, b"obj", BOB, offset, 100)], 0)

    assert ask.ranges == [(offset, 100)]


def test_worker_and_then_owner_die_and_all_is_free_in_the_end():
    table = table_with(ANNA, BOB, CARL)
    sealed_by_anna_for(BOB, table)
    first = table.handle([ev.ClientDied(ANNA)], 0)[0].query_id
    second = table.handle([ev.ClientDied(BOB)], 0)[0].query_id

    table.handle([ev.ReclaimAcked(CARL, second)], 0)
    table.check_invariants()
    table.handle([ev.ReclaimAcked(CARL, first)], 0)

    assert table.statistics().used_bytes == 0
    table.check_invariants()


def test_free_that_was_on_its_way_does_not_free_the_next_object_at_that_place():
    # Bob's last free arrives before his death is known; Anna reuses the place for Carl while Bob's orphans are asked
    # for.
    table = table_with(ANNA, BOB, CARL)
    offset = sealed_by_anna_for(BOB, table)
    other = offset + 1024
    table.handle([ev.RegionSealed(ANNA, b"two", BOB, other, 64)], 0)
    asks = table.handle([ev.ClientDied(BOB)], 0)
    table.handle([ev.RegionsFreed(BOB, [offset]), ev.RegionSealed(ANNA, b"new", CARL, offset, 500)], 0)

    effects = table.handle([ev.ReclaimAcked(ask.client_id, ask.query_id) for ask in asks], 0)

    assert effects == [ev.ForwardFree(ANNA, [other])]
    assert [row["object_id"] for row in table.rows(10)] == [b"new".hex()]


def test_late_seal_of_a_dead_worker_is_rejected_once_its_memory_is_in_use_again():
    table = table_with(ANNA, BOB)
    offset = granted(table, ANNA).offset
    (ask,) = table.handle([ev.ClientDied(ANNA)], 0)
    assert table.handle([ev.RegionSealed(ANNA, b"kept", BOB, offset, 64)], 0) == []
    table.handle([ev.ReclaimAcked(BOB, ask.query_id)], 0)

    (rejected,) = table.handle([ev.RegionSealed(ANNA, b"late", BOB, offset + 8192, 64)], 0)

    assert (rejected.object_id, rejected.owner_id) == (b"late", BOB)
    assert [row["object_id"] for row in table.rows(10)] == [b"kept".hex()]


def test_client_that_seals_or_returns_what_it_has_not_is_named():
    table = table_with(ANNA, BOB)
    offset = sealed_by_anna_for(BOB, table)
    cases = [
        ev.RegionSealed(BOB, b"x", ANNA, offset, 10),
        ev.RegionSealed(ANNA, b"x", BOB, offset, 10),
        ev.ExtentReturned(BOB, offset),
        ev.ExtentReturned(ANNA, offset),
        ev.ExtentRequested(BOB, 3, 0),
    ]
    before = table.statistics()

    named = [table.handle([event], 0) for event in cases]

    assert [effects[0].client_id for effects in named] == [BOB, ANNA, BOB, ANNA, BOB]
    assert all(isinstance(effects[0], ev.ClientMisbehaved) and len(effects) == 1 for effects in named)
    assert table.statistics() == before


def test_idle_memory_above_what_is_kept_warm_is_punched():
    table = table_with(ANNA, keep_warm_bytes=MIB)
    grant = granted(table, ANNA)

    effects = table.handle([ev.ExtentReturned(ANNA, grant.offset)], 0)

    assert sum(hole.size for hole in only(effects, ev.PunchHole)) == 3 * MIB
    table.handle([ev.HolePunched(hole.offset) for hole in effects], 0)
    table.check_invariants()


def test_rows_show_the_largest_objects_first():
    table = table_with(ANNA, BOB)
    start = sealed_by_anna_for(BOB, table, size=64)
    table.handle([ev.RegionSealed(ANNA, b"%d" % n, BOB, start + n * 4096, n * 1000) for n in (1, 2, 3)], 0)

    rows = table.rows(2)

    assert [row["size_bytes"] for row in rows] == [3000, 2000]
    assert rows[0]["owner_id"] == BOB.hex()


def test_story_of_an_object_tells_its_life():
    table = table_with(ANNA, BOB)
    offset = sealed_by_anna_for(BOB, table)
    table.handle([ev.RegionsFreed(BOB, [offset])], 0)

    assert table.story(b"obj").splitlines() == [f"sealed 1000 bytes at {offset}", "freed"]


class Client:
    """A live client: its allocator, and the ranges that its views pin, by object number."""

    def __init__(self) -> None:
        self.allocator = LocalAllocator()
        self.pins: dict[int, tuple[int, int]] = {}
        self.questions: list[ev.AskReclaim] = []


class NodeMachine(RuleBasedStateMachine):
    """A node with clients that put, return, read, free and die at any moment, and answer late.

    The reference is the set of bytes that somebody alive may look at: no new object may touch one of them.
    """

    def __init__(self):
        super().__init__()
        self.table = ObjectTable(64 * MIB, 8 * MIB, keep_warm_bytes=2 * MIB)
        self.clients: dict[bytes, Client] = {}
        self.objects: dict[int, tuple[bytes, bytes, int, int]] = {}
        self.counter = 0
        self.now_ms = 0
        self.holes: list[int] = []
        self.outbox: list[ev.Effect] = []
        for _ in range(3):
            self.join()

    def tell(self, *events):
        self.outbox += self.table.handle(events, self.now_ms)
        granted_offset = None
        while self.outbox:
            effect = self.outbox.pop(0)
            if isinstance(effect, ev.GrantExtent):
                extent = Extent(effect.offset, effect.size, effect.warm_bytes)
                self.clients[effect.client_id].allocator.add_extent(extent)
                granted_offset = effect.offset
            elif isinstance(effect, ev.ForwardFree):
                for offset in effect.offsets:
                    self.clients[effect.client_id].allocator.free(offset)
            elif isinstance(effect, ev.AskReclaim):
                self.clients[effect.client_id].questions.append(effect)
            elif isinstance(effect, ev.PunchHole):
                self.holes.append(effect.offset)
            elif isinstance(effect, ev.RecallIdle):
                client = self.clients[effect.client_id]
                events = []
                for given in client.allocator.give_up_idle(1 << 62, PAGE_BYTES):
                    events.append(ev.ExtentReturned(effect.client_id, given.offset, given.warm_bytes, given.size))
                events.append(ev.RecallAnswered(effect.client_id, effect.query_id))
                self.outbox += self.table.handle(events, self.now_ms)
            else:
                assert isinstance(effect, ev.RefuseExtent), f"unexpected {effect}"
        return granted_offset

    def some_client(self, number):
        return sorted(self.clients)[number % len(self.clients)] if self.clients else None

    @rule()
    def join(self):
        if len(self.clients) < 4:
            self.counter += 1
            client_id = b"c%03d" % self.counter
            self.clients[client_id] = Client()
            self.tell(ev.ClientJoined(client_id))

    @rule(
        writer=st.integers(0, 3),
        owner=st.integers(0, 3),
        size=st.sampled_from([100, PAGE_BYTES, MIB, 3 * MIB]),
        readers=st.sets(st.integers(0, 3)),
    )
    def write(self, writer, owner, size, readers):
        writer, owner = self.some_client(writer), self.some_client(owner)
        if writer is None:
            return
        allocator = self.clients[writer].allocator
        offset = allocator.allocate(size)
        if offset is None:
            self.tell(ev.ExtentRequested(writer, 1, size))
            offset = allocator.allocate(size)
        if offset is None:
            return
        for start, length in self.looked_at():
            assert offset + size <= start or start + length <= offset, "bytes that somebody looks at were reused"
        self.counter += 1
        self.objects[self.counter] = (writer, owner, offset, size)
        for reader in readers:
            self.clients[self.some_client(reader)].pins[self.counter] = (offset, size)
        if owner != writer:
            self.tell(ev.RegionSealed(writer, b"o%d" % self.counter, owner, offset, size))

    def looked_at(self):
        yield from (self.objects[number][2:] for number in self.objects)
        for client in self.clients.values():
            yield from client.pins.values()

    @rule(reader=st.integers(0, 9), number=st.integers(0, 99))
    def read(self, reader, number):
        reader = self.some_client(reader)
        if reader is not None and self.objects:
            number = sorted(self.objects)[number % len(self.objects)]
            self.clients[reader].pins[number] = self.objects[number][2:]

    @rule(reader=st.integers(0, 3), number=st.integers(0, 9))
    def unpin(self, reader, number):
        reader = self.some_client(reader)
        if reader is not None and self.clients[reader].pins:
            pins = self.clients[reader].pins
            del pins[sorted(pins)[number % len(pins)]]

    @rule(number=st.integers(0, 99))
    def free(self, number):
        """The owner frees what nobody looks at: a borrower's pin is a borrow, so the count is not zero before."""
        free = [n for n in self.objects if not any(n in client.pins for client in self.clients.values())]
        if free:
            number = free[number % len(free)]
            writer, owner, offset, _ = self.objects.pop(number)
            if writer == owner:
                self.clients[owner].allocator.free(offset)
            else:
                self.tell(ev.RegionsFreed(owner, [offset]))

    @rule(number=st.integers(0, 9))
    def die(self, number):
        client_id = self.some_client(number)
        if len(self.clients) > 1:
            del self.clients[client_id]
            # The dead owner's objects exist no more; who still looks at one has it in its pins.
            self.objects = {n: o for n, o in self.objects.items() if o[1] != client_id}
            self.tell(ev.ClientDied(client_id))

    @rule(number=st.integers(0, 9))
    def answer(self, number):
        client_id = self.some_client(number)
        if client_id is None:
            return
        client = self.clients[client_id]
        for question in list(client.questions):
            pinned = any(
                start < offset + size and offset < start + length
                for start, length in question.ranges
                for offset, size in client.pins.values()
            )
            if not pinned:
                client.questions.remove(question)
                self.tell(ev.ReclaimAcked(client_id, question.query_id))

    @rule()
    def punch(self):
        while self.holes:
            self.tell(ev.HolePunched(self.holes.pop()))

    @rule(step=st.integers(1, 3000))
    def time_passes(self, step):
        self.now_ms += step
        self.tell()

    @invariant()
    def books_are_right(self):
        self.table.check_invariants()
        sealed = {(b"o%d" % n).hex() for n, (writer, owner, _, _) in self.objects.items() if writer != owner}
        shown = {row["object_id"] for row in self.table.rows(10_000) if not row["is_orphan"]}
        assert sealed == shown

    def teardown(self):
        for client_id in list(self.clients):
            del self.clients[client_id]
            self.tell(ev.ClientDied(client_id))
        self.punch()
        assert self.table.statistics().used_bytes == 0
        assert self.table.statistics().sealed_count == 0
        self.table.check_invariants()


TestNodeMachine = NodeMachine.TestCase
TestNodeMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
