"""Memory: data larger than the budget streams through it, and what cannot stream goes to disk."""

from __future__ import annotations

import numpy as np
import pytest

import raybook
from raybook import data
from raybook.api.memory import memory_summary
from raybook.data import DataContext, ExecutionResources
from raybook.data.core.scheduler import MEMORY, OWN_SHARE

# They wait for a disk, which others may be using.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MB = 1 << 20
STORE_BYTES = 100 * MB


@pytest.fixture(scope="module")
def small_store():
    raybook.init(num_cpus=2, object_store_memory=STORE_BYTES)
    yield
    raybook.shutdown()


def wide(batch):
    return {"id": batch["id"], "x": np.zeros((len(batch["id"]), 1000))}


def test_set_of_five_stores_streams_with_a_bounded_number_of_blocks_in_flight(small_store):
    context = DataContext.get_current()
    before = context.execution_options.resource_limits
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=40 * MB)
    try:
        ds = data.range(64_000, override_num_blocks=64).map_batches(wide)  # 64 blocks of 8 MB
        seen = 0
        for batch in ds.iter_batches(batch_size=1000):
            held = sum(view["queued_bytes"] for view in ds._executor.snapshot()) + ds._executor.consumer_bytes
            assert held <= 60 * MB
            seen += len(batch["id"])
        assert seen == 64_000
    finally:
        context.execution_options.resource_limits = before


def test_consumer_that_takes_nothing_holds_the_source_back(small_store, eventually):
    context = DataContext.get_current()
    before = context.execution_options.resource_limits
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=40 * MB)
    try:
        ds = data.range(64_000, override_num_blocks=64).map_batches(wide)
        batches = iter(ds.iter_batches(batch_size=1000))
        next(batches)
        eventually(lambda: ds._executor.scheduler.reasons[0] in (MEMORY, OWN_SHARE) and ds._executor.waits_for_consumer)
        assert ds._executor.operators[0].stats.blocks <= 8
        assert 1 + sum(1 for _ in batches) == 64
    finally:
        context.execution_options.resource_limits = before


def on_disk_bytes():
    """What of this process's objects the store has written to disk and keeps there."""
    return sum(row["size_bytes"] for row in memory_summary() if row["kind"] == "ON_DISK")


def counted(batch):
    return {"n": [len(batch["id"])], "s": [batch["id"].sum()]}


def test_sort_of_two_stores_is_exact_and_lies_on_disk(small_store):
    ds = data.range(25_000, override_num_blocks=20).map_batches(wide)  # 200 MB
    ordered = ds.sort("id", descending=True).materialize()
    assert on_disk_bytes() >= ordered.size_bytes() - STORE_BYTES > 90 * MB
    blocks = ordered.select_columns(["id"]).iter_batches(batch_size=None)
    assert np.concatenate([block["id"] for block in blocks]).tolist() == list(range(25_000))[::-1]


def test_shuffle_and_join_of_two_stores_are_exact(small_store):
    ds = data.range(25_000, override_num_blocks=20).map_batches(wide)
    evens = data.range(12_500).map_batches(lambda batch: {"id": batch["id"] * 2})
    shuffled = ds.random_shuffle(seed=1).map_batches(counted).take_all()
    joined = ds.join(evens, "inner", 6).map_batches(counted).take_all()
    assert sum(row["n"] for row in shuffled) == 25_000 and sum(row["n"] for row in joined) == 12_500
    assert sum(row["s"] for row in shuffled) == sum(range(25_000))
    assert sum(row["s"] for row in joined) == sum(range(0, 25_000, 2))
