"""Datasets on a real cluster: transforms, order, groups, joins, and what is said of wrong arguments."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import raybook
from raybook import data
from raybook.data import ActorPoolStrategy, DataContext, Datasink, TaskPoolStrategy
from raybook.data.aggregate import (
    AbsMax,
    AggregateFn,
    AggregateFnV2,
    Count,
    CountDistinct,
    Max,
    Quantile,
    Std,
    Sum,
    Unique,
)
from raybook.data.expressions import col, lit
from raybook.exceptions import RayTaskError, UserCodeException

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def ids(dataset):
    return [row["id"] for row in dataset.take_all()]


# Rows


def test_rows_keep_their_order_through_maps_and_filters():
    ds = data.range(1000, override_num_blocks=7)
    made = ds.map(lambda row: {"id": row["id"] * 2}).filter(lambda row: row["id"] % 3 == 0)
    assert ids(made) == [i * 2 for i in range(1000) if i * 2 % 3 == 0]


def test_flat_map_makes_any_number_of_rows_of_one():
    assert ids(data.range(4).flat_map(lambda row: [row] * row["id"])) == [1, 2, 2, 3, 3, 3]
    assert ids(data.range(3).flat_map(lambda row: ({"id": n} for n in range(row["id"])))) == [0, 0, 1]


@pytest.mark.parametrize(
    ("batch_format", "kind"), [("default", dict), ("numpy", dict), ("pandas", pd.DataFrame), ("pyarrow", pa.Table)]
)
def test_batches_come_in_the_format_asked_for(batch_format, kind):
    def check(batch):
        assert isinstance(batch, kind)
        return batch

    assert ids(data.range(20).map_batches(check, batch_size=6, batch_format=batch_format)) == list(range(20))


def test_batches_have_the_size_asked_for_across_blocks():
    blocks = data.range(10, override_num_blocks=10).materialize()
    sizes = blocks.map_batches(lambda batch: {"size": [len(batch["id"])]}, batch_size=5)
    assert [row["size"] for row in sizes.take_all()] == [5, 5]


def test_function_may_yield_batches_and_change_their_number_of_rows():
    def halves(batch):
        yield {"id": batch["id"][:1]}
        yield {"id": batch["id"][1:2]}

    assert ids(data.range(9, override_num_blocks=3).map_batches(halves)) == [0, 1, 3, 4, 6, 7]


def test_batches_are_views_unless_a_copy_is_asked_for():
    def flags(batch):
        return {"writable": [batch["id"].flags.writeable]}

    block = data.range(10).materialize()
    assert not any(row["writable"] for row in block.map_batches(flags).take_all())
    assert all(row["writable"] for row in block.map_batches(flags, zero_copy_batch=False).take_all())


def test_class_is_made_once_an_actor_and_gets_its_arguments():
    class Counter:
        def __init__(self, start, *, step):
            self.n = start
            self.step = step

        def __call__(self, batch, shift):
            self.n += self.step
            return {"id": batch["id"] + shift, "calls": np.full(len(batch["id"]), self.n)}

    made = data.range(40, override_num_blocks=8).map_batches(
        Counter,
        fn_constructor_args=(100,),
        fn_constructor_kwargs={"step": 1},
        fn_args=(1000,),
        compute=ActorPoolStrategy(size=1),
    )
    rows = made.take_all()
    assert sorted(row["id"] for row in rows) == list(range(1000, 1040))
    assert {row["calls"] for row in rows} == set(range(101, 109))


def test_asynchronous_class_keeps_the_order_of_its_rows():
    class Slow:
        async def __call__(self, row):
            return {"id": row["id"] + 1}

    assert sorted(ids(data.range(20).map(Slow, concurrency=1))) == list(range(1, 21))


def test_columns_are_added_dropped_selected_renamed():
    ds = data.from_items([{"a": 1, "b": 2.0, "c": "x"}, {"a": 3, "b": 4.0, "c": "y"}])
    assert ds.select_columns(["c", "a"]).take(1) == [{"c": "x", "a": 1}]
    assert ds.drop_columns(["b"]).columns() == ["a", "c"]
    assert ds.rename_columns({"a": "z"}).columns() == ["z", "b", "c"]
    assert ds.rename_columns(["x", "y", "w"]).columns() == ["x", "y", "w"]
    assert ds.add_column("d", lambda frame: frame["a"] * 2).take_all()[1]["d"] == 6
    assert ds.with_column("e", col("a") + col("b")).take(1)[0]["e"] == 3.0
    assert ds.with_columns({"f": lit(1), "a": col("a") * 10}).take(1) == [{"a": 10, "b": 2.0, "c": "x", "f": 1}]


def test_expression_and_function_filter_alike():
    ds = data.range(100)
    assert ids(ds.filter(expr=(col("id") > 90) & (col("id") != 95))) == ids(
        ds.filter(lambda row: row["id"] > 90 and row["id"] != 95)
    )
    assert ids(ds.filter(expr="id >= 98")) == [98, 99]


def test_sample_is_about_its_share_and_the_same_for_the_same_seed():
    ds = data.range(10_000)
    first = ids(ds.random_sample(0.1, seed=3))
    assert 800 < len(first) < 1200
    assert first == ids(ds.random_sample(0.1, seed=3))


def test_odd_values_survive_a_map():
    values = [{"x": None}, {"x": [1, None]}, {"x": []}]
    assert data.from_items(values).map(lambda row: row).take_all() == values
    mixed = data.from_items([1, "a", (2, 3)], override_num_blocks=1).map(lambda row: row)
    assert [row["item"] for row in mixed.take_all()] == [1, "a", (2, 3)]
    image = np.arange(6).reshape(2, 3)
    assert (data.from_items([{"i": image}] * 3).map(lambda row: {"i": row["i"] + 1}).take(1)[0]["i"] == image + 1).all()


# Order, limits, blocks


def test_limit_runs_no_more_than_it_needs(tmp_path):
    def note(row):
        (tmp_path / str(row["id"])).touch()
        return row

    assert ids(data.range(1000, override_num_blocks=100).map(note).limit(5)) == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.iterdir())) < 500
    assert data.range(10).limit(0).take_all() == []


def test_repartition_keeps_rows_in_order_in_the_number_of_blocks_asked_for():
    ds = data.range(100, override_num_blocks=3).repartition(7).materialize()
    assert ds.num_blocks() == 7
    assert ids(ds) == list(range(100))
    by_rows = data.range(100).repartition(target_num_rows_per_block=30).materialize()
    assert [len(raybook.get(ref)) for ref in by_rows.to_arrow_refs()] == [30, 30, 30, 10]


def test_repartition_by_key_brings_equal_keys_together():
    ds = data.range(100).map(lambda row: {"k": row["id"] % 5, "id": row["id"]}).repartition(3, keys=["k"], sort=True)
    blocks = [set(table.column("k").to_pylist()) for table in raybook.get(ds.to_arrow_refs()) if len(table)]
    assert sum(len(keys) for keys in blocks) == 5


def test_shuffle_moves_all_rows_and_repeats_with_its_seed():
    ds = data.range(500, override_num_blocks=4)
    first = ids(ds.random_shuffle(seed=7))
    assert first != list(range(500))
    assert sorted(first) == list(range(500))
    assert first == ids(ds.random_shuffle(seed=7))
    assert first != ids(ds.random_shuffle(seed=8))
    assert sorted(ids(ds.randomize_block_order(seed=1))) == list(range(500))


@pytest.fixture
def many_partitions():
    """Small data that is still exchanged between several partitions."""
    context = DataContext.get_current()
    before = context.target_min_block_size, context.target_max_block_size
    context.target_min_block_size, context.target_max_block_size = 1, 2000
    yield
    context.target_min_block_size, context.target_max_block_size = before


def test_sort_over_partitions_is_exact_and_nulls_come_last(many_partitions):
    values = [None if i % 50 == 0 else (i * 7919) % 1000 for i in range(1000)]
    ds = data.from_items([{"v": v, "i": i} for i, v in enumerate(values)], override_num_blocks=6)
    expected = sorted(range(1000), key=lambda i: (values[i] is None, values[i] or 0))
    assert [row["i"] for row in ds.sort("v").take_all()] == expected
    down = [row["v"] for row in ds.sort("v", descending=True).take_all()]
    assert down == sorted((v for v in values if v is not None), reverse=True) + [None] * 20
    two = [
        (row["a"], row["b"])
        for row in ds.map(lambda r: {"a": r["i"] % 3, "b": str(r["i"])})
        .sort(["a", "b"], descending=[True, False])
        .take_all()
    ]
    assert two == sorted(two, key=lambda pair: (-pair[0], pair[1]))


def test_given_boundaries_make_the_blocks_of_a_sort():
    ds = data.range(100).sort("id", boundaries=[10, 50]).materialize()
    assert [table.num_rows for table in raybook.get(ds.to_arrow_refs())] == [10, 40, 50]


# Groups


def test_groups_agree_with_pandas_over_partitions(many_partitions):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"k": rng.integers(0, 40, 2000), "s": rng.choice(["a", "b"], 2000), "v": rng.normal(1e6, 1, 2000)}
    )
    ds = data.from_pandas(frame, override_num_blocks=5)
    for keys in ("k", ["k", "s"]):
        mine = ds.groupby(keys).aggregate(Count(), Sum("v"), Max("v"), Std("v"), AbsMax("v")).to_pandas()
        mine = mine.sort_values(keys).reset_index(drop=True)
        theirs = frame.groupby(keys)["v"].agg(["size", "sum", "max", "std", lambda v: v.abs().max()]).reset_index()
        for name, other in zip(
            ["count()", "sum(v)", "max(v)", "std(v)", "abs_max(v)"], theirs.columns[-5:], strict=True
        ):
            np.testing.assert_allclose(mine[name], theirs[other], rtol=1e-9)


def test_nulls_are_ignored_or_spoil_the_group_as_asked():
    ds = data.from_items([{"k": 0, "v": 1.0}, {"k": 0, "v": None}, {"k": 1, "v": 3.0}])
    assert ds.groupby("k").sum("v").take_all() == [{"k": 0, "sum(v)": 1.0}, {"k": 1, "sum(v)": 3.0}]
    assert ds.groupby("k").mean("v", ignore_nulls=False).take_all() == [
        {"k": 0, "mean(v)": None},
        {"k": 1, "mean(v)": 3.0},
    ]
    assert ds.aggregate(Count(), Count("v", ignore_nulls=True, alias_name="n")) == {"count()": 3, "n": 2}


def test_whole_dataset_aggregates_and_empty_ones_give_none():
    ds = data.range(11)
    assert (ds.sum("id"), ds.min("id"), ds.max("id"), ds.mean("id")) == (55, 0, 10, 5.0)
    assert ds.std("id") == pytest.approx(np.std(range(11), ddof=1))
    assert ds.sum(["id"]) == 55
    assert data.from_items([{"a": 1, "b": 2}]).sum() == {"sum(a)": 1, "sum(b)": 2}
    empty = ds.filter(expr="id > 100")
    assert empty.sum("id") is None
    assert empty.count() == 0
    assert sorted(ds.map(lambda row: {"m": row["id"] % 3}).unique("m")) == [0, 1, 2]


def test_aggregations_of_ones_own_and_by_python():
    class Longest(AggregateFnV2):
        def __init__(self, on):
            super().__init__(f"longest({on})", lambda: "", on=on, ignore_nulls=True)

        def aggregate_block(self, block):
            return max(block.column(self.get_target_column()).to_pylist(), key=len)

        def combine(self, current_accumulator, new):
            return max(current_accumulator, new, key=len)

    product = AggregateFn(
        init=lambda key: 1,
        accumulate_row=lambda accumulator, row: accumulator * (row["id"] + 1),
        merge=lambda first, second: first * second,
        name="product",
    )
    ds = data.range(6, override_num_blocks=3).map(lambda row: {**row, "s": "x" * row["id"], "k": row["id"] % 2})
    made = ds.groupby("k").aggregate(product, Longest("s"), Quantile("id"), CountDistinct("id"), Sum("id")).take_all()
    assert made == [
        {"k": 0, "product": 15, "longest(s)": "xxxx", "quantile(id)": 2.0, "count_distinct(id)": 3, "sum(id)": 6},
        {"k": 1, "product": 48, "longest(s)": "xxxxx", "quantile(id)": 3.0, "count_distinct(id)": 3, "sum(id)": 9},
    ]
    assert sorted(ds.aggregate(Unique("k"))["unique(k)"]) == [0, 1]


def test_map_groups_gives_each_group_whole(many_partitions):
    ds = data.range(300, override_num_blocks=5).map(lambda row: {"k": row["id"] % 7, "v": row["id"]})
    made = ds.groupby("k").map_groups(
        lambda group: {"k": group["k"][:1], "n": [len(group["v"])], "s": [group["v"].sum()]}
    )
    rows = sorted(made.take_all(), key=lambda row: row["k"])
    assert [(row["k"], row["n"]) for row in rows] == [(k, len(range(k, 300, 7))) for k in range(7)]
    assert sum(row["s"] for row in rows) == sum(range(300))
    frames = ds.groupby("k").map_groups(lambda frame: frame.tail(1), batch_format="pandas").take_all()
    assert sorted(row["v"] for row in frames) == list(range(293, 300))


# Several datasets


@pytest.mark.parametrize("how", ["inner", "left_outer", "right_outer", "full_outer", "left_semi", "left_anti"])
def test_joins_agree_with_pandas(how):
    left = pd.DataFrame({"id": [1, 2, 2, 3, 4], "l": list("abcde")})
    right = pd.DataFrame({"key": [2, 3, 3, 9], "r": [20, 30, 31, 90]})
    mine = data.from_pandas(left, override_num_blocks=2).join(
        data.from_pandas(right, override_num_blocks=2), how, 3, on=("id",), right_on=("key",)
    )
    key = "key" if how == "right_outer" else "id"  # As Arrow and Ray name it.
    rows = sorted((str(row[key]), str(row.get("l")), str(row.get("r"))) for row in mine.take_all())
    if how == "left_semi":
        expected = left[left["id"].isin(right["key"])].assign(r=None)
    elif how == "left_anti":
        expected = left[~left["id"].isin(right["key"])].assign(r=None)
    else:
        expected = (
            pa.table({"id": left["id"], "l": left["l"]})
            .join(pa.table({"key": right["key"], "r": right["r"]}), "id", "key", join_type=how.replace("_", " "))
            .to_pandas(types_mapper=pd.ArrowDtype)
        )
    want = sorted(
        (str(i), *("None" if value is None or value is pd.NA else str(value) for value in (left_value, right_value)))
        for i, left_value, right_value in expected[[key, "l", "r"]].itertuples(index=False)
    )
    assert rows == want


def test_join_carries_tensors_and_tells_columns_of_one_name_apart():
    left = data.from_items([{"id": i, "v": np.full((2, 2), i)} for i in range(3)])
    right = data.from_items([{"id": i, "v": -i} for i in range(3)])
    with pytest.raises(ValueError, match="suffix"):
        left.join(right, "inner", 1)
    rows = left.join(right, "inner", 2, right_suffix="_r").sort("id").take_all()
    assert [(row["v"].sum(), row["v_r"]) for row in rows] == [(0, 0), (4, -1), (8, -2)]


def test_zip_aligns_blocks_that_are_cut_differently():
    one, other = data.range(20, override_num_blocks=3), data.range(20, override_num_blocks=7)
    rows = one.zip(other.map(lambda row: {"id": -row["id"], "x": row["id"]})).take_all()
    assert rows == [{"id": i, "id_1": -i, "x": i} for i in range(20)]
    with pytest.raises(ValueError, match="20, 19"):
        one.zip(data.range(19)).take_all()


def test_union_and_mix_have_all_rows():
    assert ids(data.range(3).union(data.range(2), data.range(1))) == [0, 1, 2, 0, 1, 0]
    mixed = data.range(6, override_num_blocks=6).mix(data.range(3, override_num_blocks=3), weights=[0.7, 0.3])
    assert sorted(ids(mixed)) == [0, 0, 1, 1, 2, 2, 3, 4, 5]


def test_part_that_is_used_twice_gives_both_uses_the_same_rows():
    ds = data.range(50).random_shuffle()
    rows = ds.zip(ds.map(lambda row: {"other": row["id"]})).take_all()
    assert all(row["id"] == row["other"] for row in rows)


# Splits and iteration


def test_splits_have_all_rows_in_order():
    ds = data.range(100, override_num_blocks=4)
    assert [part.count() for part in ds.split(4)] == [25] * 4
    assert [part.count() for part in ds.split(3, equal=True)] == [33] * 3
    assert [ids(part) for part in ds.split_at_indices([2, 97])] == [[0, 1], list(range(2, 97)), [97, 98, 99]]
    assert [part.count() for part in ds.split_proportionately([0.5, 0.3])] == [50, 30, 20]
    train, test = ds.train_test_split(0.2)
    assert (ids(train), ids(test)) == (list(range(80)), list(range(80, 100)))
    train, test = ds.streaming_train_test_split(0.3, seed=1)
    assert sorted(ids(train) + ids(test)) == list(range(100))


def test_stratified_split_keeps_shares():
    ds = data.from_items([{"k": "a" if i < 80 else "b", "i": i} for i in range(100)])
    train, test = ds.train_test_split(0.25, stratify="k")
    assert {k: sum(row["k"] == k for row in test.take_all()) for k in "ab"} == {"a": 20, "b": 5}
    assert train.columns() == ["k", "i"]


@pytest.mark.parametrize("equal", [True, False])
def test_streaming_split_gives_disjoint_shards_in_every_pass(equal):
    shards = data.range(101, override_num_blocks=8).streaming_split(2, equal=equal)
    got = [[], []]

    def consume(index):
        for _ in range(2):
            got[index].append([row["id"] for row in shards[index].iter_rows()])

    threads = [threading.Thread(target=consume, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for first, second in zip(*got, strict=True):
        assert not set(first) & set(second)
        assert len(first) + len(second) == (100 if equal else 101)
        assert not equal or len(first) == len(second)


def test_batches_are_iterated_in_order_again_and_again():
    batches = data.range(100, override_num_blocks=7).map(lambda row: row).iter_batches(batch_size=32)
    for _ in range(2):
        assert [batch["id"].tolist() for batch in batches] == [
            list(range(start, min(start + 32, 100))) for start in range(0, 100, 32)
        ]
    assert [len(b["id"]) for b in data.range(70).iter_batches(batch_size=32, drop_last=True)] == [32, 32]
    assert next(iter(data.range(3).iter_batches(batch_format="pandas")))["id"].tolist() == [0, 1, 2]


def test_local_shuffle_has_each_row_once_and_repeats_with_its_seed():
    def order(seed):
        batches = data.range(300).iter_batches(batch_size=50, local_shuffle_buffer_size=100, local_shuffle_seed=seed)
        return [i for batch in batches for i in batch["id"].tolist()]

    assert sorted(order(1)) == list(range(300)) != order(1)
    assert order(1) == order(1) != order(2)


def test_torch_batches_are_tensors_of_their_own_memory():
    torch = pytest.importorskip("torch")
    ds = data.range(10).map_batches(lambda batch: {"x": batch["id"], "y": np.ones((len(batch["id"]), 2))})
    batch = next(iter(ds.iter_torch_batches(batch_size=4, dtypes={"x": torch.float32})))
    assert batch["x"].dtype is torch.float32 and batch["y"].shape == (4, 2)
    batch["y"] += 1
    assert [x for b in ds.iter_torch_batches(collate_fn=lambda b: b["x"].sum()) for x in [b]] == [45]
    features, label = next(iter(ds.to_torch(label_column="x", batch_size=3)))
    assert label.shape == (3, 1)


def test_iteration_that_is_dropped_stops_and_the_cluster_goes_on():
    iterator = iter(data.range(100_000, override_num_blocks=50).map_batches(lambda batch: batch).iter_batches())
    next(iterator)
    del iterator
    assert data.range(5).count() == 5


# What is said of a dataset


def test_repr_and_html_do_not_run_anything():
    def explode(row):
        raise AssertionError("this must not run")

    ds = data.range(10).map(explode)
    table = ["shape: (10, 1)", "╭───────╮", "│ id    │", "│ ---   │", "│ int64 │", "╰───────╯"]
    assert repr(data.range(10)).splitlines() == [*table, "(Dataset isn't materialized)"]
    assert repr(ds) == "Map(explode)\n+- Dataset(num_rows=10, schema={id: int64})"
    assert "Map(explode)" in ds._repr_html_()


def test_repr_of_a_materialized_dataset_has_its_first_and_last_rows():
    few = data.from_arrow(pa.table({"a": [1], "text": ["x" * 50]}))
    few.set_name("few")
    lines = repr(few).splitlines()
    assert lines[:2] == ["name: few", "shape: (1, 2)"] and lines[-1] == "(Showing 1 of 1 rows)"
    assert lines[7] == f"│ 1     ┆ {'x' * 39}… │"
    many = data.range(100, override_num_blocks=30).materialize()
    shown = [line.strip("│ ") for line in repr(many).splitlines()[6:-2]]
    assert shown == ["0", "1", "2", "3", "4", "…", "95", "96", "97", "98", "99"]
    assert repr(many).endswith("(Showing 10 of 100 rows)")
    assert repr(data.from_items([])) == "MaterializedDataset(num_blocks=1, num_rows=0, schema=Unknown schema)"


def test_explain_and_stats_name_the_operators(capsys):
    ds = data.range(10).flat_map(lambda row: [row]).limit(3)
    ds.explain()
    shown = capsys.readouterr().out
    assert "-------- Logical Plan --------" in shown and "ReadRange->FlatMap(<lambda>)" in shown
    assert "FlatMap[FlatMap(<lambda>)]\n   +- Read[ReadRange]\n" in shown and "-------- Physical Plan --------" in shown
    assert ds.stats() == ""
    ds.take_all()
    assert "ReadRange->FlatMap(<lambda>): " in ds.stats()


def test_counts_and_schemas_that_are_known_cost_no_run():
    def explode(batch):
        raise AssertionError("this must not run")

    assert data.range(10).select_columns(["id"]).limit(4).count() == 4
    assert data.range(10).map_batches(explode).schema(fetch_if_missing=False) is None
    assert data.range(10).sort("id").schema().names == ["id"]
    assert data.from_items([{"a": 1.5}]).schema().types == [pa.float64()]


def test_forms_of_the_whole():
    ds = data.from_pandas([pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})])
    assert ds.num_blocks() == 2
    assert ds.to_pandas()["a"].tolist() == [1, 2, 3]
    assert [table.num_rows for table in raybook.get(ds.to_arrow_refs())] == [2, 1]
    assert raybook.get(ds.to_numpy_refs(column="a"))[1].tolist() == [3]
    assert data.from_arrow_refs(ds.to_arrow_refs()).take_all() == ds.take_all()
    assert data.from_numpy_refs([raybook.put(np.arange(3))]).take(1) == [{"data": 0}]
    assert data.from_pandas_refs(ds.to_pandas_refs()).count() == 3
    assert ds.take_batch(2)["a"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="more than the given limit of 2"):
        ds.take_all(limit=2)
    assert data.range_tensor(3, shape=(2, 2)).take_batch()["data"].shape == (3, 2, 2)
    assert data.from_numpy(np.ones((3, 4))).take_batch()["data"].shape == (3, 4)


class ListSink(Datasink):
    """Gives back what it wrote; fails for a row that it does not like."""

    def __init__(self, bad=None):
        self.bad, self.events = bad, []

    def on_write_start(self, schema=None):
        self.events.append(("start", schema.names if schema else None))

    def write(self, blocks, ctx):
        rows = [row for block in blocks for row in block.to_pylist()]
        if self.bad in [row["id"] for row in rows]:
            raise OSError("disk full")
        return [row["id"] for row in rows]

    def on_write_complete(self, write_result):
        self.events.append(("complete", write_result.num_rows, sorted(sum(write_result.write_returns, []))))

    def on_write_failed(self, error):
        self.events.append(("failed", type(error)))


def test_sink_is_told_of_start_and_end_or_failure():
    sink = ListSink()
    data.range(10, override_num_blocks=3).write_datasink(sink)
    assert sink.events == [("start", ["id"]), ("complete", 10, list(range(10)))]
    failing = ListSink(bad=7)
    with pytest.raises(OSError, match="disk full"):
        data.range(10, override_num_blocks=3).write_datasink(failing)
    assert failing.events[1][0] == "failed"


# Errors


def test_what_a_function_raises_is_both_its_class_and_ours_and_names_the_row():
    def fail_on_seven(row):
        if row["id"] == 7:
            raise KeyError("seven")
        return row

    with pytest.raises(KeyError) as caught:
        data.range(10, override_num_blocks=1).map(fail_on_seven).take_all()
    assert isinstance(caught.value, UserCodeException) and isinstance(caught.value, RayTaskError)
    assert "fail_on_seven" in str(caught.value) and "row 7" in str(caught.value)


def test_batch_that_fails_is_numbered_with_its_columns():
    with pytest.raises(ZeroDivisionError, match=r"batch 0 of task 0, 5 rows of columns \['id'\]"):
        data.range(5, override_num_blocks=1).map_batches(lambda batch: 1 / 0).take_all()


def test_errors_are_left_out_up_to_the_number_allowed():
    def fail_in_some(batch):
        if batch["id"][0] in (0, 20):
            raise ValueError("bad block")
        return batch

    context = DataContext.get_current()
    ds = data.range(50, override_num_blocks=5)
    context.max_errored_blocks = 2
    try:
        assert ids(data.range(50, override_num_blocks=5).map_batches(fail_in_some)) == [*range(10, 20), *range(30, 50)]
        context.max_errored_blocks = 1
        with pytest.raises(ValueError, match="bad block"):
            data.range(50, override_num_blocks=5).map_batches(fail_in_some).take_all()
    finally:
        context.max_errored_blocks = 0
    with pytest.raises(ValueError, match="bad block"):
        ds.map_batches(fail_in_some).take_all()


def test_worker_that_dies_is_replaced_and_no_row_is_lost(tmp_path):
    def die_once(batch):
        import os

        mark = tmp_path / "died"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return batch

    assert ids(data.range(40, override_num_blocks=4).map_batches(die_once)) == list(range(40))


@pytest.mark.parametrize(
    ("run", "error", "words"),
    [
        (lambda ds: ds.map(lambda row: 1).take_all(), ValueError, "Standalone Python objects are not allowed"),
        (lambda ds: ds.map_batches(lambda batch: 1).take_all(), ValueError, "returned a value of type"),
        (lambda ds: ds.map_batches(lambda batch: {"a": 1}).take_all(), ValueError, "key 'a'"),
        (lambda ds: ds.flat_map(lambda row: row).take_all(), ValueError, "list of rows"),
        (lambda ds: ds.map_batches(lambda b: b, batch_size=0), ValueError, "[Bb]atch size"),
        (lambda ds: ds.map_batches(lambda b: b, batch_format="nope"), ValueError, "isn't allowed"),
        (lambda ds: ds.map_batches(3), TypeError, "callable"),
        (lambda ds: ds.map(lambda r: r, compute=ActorPoolStrategy(size=1)), ValueError, "regular functions"),
        (lambda ds: ds.map(dict, compute=TaskPoolStrategy()), ValueError, "callable classes"),
        (lambda ds: ds.select_columns(["nope"]), ValueError, "nope"),
        (lambda ds: ds.sort("nope"), ValueError, "nope"),
        (lambda ds: ds.groupby("nope"), ValueError, "nope"),
        (lambda ds: ds.groupby("id").sum("nope"), ValueError, "nope"),
        (lambda ds: ds.filter(), ValueError, "Exactly one"),
        (lambda ds: ds.repartition(), ValueError, "must be set"),
        (lambda ds: ds.limit(1.5), ValueError, "integer"),
        (lambda ds: ds.drop_columns(["nope"]), KeyError, "nope"),
        (lambda ds: ds.random_sample(2), ValueError, "between 0 and 1"),
        (lambda ds: ds.join(ds, "outer", 1), ValueError, "not a valid join type"),
        (lambda ds: ds.split_at_indices([3, 1]), ValueError, "sorted"),
        (lambda ds: ds.iter_batches(batch_size=0), ValueError, "batch_size"),
        (lambda ds: len(ds), AttributeError, "count"),
        (lambda ds: list(ds), TypeError, "iterable"),
    ],
)
def test_wrong_use_is_refused(run, error, words):
    with pytest.raises(error, match=words):
        run(data.range(10))


def test_function_that_cannot_be_pickled_fails_before_anything_runs():
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        data.range(10).map(lambda row: {"x": lock}).take_all()
