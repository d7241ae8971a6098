"""Each format read and written, against the library that owns it, without a cluster."""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import pickle
import sqlite3
import tarfile
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybook.data.batches import to_rows
from raybook.data.core.crc32c import LONG_BYTES, crc32c
from raybook.data.core.tf_example import decode_example, encode_example, masked_crc
from raybook.data.datasource import Partitioning
from raybook.data.datasource.avro_datasource import AvroDatasource
from raybook.data.datasource.binary_datasource import BinaryDatasource
from raybook.data.datasource.csv_datasource import CSVDatasource
from raybook.data.datasource.format_datasinks import (
    CSVDatasink,
    ImageDatasink,
    JSONDatasink,
    NumpyDatasink,
    ORCDatasink,
)
from raybook.data.datasource.image_datasource import ImageDatasource
from raybook.data.datasource.json_datasource import JSONDatasource
from raybook.data.datasource.numpy_datasource import NumpyDatasource
from raybook.data.datasource.orc_datasource import ORCDatasource
from raybook.data.datasource.pieces import line_pieces
from raybook.data.datasource.sql_datasource import SQLDatasink, SQLDatasource
from raybook.data.datasource.text_datasource import TextDatasource
from raybook.data.datasource.tfrecords_datasink import TFRecordDatasink
from raybook.data.datasource.tfrecords_datasource import TFRecordDatasource
from raybook.data.datasource.webdataset_datasource import WebDatasetDatasink, WebDatasetDatasource

TABLE = pa.table({"a": [1, 2, None], "b": ["x", None, "z"], "c": [0.5, 1.5, 2.5]})


def test_csv_is_what_pyarrow_and_pandas_have(tmp_path: pathlib.Path, read, write) -> None:
    write(CSVDatasink(str(tmp_path)), TABLE.slice(0, 2), TABLE.slice(2))
    source = CSVDatasource(str(tmp_path))
    assert read(source, 1).to_pydict() == {"a": [1, 2, None], "b": ["x", "", "z"], "c": [0.5, 1.5, 2.5]}
    again = pd.concat(pd.read_csv(path) for path in sorted(tmp_path.iterdir()))
    assert again["c"].tolist() == [0.5, 1.5, 2.5]


def test_csv_options_compression_and_paths(tmp_path: pathlib.Path, read) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"1;x\n2;y\n"))
    source = CSVDatasource(
        str(path),
        arrow_csv_args={
            "parse_options": pacsv.ParseOptions(delimiter=";"),
            "read_options": pacsv.ReadOptions(column_names=["n", "s"]),
        },
        include_paths=True,
    )
    assert read(source).to_pydict() == {"n": [1, 2], "s": ["x", "y"], "path": [str(path)] * 2}


def test_csv_that_is_none_is_named(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(ValueError, match=r"Failed to read CSV file: .*a\.csv.*Expected 2 columns"):
        read(CSVDatasource(str(tmp_path)))


def test_csv_says_which_columns_it_cannot_write(tmp_path: pathlib.Path, write) -> None:
    with pytest.raises(ValueError, match=r"no way to write columns \['v'\]"):
        write(CSVDatasink(str(tmp_path)), pa.table({"k": [1], "v": [[1, 2]]}))
    assert list(tmp_path.iterdir()) == []


def test_partitions_in_folders_become_columns(tmp_path: pathlib.Path, read) -> None:
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        (tmp_path / f"year={year}" / "a.csv").write_text(f"x\n{year}\n")
    found = read(CSVDatasource(str(tmp_path), partitioning=Partitioning("hive", field_types={"year": int})))
    assert found.to_pydict() == {"x": [2023, 2024], "year": [2023, 2024]}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": "x"}\n{"a": 2}\n',
        '[{"a": 1, "b": "x"},\n {"a": 2}]',
        '  [{"a": 1, "b": "x"}, {"a": 2}]\n',
    ],
)
def test_json_is_lines_or_an_array(tmp_path: pathlib.Path, read, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read(JSONDatasource(str(tmp_path))).to_pydict() == {"a": [1, 2], "b": ["x", None]}


def test_json_may_be_one_object_over_many_lines(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": 1, "b": {"c": [1, 2]}}, indent=2))
    assert to_rows(read(JSONDatasource(str(tmp_path)))) == [{"a": 1, "b": {"c": [1, 2]}}]


def test_json_lines_takes_nothing_else(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}\nnonsense\n')
    for source in (JSONDatasource(str(tmp_path), lines=True), JSONDatasource(str(tmp_path))):
        with pytest.raises(ValueError, match=r"Failed to read JSON file: .*a\.json"):
            read(source)
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="rows must be objects"):
        read(JSONDatasource(str(tmp_path)))


def test_json_is_written_as_lines(tmp_path: pathlib.Path, read, write) -> None:
    table = pa.table({"a": [1, 2], "v": [[1, 2], None], "t": pa.FixedShapeTensorArray.from_numpy_ndarray(np.eye(2))})
    write(JSONDatasink(str(tmp_path)), table)
    (path,) = tmp_path.iterdir()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"a": 1, "v": [1, 2], "t": [1.0, 0.0]},
        {"a": 2, "v": None, "t": [0.0, 1.0]},
    ]
    assert read(JSONDatasource(str(tmp_path))).column("a").to_pylist() == [1, 2]


