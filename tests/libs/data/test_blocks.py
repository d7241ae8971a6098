"""Columns, batches and keys: what goes into Arrow comes out the same."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybook.data.batches import from_columns, from_pandas, from_rows, to_batch, to_block, to_numpy_batch, to_rows
from raybook.data.block import concat_blocks, unify_schemas
from raybook.data.columns import to_arrow, to_list
from raybook.data.context import DataContext
from raybook.data.keys import group_bounds, hash_rows, hash_split, range_split, sort_table
from raybook.data.transforms import rebatch

ZONED = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, None],
        [1.5, None, float("inf")],
        [True, None, False],
        ["a", "ü", None],
        [b"x", b"", None],
        [ZONED, None],
        [datetime.date(2024, 1, 1), None],
        [decimal.Decimal("1.20"), None],
        [[1, 2], [], None],
        [{"a": 1, "b": "x"}, None],
        [None, None],
        [1, "a", (2, 3)],
        [2**70, 1],
    ],
    ids=str,
)
def test_python_values_come_back_from_a_column(values):
    column = pa.chunked_array([to_arrow(values)])
    assert to_list(column) == values


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float32", "bool", "datetime64[ms]", "<U3"])
def test_arrays_keep_dtype_and_values(dtype):
    array = np.arange(6).astype(dtype)
    made = to_numpy_batch(from_columns({"x": array}))["x"]
    assert made.tolist() == array.tolist()
    if array.dtype.kind != "U":
        assert made.dtype == array.dtype


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_tensors_of_one_shape_come_back_as_one_array_also_from_slices(dtype):
    array = np.arange(24).reshape(4, 3, 2).astype(dtype)
    table = from_columns({"t": array})
    assert (to_numpy_batch(table.slice(1, 2))["t"] == array[1:3]).all()
    assert (to_rows(table)[3]["t"] == array[3]).all()
    assert to_rows(table)[0]["t"].dtype == array.dtype


def test_ragged_tensors_come_back_each_in_its_shape():
    images = [np.ones((2, 3)), np.zeros((4, 1))]
    table = from_columns({"image": images})
    batch = to_numpy_batch(table)["image"]
    assert batch.dtype == object
    assert [image.shape for image in batch] == [(2, 3), (4, 1)]
    assert to_batch(table, "pandas")["image"][1].shape == (4, 1)


def test_value_that_arrow_cannot_type_is_refused_when_the_fallback_is_off():
    context = DataContext()
    context.enable_fallback_to_arrow_object_ext_type = False
    with DataContext.current(context), pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError), match="'x'"):
        to_arrow([1, "a"], "x")


def test_rows_with_different_columns_get_nulls_and_keep_their_order():
    assert to_rows(from_rows([{"a": 1}, {"b": "x"}])) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert from_rows([{}, {}]).num_rows == 2


def test_columns_of_different_length_are_named():
    with pytest.raises(ValueError, match="'a': 2.*'b': 3"):
        from_columns({"a": [1, 2], "b": [1, 2, 3]})


def test_what_is_no_batch_is_refused_by_type():
    with pytest.raises(TypeError, match="set"):
        to_block({1, 2})


def test_frames_keep_categories_zones_and_tensors():
    frame = pd.DataFrame(
        {
            "c": pd.Categorical(["a", "b", "a"]),
            "z": pd.to_datetime(["2024-01-01"] * 3).tz_localize("Europe/Berlin"),
            "t": [np.ones(2)] * 3,
        },
        index=[5, 6, 7],
    )
    table = from_pandas(frame)
    assert table.column_names == ["c", "z", "t"]
    back = to_batch(table, "pandas")
    assert back["c"].tolist() == ["a", "b", "a"]
    assert str(back["z"].dt.tz) == "Europe/Berlin"
    assert back["t"][2].tolist() == [1, 1]


def test_ten_thousand_columns_are_rows_too():
    table = pa.table({f"c{i}": [i] for i in range(10_000)})
    assert to_rows(table)[0]["c9999"] == 9999
    assert from_rows(to_rows(table)).num_columns == 10_000


def test_blocks_of_different_columns_join_with_nulls():
    joined = concat_blocks([pa.table({"a": [1]}), pa.table({"b": ["x"]}), pa.table({})])
    assert to_rows(joined) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_schemas_at_odds_are_refused():
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        unify_schemas([pa.schema([("a", pa.int64())]), pa.schema([("a", pa.string())])])


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 5))
def test_batches_have_exactly_their_size_but_for_the_last(sizes, batch_size):
    rows = iter(range(1000))
    blocks = [pa.table({"x": pa.array([next(rows) for _ in range(size)], pa.int64())}) for size in sizes]
    batches = [batch.column("x").to_pylist() for batch in rebatch(iter(blocks), batch_size) if batch.num_rows]
    assert [x for batch in batches for x in batch] == list(range(sum(sizes)))
    assert all(len(batch) == batch_size for batch in batches[:-1])


# Keys

values = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=40),
    st.lists(st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, float("nan"), -2.0])), max_size=40),
    st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "ü"])), max_size=40),
)


@given(values, st.integers(1, 5))
def test_equal_keys_meet_in_one_partition_whatever_block_they_are_in(keys, parts):
    whole = pa.table({"k": pa.array(keys), "row": np.arange(len(keys))})
    half = len(keys) // 2
    where: dict[str, set[int]] = {}
    found = []
    for block in (whole.slice(0, half), whole.slice(half)):
        for index, part in enumerate(hash_split(block, ["k"], parts)):
            for row in to_rows(part):
                key = row["k"]
                where.setdefault(
                    "nan" if key != key else repr(key + 0.0 if isinstance(key, float) else key), set()
                ).add(index)
                found.append(row["row"])
    assert sorted(found) == list(range(len(keys)))
    assert all(len(indices) == 1 for indices in where.values())


def test_integers_of_different_width_hash_alike():
    narrow, wide = (pa.table({"k": pa.array([1, -5, 300], kind)}) for kind in (pa.int16(), pa.int64()))
    assert hash_rows(narrow, ["k"]).tolist() == hash_rows(wide, ["k"]).tolist()


@given(values, st.booleans())
def test_ranges_in_order_are_the_whole_in_order(keys, descending):
    whole = pa.table({"k": pa.array(keys, None if any(k is not None for k in keys) else pa.int64())})
    ordered = sort_table(whole, ["k"], [descending])
    limits = ordered.take(pa.array(sorted({len(keys) // 3, len(keys) // 2}))) if len(keys) > 2 else ordered.slice(0, 0)
    parts = range_split(whole, ["k"], [descending], limits.combine_chunks())
    joined = concat_blocks([sort_table(part, ["k"], [descending]) for part in parts])
    assert repr(joined.column("k").to_pylist() if joined.num_rows else []) == repr(ordered.column("k").to_pylist())


def test_runs_of_nulls_and_nans_are_one_group_each():
    table = pa.table({"k": pa.array([1.0, 1.0, float("nan"), float("nan"), None, None])})
    assert group_bounds(table, ["k"]).tolist() == [0, 2, 4, 6]
