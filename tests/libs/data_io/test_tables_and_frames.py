"""Delta, Iceberg, PyTorch and Hugging Face, and what is said where a package is missing."""

from __future__ import annotations

import inspect
import pathlib
import sys

import pyarrow as pa
import pytest

from raybook import data
from raybook.data import read_api
from raybook.data.datasource.delta_datasink import DeltaDatasink
from raybook.data.datasource.delta_datasource import DeltaDatasource
from raybook.data.datasource.huggingface_datasource import HuggingFaceDatasource, table_of
from raybook.data.datasource.iceberg_datasource import IcebergDatasink, IcebergDatasource
from raybook.data.expressions import col

TABLE = pa.table({"k": ["a b", None, "a b"], "y": [1, 1, 2], "x": [10, 20, 30]})


def by_x(table: pa.Table) -> list[dict]:
    return sorted(table.to_pylist(), key=lambda row: row["x"])


def test_delta_tables_go_round_with_typed_partitions(tmp_path: pathlib.Path, read, write) -> None:
    deltalake = pytest.importorskip("deltalake")
    path = str(tmp_path / "table")
    write(DeltaDatasink(path, partition_by=["k", "y"]), TABLE.slice(0, 2), TABLE.slice(2))
    assert by_x(read(DeltaDatasource(path))) == [
        {"x": x, "k": k, "y": y} for k, y, x in zip(*TABLE.to_pydict().values(), strict=True)
    ]
    assert by_x(pa.table(deltalake.DeltaTable(path).to_pyarrow_table())) == by_x(TABLE.select(["k", "y", "x"]))
    assert by_x(read(DeltaDatasource(path).with_predicate(col("y") == 2))) == [{"x": 30, "k": "a b", "y": 2}]
    # A second write with a new column is a second version.
    write(DeltaDatasink(path), pa.table({"k": ["c"], "y": [3], "x": [40], "new": ["n"]}))
    assert by_x(read(DeltaDatasource(path, columns=["x", "new"]))) == [
        {"x": x, "new": n} for x, n in ((10, None), (20, None), (30, None), (40, "n"))
    ]
    assert read(DeltaDatasource(path, version=0)).num_rows == 3
    write(DeltaDatasink(path, mode="overwrite"), TABLE.slice(0, 1))
    assert read(DeltaDatasource(path)).num_rows == 1
    with pytest.raises(ValueError, match="There is a Delta table at"):
        DeltaDatasink(path, mode="error").prepare()
    with pytest.raises(ValueError, match=r"partitioned by \['k', 'y'\]"):
        DeltaDatasink(path, partition_by=["x"]).prepare()
    with pytest.raises(FileNotFoundError, match="There is no Delta table"):
        DeltaDatasource(str(tmp_path / "nowhere"))


def test_delta_tables_of_deltalakes_own_making_are_read(tmp_path: pathlib.Path, read) -> None:
    deltalake = pytest.importorskip("deltalake")
    path = str(tmp_path / "own table")
    deltalake.write_deltalake(path, TABLE, partition_by=["k"])
    assert by_x(read(DeltaDatasource(path))) == [
        {"y": y, "x": x, "k": k} for k, y, x in zip(*TABLE.to_pydict().values(), strict=True)
    ]


def test_iceberg_tables_go_round(tmp_path: pathlib.Path, read, write) -> None:
    catalogs = pytest.importorskip("pyiceberg.catalog")
    pytest.importorskip("sqlalchemy")
    where = {"name": "here", "type": "sql", "uri": f"sqlite:///{tmp_path}/db", "warehouse": f"file://{tmp_path}"}
    catalog = catalogs.load_catalog(**where)
    catalog.create_namespace("n")
    catalog.create_table("n.t", schema=TABLE.schema)
    write(IcebergDatasink("n.t", where), TABLE.slice(0, 2), TABLE.slice(2))
    assert by_x(catalog.load_table("n.t").scan().to_arrow()) == by_x(TABLE)
    source = IcebergDatasource("n.t", catalog_kwargs=where)
    assert by_x(read(source)) == by_x(TABLE) and source.num_rows() == 3
    some = IcebergDatasource("n.t", row_filter="x > 10", selected_fields=("x",), catalog_kwargs=where)
    assert by_x(read(some)) == [{"x": 20}, {"x": 30}] and some.num_rows() is None
    write(IcebergDatasink("n.t", where, mode="overwrite"), TABLE.slice(0, 1))
    assert read(IcebergDatasource("n.t", catalog_kwargs=where)).num_rows == 1


