"""Parquet read and written, against pyarrow, without a cluster."""

from __future__ import annotations

import decimal
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from raybook.data.context import DataContext
from raybook.data.datasource import Partitioning
from raybook.data.datasource import parquet_datasource as module
from raybook.data.datasource.parquet_datasink import ParquetDatasink
from raybook.data.datasource.parquet_datasource import ParquetDatasource
from raybook.data.expressions import col

HIVE = Partitioning("hive")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> str:
    """Two partitions of 1,000 rows in row groups of 250."""
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        table = pa.table({"x": np.arange(1000) + year * 1000, "s": [str(index) for index in range(1000)]})
        pq.write_table(table, tmp_path / f"year={year}" / "a.parquet", row_group_size=250)
    return str(tmp_path)


def test_tasks_are_row_groups_and_keep_their_order(folder: str, read) -> None:
    source = ParquetDatasource(folder, partitioning=HIVE)
    tasks = source.get_read_tasks(100)
    assert [task.metadata.num_rows for task in tasks] == [250] * 8
    assert sum(block.num_rows for block in tasks[0]()) == 250
    expected = pads.dataset(folder, partitioning="hive").to_table()
    for parallelism in (1, 3, 8):
        found = read(source, parallelism)
        assert (
            found.column("x").equals(expected.column("x"))
            and found.column("year").to_pylist() == ["2023"] * 1000 + ["2024"] * 1000
        )


def test_count_and_schema_come_from_footers(folder: str) -> None:
    source = ParquetDatasource(folder, partitioning=HIVE, include_paths=True)
    assert source.num_rows() == 2000
    assert source.schema() == pa.schema(
        [("x", pa.int64()), ("s", pa.string()), ("year", pa.string()), ("path", pa.string())]
    )
    assert 2000 * 8 < source.estimate_inmemory_data_size() < 2000 * 40


def test_only_wanted_columns_are_read_in_their_order(folder: str, read) -> None:
    source = ParquetDatasource(folder, partitioning=HIVE, include_paths=True, columns=["year", "path", "x"])
    assert read(source).column_names == ["year", "path", "x"] == source.schema().names
    pushed = ParquetDatasource(folder, partitioning=HIVE).with_projection(["s"])
    assert read(pushed).column_names == ["s"] and pushed.num_rows() == 2000
    assert pushed.with_projection(["nope"]) is None
    none = pushed.with_projection([])
    assert sum(block.num_rows for task in none.get_read_tasks(4) for block in task()) == 2000
    with pytest.raises(ValueError, match=r"Columns \['nope'\] are not in the Parquet files"):
        ParquetDatasource(folder, columns=["x", "nope"])


def test_predicates_are_pushed_into_the_read(folder: str, read) -> None:
    source = ParquetDatasource(folder, partitioning=HIVE, include_paths=True)
    pushed = source.with_predicate((col("x") >= 2024900) & (col("year") == "2024"))
    found = read(pushed)
    assert found.column("x").to_pylist() == list(range(2024900, 2025000))
    assert found.column_names == ["x", "s", "year", "path"] and pushed.num_rows() is None
    assert read(pushed.with_projection(["s"])).column_names == ["s"]
    assert read(source.with_predicate(col("x") < 0)).column_names == ["x", "s", "year", "path"]
    assert source.with_predicate(col("path") == "x") is None


def test_a_predicate_on_partitions_reads_no_other_file(folder: str) -> None:
    source = ParquetDatasource(folder, partitioning=HIVE).with_predicate(col("year") == "2024")
    assert source._paths() == [f"{folder}/year=2024/a.parquet"]
    assert source.num_rows() == 1000


