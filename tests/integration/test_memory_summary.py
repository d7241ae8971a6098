"""Memory summary: every object is there, with its size, where it lies, and what keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import raybook as ray
from raybook.api.memory import memory_summary

pytestmark = pytest.mark.raybook_only

MIB = 1 << 20


def row_of(ref: object) -> dict:
    (row,) = [row for row in memory_summary() if row["object_id"] == ref.hex()]
    return row


def test_rows_tell_size_and_place_the_largest_first(cluster: ModuleType) -> None:
    large, small = ray.put(np.zeros(3 * MIB, np.uint8)), ray.put("small")

    rows = memory_summary()

    mine = [row for row in rows if row["object_id"] in (large.hex(), small.hex())]
    assert [row["kind"] for row in mine] == ["IN_ARENA", "INLINE"]
    assert mine[0]["size_bytes"] > 3 * MIB > 100 > mine[1]["size_bytes"] > 0
    assert all(row["is_owned"] and row["references"] == 1 and row["owner_id"] == large.hex()[:16] for row in mine)


def test_object_that_nobody_refers_to_is_in_no_row(cluster: ModuleType) -> None:
    ref = ray.put("gone soon")
    name = ref.hex()
    copy = ref

    del ref
    assert name in [row["object_id"] for row in memory_summary()]
    del copy

    assert name not in [row["object_id"] for row in memory_summary()]


def test_views_and_containers_are_named_as_what_keeps_an_object(cluster: ModuleType) -> None:
    ref = ray.put(np.zeros(MIB, np.uint8))
    container = ray.put([ref])
    view = ray.get(ref)[10:20]

    row = row_of(ref)

    assert (row["references"], row["views"], row["contained_in"]) == (1, 1, 1)
    assert (len(view), row_of(container)["contained_in"]) == (10, 0)


def test_pending_result_names_its_task_and_its_argument_who_waits_for_it(cluster: ModuleType, gate: object) -> None:
    @ray.remote
    def wait_for(gate: object, value: object) -> object:
        ray.get(gate.wait.remote())
        return value

    argument = ray.put("argument")
    result = wait_for.remote(gate, argument)

    pending, waiting = row_of(result), row_of(argument)
    ray.get(gate.open.remote())
    ray.get(result)

    assert (pending["kind"], pending["task"]) == ("PENDING", "wait_for")
    assert (waiting["references"], waiting["arguments"]) == (1, 1)
    assert (row_of(result)["kind"], row_of(argument)["arguments"]) == ("INLINE", 0)


def test_failed_result_has_no_size(cluster: ModuleType) -> None:
    @ray.remote(max_retries=0)
    def fail() -> None:
        raise ValueError("on purpose")

    ref = fail.remote()
    ray.wait([ref])

    assert (row_of(ref)["kind"], row_of(ref)["size_bytes"]) == ("FAILED", 0)


def test_other_processes_that_hold_an_object_are_listed(
    cluster: ModuleType, eventually: Callable[[Callable[[], object]], None]
) -> None:
    @ray.remote
    class Keeper:
        def keep(self, refs: list) -> list[dict]:
            from raybook.api.memory import memory_summary

            self.refs = refs
            return memory_summary()

    ref = ray.put(np.zeros(MIB, np.uint8))
    keeper = Keeper.remote()
    there = [row for row in ray.get(keeper.keep.remote([ref])) if row["object_id"] == ref.hex()]

    assert [row["is_owned"] for row in there] == [False]
    assert len(row_of(ref)["borrowers"]) == 1
    ray.kill(keeper)
    eventually(lambda: row_of(ref)["borrowers"] == [])


def test_object_on_disk_names_its_file(own_cluster: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBOOK_OBJECT_STORE_BYTES_MIN", str(MIB))
    own_cluster(num_cpus=1, object_store_memory=4 * MIB)
    ref = ray.put(np.zeros(6 * MIB, np.uint8))

    row = row_of(ref)

    assert row["kind"] == "ON_DISK" and row["size_bytes"] > 6 * MIB
    assert Path(row["path"]).stat().st_size >= row["size_bytes"]


def test_summary_without_a_cluster_says_so(no_cluster: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="init"):
        memory_summary()


def test_local_mode_has_the_same_rows(no_cluster: ModuleType) -> None:
    ray.init(local_mode=True)
    ref = ray.put([1, 2, 3])

    row = row_of(ref)

    assert (row["kind"], row["references"]) == ("INLINE", 1) and row["size_bytes"] > 0
