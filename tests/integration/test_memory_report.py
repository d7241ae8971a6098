"""The memory report of a real cluster: every process's references, with the line that made them and who holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import __main__
import raybook as ray
from raybook._private.internal_api import memory_summary
from raybook.util.state import list_objects
from tests.kernel.kernel_process import KernelProcess

pytestmark = pytest.mark.raybook_only

MIB = 1 << 20


@pytest.fixture
def recording(shutdown_after_module: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's cluster; it records lines, as one that a notebook starts does."""
    if not ray.is_initialized():
        monkeypatch.setenv("RAY_record_ref_creation_sites", "1")
        ray.init(num_cpus=2)


def rows_of(ref: object) -> list[dict]:
    return [row for row in ray.memory() if row["object_id"] == ref.hex()]


def test_line_of_a_put_a_task_and_a_call_is_recorded(recording: None) -> None:
    @ray.remote
    class Actor:
        def one(self) -> int:
            return 1

    put = ray.put(1)
    task = ray.remote(lambda: 1).remote()
    call = Actor.remote().one.remote()
    ray.get([task, call])

    sites = [rows_of(ref)[0]["call_site"] for ref in (put, task, call)]

    here = f"{__file__}:test_line_of_a_put_a_task_and_a_call_is_recorded:"
    assert [site.partition(":")[0].partition(" /")[0] for site in sites] == [
        "(put object)",
        "(task call)",
        "(actor call)",
    ]
    assert all(here in site for site in sites)
    assert put.call_site() == sites[0]
    (listed,) = list_objects(filters=[("object_id", "=", put.hex())])
    assert listed.call_site == sites[0]


def test_line_inside_a_library_is_that_of_the_user_who_called_it(recording: None) -> None:
    queue = ray.util.queue.Queue()

    ref = queue.actor.qsize.remote()
    iterator = ray.util.map_unordered(lambda: None, [])
    queue.put(1)

    assert list(iterator) == []
    assert not [row for row in ray.memory() if "/runtime/raybook/" in row["call_site"]]
    assert "test_line_inside_a_library" in ref.call_site()


def test_process_that_borrows_is_listed_with_the_size_that_the_owner_knows(
    recording: None, eventually: Callable[[Callable[[], object]], None]
) -> None:
    @ray.remote
    class Keeper:
        def keep(self, refs: list) -> None:
            self.refs = refs

    ref = ray.put(np.zeros(MIB, np.uint8))
    keeper = Keeper.remote()
    ray.get(keeper.keep.remote([ref]))

    eventually(lambda: len(rows_of(ref)) == 2)
    rows = rows_of(ref)

    assert {row["type"] for row in rows} == {"DRIVER", "WORKER"}
    assert all(row["size_bytes"] > MIB and "(put object)" in row["call_site"] for row in rows)


def test_variable_of_the_user_that_holds_an_object_is_named(recording: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = ray.put(np.zeros(MIB, np.uint8))
    monkeypatch.setattr(__main__, "batches", [None, ref], raising=False)
    monkeypatch.setattr(__main__, "part_of_it", ray.get(ref)[5:9], raising=False)

    (row,) = rows_of(ref)

    assert row["held_by"] == ["batches[1]", "part_of_it"]
    assert "batches[1], part_of_it" in str(ray.memory())


def test_report_prints_as_text_and_as_a_page(recording: None) -> None:
    ref = ray.put("a small one")
    report = ray.memory(units="B", num_entries=50)

    assert ref.hex() in str(report) == repr(report)
    assert ref.hex() in report._repr_html_() and report._repr_html_().startswith("<pre")
    assert len(report) == len(list(report)) and report[0] in report.rows


def test_summary_for_rays_users_is_the_same_page(recording: None) -> None:
    ref = ray.put("here")

    assert ref.hex() in memory_summary(units="KB")
    assert memory_summary(stats_only=True).startswith("--- Aggregate object store stats")
    with pytest.raises(ValueError, match="group_by"):
        memory_summary(group_by="PLANET")


def test_report_without_a_cluster_says_so(no_cluster: object) -> None:
    with pytest.raises(RuntimeError, match="init"):
        ray.memory()


def test_local_mode_has_a_report_too(no_cluster: object, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.init(local_mode=True)
    monkeypatch.setattr(__main__, "kept_here", ray.put([1, 2, 3]), raising=False)

    (row,) = ray.memory()

    assert (row["kind"], row["type"], row["held_by"]) == ("INLINE", "DRIVER", ["kept_here"])
    assert ray.get(__main__.kept_here, copy=True) == [1, 2, 3]


def test_outside_of_ipython_lines_are_not_recorded_unless_asked_for(own_cluster: Callable[..., object]) -> None:
    own_cluster(num_cpus=1)
    ref = ray.put(1)

    assert [row["call_site"] for row in rows_of(ref)] == ["disabled"]


@pytest.mark.slow
def test_notebook_names_cells_outputs_and_variables(tmp_path: Path) -> None:
    with KernelProcess(tmp_path) as kernel:
        assert kernel.run("import raybook as ray, numpy as np\nray.init(num_cpus=1)").error == ""
        kernel.run("kept = ray.put(np.zeros(1 << 20))")
        kernel.run("1 + 1\n[ray.put(np.ones(1 << 21))]")

        outcome = kernel.run("for row in ray.memory(): print(row['call_site'], row['held_by'])")

        assert outcome.text.splitlines()[:2] == ["(put object) In[3]:2 ['Out[3][0]']", "(put object) In[2]:1 ['kept']"]