def test_nulls_and_nan_in_predicates_are_as_filter_has_them(tmp_path: pathlib.Path, read) -> None:
    table = pa.table({"a": [1.0, None, float("nan"), 3.0], "k": ["x", None, "y", "z"]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = ParquetDatasource(str(tmp_path))
    for expr in (col("a") > 1, col("a") != 1, col("k") != "x", col("k").is_null(), ~(col("a") > 1)):
        assert (
            read(source.with_predicate(expr)).column("k").to_pylist()
            == table.filter(expr.to_pyarrow()).column("k").to_pylist()
        )


def test_a_limit_reads_no_more_row_groups_than_it_needs(folder: str) -> None:
    source = ParquetDatasource(folder)
    assert sum(task.metadata.num_rows for task in source.with_limit(300).get_read_tasks(8)) == 500
    assert source.with_predicate(col("x") > 0).with_limit(3) is None


def test_a_filter_of_pyarrow_and_a_batch_size_are_taken(folder: str, read) -> None:
    source = ParquetDatasource(folder, arrow_parquet_args={"filter": pc.field("x") < 2023010})
    assert read(source).num_rows == 10
    with pytest.raises(TypeError, match="unexpected keyword arguments"):
        ParquetDatasource(folder, arrow_parquet_args={"colums": ["x"]})


def test_blocks_of_a_large_row_group_stay_near_the_target_size(tmp_path: pathlib.Path) -> None:
    pq.write_table(
        pa.table({"x": np.random.default_rng(0).random(400_000)}), tmp_path / "a.parquet", use_dictionary=False
    )
    context = DataContext()
    context.target_max_block_size = 400_000
    with DataContext.current(context):
        (task,) = ParquetDatasource(str(tmp_path)).get_read_tasks(1)
        sizes = [block.num_rows for block in task()]
    assert sum(sizes) == 400_000 and len(sizes) >= 7 and max(sizes) * 8 <= 2 * 400_000


def test_files_of_many_row_groups_are_sampled(folder: str, monkeypatch, read) -> None:
    monkeypatch.setattr(module, "FOOTERS_MAX", 1)
    monkeypatch.setattr(module, "FOOTERS_SAMPLED", 1)
    source = ParquetDatasource(folder, partitioning=HIVE)
    assert len(source._footers) == 1
    assert read(source).num_rows == 2000 and source.num_rows() == 2000


def test_columns_that_some_files_lack_are_null_and_numbers_widen(tmp_path: pathlib.Path, read) -> None:
    pq.write_table(pa.table({"a": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": [2**40], "b": ["x"]}), tmp_path / "b.parquet")
    assert read(ParquetDatasource(str(tmp_path))).to_pydict() == {"a": [1, 2**40], "b": [None, "x"]}
    assert read(ParquetDatasource(str(tmp_path)).with_predicate(col("a") > 0)).to_pydict() == {
        "a": [1, 2**40],
        "b": [None, "x"],
    }


def test_contradicting_schemas_name_column_and_files(tmp_path: pathlib.Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": [2], "b": [[1]]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"column 'b' is int64 in '.*a\.parquet' and list<.*int64> in '.*b\.parquet'"):
        ParquetDatasource(str(tmp_path))


def test_what_is_no_parquet_is_named_at_the_call(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.parquet").write_text("nonsense, nonsense")
    with pytest.raises(pa.ArrowInvalid, match=r"a\.parquet' is no Parquet file, or its footer is damaged"):
        ParquetDatasource(str(tmp_path))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b.parquet")
    assert ParquetDatasource(str(tmp_path), skip_paths=str(tmp_path / "a.parquet")).num_rows() == 1


@pytest.mark.parametrize("pushed", [False, True])
def test_a_damaged_row_group_is_named(tmp_path: pathlib.Path, read, pushed: bool) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"x": np.random.default_rng(0).random(4000)}), path, row_group_size=1000, use_dictionary=False
    )
    column = pq.ParquetFile(path).metadata.row_group(2).column(0)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    source = ParquetDatasource(str(path))
    if pushed:
        source = source.with_predicate(col("x") >= 0)
    with pytest.raises(pa.ArrowInvalid, match=r"Row group 2 of '.*a\.parquet' \(rows 2000 to 2999\) cannot be read"):
        read(source, 1)


def test_odd_types_go_round(tmp_path: pathlib.Path, read, write) -> None:
    table = pa.table(
        {
            "d": pa.array([decimal.Decimal("1.10"), None], pa.decimal128(10, 2)),
            "t": pa.array([0, None], pa.timestamp("us", "Europe/Berlin")),
            "n": pa.array([{"a": [1, None]}, None]),
            "c": pa.array(["x", None]).dictionary_encode(),
            "v": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(2, 3, 2)),
            "m": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "z": pa.nulls(2),
        }
    )
    write(ParquetDatasink(str(tmp_path)), table)
    found = read(ParquetDatasource(str(tmp_path)))
    assert found.schema.equals(table.schema) and found.equals(table)


def test_ten_thousand_columns_and_no_rows(tmp_path: pathlib.Path, read) -> None:
    names = [f"c{index}" for index in range(10_000)]
    pq.write_table(pa.table([pa.array([1])] * 10_000, names=names), tmp_path / "a.parquet")
    assert read(ParquetDatasource(str(tmp_path), columns=["c9999", "c0"])).to_pydict() == {"c9999": [1], "c0": [1]}
    pq.write_table(pa.table({"c1": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert read(ParquetDatasource(str(tmp_path))).schema.names == ["c1"]


def test_binary_columns_become_tensors_and_rows_get_hashes(tmp_path: pathlib.Path, read) -> None:
    arrays = [np.full((2, 2), index, np.int32) for index in range(3)]
    pq.write_table(pa.table({"b": [array.tobytes() for array in arrays]}), tmp_path / "a.parquet", row_group_size=2)
    found = read(ParquetDatasource(str(tmp_path), tensor_column_schema={"b": (np.int32, (2, 2))}))
    np.testing.assert_array_equal(found.column("b").combine_chunks().to_numpy_ndarray(), np.stack(arrays))
    hashed = ParquetDatasource(str(tmp_path), include_row_hash=True)
    hashes = read(hashed, 1).column("row_hash").to_pylist()
    assert len(set(hashes)) == 3 and read(hashed, 2).column("row_hash").to_pylist() == hashes


def test_partitions_are_written_as_folders(tmp_path: pathlib.Path, read, write) -> None:
    table = pa.table({"k": ["a/b", None, "a/b"], "y": [1, 1, 2], "x": [10, 20, 30]})
    write(ParquetDatasink(str(tmp_path), partition_cols=["k", "y"]), table.slice(0, 2), table.slice(2))
    folders = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet"))
    assert folders == ["k=__HIVE_DEFAULT_PARTITION__/y=1", "k=a%2Fb/y=1", "k=a%2Fb/y=2"]
    source = ParquetDatasource(str(tmp_path), partitioning=Partitioning("hive", field_types={"y": int}))
    rows = sorted(read(source).to_pylist(), key=lambda row: row["x"])
    assert rows == [{"x": x, "k": k, "y": y} for k, y, x in zip(*table.to_pydict().values(), strict=True)]
    assert pads.dataset(str(tmp_path), partitioning="hive").to_table().num_rows == 3
    with pytest.raises(ValueError, match=r"partition_cols \['nope'\]"):
        write(ParquetDatasink(str(tmp_path), partition_cols=["nope"]), table)


def test_files_have_at_most_so_many_rows(tmp_path: pathlib.Path, write) -> None:
    write(ParquetDatasink(str(tmp_path), max_rows_per_file=4), pa.table({"x": range(10)}))
    assert sorted(pq.read_metadata(path).num_rows for path in tmp_path.iterdir()) == [3, 3, 4]
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="min_rows_per_file must be a positive integer"):
            ParquetDatasink(str(tmp_path), min_rows_per_file=bad)
    with pytest.raises(ValueError, match="must not be greater"):
        ParquetDatasink(str(tmp_path), min_rows_per_file=5, max_rows_per_file=4)


ROWS = st.lists(
    st.fixed_dictionaries({"k": st.sampled_from([None, "a", "b"]), "x": st.integers(-5, 5)}), min_size=1, max_size=30
)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.integers(1, 10), st.integers(1, 4), st.integers(-5, 5))
def test_any_cut_of_any_table_reads_the_same(
    tmp_path_factory, rows: list[dict], group: int, tasks: int, bound: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    table = pa.Table.from_pylist(rows, pa.schema([("k", pa.string()), ("x", pa.int64())]))
    pq.write_table(table, folder / "a.parquet", row_group_size=group)
    source = ParquetDatasource(str(folder))
    assert pa.concat_tables(block for task in source.get_read_tasks(tasks) for block in task()).equals(table)
    pushed = source.with_predicate(col("x") > bound)
    found = [block for task in pushed.get_read_tasks(tasks) for block in task()]
    assert pa.concat_tables(found).to_pylist() == [row for row in rows if row["x"] > bound]
