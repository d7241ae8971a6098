"""Finding files: paths, folders, filesystems, partitions, groups."""

from __future__ import annotations

import pathlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs as pafs

from raybook.data.core.file_groups import group_by_size, shuffled
from raybook.data.datasource import FileShuffleConfig, Partitioning, PathPartitionFilter, PathPartitionParser
from raybook.data.datasource.file_based_datasource import in_order
from raybook.data.datasource.partitioning import add_partitions, partition_folder
from raybook.data.datasource.path_util import compression_of, expand, has_extension, resolve_paths
from raybook.data.datasource.retry import call_with_retry
from raybook.data.datasource.text_datasource import TextDatasource


def test_a_folder_is_its_files_sorted_without_hidden_ones(tmp_path: pathlib.Path) -> None:
    for name in ("b.txt", "a.txt", ".hidden.txt", "_SUCCESS", "sub/c.txt", "_temporary/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (root,), filesystem = resolve_paths(str(tmp_path))
    assert [path.removeprefix(f"{tmp_path}/") for path, _ in expand([root], filesystem)] == [
        "a.txt",
        "b.txt",
        "sub/c.txt",
    ]


def test_a_missing_path_is_named_at_the_call(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.txt' is not there"):
        TextDatasource(str(tmp_path / "nowhere.txt"))


def test_missing_paths_are_left_out_on_request(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    source = TextDatasource([str(tmp_path / "a.txt"), str(tmp_path / "nowhere.txt")], ignore_missing_paths=True)
    assert read(source).to_pydict() == {"text": ["one"]}
    with pytest.raises(ValueError, match="No files found"):
        TextDatasource(str(tmp_path / "nowhere.txt"), ignore_missing_paths=True)


@pytest.mark.parametrize("paths", [[], 5, [5], None])
def test_what_is_no_path_is_refused(paths) -> None:
    with pytest.raises(ValueError, match="path"):
        TextDatasource(paths)


def test_paths_of_two_filesystems_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="one filesystem"):
        resolve_paths([str(tmp_path), "s3://bucket/key"])


def test_a_filesystem_that_is_none_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TypeError, match=r"pyarrow.fs.FileSystem or an fsspec"):
        TextDatasource(str(tmp_path), filesystem="s3")


def test_paths_may_be_pathlibs_uris_or_of_a_subtree(tmp_path: pathlib.Path, read) -> None:
    (tmp_path / "a b.txt").write_text("one\n")
    subtree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    for source in (
        TextDatasource(tmp_path / "a b.txt"),
        TextDatasource(f"file://{tmp_path}/a b.txt"),
        TextDatasource(f"local://{tmp_path}/a b.txt"),
        TextDatasource("a b.txt", filesystem=subtree),
    ):
        assert read(source).to_pydict() == {"text": ["one"]}


def test_fsspec_filesystems_and_schemes_are_read(read) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/folder/a.txt", b"one\n")
    memory.pipe("/folder/b.txt", b"two\n")
    try:
        assert read(TextDatasource("memory://folder"), 1).to_pydict() == {"text": ["one", "two"]}
        assert read(TextDatasource("/folder/b.txt", filesystem=memory)).to_pydict() == {"text": ["two"]}
    finally:
        memory.rm("/folder", recursive=True)


def test_extensions_are_compared_without_case_or_dot() -> None:
    assert (
        has_extension("a/B.CSV", ["csv"]) and has_extension("a.csv", [".CSV"]) and has_extension("a.json.gz", "json.gz")
    )
    assert not has_extension("a.csv.txt", ["csv"])
    assert compression_of("a.csv.gz") == "gzip" and compression_of("a.csv") is None


def test_no_file_of_the_wanted_kind_is_an_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"file extensions: \['csv'\]"):
        TextDatasource(str(tmp_path), file_extensions=["csv"])
    with pytest.raises(ValueError, match="partition_filter"):
        TextDatasource(str(tmp_path), partition_filter=PathPartitionFilter.of(lambda values: False))


