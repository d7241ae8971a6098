"""Dask on raybook: the same results as Dask's own schedulers give, callbacks, persisted collections, options, errors."""

from __future__ import annotations

import os

import numpy as np
import pytest

import raybook as ray

dask = pytest.importorskip("dask", reason="dask is not installed; pip install 'raybook[dask]' brings it")

from dask._task_spec import DataNode  # noqa: E402 - as dask itself.

from raybook.util.dask import (  # noqa: E402 - it needs dask.
    ProgressBarCallback,
    RayDaskCallback,
    disable_dask_on_ray,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
    ray_dask_persist,
)

pytestmark = pytest.mark.usefixtures("four_cpus")


@pytest.fixture
def graph():
    """Three tasks in a chain, and a value."""

    def add(left, right):
        return left + right

    return {"one": 1, "two": (add, "one", 1), "four": (add, "two", "two"), "seven": (add, "four", 3)}


@pytest.mark.parametrize("scheduler", [ray_dask_get, ray_dask_get_sync])
def test_keys_are_computed_nested_as_they_are_asked_for(graph, scheduler):
    assert scheduler(graph, "seven") == 7
    assert scheduler(graph, ["one", "seven"]) == (1, 7)
    assert scheduler(graph, [["two"], ["four", "one"]]) == ((2,), (4, 1))
    assert scheduler({**graph, "pair": DataNode("pair", (1, [2]))}, [["pair"], "two"]) == (((1, [2]),), 2)


@pytest.mark.slow  # Workers load pandas.
def test_arrays_and_frames_equal_what_dask_computes_itself():
    pd = pytest.importorskip("pandas")
    da, dd = pytest.importorskip("dask.array"), pytest.importorskip("dask.dataframe")
    array = da.from_array(np.arange(400.0).reshape(20, 20), chunks=(5, 10))
    expression = (array @ array.T).mean(axis=0) + array.std()
    frame = dd.from_pandas(pd.DataFrame({"a": np.arange(100) % 7, "b": np.arange(100.0)}), npartitions=4)
    expected = expression.compute(scheduler="sync"), frame.groupby("a").b.sum().compute(scheduler="sync")
    with enable_dask_on_ray():
        np.testing.assert_allclose(expression.compute(), expected[0])
        pd.testing.assert_series_equal(frame.groupby("a").b.sum().compute(), expected[1])
        shuffled = frame.shuffle("a").compute()
        assert sorted(shuffled.b) == list(range(100))


def test_tasks_run_in_workers_all_at_once(make_gate):
    gate = make_gate()

    @dask.delayed
    def wait():
        ray.get(gate.wait.remote())
        return os.getpid()

    @dask.delayed
    def open_it():
        ray.get(gate.open.remote())
        return os.getpid()

    with enable_dask_on_ray():
        pids = dask.compute(wait(), wait(), open_it())
    assert len(set(pids)) == 3 and os.getpid() not in pids


def test_dask_is_as_before_outside_the_block_and_after_disabling():
    pid = dask.delayed(os.getpid)
    with enable_dask_on_ray():
        assert pid().compute() != os.getpid()
    assert pid().compute(scheduler="sync") == os.getpid()
    enable_dask_on_ray()
    disable_dask_on_ray()
    assert pid().compute() == os.getpid()


def test_what_persists_stays_in_the_cluster_and_computes_to_the_same():
    @dask.delayed
    def make():
        return np.arange(4)

    value = make()
    with enable_dask_on_ray():
        kept = value.persist()
        (also_kept,) = ray_dask_persist(value)
    for collection in (kept, also_kept):
        (stored,) = collection.dask.values()
        assert isinstance(getattr(stored, "value", stored), ray.ObjectRef)
        assert (collection + 1).compute(scheduler=ray_dask_get).tolist() == [1, 2, 3, 4]
    assert not isinstance(next(iter(value.persist(scheduler="sync").dask.values())), ray.ObjectRef)


def test_refs_in_a_graph_are_their_values():
    @dask.delayed
    def total(values, more=0):
        return sum(values) + more

    refs = [ray.put(1), ray.put(2)]
    assert dask.compute(total(refs, more=ray.put(10)), scheduler=ray_dask_get) == (13,)


def test_an_error_is_what_the_task_raised():
    def fail():
        raise KeyError("absent")

    for scheduler in (ray_dask_get, ray_dask_get_sync):
        with pytest.raises(KeyError, match="absent"):
            dask.delayed(fail)().compute(scheduler=scheduler)


