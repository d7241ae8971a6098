"""The object store under pressure: freed room serves others, what has no room goes to disk and comes back, and what
cannot be done is said clearly."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import raybook as ray
from raybook.api.context import started_engine
from raybook.protocol.messages.raylet import FactsDelta

pytestmark = pytest.mark.raybook_only

MIB = 1 << 20
STORE_BYTES = 80 * MIB


@pytest.fixture
def small_store(shutdown_after_module: None) -> None:
    """A store of 80 MiB, shared by the tests of this module that leave it empty."""
    if not ray.is_initialized() or ray.cluster_resources()["object_store_memory"] != STORE_BYTES:
        ray.shutdown()
        ray.init(num_cpus=2, object_store_memory=STORE_BYTES)


@pytest.fixture
def tiny_store(own_cluster: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it for a cluster of one's own with a store of 20 MiB, and these further settings."""

    def start(**settings: object) -> None:
        for name, value in {"object_store_bytes_min": MIB, **settings}.items():
            monkeypatch.setenv(f"RAYBOOK_{name.upper()}", str(value))
        own_cluster(num_cpus=1, object_store_memory=20 * MIB)

    return start


def files_on_disk() -> list[Path]:
    """Where objects went for want of room, in this session."""
    return sorted(Path(started_engine().session_dir, "spill").glob("*"))


def filled(number: int, mib: int = 1) -> np.ndarray:
    return np.full(mib * MIB, number % 251, np.uint8)


@pytest.fixture
def used_bytes(small_store: None) -> Iterator[Callable[[], int]]:
    """What the node last reported of its store."""
    rows: dict[str, int] = {"used_bytes": -1}

    def listen(delta: FactsDelta) -> None:
        for fact in delta.facts:
            if fact.kind == "store":
                rows.update(fact.row)

    unsubscribe = started_engine().subscribe_facts(listen)
    yield lambda: rows["used_bytes"]
    unsubscribe()


def test_room_a_driver_freed_serves_a_worker(small_store: None) -> None:
    @ray.remote
    def make(mib: int) -> np.ndarray:
        return np.full(mib * MIB, 3, np.uint8)

    refs = [ray.put(filled(number)) for number in range(60)]
    assert ray.get(refs[7])[0] == 7
    del refs

    value = ray.get(make.remote(50))

    assert len(value) == 50 * MIB and value[-1] == 3


def test_freed_bytes_leave_the_store_within_a_second_or_so(
    used_bytes: Callable[[], int], eventually: Callable[[Callable[[], object]], None]
) -> None:
    kept = ray.put(np.zeros(3 * MIB, np.uint8))
    freed = [ray.put(np.zeros(5 * MIB, np.uint8)) for _ in range(6)]
    eventually(lambda: used_bytes() >= 33 * MIB)
    start = time.monotonic()

    del freed
    eventually(lambda: 0 <= used_bytes() < 5 * MIB)

    assert time.monotonic() - start < 3
    assert len(ray.get(kept)) == 3 * MIB


def test_puts_of_ten_times_the_capacity_succeed_and_read_back_equal(
    tiny_store: Callable[..., None], eventually: Callable[[Callable[[], object]], None]
) -> None:
    tiny_store()
    refs = [ray.put(filled(number)) for number in range(200)]

    assert all((ray.get(ref) == number % 251).all() for number, ref in enumerate(refs))
    assert sum(path.stat().st_size for path in files_on_disk()) > 150 * MIB
    assert ray.get(refs[0], timeout=0)[0] == 0

    del refs
    eventually(lambda: files_on_disk() == [])


def test_object_that_dies_gives_its_disk_space_back_though_its_file_has_others(
    tiny_store: Callable[..., None], eventually: Callable[[Callable[[], object]], None]
) -> None:
    tiny_store()
    refs = [ray.put(filled(number)) for number in range(60)]
    view = ray.get(refs[4])

    def bytes_on_disk() -> int:
        return sum(path.stat().st_blocks * 512 for path in files_on_disk())

    # 60 MiB in a store of 20; of these, 12 and the one that is looked at stay.
    assert bytes_on_disk() > 30 * MIB
    kept = refs[::5]
    del refs

    eventually(lambda: bytes_on_disk() < 16 * MIB)
    assert [int(ray.get(ref)[-1]) for ref in kept] == list(range(0, 60, 5))
    assert (view == 4).all()


def test_results_of_tasks_beyond_the_capacity_are_kept_and_passed_on(small_store: None) -> None:
    @ray.remote
    def make(number: int) -> np.ndarray:
        return filled(number, 4)

    @ray.remote
    def total(array: np.ndarray) -> int:
        return int(array[::4096].sum())

    results = [make.remote(number) for number in range(40)]
    sums = ray.get([total.remote(result) for result in results])

    assert sums == [number * 1024 for number in range(40)]
    assert files_on_disk()
    assert ray.get(results[0])[-1] == 0


