"""Memory: data larger than the budget streams through it, and what cannot stream goes to disk."""

from __future__ import annotations

import numpy as np
import pytest

import raybook
from raybook import data
from raybook.data import DataContext, ExecutionResources
from raybook.data.core.scheduler import MEMORY, OWN_SHARE

pytestmark = pytest.mark.slow
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


def test_sort_and_shuffle_of_two_stores_are_exact(small_store):
    ds = data.range(25_000, override_num_blocks=20).map_batches(wide)  # 200 MB
    shuffled = ds.random_shuffle(seed=1)
    counted = shuffled.map_batches(lambda batch: {"n": [len(batch["id"])], "s": [batch["id"].sum()]}).take_all()
    assert sum(row["n"] for row in counted) == 25_000
    assert sum(row["s"] for row in counted) == sum(range(25_000))
    last = -1
    for batch in ds.sort("id", descending=False).iter_batches(batch_size=None, batch_format="pyarrow"):
        ids = batch.column("id").to_numpy()
        assert (np.diff(ids) >= 0).all() and (not len(ids) or ids[0] > last)
        last = ids[-1]
    assert last == 24_999
