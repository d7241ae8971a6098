"""The object store when the disk fails: what is lost is said, nothing else is, and the disk is tried again."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import raybook as ray
from raybook.api.context import started_engine
from raybook.api.memory import memory_summary

pytestmark = pytest.mark.raybook_only

MIB = 1 << 20
STORE_BYTES = 40 * MIB

Start = Callable[..., None]


@pytest.fixture
def small_store(own_cluster: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> Start:
    """Call it for a cluster of one's own with a store of 40 MiB, and these further settings."""

    def start(**settings: object) -> None:
        for name, value in {"object_store_bytes_min": MIB, **settings}.items():
            monkeypatch.setenv(f"RAYBOOK_{name.upper()}", str(value))
        own_cluster(num_cpus=1, object_store_memory=STORE_BYTES)

    return start


def spill_folder() -> Path:
    return Path(started_engine().session_dir, "spill")


def files_on_disk() -> list[Path]:
    return sorted(spill_folder().glob("*"))


def filled(number: int, mib: int = 2) -> np.ndarray:
    return np.full(mib * MIB, number % 251, np.uint8)


def kinds(refs: list[object]) -> list[str]:
    rows = {row["object_id"]: row["kind"] for row in memory_summary()}
    return [rows[ref.hex()] for ref in refs]


# --- What it does in order --------------------------------------------------------------------------------------------


def test_nothing_goes_to_disk_below_four_fifths_of_the_store_and_something_above(
    small_store: Start, eventually: Callable[[Callable[[], object]], None]
) -> None:
    small_store(extent_bytes_min=MIB, extent_bytes_max=2 * MIB)

    refs = [ray.put(filled(number, 1)) for number in range(24)]
    assert files_on_disk() == [] and set(kinds(refs)) == {"IN_ARENA"}
    refs += [ray.put(filled(number, 1)) for number in range(24, 38)]

    eventually(lambda: "ON_DISK" in kinds(refs))
    assert [int(ray.get(ref)[-1]) for ref in refs] == list(range(38))


def test_many_small_objects_share_a_file(small_store: Start) -> None:
    small_store()

    refs = [ray.put(np.full(150_000, number % 251, np.uint8)) for number in range(600)]

    files = files_on_disk()
    on_disk = [kind for kind in kinds(refs) if kind == "ON_DISK"]
    assert len(on_disk) > 100
    assert len(files) <= len(on_disk) // 10, (len(files), len(on_disk))
    assert [int(ray.get(ref)[7]) for ref in refs] == [number % 251 for number in range(600)]


def test_files_are_deleted_when_the_last_reference_goes(
    small_store: Start, eventually: Callable[[Callable[[], object]], None]
) -> None:
    small_store()
    refs = [ray.put(filled(number)) for number in range(60)]
    assert files_on_disk()

    refs.clear()

    eventually(lambda: files_on_disk() == [])


# --- The disk that fails ----------------------------------------------------------------------------------------------


def head_process() -> psutil.Process:
    (head,) = psutil.Process().children()
    return head


@pytest.fixture
def file_limit(small_store: Start) -> Iterator[Start]:
    """The raylet may write no file beyond 3 MiB, so that every write to disk fails in its middle. Needs no rights."""
    limits: list[tuple[int, tuple[int, int]]] = []

    def start(**settings: object) -> None:
        small_store(**settings)
        pid = head_process().pid
        limits.append((pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (3 * MIB, limits[-1][1][1]))

    yield start


@pytest.mark.slow
def test_disk_that_fails_in_the_middle_of_a_write_costs_no_object(file_limit: Start) -> None:
    """The raylet cannot write; what has no room in the store is written by the driver itself, who can."""
    file_limit()

    refs = [ray.put(filled(number)) for number in range(40)]

    assert [int(ray.get(ref)[-1]) for ref in refs] == list(range(40))
    assert "ON_DISK" in kinds(refs) and "IN_ARENA" in kinds(refs)
    owner = started_engine().client_id.hex()
    half_written = [path for path in files_on_disk() if path.stat().st_size < 2 * MIB or owner not in path.name]
    assert half_written == []


@pytest.mark.slow
def test_disk_that_works_again_is_used_again(
    file_limit: Start, eventually: Callable[[Callable[[], object]], None]
) -> None:
    file_limit()
    refs = [ray.put(filled(number)) for number in range(24)]
    before = kinds(refs).count("ON_DISK")

    resource.prlimit(head_process().pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    eventually(lambda: kinds(refs).count("ON_DISK") > before)
    assert [int(ray.get(ref)[-1]) for ref in refs] == list(range(24))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount; the tests above need no rights")
def test_disk_that_fills_while_objects_go_there_is_an_out_of_disk_error(small_store: Start) -> None:
    small_store(spill_disk_share_max=1)
    folder = spill_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        refs: list[object] = []
        with pytest.raises(ray.exceptions.OutOfDiskError, match=r"No space left on device|MiB left") as caught:
            refs += [ray.put(filled(number)) for number in range(60)]
        kept = [ray.put(np.zeros(10, np.uint8)), ray.put(b"small")]

        assert "No object was lost" in str(caught.value) and str(folder) in str(caught.value)
        assert ray.get(kept[1]) == b"small"
        assert ray.get(ray.remote(lambda: 3).remote(), timeout=20) == 3
        del refs, caught
    finally:
        # Lazily, and first: the head removes its folder at its end, and could not remove one that is mounted on.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        ray.shutdown()


# --- Files that are not what was written ------------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4321)
        byte = file.read(1)[0]
        file.seek(4321)
        file.write(bytes([byte ^ 4]))


def cut(path: Path) -> None:
    os.truncate(path, 4096)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"), [(flip_a_bit, "checksum"), (cut, "was cut to 4096 bytes"), (remove, "cannot be opened")]
)
def test_damaged_file_is_an_error_that_names_it_and_spares_the_others(
    small_store: Start, damage: Callable[[Path], None], said: str
) -> None:
    small_store()

    @ray.remote
    def last(value: np.ndarray) -> int:
        return int(value[-1])

    refs = [ray.put(filled(number)) for number in range(40)]
    path = files_on_disk()[0]
    lost = [ref for ref, row in ((ref, row_of(ref)) for ref in refs) if row["path"] == str(path)]
    damage(path)

    with pytest.raises(ray.exceptions.ObjectLostError, match=said) as caught:
        for ref in lost:
            ray.get(ref)
    with pytest.raises(ray.exceptions.ObjectLostError, match=said):
        ray.get([last.remote(ref) for ref in lost], timeout=20)

    assert str(path) in str(caught.value)
    intact = [index for index, ref in enumerate(refs) if ref not in lost]
    assert [int(ray.get(refs[index])[-1]) for index in intact] == intact


def row_of(ref: object) -> dict:
    (row,) = [row for row in memory_summary() if row["object_id"] == ref.hex()]
    return row
