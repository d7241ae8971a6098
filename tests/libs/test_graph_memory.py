"""What a compiled graph's memory is made of, without processes: blocks, rings, doorbells, and the account of results."""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from raybook.base.errors import RayCgraphCapacityExceeded
from raybook.dag.block_list import PAGE_BYTES, BlockList
from raybook.dag.doorbell import TRUST_MAX, Doorbell, ring
from raybook.dag.graph_memory import ChannelPlan, GraphMemory
from raybook.dag.messages import Failure, load
from raybook.dag.results import Results
from raybook.dag.ring import ERROR, VALUE, Ended, RingReader, RingWriter
from raybook.protocol.serialization import SerializationContext, serialize

CONTEXT = SerializationContext()


class Graph:
    """One channel from participant 0 to participants 1 and 2, all in this process."""

    def __init__(self, slots: int = 2) -> None:
        self.memory = GraphMemory.create(3, [ChannelPlan(0, (1, 2), slots)])
        self.doorbells = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3)]
        self.bells = [Doorbell(fd, self.memory.flags, index) for index, fd in enumerate(self.doorbells)]
        self.writer = RingWriter(self.memory, 0, self.bells[0], self.doorbells)
        self.readers = [RingReader(self.memory, 0, who, self.bells[who], self.doorbells) for who in (1, 2)]

    def write(self, value: Any, kind: int = VALUE) -> bool:
        return self.writer.write(serialize(value, CONTEXT), kind, timeout_s=0)

    def close(self) -> None:
        self.memory.close()
        for fd in self.doorbells:
            os.close(fd)


@pytest.fixture
def graph() -> Iterator[Graph]:
    made = Graph()
    yield made
    made.close()


def test_every_reader_reads_every_message_in_order(graph) -> None:
    for round_number in range(7):
        assert graph.write({"round": round_number})
        assert [reader.take(load) for reader in graph.readers] == [{"round": round_number}] * 2


def test_a_full_ring_takes_nothing_until_its_slowest_reader_has_read(graph) -> None:
    fast, slow = graph.readers
    assert graph.write(1) and graph.write(2) and not graph.write(3)
    assert [fast.take(load), fast.take(load)] == [1, 2]
    assert not graph.write(3)
    assert slow.take(load) == 1
    assert graph.write(3)


def test_a_large_array_is_read_in_place_and_its_memory_waits_for_the_last_who_looks(graph) -> None:
    big = np.arange(100_000, dtype=np.float64)
    graph.write(big)
    first, second = [reader.take(load) for reader in graph.readers]
    assert not first.flags.writeable and np.array_equal(first, big)
    assert np.shares_memory(first, np.frombuffer(memoryview(first), np.float64))
    part = first[10:20]
    del first, second
    gc.collect()

    graph.write(big * 2)
    other = [reader.take(load) for reader in graph.readers]
    assert np.array_equal(part, big[10:20])
    assert len(graph.writer._blocks.used) == 2
    del part, other
    gc.collect()

    graph.write(big * 3)
    assert len(graph.writer._blocks.used) == 1
    graph.writer._blocks.check_invariants()


def test_a_small_array_is_a_copy_and_stays_as_it_was(graph) -> None:
    graph.write(np.arange(10))
    kept = graph.readers[0].take(load)
    graph.readers[1].skip()
    for _ in range(4):
        graph.write(np.zeros(10, dtype=np.int64))
        for reader in graph.readers:
            reader.skip()
    assert kept.tolist() == list(range(10))


def test_an_error_arrives_as_one_however_large(graph) -> None:
    for size in (10, 100_000):
        graph.writer.write(Failure(b"\x81" * size).message(), ERROR)
        found = [reader.take(load) for reader in graph.readers]
        assert [type(each) for each in found] == [Failure, Failure] and found[0].data == b"\x81" * size


def test_who_waits_is_woken_by_a_message_and_by_the_end(graph) -> None:
    reader = graph.readers[0]
    got: list[Any] = []

    def read() -> None:
        reader.wait()
        got.append(reader.take(load))
        with pytest.raises(Ended):
            reader.wait()
        got.append("ended")

    thread = threading.Thread(target=read)
    thread.start()
    graph.write("hello")
    graph.memory.end()
    for fd in graph.doorbells:
        ring(fd)
    thread.join(10)
    assert got == ["hello", "ended"]


def test_a_wait_that_is_in_vain_ends_in_time_and_looking_in_vain_stops_looking(graph) -> None:
    bell = graph.bells[1]
    assert not bell.wait(lambda: False, 0)
    for _ in range(TRUST_MAX):
        assert not bell.wait(lambda: False, 0.0001)
    assert not bell._is_worth_a_look()
    assert sum(bell._is_worth_a_look() for _ in range(1000)) == 10


def test_blocks_never_overlap_and_freed_ones_are_used_again() -> None:
    rng = random.Random(7)
    blocks = BlockList(1 << 40, 1 << 16)
    released: set[int] = set()
    for _ in range(3000):
        size = rng.choice([1, PAGE_BYTES, 70_000, 5_000_000])
        block, _offset, _warm = blocks.allocate(size, lambda number: number in released)
        released.discard(block)
        blocks.check_invariants()
        if len(blocks.used) > 5:
            released.add(rng.choice(list(blocks.used)))
    assert blocks.top < 200_000_000


def test_a_full_heap_says_who_holds_it_and_free_memory_at_its_end_goes_back() -> None:
    blocks = BlockList(10 * PAGE_BYTES, 4)
    held = [blocks.allocate(2 * PAGE_BYTES, lambda number: False)[0] for _ in range(4)]
    with pytest.raises(ValueError, match="held in 4 messages"):
        blocks.allocate(1, lambda number: False)
    blocks.collect(lambda number: number != held[0])
    assert blocks.drop_free(PAGE_BYTES) == [(2 * PAGE_BYTES, 6 * PAGE_BYTES)]
    assert blocks.top == 2 * PAGE_BYTES


def test_results_are_kept_until_asked_for_and_dropped_when_nobody_can_ask() -> None:
    results = Results([0, 1, 0], buffered_max=2)
    for _ in range(3):
        results.submit()
    assert results.in_flight == 3
    results.put(0, "a0")
    results.put(1, "b0")
    assert results.finished == 1 and results.take(0, 0) == "a0" and results.take(0, 1) == "b0"
    assert results.buffered == 1  # Position 2 shares the first one's value.
    results.drop(0, 2)
    assert results.buffered == 0
    for position in range(3):
        results.drop(1, position)
    assert not results.is_wanted(0) and results.may_finish_head()


def test_an_error_among_the_results_settles_an_execution_at_once() -> None:
    results = Results([0, 1], buffered_max=2)
    results.submit()
    failure = Failure(b"")
    assert not results.is_settled(0)
    results.put(1, failure)
    assert results.is_settled(0) and results.take(0, 0) is failure and results.take(0, 1) is failure


def test_more_results_than_may_be_buffered_are_refused() -> None:
    results = Results([0], buffered_max=1)
    results.submit()
    results.submit()
    assert results.is_wanted(0)
    results.put(0, "first")
    with pytest.raises(RayCgraphCapacityExceeded, match="can't have more than 1 buffered results"):
        results.is_wanted(0)
