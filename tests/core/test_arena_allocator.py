"""Extent table and local allocator: rules one by one, then both against dumb references."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from raybook.core.node.arena_allocator import PAGE_BYTES, Extent, ExtentTable, LocalAllocator

MIB = 1 << 20
ANNA, BOB = b"anna", b"bob"


def table(budget_mib: int = 256) -> ExtentTable:
    return ExtentTable(arena_bytes=8 * budget_mib * MIB, budget_bytes=budget_mib * MIB)


def test_small_client_gets_four_mebibytes_and_grows_to_sixty_four():
    extents = table(1024)

    sizes = [extents.grant(ANNA, 1000).size // MIB for _ in range(7)]

    assert sizes == [4, 8, 16, 32, 64, 64, 64]


def test_large_object_gets_an_exact_extent():
    extent = table().grant(ANNA, 100 * MIB + 1)

    assert extent.size == 100 * MIB + PAGE_BYTES


def test_request_near_the_budget_gets_only_what_it_asked_for():
    extents = table(5)
    extents.grant(ANNA, 4 * MIB)

    assert extents.grant(BOB, 1000).size == PAGE_BYTES


def test_request_beyond_the_budget_gets_nothing_and_changes_nothing():
    extents = table(5)
    extents.grant(ANNA, 4 * MIB)
    before = extents.statistics()

    assert extents.grant(BOB, 2 * MIB) is None
    assert extents.statistics() == before


def test_fragmentation_does_not_block_while_bytes_are_left():
    extents = table(64)
    held = [extents.grant(client, 1 * MIB) for client in [b"%d" % number for number in range(16)]]
    for number in range(0, 16, 2):
        extents.return_extent(b"%d" % number, held[number].offset)

    assert extents.grant(ANNA, 32 * MIB) is not None
    extents.check_invariants()


def test_warm_pages_are_granted_before_cold_ones():
    extents = table()
    first = extents.grant(ANNA, MIB)
    extents.return_extent(ANNA, first.offset, written_bytes=2 * MIB)

    again = extents.grant(BOB, 2 * MIB)

    # The whole 4 MiB that a new client gets are not warm; the two that are, are kept for a request they fit.
    assert again.warm_bytes == 0
    assert extents.statistics().warm_idle_bytes == 2 * MIB


def test_returned_warm_extent_is_the_next_grant():
    extents = table()
    first = extents.grant(ANNA, MIB)
    extents.return_extent(ANNA, first.offset)

    again = extents.grant(BOB, MIB)

    assert (again.offset, again.warm_bytes) == (first.offset, again.size)


def test_idle_memory_beyond_the_budget_must_be_punched():
    extents = table(8)
    first = extents.grant(ANNA, 6 * MIB)
    extents.return_extent(ANNA, first.offset)
    extents.grant(BOB, 7 * MIB)

    ranges = extents.take_idle_ranges(keep_bytes=8 * MIB)

    assert sum(size for _, size in ranges) >= 5 * MIB
    assert extents.statistics().warm_idle_bytes + extents.granted_bytes <= 8 * MIB


def test_range_is_nobodys_while_it_is_punched():
    extents = ExtentTable(arena_bytes=4 * MIB, budget_bytes=4 * MIB)
    first = extents.grant(ANNA, 4 * MIB)
    extents.return_extent(ANNA, first.offset)
    ((offset, size),) = extents.take_idle_ranges()

    assert size == 4 * MIB
    assert extents.grant(BOB, 4 * MIB) is None
    extents.punched(offset)
    assert extents.grant(BOB, 4 * MIB).warm_bytes == 0


def test_carving_keeps_the_pages_of_regions_and_frees_the_others():
    extents = table()
    extent = extents.grant(ANNA, 4 * MIB)
    base = extent.offset

    kept = extents.carve(
        ANNA, base, [(base + 100 * 64, 64), (base + 5 * PAGE_BYTES, 64), (base + 5 * PAGE_BYTES + 64, 64)]
    )

    assert [(piece.offset - base, piece.size) for piece in kept] == [
        (PAGE_BYTES, PAGE_BYTES),
        (5 * PAGE_BYTES, PAGE_BYTES),
    ]
    assert extents.granted_to(ANNA) == 2 * PAGE_BYTES
    extents.check_invariants()


def test_story_of_a_client_tells_its_grants_and_returns():
    extents = table()
    extent = extents.grant(ANNA, MIB)
    extents.grant(BOB, MIB)
    extents.return_extent(ANNA, extent.offset)

    story = extents.story(ANNA).splitlines()

    assert len(story) == 2 and "granted" in story[0] and "returned" in story[1]


def test_returning_somebody_elses_extent_is_refused():
    extents = table()
    extent = extents.grant(ANNA, MIB)

    with pytest.raises(KeyError):
        extents.return_extent(BOB, extent.offset)


def test_local_frees_are_reused_at_once():
    allocator = LocalAllocator()
    allocator.add_extent(Extent(0, 4 * MIB))
    first = allocator.allocate(MIB)
    allocator.allocate(MIB)
    allocator.free(first)

    assert allocator.allocate(MIB) == first


def test_local_allocator_asks_for_an_extent_when_it_is_full():
    allocator = LocalAllocator()

    assert allocator.allocate(64) is None
    allocator.add_extent(Extent(0, PAGE_BYTES))
    assert allocator.allocate(PAGE_BYTES + 1) is None
    assert allocator.allocate(PAGE_BYTES) == 0


def test_freeing_twice_raises():
    allocator = LocalAllocator()
    allocator.add_extent(Extent(0, PAGE_BYTES))
    offset = allocator.allocate(64)
    allocator.free(offset)

    with pytest.raises(KeyError):
        allocator.free(offset)


def test_object_never_spans_two_extents():
    allocator = LocalAllocator()
    allocator.add_extent(Extent(0, PAGE_BYTES))
    allocator.add_extent(Extent(PAGE_BYTES, PAGE_BYTES))

    assert allocator.allocate(2 * PAGE_BYTES) is None
    allocator.check_invariants()


def test_extent_is_idle_only_without_regions():
    allocator = LocalAllocator()
    allocator.add_extent(Extent(0, PAGE_BYTES))
    allocator.add_extent(Extent(PAGE_BYTES, PAGE_BYTES))
    offset = allocator.allocate(64)
    busy = offset // PAGE_BYTES * PAGE_BYTES

    assert [extent.offset for extent in allocator.idle_extents()] == [PAGE_BYTES - busy]
    assert allocator.remove_extent(busy) is None
    allocator.free(offset)
    assert allocator.remove_extent(busy).size == PAGE_BYTES
    allocator.check_invariants()


def test_region_is_warm_after_it_was_written():
    allocator = LocalAllocator()
    allocator.add_extent(Extent(0, PAGE_BYTES))
    offset = allocator.allocate(100)
    assert not allocator.is_warm(offset, 100)

    allocator.mark_written(offset, 100)

    assert allocator.is_warm(offset, 100)
    assert not allocator.is_warm(allocator.allocate(100), 100)


def test_removed_extent_tells_how_much_of_it_is_warm():
    allocator = LocalAllocator()
    allocator.add_extent(Extent(0, PAGE_BYTES, warm_bytes=128))
    allocator.mark_written(allocator.allocate(640), 640)
    allocator.free(0)

    assert allocator.remove_extent(0).warm_bytes == 640


def test_idle_pages_inside_an_extent_are_given_up_around_a_region():
    allocator = LocalAllocator()
    allocator.add_extent(Extent(0, 8 * PAGE_BYTES))
    first, middle, last = (allocator.allocate(3 * PAGE_BYTES - 64) for _ in range(3))
    assert last is None
    allocator.mark_written(first, 100)
    allocator.mark_written(middle, 100)
    allocator.free(first)

    given = allocator.give_up_idle(1 << 30, PAGE_BYTES)

    ranges = [(extent.offset, extent.size, extent.warm_bytes) for extent in given]
    assert ranges == [(0, 2 * PAGE_BYTES, 2 * PAGE_BYTES), (6 * PAGE_BYTES, 2 * PAGE_BYTES, 0)]
    assert allocator.owns(middle)
    allocator.check_invariants()


def test_only_as_much_is_given_up_as_is_wanted():
    allocator = LocalAllocator()
    for number in range(4):
        allocator.add_extent(Extent(2 * number * PAGE_BYTES, PAGE_BYTES))

    assert len(allocator.give_up_idle(PAGE_BYTES + 1, PAGE_BYTES)) == 2
    assert len(allocator.extents()) == 2


def test_returned_range_leaves_the_rest_of_the_extent_with_its_client():
    extents = table()
    extent = extents.grant(ANNA, 4 * MIB)

    extents.return_range(ANNA, extent.offset + MIB, MIB, MIB)

    assert [(e.offset, e.size) for e in extents.extents_of(ANNA)] == [(0, MIB), (2 * MIB, 2 * MIB)]
    assert extents.granted_bytes == 3 * MIB
    extents.check_invariants()
    with pytest.raises(ValueError):
        extents.return_range(ANNA, extent.offset + MIB, MIB)


class NodeMachine(RuleBasedStateMachine):
    """One extent table and three local allocators; the reference is a list of regions in use."""

    regions = Bundle("regions")

    def __init__(self):
        super().__init__()
        self.table = ExtentTable(arena_bytes=64 * MIB, budget_bytes=16 * MIB)
        self.locals = {client: LocalAllocator() for client in (b"0", b"1", b"2")}
        self.in_use: dict[int, int] = {}
        self.punching: list[int] = []

    @rule(target=regions, client=st.sampled_from([b"0", b"1", b"2"]), size=st.integers(1, 3 * MIB))
    def allocate(self, client, size):
        allocator = self.locals[client]
        offset = allocator.allocate(size)
        if offset is None:
            extent = self.table.grant(client, size)
            if extent is None:
                free_budget = self.table.budget_bytes - self.table.granted_bytes
                assert free_budget < size + PAGE_BYTES or self.punching, "a request that fits was refused"
                return None
            allocator.add_extent(extent)
            offset = allocator.allocate(size)
            assert offset is not None, "a fresh extent did not serve the request it was granted for"
        assert offset % 64 == 0
        assert all(offset + size <= start or start + length <= offset for start, length in self.in_use.items())
        self.in_use[offset] = size
        allocator.mark_written(offset, size)
        return client, offset

    @rule(region=consumes(regions))
    def free(self, region):
        if region is not None:
            client, offset = region
            assert self.locals[client].free(offset) >= self.in_use.pop(offset)

    @rule(client=st.sampled_from([b"0", b"1", b"2"]))
    def give_back(self, client):
        for extent in self.locals[client].idle_extents():
            removed = self.locals[client].remove_extent(extent.offset)
            self.table.return_extent(client, removed.offset, removed.warm_bytes)

    @rule(
        client=st.sampled_from([b"0", b"1", b"2"]),
        wanted=st.integers(1, 8 * MIB),
        least=st.sampled_from([PAGE_BYTES, 16 * PAGE_BYTES, MIB]),
    )
    def trim(self, client, wanted, least):
        for given in self.locals[client].give_up_idle(wanted, least):
            self.table.return_range(client, given.offset, given.size, given.warm_bytes)

    @rule(keep=st.integers(0, 16 * MIB))
    def punch(self, keep):
        self.punching += [offset for offset, _ in self.table.take_idle_ranges(keep)]
        assert self.table.statistics().warm_idle_bytes <= keep

    @rule()
    def punching_is_done(self):
        while self.punching:
            self.table.punched(self.punching.pop())

    @invariant()
    def books_are_right(self):
        self.table.check_invariants()
        for client, allocator in self.locals.items():
            allocator.check_invariants()
            assert [e.offset for e in allocator.extents()] == [e.offset for e in self.table.extents_of(client)]
        assert sum(a.statistics().region_count for a in self.locals.values()) == len(self.in_use)

    def teardown(self):
        for offset in list(self.in_use):
            next(a for a in self.locals.values() if a.owns(offset)).free(offset)
        for client in self.locals:
            self.give_back(client)
        assert self.table.granted_bytes == 0
        self.punch(0)
        self.punching_is_done()
        assert self.table.grant(b"last", 16 * MIB).size == 16 * MIB


TestNodeMachine = NodeMachine.TestCase
TestNodeMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
