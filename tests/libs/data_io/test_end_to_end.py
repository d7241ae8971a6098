"""Datasets that read and write on a cluster: what no single source or sink shows."""

from __future__ import annotations

import pathlib

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from raybook import data
from raybook.data.expressions import col

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

FRAME = pd.DataFrame({"k": ["a", "b"] * 500, "x": range(1000)})


@pytest.fixture(scope="module")
def folder(cluster, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("parquet")
    data.from_pandas([FRAME[:300], FRAME[300:]]).write_parquet(str(path), row_group_size=100)
    return str(path)


def test_what_was_written_is_read_and_pushed_down(folder: str) -> None:
    ds = data.read_parquet(folder)
    assert ds.count() == 1000 and ds.columns() == ["k", "x"]
    found = ds.filter(expr=(col("x") >= 990)).select_columns(["x"]).to_pandas()
    assert sorted(found["x"]) == list(range(990, 1000)) and list(found.columns) == ["x"]
    assert (
        ds.groupby("k").sum("x").to_pandas().set_index("k")["sum(x)"].to_dict()
        == FRAME.groupby("k")["x"].sum().to_dict()
    )


def test_modes_are_decided_before_the_dataset_runs(tmp_path: pathlib.Path) -> None:
    def explode(batch: dict) -> dict:
        raise AssertionError("the dataset ran")

    ds = data.range(10).map_batches(explode)
    (tmp_path / "kept.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match="already exists"):
        ds.write_csv(str(tmp_path), mode="error")
    ds.write_csv(str(tmp_path), mode="ignore")
    with pytest.raises(ValueError, match="mode must be one of"):
        ds.write_csv(str(tmp_path), mode="upsert")
    assert (tmp_path / "kept.csv").read_text() == "a\n1\n"


def test_a_damaged_row_group_is_named_to_the_user_and_can_be_left_out(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"x": [float(index) for index in range(4000)]}), path, row_group_size=1000, use_dictionary=False
    )
    column = pq.ParquetFile(path).metadata.row_group(2).column(0)
    damaged = bytearray(path.read_bytes())
    damaged[column.data_page_offset : column.data_page_offset + 200] = b"\xff" * 200
    path.write_bytes(damaged)
    with pytest.raises(Exception, match=r"Row group 2 of '.*a\.parquet'"):
        data.read_parquet(str(path), override_num_blocks=4).materialize()