def test_hive_partitions_are_read_from_folders() -> None:
    parse = PathPartitionParser.of("hive", base_dir="/data", field_types={"year": int})
    assert parse("/data/year=2024/city=New%20York/f.csv") == {"year": 2024, "city": "New York"}
    assert parse("/data/f.csv") == {} and parse("/elsewhere/year=2024/f.csv") == {}
    assert parse("/data/year=__HIVE_DEFAULT_PARTITION__/f.csv") == {"year": None}
    with pytest.raises(ValueError, match="year=soon"):
        parse("/data/year=soon/f.csv")


def test_directory_partitions_need_names_and_fit_them() -> None:
    parse = PathPartitionParser.of("dir", base_dir="/data", field_names=["year", "month"])
    assert parse("/data/2024/01/f.csv") == {"year": "2024", "month": "01"}
    with pytest.raises(ValueError, match=r"Expected 2 partition value\(s\) but found 1"):
        parse("/data/2024/f.csv")
    with pytest.raises(ValueError, match="requires a corresponding list"):
        PathPartitionParser.of("dir")
    with pytest.raises(ValueError, match="Unsupported partition style"):
        PathPartitionParser(Partitioning("nonsense"))


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.text(min_size=1, max_size=8).filter(lambda s: s not in (".", "..")), max_size=3
    )
)
def test_partition_folders_are_read_back(values: dict[str, str]) -> None:
    folder = partition_folder(values)
    assert PathPartitionParser.of("hive")(f"{folder}/file.parquet" if folder else "file.parquet") == values


def test_a_partition_that_contradicts_the_files_column_is_refused() -> None:
    table = pa.table({"year": [2024, 2024], "x": [1, 2]})
    assert add_partitions(table, {"year": "2024"}).equals(table)
    with pytest.raises(ValueError, match="different from in-data values"):
        add_partitions(table, {"year": "2023"})
    with pytest.raises(ValueError, match="cannot be cast"):
        add_partitions(table, {"year": "soon"})


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**9)), max_size=60), st.integers(1, 20))
def test_groups_keep_all_pieces_in_order(sizes: list[int | None], groups_max: int) -> None:
    pieces = list(range(len(sizes)))
    groups = group_by_size(pieces, sizes, groups_max)
    assert [piece for group in groups for piece in group] == pieces
    assert all(groups) and len(groups) == min(groups_max, len(pieces))


def test_groups_are_even() -> None:
    groups = group_by_size(list(range(100)), [10] * 100, 8)
    assert {len(group) for group in groups} <= {12, 13}
    # One large file does not share its task with all the small ones behind it.
    assert group_by_size(["big", *"abcdef"], [600, *[100] * 6], 2) == [["big"], list("abcdef")]


def test_files_come_in_an_order_that_a_seed_repeats() -> None:
    files = [f"f{index}" for index in range(20)]
    same = FileShuffleConfig(seed=3, reseed_after_execution=False)
    assert in_order(files, same, None) == in_order(files, same, None) != files
    assert sorted(in_order(files, "files", None)) == sorted(files)
    assert shuffled(files, 1) == shuffled(files, 1)
    assert FileShuffleConfig(seed=3).get_seed(1) != FileShuffleConfig(seed=3).get_seed(2)
    with pytest.raises(ValueError, match="Invalid value for 'shuffle'"):
        TextDatasource(".", shuffle="rows")
    with pytest.raises(ValueError, match="Seed must be an integer"):
        FileShuffleConfig(seed="x")  # type: ignore[arg-type]


def test_hiccups_are_tried_again_and_other_errors_are_not() -> None:
    calls = []

    def fail(text: str, times: int):
        def function() -> int:
            calls.append(text)
            if len(calls) <= times:
                raise OSError(text)
            return len(calls)

        calls.clear()
        return function

    slow = "AWS Error SLOW_DOWN during PutObject"
    assert call_with_retry(fail(slow, 2), "put", first_backoff_s=0) == 3
    with pytest.raises(OSError, match=r"tried 3 times to put"):
        call_with_retry(fail(slow, 9), "put", attempts_max=3, first_backoff_s=0)
    with pytest.raises(OSError, match="no such bucket"):
        call_with_retry(fail("no such bucket", 9), "put", first_backoff_s=0)
    assert len(calls) == 1
