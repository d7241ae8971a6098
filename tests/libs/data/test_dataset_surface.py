"""What users call beside the transforms: collate functions, sketches, conversions, lineage, lookups, summaries."""

from __future__ import annotations

import itertools
import random
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raybook import data, get
from raybook.data import DataIterator, DatasetSummary, Schema
from raybook.data.aggregate import ApproximateQuantile, ApproximateTopK, Max
from raybook.data.collate_fn import ArrowBatchCollateFn, NumpyBatchCollateFn, PandasBatchCollateFn
from raybook.data.datatype import DataType, TypeCategory
from raybook.data.iterator import ahead

# Pure parts


def test_batches_ahead_come_in_order_and_none_is_made_when_the_consumer_has_gone():
    made: list[int] = []

    def convert(value: int) -> int:
        made.append(value)
        return value * 10

    assert list(ahead(iter(range(5)), convert, 2)) == [0, 10, 20, 30, 40]
    made.clear()
    batches = ahead(iter(range(100)), convert, 2)
    assert next(batches) == 0
    batches.close()
    assert max(made) <= 2


def test_converter_that_raises_reaches_the_consumer_behind_the_batches_before():
    batches = ahead(iter([1, 2, 0, 4]), lambda value: 12 // value, 1)
    assert list(itertools.islice(batches, 2)) == [12, 6]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_batches_without_prefetching_are_made_in_the_consumers_thread():
    threads = {name for name in ahead(iter(range(3)), lambda value: threading.current_thread().name, 0)}
    assert threads == {threading.current_thread().name}


@pytest.mark.parametrize("blocks", [1, 7])
def test_quantiles_of_a_sketch_are_near_the_exact_ones(blocks):
    values = np.random.default_rng(3).normal(size=200_000)
    wanted = [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]
    sketch = ApproximateQuantile("x", wanted)
    merged = None
    for part in np.array_split(values, blocks):
        made = sketch.aggregate_block(pa.table({"x": part}))
        merged = made if merged is None else sketch.combine(merged, made)
    found = sketch.finalize(merged)
    ranks = np.searchsorted(np.sort(values), found) / len(values)
    assert np.abs(ranks - np.array(wanted)).max() < 0.0035
    assert (found[0], found[-1]) == (values.min(), values.max())


def test_quantiles_of_few_values_are_exact_and_nulls_do_not_count():
    sketch = ApproximateQuantile("x", [0.1, 0.5, 0.9])
    table = pa.table({"x": [100.0, None, 20.0, 60.0, 40.0, 80.0]})
    assert sketch.finalize(sketch.aggregate_block(table)) == [20.0, 60.0, 100.0]
    assert sketch.aggregate_block(pa.table({"x": pa.nulls(3, pa.float64())})) is None


def test_frequent_values_beyond_the_capacity_are_found_with_counts_a_little_low():
    values = ["often"] * 5_000 + ["seldom"] * 2_000 + [f"once {index}" for index in range(3_000)]
    random.Random(5).shuffle(values)
    sketch = ApproximateTopK("w", 2, log_capacity=6)
    merged = None
    for start in range(0, len(values), 1000):
        made = sketch.aggregate_block(pa.table({"w": values[start : start + 1000]}))
        merged = made if merged is None else sketch.combine(merged, made)
    found = sketch.finalize(merged)
    assert [row["w"] for row in found] == ["often", "seldom"]
    slack = len(values) / 48
    assert 5_000 - slack <= found[0]["count"] <= 5_000 and 2_000 - slack <= found[1]["count"] <= 2_000


def test_frequent_elements_of_lists_are_counted_as_asked():
    table = pa.table({"tags": [["a", "b"], ["a"], None, ["a", "b"]]})
    whole, parts = ApproximateTopK("tags", 1), ApproximateTopK("tags", 2, encode_lists=True)
    assert whole.finalize(whole.aggregate_block(table)) == [{"tags": ["a", "b"], "count": 2}]
    assert parts.finalize(parts.aggregate_block(table)) == [{"tags": "a", "count": 3}, {"tags": "b", "count": 2}]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ApproximateQuantile("x", [1.5]),
        lambda: ApproximateTopK("x", 0),
        lambda: TypeCategory("tuple"),
    ],
)
def test_sketches_and_kinds_refuse_what_is_none(make):
    with pytest.raises(ValueError):
        make()


def test_types_say_of_what_kind_they_are():
    assert DataType.list(DataType.int64()).is_of(TypeCategory.LIST) and DataType.int64().is_integer_type()
    assert DataType.tensor((2, 2), DataType.float32()).is_tensor_type()
    assert DataType.temporal("timestamp").is_of("temporal") and not DataType.string().is_nested_type()
    assert DataType.from_dtype("float32") == DataType.from_numpy("float32")


def test_aggregations_say_what_type_their_result_has():
    schema = pa.schema([("x", pa.int32()), ("s", pa.string())])
    assert Max("x").output_field(schema) == pa.field("max(x)", pa.int32())
    assert Max("unknown").output_field(schema) is None
    assert ApproximateTopK("s", 1).output_field(schema) is None


# On a cluster

on_cluster = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


