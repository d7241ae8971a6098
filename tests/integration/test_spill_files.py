"""Spill files: what is read is what was written, or an error that says what happened to the file."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from raybook.base.specs import Location
from raybook.io import spill_files
from raybook.io.spill_files import PAGE_BYTES, SpilledValueLost, SpillReader

OWNER = b"owner..."


def spilled(tmp_path: Path, *values: bytes) -> list[Location]:
    """The values in one file."""
    path = spill_files.file_path(str(tmp_path / "spill"), OWNER, "1")
    placed = spill_files.write_objects(path, [[value[:3], value[3:]] for value in values], 1.0)
    pairs = zip(values, placed, strict=True)
    return [Location(b"node", offset, len(value), path, checksum) for value, (offset, checksum) in pairs]


def test_objects_of_one_file_are_read_back_each_from_a_page_of_its_own(tmp_path: Path) -> None:
    first, second = spilled(tmp_path, b"a" * 5000, os.urandom(3 << 20))
    reader = SpillReader()

    view = reader.read(first)

    assert bytes(view) == b"a" * 5000 and view.readonly
    assert second.offset == 2 * PAGE_BYTES
    assert len(reader.read(second)) == 3 << 20


def test_view_outlives_the_file(tmp_path: Path) -> None:
    (location,) = spilled(tmp_path, b"still here")
    view = SpillReader().read(location)

    spill_files.delete([location.spill_path, location.spill_path])

    assert bytes(view) == b"still here"


def test_cleared_range_gives_its_space_back_and_its_neighbour_stays(tmp_path: Path) -> None:
    first, second = spilled(tmp_path, b"x" * (1 << 20), b"y" * (1 << 20))
    before = os.stat(first.spill_path).st_blocks * 512

    spill_files.clear(first.spill_path, first.offset, first.size)
    spill_files.clear(first.spill_path + ".gone", 0, PAGE_BYTES)

    assert bytes(SpillReader().read(second)[:2]) == b"yy"
    assert os.stat(first.spill_path).st_blocks * 512 <= before - (1 << 20)


def test_file_that_is_gone_cut_or_altered_is_named(tmp_path: Path) -> None:
    (location,) = spilled(tmp_path, b"x" * 10_000)
    path = location.spill_path

    with open(path, "r+b") as file:
        file.write(b"y")
    with pytest.raises(SpilledValueLost, match=r"was altered: the checksum is wrong"):
        SpillReader().read(location)
    os.truncate(path, 100)
    with pytest.raises(SpilledValueLost, match=r"was cut to 100 bytes"):
        SpillReader().read(location)
    os.truncate(path, 0)
    with pytest.raises(SpilledValueLost, match=r"cannot be mapped"):
        SpillReader().read(location)
    os.unlink(path)
    with pytest.raises(SpilledValueLost, match=f"{path} cannot be opened"):
        SpillReader().read(location)


def test_file_that_is_cut_while_it_is_mapped_is_noticed_before_the_look(tmp_path: Path) -> None:
    first, second = spilled(tmp_path, b"x" * 10_000, b"y" * 10_000)
    reader = SpillReader()
    view = reader.read(first)

    os.truncate(first.spill_path, second.offset)

    with pytest.raises(SpilledValueLost, match="was cut"):
        reader.read(second)
    assert bytes(view[:3]) == b"xxx"


def test_mapping_ends_with_its_last_view(tmp_path: Path) -> None:
    (location,) = spilled(tmp_path, b"z" * 10_000)
    reader = SpillReader()
    view = reader.read(location)
    again = reader.read(location)
    maps = Path("/proc/self/maps").read_text()

    del view
    half = again[:5000]
    del again
    still = Path("/proc/self/maps").read_text()
    del half

    assert location.spill_path in maps and location.spill_path in still
    assert location.spill_path not in Path("/proc/self/maps").read_text()


def test_full_disk_is_left_alone_and_nothing_stays_behind(tmp_path: Path) -> None:
    path = spill_files.file_path(str(tmp_path), OWNER, "1")

    with pytest.raises(OSError, match="raybook fills no disk above 0%") as caught:
        spill_files.write_objects(path, [[b"value"]], 0.0)

    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_file_that_could_not_be_written_to_its_end_is_removed(tmp_path: Path) -> None:
    path = spill_files.file_path(str(tmp_path), OWNER, "1")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))

    try:
        with pytest.raises(OSError, match="File too large"):
            spill_files.write_objects(path, [[b"first"], [bytes(2 << 20)]], 1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert os.listdir(tmp_path) == []


def test_files_of_one_owner_are_found(tmp_path: Path) -> None:
    (location,) = spilled(tmp_path, b"value")
    other = spill_files.file_path(os.path.dirname(location.spill_path), b"another.", "1")
    spill_files.write_objects(other, [[b"value"]], 1.0)

    assert spill_files.files_of(os.path.dirname(other), OWNER) == [location.spill_path]
    assert spill_files.files_of(str(tmp_path / "nowhere"), OWNER) == []
