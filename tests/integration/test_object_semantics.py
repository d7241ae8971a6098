"""Semantics of objects and resources, as Ray 2.60 has them: equal values, read-only views, memory that serves again,
CPUs that a blocked task gives back, shares of a GPU.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

import numpy as np
import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


# --- Objects -----------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100 * 1024 - 1, 100 * 1024, 100 * 1024 + 1, 3_000_000])
def test_bytes_of_every_size_come_back_equal_from_put_task_and_argument(size: int):
    @ray.remote
    def pass_on(value):
        return value

    value = bytes(bytearray(i % 251 for i in range(min(size, 1000)))).ljust(size, b"\x07")
    assert ray.get(ray.put(value)) == value
    assert ray.get(pass_on.remote(value)) == value
    assert ray.get(pass_on.remote(ray.put(value))) == value


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.arange(400_000, dtype=np.float32).reshape(400, 1000),
        np.asfortranarray(np.arange(200_000).reshape(400, 500)),
        np.arange(300_000)[::3],
        np.zeros((0, 5)),
        np.array(["a", "bb"]),
        np.array([{"an": "object"}, None], dtype=object),
    ],
    ids=["small", "large", "fortran", "strided", "empty", "text", "objects"],
)
def test_arrays_of_every_kind_come_back_equal(array: np.ndarray):
    result = ray.get(ray.put(array))
    assert result.dtype == array.dtype
    assert result.shape == array.shape
    assert np.array_equal(result, array)


def test_large_array_is_a_read_only_view():
    array = ray.get(ray.put(np.zeros(1_000_000)))
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_array_argument_of_a_task_is_read_only_in_the_task():
    @ray.remote
    def writeable(array):
        return array.flags.writeable

    assert ray.get(writeable.remote(ray.put(np.zeros(1_000_000)))) is False


def test_put_takes_a_copy():
    array = np.zeros(1_000_000)
    ref = ray.put(array)
    array[0] = 1
    assert ray.get(ref)[0] == 0


def test_array_stays_valid_after_its_ref_is_gone():
    array = ray.get(ray.put(np.arange(1_000_000)))
    gc.collect()
    others = [ray.put(np.zeros(1_000_000)) for _ in range(5)]
    assert int(array[-1]) == 999_999
    part = array[10:20]
    del array, others
    gc.collect()
    kept = [ray.put(np.zeros(1_000_000)) for _ in range(5)]
    assert part.tolist() == list(range(10, 20))
    assert len(kept) == 5


def test_memory_of_dropped_objects_serves_again(own_cluster: Callable[..., object]):
    own_cluster(num_cpus=1, object_store_memory=100_000_000)
    for index in range(20):
        array = ray.get(ray.put(np.full(5_000_000, index)))
        assert int(array[-1]) == index
        del array


def test_memory_of_dropped_task_results_serves_again(own_cluster: Callable[..., object]):
    own_cluster(num_cpus=1, object_store_memory=100_000_000)

    @ray.remote
    def make(index):
        return np.full(5_000_000, index)

    for index in range(12):
        assert int(ray.get(make.remote(index))[-1]) == index


# --- Resources ---------------------------------------------------------------


def test_get_inside_a_task_gives_its_cpu_back(own_cluster: Callable[..., object]):
    own_cluster(num_cpus=1)

    @ray.remote
    def inner():
        return "inner"

    @ray.remote
    def outer():
        ready, _ = ray.wait([inner.remote()])
        return ray.get([*ready, inner.remote()])

    assert ray.get(outer.remote()) == ["inner", "inner"]


def make_place_class() -> object:
    @ray.remote
    class Place:
        def pid(self):
            return os.getpid()

    return Place


def test_more_default_actors_than_cpus_live_at_once():
    places = [make_place_class().remote() for _ in range(6)]
    assert len(set(ray.get([place.pid.remote() for place in places]))) == 6


def test_actor_with_explicit_cpus_holds_them_while_alive(eventually: Callable[..., None]):
    place = make_place_class().options(num_cpus=3).remote()
    ray.get(place.pid.remote())
    eventually(lambda: ray.available_resources().get("CPU", 0) == 1)
    ray.kill(place)
    eventually(lambda: ray.available_resources().get("CPU", 0) == 4)


def most_at_once(intervals: list[tuple[float, float]]) -> int:
    """How many of the intervals overlap at the worst moment; one that ends when another begins does not overlap it."""
    changes = sorted([(begin, 1) for begin, _ in intervals] + [(end, -1) for _, end in intervals])
    inside = most = 0
    for _, change in changes:
        inside += change
        most = max(most, inside)
    return most


@pytest.mark.parametrize(
    ("options", "fit"),
    [({"num_cpus": 2}, 2), ({"num_cpus": 1.5}, 2), ({"num_gpus": 1}, 1), ({"num_cpus": 0, "num_gpus": 0.5}, 2)],
    ids=str,
)
def test_running_tasks_never_ask_for_more_than_the_node_has(options: dict[str, float], fit: int):
    @ray.remote(**options)
    def hold():
        begin = time.monotonic()
        time.sleep(0.02)
        return begin, time.monotonic()

    intervals = ray.get([hold.remote() for _ in range(10)])
    assert most_at_once(intervals) <= fit


def test_actors_share_one_gpu_by_quarters_and_the_fifth_waits():
    @ray.remote(num_gpus=0.25, num_cpus=0)
    class Quarter:
        def gpu(self):
            return os.environ["CUDA_VISIBLE_DEVICES"]

    quarters = [Quarter.remote() for _ in range(4)]
    assert set(ray.get([quarter.gpu.remote() for quarter in quarters])) == {"0"}
    fifth = Quarter.remote()
    pending = fifth.gpu.remote()
    assert ray.wait([pending], timeout=0.1) == ([], [pending])
    ray.kill(quarters.pop())
    assert ray.get(pending) == "0"