def test_views_stay_what_they_are_while_everything_else_goes_to_disk(small_store: None) -> None:
    refs = [ray.put(filled(number)) for number in range(30)]
    views = [ray.get(ref) for ref in refs[::3]]
    more = [ray.put(filled(number)) for number in range(150)]

    assert all((view == 3 * index).all() for index, view in enumerate(views))
    assert all(ray.get(ref)[-1] == number for number, ref in enumerate(refs))
    assert ray.get(more[149])[0] == 149


def test_store_full_of_what_is_looked_at_lets_new_values_begin_on_disk(small_store: None) -> None:
    refs = [ray.put(filled(number, 4)) for number in range(40)]
    views = [ray.get(ref) for ref in refs]
    more = [ray.put(filled(number, 4)) for number in range(10)]
    views += [ray.get(ref) for ref in more]

    assert all((view == (index if index < 40 else index - 40)).all() for index, view in enumerate(views))


def test_value_larger_than_the_store_lives_on_disk(
    small_store: None, eventually: Callable[[Callable[[], object]], None]
) -> None:
    ref = ray.put(np.arange(12 * MIB))

    assert len(files_on_disk()) == 1
    assert (ray.get(ref) == np.arange(12 * MIB)).all()

    del ref
    eventually(lambda: files_on_disk() == [])


def test_what_an_actor_has_borrowed_moves_under_it(small_store: None) -> None:
    @ray.remote
    class Reader:
        def keep(self, refs: list) -> int:
            self.refs = refs
            self.view = ray.get(refs[0])
            return int(ray.get(refs[1])[0])

        def read(self) -> list[int]:
            return [int(self.view[-1]), *(int(ray.get(ref)[-1]) for ref in self.refs)]

    refs = [ray.put(filled(number, 4)) for number in range(6)]
    reader = Reader.remote()
    assert ray.get(reader.keep.remote(refs)) == 1
    more = [ray.put(filled(number, 4)) for number in range(40)]

    assert ray.get(reader.read.remote()) == [0, 0, 1, 2, 3, 4, 5]
    assert ray.get(more[0])[0] == 0


def test_files_of_an_actor_go_with_it(small_store: None, eventually: Callable[[Callable[[], object]], None]) -> None:
    @ray.remote
    class Hoarder:
        def hoard(self) -> int:
            self.refs = [ray.put(filled(number, 4)) for number in range(40)]
            return len(self.refs)

    eventually(lambda: files_on_disk() == [])
    hoarder = Hoarder.remote()
    assert ray.get(hoarder.hoard.remote()) == 40
    assert files_on_disk()

    ray.kill(hoarder)

    eventually(lambda: files_on_disk() == [])


def test_altered_file_is_an_object_lost_error_that_names_it(tiny_store: Callable[..., None]) -> None:
    tiny_store()

    @ray.remote
    def last(array: np.ndarray) -> int:
        return int(array[-1])

    refs = [ray.put(filled(number)) for number in range(60)]
    altered = files_on_disk()[0]
    with altered.open("r+b") as file:
        file.seek(5000)
        file.write(b"not what was written")

    with pytest.raises(ray.exceptions.ObjectLostError, match=f"{altered} was altered"):
        ray.get(refs)
    with pytest.raises(ray.exceptions.ObjectLostError, match=f"{altered} was altered"):
        ray.get([last.remote(ref) for ref in refs])
    assert ray.get(refs[59])[0] == 59


def test_full_disk_is_said_clearly_and_costs_no_object(tiny_store: Callable[..., None]) -> None:
    tiny_store(spill_disk_share_max=0)
    refs = []

    with pytest.raises(ray.exceptions.OutOfDiskError, match=r"raybook fills no disk above 0%") as caught:
        refs += [ray.put(filled(number)) for number in range(60)]

    assert "20.0 MiB are in use" in str(caught.value)
    assert files_on_disk() == []
    kept = ray.put(filled(7))
    assert ray.get(kept)[-1] == 7


def test_full_store_that_may_not_spill_names_use_capacity_and_holders(tiny_store: Callable[..., None]) -> None:
    tiny_store(spilling=0)
    kept = [ray.put(filled(number)) for number in range(18)]

    with pytest.raises(ray.exceptions.ObjectStoreFullError, match=r"cannot hold 4\.0 MiB more") as caught:
        ray.put(filled(0, 4))

    assert f"of 20.0 MiB are in use. Largest holders: driver {os.getpid()} (" in str(caught.value)
    with pytest.raises(ray.exceptions.ObjectStoreFullError, match="larger than the whole store"):
        ray.put(filled(0, 30))
    assert ray.get(kept[17])[0] == 17


def test_reference_in_a_return_value_keeps_its_object_until_the_caller_holds_it(small_store: None) -> None:
    @ray.remote
    class Maker:
        def make(self, number: int) -> list:
            return [ray.put(filled(number))]

    @ray.remote
    def relay(maker: object, number: int) -> list:
        return ray.get(maker.make.remote(number))

    maker = Maker.remote()
    calls = [(number, maker.make.remote(number)) for number in range(60)]
    calls += [(number, relay.remote(maker, number)) for number in range(60)]

    assert [int(ray.get(ray.get(call)[0])[-1]) for _, call in calls] == [number for number, _ in calls]