class TestOnACluster:
    pytestmark = on_cluster

    def test_collate_functions_get_the_form_of_their_base(self):
        torch = pytest.importorskip("torch")

        class OfTable(ArrowBatchCollateFn):
            def __call__(self, batch):
                assert isinstance(batch, pa.Table)
                return torch.as_tensor(batch.column("id").to_numpy().copy())

        class OfArrays(NumpyBatchCollateFn):
            def __call__(self, batch):
                assert isinstance(batch["id"], np.ndarray)
                return {"x": [torch.as_tensor(np.array(batch["id"]))]}

        class OfFrame(PandasBatchCollateFn):
            def __call__(self, batch):
                assert isinstance(batch, pd.DataFrame)
                return torch.as_tensor(batch["id"].to_numpy(copy=True)), "label"

        ds = data.range(10, override_num_blocks=3)
        seen = [batch.tolist() for batch in ds.iter_torch_batches(batch_size=4, collate_fn=OfTable())]
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        seen = [batch["x"][0].tolist() for batch in ds.iter_torch_batches(batch_size=6, collate_fn=OfArrays())]
        assert seen == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]
        ((numbers, label),) = ds.iter_torch_batches(batch_size=10, collate_fn=OfFrame(), prefetch_batches=3)
        assert numbers.tolist() == list(range(10)) and label == "label"
        with pytest.raises(ValueError, match="Unsupported collate function"):
            ds.iter_torch_batches(collate_fn=3)
        with pytest.raises(ValueError, match="cannot be used with dtypes"):
            ds.iter_torch_batches(collate_fn=OfTable(), dtypes=torch.float32)

    def test_sketches_of_groups_over_blocks(self):
        rows = [{"k": index % 2, "x": float(index), "w": "ab"[index % 3 == 0]} for index in range(60)]
        ds = data.from_items(rows, override_num_blocks=4)
        found = ds.groupby("k").aggregate(ApproximateQuantile("x", [0.5], alias_name="middle")).take_all()
        assert [(row["k"], list(row["middle"])) for row in found] == [(0, [30.0]), (1, [31.0])]
        found = ds.aggregate(ApproximateTopK("w", 1))
        assert list(found["approx_topk(w)"]) == [{"w": "a", "count": 40}]

    def test_lineage_is_a_plan_that_runs_anew(self):
        ds = data.range(20).map_batches(lambda batch: {"x": batch["id"] * 2})
        ds.count()
        again = data.Dataset.deserialize_lineage(ds.serialize_lineage())
        assert again.take(3) == [{"x": 0}, {"x": 2}, {"x": 4}]
        assert data.Dataset.copy(ds).take(1) == [{"x": 0}]
        with pytest.raises(ValueError, match="Lineage-based serialization is not supported"):
            data.from_items([1]).serialize_lineage()
        assert not data.range(1).union(data.range(1)).has_serializable_lineage()

    def test_rows_are_found_by_key(self):
        ds = data.range(100, override_num_blocks=5).map(lambda row: {"id": row["id"] * 2, "word": str(row["id"])})
        table = ds.random_shuffle(seed=1).to_random_access_dataset("id", num_workers=2)
        assert get(table.get_async(10)) == {"id": 10, "word": "5"}
        found = table.multiget([198, 3, -1, 0, 1000])
        assert [row and row["word"] for row in found] == ["99", None, None, "0", None]
        assert get(table.get_async(7)) is None
        assert "- Num workers: " in table.stats()

    def test_summary_has_the_statistics_of_each_kind_of_column(self):
        rows = [{"n": index, "s": "xy"[index % 4 == 0]} for index in range(8)]
        summary = data.from_items(rows).summary()
        assert isinstance(summary, DatasetSummary)
        frame = summary.to_pandas().set_index("statistic")
        assert frame.loc["mean", "n"] == 3.5 and frame.loc["approx_quantile[0]", "n"] == 4
        assert frame.loc["approx_topk[0]", "s"] == {"s": "x", "count": 6}
        assert list(frame.index) == sorted(frame.index)
        only = data.from_items(rows).summary(["n"], {DataType.int64(): lambda name: [Max(name)]})
        assert only.get_column_stats("n").to_dict("records") == [{"statistic": "max", "value": 7}]

    def test_dask_frame_is_computed_by_tasks_of_the_cluster(self):
        pytest.importorskip("dask.dataframe")
        import dask

        before = dask.config.get("scheduler", None)
        try:
            frame = data.range(100, override_num_blocks=4).to_dask()
            assert frame.npartitions == 4 and list(frame.columns) == ["id"]
            assert int(frame["id"].sum().compute()) == 4950
        finally:
            dask.config.set(scheduler=before)

    @pytest.mark.parametrize(("method", "package"), [("to_modin", "modin"), ("to_mars", "mars"), ("to_daft", "daft")])
    def test_missing_library_is_named(self, method, package, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        monkeypatch.setitem(__import__("sys").modules, f"{package}.dataframe", None)
        with pytest.raises(ImportError, match=package):
            getattr(data.range(1), method)()

    def test_iterating_takes_no_arguments_that_it_does_not_know(self):
        ds = data.range(3)
        with pytest.raises(TypeError):
            ds.iter_rows(prefetch_blocks=1)
        with pytest.raises(TypeError):
            ds.iter_batches(prefetch_blocks=1)
        with pytest.raises(ValueError, match="prefetch_batches"):
            ds.iter_batches(prefetch_batches=-1)
        assert isinstance(ds.iterator(), DataIterator) and isinstance(ds.schema(), Schema)
