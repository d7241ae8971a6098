"""Random plans against pandas: the same steps on a data frame and on a dataset give the same rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raybook import data
from raybook.data import DataContext
from raybook.data.expressions import col

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.integers(0, 3),
            "v": st.one_of(st.none(), st.floats(-100, 100, width=32)),
            "s": st.one_of(st.none(), st.sampled_from(["a", "b", ""])),
        }
    ),
    min_size=1,
    max_size=30,
)
step = st.one_of(
    st.tuples(st.just("where"), st.integers(0, 3)),
    st.tuples(st.just("where function"), st.integers(0, 3)),
    st.tuples(st.just("plus"), st.integers(-2, 2)),
    st.tuples(st.just("sort"), st.booleans()),
    st.tuples(st.just("limit"), st.integers(0, 25)),
    st.tuples(st.just("repartition"), st.integers(1, 4)),
    st.tuples(st.just("batches"), st.integers(1, 7)),
    st.tuples(st.just("twice"), st.just(0)),
    st.tuples(st.just("flat"), st.just(0)),
)


def on_dataset(ds, name, value):
    if name == "where":
        return ds.filter(expr=col("k") >= value)
    if name == "where function":
        return ds.filter(lambda row: row["k"] >= value)
    if name == "plus":
        return ds.with_column("k", col("k") + value)
    if name == "sort":
        return ds.sort(["k", "v"], descending=[value, False])
    if name == "limit":
        return ds.limit(value)
    if name == "repartition":
        return ds.repartition(value)
    if name == "batches":
        return ds.map_batches(lambda batch: batch, batch_size=value, batch_format="pyarrow")
    if name == "twice":
        return ds.union(ds)
    return ds.flat_map(lambda row: [row] * (row["k"] % 3))


def on_rows(found, name, value):
    if name in ("where", "where function"):
        return [row for row in found if row["k"] >= value]
    if name == "plus":
        return [{**row, "k": row["k"] + value} for row in found]
    if name == "sort":
        return sorted(
            found, key=lambda row: (-row["k"] if value else row["k"], row["v"] is None, row["v"] if row["v"] else 0.0)
        )
    if name == "limit":
        return found[:value]
    if name == "twice":
        return found + found
    if name == "flat":
        return [row for row in found for _ in range(row["k"] % 3)]
    return found


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(rows, st.lists(step, max_size=5), st.integers(1, 4))
def test_steps_in_any_order_give_the_rows_that_python_gives_in_order(values, steps, blocks):
    context = DataContext.get_current()
    before = context.target_min_block_size, context.target_max_block_size
    # Small data that is exchanged between partitions all the same.
    context.target_min_block_size, context.target_max_block_size = 1, 500
    try:
        ds = data.from_items(values, override_num_blocks=blocks)
        expected = values
        for name, value in steps:
            ds, expected = on_dataset(ds, name, value), on_rows(expected, name, value)
        assert ds.take_all() == expected
        assert ds.count() == len(expected)
    finally:
        context.target_min_block_size, context.target_max_block_size = before


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(rows, st.integers(1, 4), st.sampled_from(["k", "s"]))
def test_aggregates_of_groups_are_those_of_pandas(values, blocks, key):
    frame = pd.DataFrame(values, columns=["k", "v", "s"]).astype({"v": "float64", "s": object})
    frame["s"] = frame["s"].where(frame["s"].notna(), None)
    theirs = frame.groupby(key, dropna=False)["v"].agg(["size", "sum", "min", "mean", "std"]).reset_index()
    ds = data.from_items(values, override_num_blocks=blocks)
    if ds.schema().types[1] == "null":
        return
    grouped = ds.with_column("v", col("v").cast(data.datatype.DataType.float64())).groupby(key)
    mine = {row[key]: row for row in grouped.count().take_all()}
    for made in (grouped.sum("v"), grouped.min("v"), grouped.mean("v"), grouped.std("v")):
        for row in made.take_all():
            mine[row[key]].update(row)
    assert len(mine) == len(theirs)
    for want in theirs.itertuples(index=False):
        label = getattr(want, key)
        row = mine[None if not isinstance(label, str) and pd.isna(label) else label]
        assert row["count()"] == want.size
        for name in ("min", "mean", "std"):
            _same(row[f"{name}(v)"], getattr(want, name))
        _same(row["sum(v)"] or 0.0, want.sum)


def _same(mine, theirs):
    if mine is None or math.isnan(mine):
        assert np.isnan(theirs)
    else:
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-6)