def test_hugging_face_tables_keep_their_selection_and_streams_their_shards(read) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"a": list(range(10)), "b": [str(index) for index in range(10)]})
    assert table_of(dataset).equals(pa.table({"a": list(range(10)), "b": [str(index) for index in range(10)]}))
    assert table_of(dataset.select([7, 2])).to_pydict() == {"a": [7, 2], "b": ["7", "2"]}
    assert table_of(dataset.select_columns(["b"])).column_names == ["b"]
    stream = HuggingFaceDatasource(dataset.to_iterable_dataset(num_shards=4))
    assert len(stream.get_read_tasks(8)) == 4
    assert read(stream, 8).column("a").to_pylist() == list(range(10))


@pytest.mark.parametrize("dictionary", [True, False])
def test_hugging_face_accepts_one_dataset(dictionary: bool) -> None:
    datasets = pytest.importorskip("datasets")
    if dictionary:
        with pytest.raises(DeprecationWarning, match=r"Available splits are \['train'\]"):
            data.from_huggingface(datasets.DatasetDict({"train": datasets.Dataset.from_dict({"a": [1]})}))
    else:
        with pytest.raises(TypeError, match=r"must be a `datasets\.Dataset`"):
            data.from_huggingface([1, 2])


@pytest.mark.parametrize(
    ("call", "package"),
    [
        (lambda: data.read_mongo("mongodb://x", "d", "c"), "pymongoarrow"),
        (lambda: data.read_bigquery("p", dataset="d.t"), "google-cloud-bigquery"),
        (lambda: data.read_clickhouse(table="t", dsn="d"), "clickhouse-connect"),
        (lambda: data.read_snowflake("SELECT 1", {}), "snowflake-connector-python"),
        (lambda: data.read_lance("x"), "pylance"),
        (lambda: data.read_hudi("x"), "hudi"),
        (lambda: data.read_videos("x"), "decord"),
        (lambda: data.read_audio("x"), "soundfile"),
        (lambda: data.from_modin(None), "modin"),
        (lambda: data.from_spark(None), "pyspark"),
        (lambda: data.from_daft(None), "daft"),
        (lambda: data.from_mars(None), "pymars"),
        (lambda: data.from_tf(None), "tensorflow"),
    ],
)
def test_a_missing_package_is_named(call, package: str, monkeypatch) -> None:
    tops = (
        "pymongoarrow google.cloud.bigquery clickhouse_connect snowflake lance hudi decord soundfile modin pyspark daft"
    )
    for name in (*tops.split(), "mars", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"pip install {package}$"):
        call()


def test_readers_show_all_their_arguments_and_take_no_others() -> None:
    parameters = inspect.signature(data.read_csv).parameters
    shared = {"parallelism", "num_cpus", "num_gpus", "memory", "concurrency", "override_num_blocks", "ray_remote_args"}
    assert shared <= set(parameters) and "options" not in parameters
    assert (
        parameters["parallelism"].default == -1 and parameters["paths"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'colums'"):
        data.read_text(".", colums=["x"])
    for bad in (0, -1, 1.5):
        with pytest.raises(ValueError, match="concurrency must be a positive integer"):
            data.read_text(".", concurrency=bad)
    with pytest.raises(NotImplementedError, match="no catalogs"):
        data.read_parquet("x", catalog=object())


def test_queries_need_shard_keys_for_several_blocks() -> None:
    with pytest.raises(ValueError, match="shard_keys must be provided"):
        data.read_sql("SELECT 1", dict, override_num_blocks=2)
    with pytest.raises(ValueError, match="mutually exclusive"):
        data.read_bigquery("p")


def test_all_names_are_found_where_ray_has_them() -> None:
    for name in read_api.__all__:
        if name != "Connection":
            assert getattr(data, name) is getattr(read_api, name)
    assert data.Preprocessor is data.preprocessor.Preprocessor