# Options


def test_remote_args_of_the_call_and_of_annotations_reach_the_tasks():
    @dask.delayed
    def resources():
        return ray.get_runtime_context().get_assigned_resources()["CPU"], ray.get_runtime_context().get_task_name()

    assert resources().compute(scheduler=ray_dask_get, ray_remote_args={"num_cpus": 2})[0] == 2
    with dask.annotate(ray_remote_args={"num_cpus": 3}):
        assert resources().compute(scheduler=ray_dask_get)[0] == 3
    cpus, name = resources().compute(scheduler=ray_dask_get)
    assert cpus == 1 and name.startswith("dask:resources-")


def test_resources_belong_into_remote_args():
    value = dask.delayed(1)
    with pytest.raises(ValueError, match="ray_remote_args"):
        value.compute(scheduler=ray_dask_get, resources={"CPU": 1})
    with dask.annotate(resources={"CPU": 1}), pytest.raises(ValueError, match="ray_remote_args"):
        value.compute(scheduler=ray_dask_get)


# Callbacks


def test_callbacks_see_every_stage(graph):
    seen = []

    class Watch(RayDaskCallback):
        def _ray_presubmit(self, task, key, deps):
            seen.append(("presubmit", key, sorted(deps)))

        def _ray_postsubmit(self, task, key, deps, object_ref):
            seen.append(("postsubmit", key, isinstance(object_ref, ray.ObjectRef)))

        def _ray_postsubmit_all(self, object_refs, dsk):
            seen.append(("postsubmit_all", len(object_refs), sorted(dsk)))

        def _ray_finish(self, result):
            seen.append(("finish", result))

    with Watch():
        ray_dask_get(graph, ["four"])
    assert seen == [
        ("presubmit", "two", ["one"]),
        ("postsubmit", "two", True),
        ("presubmit", "four", ["two"]),
        ("postsubmit", "four", True),
        ("postsubmit_all", 1, ["four", "one", "seven", "two"]),
        ("finish", (4,)),
    ]


def test_a_value_from_presubmit_takes_the_place_of_the_task(graph):
    callback = RayDaskCallback(ray_presubmit=lambda task, key, deps: 100 if key == "two" else None)
    assert ray_dask_get(graph, "seven", ray_callbacks=[callback]) == 203


def test_pretask_and_posttask_run_with_the_task_and_share_a_state(graph, four_cpus):
    @ray.remote(num_cpus=0)
    class Notes:
        def __init__(self):
            self.notes = {}

        def add(self, key, note):
            self.notes[key] = note

        def read(self):
            return self.notes

    notes = Notes.remote()

    def before(key, object_refs):
        return os.getpid(), len(object_refs)

    def after(key, result, state):
        ray.get(notes.add.remote(key, (*state, result, os.getpid())))

    only_after = RayDaskCallback(ray_posttask=lambda key, result, state: ray.get(notes.add.remote("alone", state)))
    callbacks = [RayDaskCallback(ray_pretask=before, ray_posttask=after), only_after]
    ray_dask_get(graph, "four", ray_callbacks=callbacks)
    found = ray.get(notes.read.remote())
    assert found.pop("alone") is None
    assert {key: note[1:3] for key, note in found.items()} == {"two": (1, 2), "four": (1, 4)}
    assert all(note[0] == note[3] != os.getpid() for note in found.values())


def test_active_callbacks_are_for_the_outermost_computation_and_given_ones_replace_them(graph):
    seen = []
    outer = RayDaskCallback(ray_finish=lambda result: seen.append(("active", result)))
    with outer:
        ray_dask_get(graph, "two", ray_callbacks=[RayDaskCallback(ray_finish=lambda result: seen.append("given"))])
        inner = RayDaskCallback(ray_finish=lambda result: seen.append(ray_dask_get(graph, "one")))
        with inner:
            ray_dask_get(graph, "four")
    outer.register()
    outer.unregister()
    ray_dask_get(graph, "two")
    assert seen[0] == "given" and sorted(seen[1:], key=str) == [("active", 4), 1]
    with pytest.raises(TypeError, match="RayDaskCallback"):
        ray_dask_get(graph, "two", ray_callbacks=[print])


def test_the_progress_bar_ends_at_all_tasks(graph, capsys):
    with ProgressBarCallback():
        assert ray_dask_get(graph, "seven") == 7
    assert "dask: 3 of 3 tasks" in capsys.readouterr().err