@given(st.lists(st.text(alphabet="ab\n", max_size=12), max_size=8), st.integers(1, 7))
def test_pieces_end_with_lines_and_lose_nothing(parts: list[str], size: int) -> None:
    data = "".join(parts).encode()
    pieces = list(line_pieces(pa.BufferReader(data), size))
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])


def test_text_is_lines(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo\n")
    assert read(TextDatasource(str(tmp_path))).to_pydict() == {"text": ["one", "two"]}
    kept = read(TextDatasource(str(tmp_path), drop_empty_lines=False)).column("text").to_pylist()
    assert kept == (tmp_path / "a.txt").read_text().split("\n")


def test_text_of_another_encoding(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.txt").write_bytes("Äpfel\nBirnen\n".encode("utf-16"))
    assert read(TextDatasource(str(tmp_path), encoding="utf-16")).to_pydict() == {"text": ["Äpfel", "Birnen"]}
    with pytest.raises(ValueError, match=r"a\.txt' is no text in utf-8"):
        read(TextDatasource(str(tmp_path)))
    with pytest.raises(LookupError):
        TextDatasource(str(tmp_path), encoding="nonsense")


def test_binary_files_are_rows(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x00\x01")
    (tmp_path / "b.bin").write_bytes(b"")
    source = BinaryDatasource(str(tmp_path), include_paths=True)
    assert read(source).to_pydict() == {
        "bytes": [b"\x00\x01", b""],
        "path": [str(tmp_path / n) for n in ("a.bin", "b.bin")],
    }
    assert sum(task.metadata.num_rows for task in source.get_read_tasks(2)) == 2


def test_numpy_arrays_keep_shape_and_type(tmp_path: pathlib.Path, read, write) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    write(NumpyDatasink(str(tmp_path), "t"), pa.table({"t": pa.FixedShapeTensorArray.from_numpy_ndarray(array)}))
    (path,) = tmp_path.iterdir()
    np.testing.assert_array_equal(np.load(path), array)
    found = read(NumpyDatasource(str(tmp_path))).column("data").combine_chunks()
    np.testing.assert_array_equal(found.to_numpy_ndarray(), array)
    np.save(tmp_path / "objects.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"objects\.npy.*allow_pickle"):
        read(NumpyDatasource(str(tmp_path / "objects.npy")))
    with pytest.raises(ValueError, match="Column 'nope' is not in the dataset"):
        write(NumpyDatasink(str(tmp_path), "nope"), TABLE)


def test_images_of_one_shape_are_a_tensor_and_of_several_their_own_arrays(tmp_path: pathlib.Path, read, write) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 6, 5, 3), dtype=np.uint8)
    write(ImageDatasink(str(tmp_path), "i"), pa.table({"i": pa.FixedShapeTensorArray.from_numpy_ndarray(images)}))
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"] * 3
    found = read(ImageDatasource(str(tmp_path)), 1).column("image").combine_chunks()
    np.testing.assert_array_equal(found.to_numpy_ndarray(), images)
    grey = read(ImageDatasource(str(tmp_path), size=(4, 2), mode="L"), 1).column("image")
    assert tuple(grey.type.shape) == (4, 2)
    ImageDatasink(str(tmp_path), "i").write_row_to_file({"i": images[0, :2]}, pa.OSFile(str(tmp_path / "z.png"), "wb"))
    shapes = [row["image"].shape for row in to_rows(read(ImageDatasource(str(tmp_path)), 1))]
    assert shapes == [(6, 5, 3)] * 3 + [(2, 5, 3)]


def test_images_that_are_none_and_sizes_that_are_none(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"couldn't load image file at path '.*a\.png'"):
        read(ImageDatasource(str(tmp_path)))
    with pytest.raises(ValueError, match="two integers"):
        ImageDatasource(str(tmp_path), size=(1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive integers"):
        ImageDatasource(str(tmp_path), size=(0, 2))


def test_orc_and_avro_are_read(tmp_path: pathlib.Path, read, write) -> None:
    write(ORCDatasink(str(tmp_path / "orc")), TABLE)
    assert read(ORCDatasource(str(tmp_path / "orc"))).equals(TABLE)
    fastavro = pytest.importorskip("fastavro")
    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}
    rows = [{"a": index, "b": str(index)} for index in range(5)]
    with open(tmp_path / "a.avro", "wb") as file:
        fastavro.writer(file, schema, rows)
    assert to_rows(read(AvroDatasource(str(tmp_path / "a.avro")))) == rows
    (tmp_path / "b.avro").write_text("nonsense")
    with pytest.raises(ValueError, match=r"b\.avro' is no Avro file"):
        read(AvroDatasource(str(tmp_path / "b.avro")))


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert masked_crc(b"") == 0xA282EAD8
    data = os.urandom(3 * LONG_BYTES + 7)
    plain = 0xFFFFFFFF
    for byte in data:
        plain ^= byte
        for _ in range(8):
            plain = plain >> 1 ^ (0x82F63B78 if plain & 1 else 0)
    assert crc32c(data) == plain ^ 0xFFFFFFFF


NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(st.dictionaries(st.text(max_size=4), st.lists(NUMBERS, max_size=4), max_size=4))
def test_examples_are_read_back(features: dict[str, list[int]]) -> None:
    encoded = encode_example({name: ("int", values) for name, values in features.items()})
    assert decode_example(encoded) == {name: ("int", values) for name, values in features.items()}


def test_an_example_as_protobuf_writes_it_is_read() -> None:
    # By hand from feature.proto: features { feature { key: "a" value { int64_list { value: [1, -1] } } } }, packed, and
    # feature { key: "c" value { float_list { value: 0.5 } } } with the value unpacked, as old writers have it.
    integers = bytes([0x1A, 13, 0x0A, 11, 1]) + b"\xff" * 9 + b"\x01"
    floats = bytes([0x12, 5, 0x0D, 0, 0, 0, 0x3F])
    entries = [b"\x0a\x01a\x12" + bytes([len(integers)]) + integers, b"\x0a\x01c\x12" + bytes([len(floats)]) + floats]
    features = b"".join(b"\x0a" + bytes([len(entry)]) + entry for entry in entries)
    assert decode_example(b"\x0a" + bytes([len(features)]) + features) == {"a": ("int", [1, -1]), "c": ("float", [0.5])}


def test_tfrecords_go_round(tmp_path: pathlib.Path, read, write) -> None:
    table = pa.table({"n": [1, 2], "f": pa.array([0.5, 1.5], pa.float32()), "s": ["a", "b"], "l": [[1, 2], [3]]})
    write(TFRecordDatasink(str(tmp_path)), table)
    found = read(TFRecordDatasource(str(tmp_path))).to_pydict()
    assert found == {"n": [1, 2], "f": [0.5, 1.5], "s": [b"a", b"b"], "l": [[1, 2], [3]]}


def test_a_damaged_tfrecord_is_named_with_its_place(tmp_path: pathlib.Path, read, write) -> None:
    write(TFRecordDatasink(str(tmp_path)), pa.table({"n": [1, 2, 3]}))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"behind 2 records: the file ends within a record"):
        read(TFRecordDatasource(str(tmp_path)))
    path.write_bytes(b"nonsense, and rather long")
    with pytest.raises(ValueError, match="checksum"):
        read(TFRecordDatasource(str(tmp_path)))


def test_webdatasets_go_round(tmp_path: pathlib.Path, read, write) -> None:
    rows = pa.table({"__key__": ["k0", "k1"], "txt": ["hello", "world"], "cls": [3, 4], "json": [{"q": 1}, {"q": 2}]})
    write(WebDatasetDatasink(str(tmp_path)), rows)
    (path,) = tmp_path.iterdir()
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["k0.txt", "k0.cls", "k0.json", "k1.txt", "k1.cls", "k1.json"]
    found = to_rows(read(WebDatasetDatasource(str(tmp_path))))
    assert found[0] == {"__key__": "k0", "__url__": str(path), "txt": "hello", "cls": 3, "json": {"q": 1}}
    some = to_rows(read(WebDatasetDatasource(str(tmp_path), suffixes=["cls"], decoder=None)))
    assert some[1] == {"__key__": "k1", "__url__": str(path), "cls": b"4"}
    assert to_rows(read(WebDatasetDatasource(str(tmp_path), expand_json=True)))[1]["q"] == 2


def test_webdatasets_refuse_pickles_and_scattered_samples(tmp_path: pathlib.Path, read, monkeypatch) -> None:
    def pack(name: str, members: dict[str, bytes]) -> str:
        with tarfile.open(tmp_path / name, "w") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return str(tmp_path / name)

    pickled = pack("p.tar", {"a.pkl": pickle.dumps([1])})
    with pytest.raises(ValueError, match="Refusing to load"):
        read(WebDatasetDatasource(pickled))
    monkeypatch.setenv("RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION", "1")
    assert to_rows(read(WebDatasetDatasource(pickled)))[0]["pkl"] == [1]
    with pytest.raises(ValueError, match="not contiguous"):
        read(WebDatasetDatasource(pack("s.tar", {"a.txt": b"1", "b.txt": b"2", "a.cls": b"3"})))


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.create_function("MD5", 1, lambda value: hash(value) % 1000)
    connection.create_function("MOD", 2, lambda left, right: left % right)
    return connection


def test_sql_goes_round(tmp_path: pathlib.Path, read, write) -> None:
    path = str(tmp_path / "db")
    with connect(path) as connection:
        connection.execute("CREATE TABLE t (a INTEGER, b TEXT)")
    connection.close()
    factory = partial(connect, path)
    write(
        SQLDatasink("INSERT INTO t VALUES (?, ?)", factory),
        pa.table({"a": range(200), "b": [str(i) for i in range(200)]}),
    )
    found = read(SQLDatasource("SELECT * FROM t ORDER BY a", factory))
    assert found.to_pydict() == {"a": list(range(200)), "b": [str(i) for i in range(200)]}
    few = read(SQLDatasource("SELECT a FROM t WHERE a < ?", factory, sql_params=(3,)))
    assert few.to_pydict() == {"a": [0, 1, 2]}
    shared = SQLDatasource("SELECT * FROM t", factory, shard_keys=["a"])
    assert len(shared.get_read_tasks(4)) == 4
    assert sorted(read(shared).column("a").to_pylist()) == list(range(200))
    assert read(SQLDatasource("SELECT a FROM t WHERE a > 999", factory)).column_names == ["a"]


def test_sql_that_fails_is_rolled_back_and_what_is_no_connection_is_named(tmp_path: pathlib.Path, read, write) -> None:
    path = str(tmp_path / "db")
    with connect(path) as connection:
        connection.execute("CREATE TABLE t (a INTEGER NOT NULL)")
    connection.close()
    with pytest.raises(sqlite3.IntegrityError):
        write(SQLDatasink("INSERT INTO t VALUES (?)", partial(connect, path)), pa.table({"a": [1, None]}))
    assert read(SQLDatasource("SELECT * FROM t", partial(connect, path))).num_rows == 0
    with pytest.raises(ValueError, match=r"DB API"):
        read(SQLDatasource("SELECT 1", dict))
