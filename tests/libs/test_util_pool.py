"""multiprocessing.Pool on actors, and joblib on that."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading

import pytest

import raybook as ray
from raybook.util.joblib import register_ray
from raybook.util.multiprocessing import Pool, TimeoutError

joblib = pytest.importorskip("joblib")

pytestmark = pytest.mark.usefixtures("four_cpus")


@pytest.fixture(scope="module")
def pool(four_cpus):
    with Pool(processes=2) as shared:
        yield shared
    shared.join()


def fail_on(*bad):
    def function(value):
        if value in bad:
            raise ValueError(f"bad {value}")
        return value

    return function


# --- Results ------------------------------------------------------------------


def test_apply_passes_arguments_and_runs_elsewhere(pool):
    assert pool.apply(lambda a, b=0: (a, b), (1,), {"b": 2}) == (1, 2)
    assert pool.apply(os.getpid) != os.getpid()


def test_map_keeps_the_order_whatever_the_chunks(pool):
    expected = [value * value for value in range(100)]
    for chunksize in (None, 1, 7, 1000):
        assert pool.map(lambda value: value * value, range(100), chunksize) == expected
    assert pool.map(lambda value: value, []) == []


def test_starmap_unpacks_its_items(pool):
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert pool.starmap_async(pow, iter([(2, 3)])).get() == [8]


def test_map_raises_the_first_error_in_order(pool):
    with pytest.raises(ValueError, match="bad 3"):
        pool.map(fail_on(3, 90), range(100), chunksize=5)


def test_imap_gives_errors_as_values_and_goes_on(pool):
    results = list(pool.imap(fail_on(2, 50, 98), range(100), chunksize=11))
    assert len(results) == 100
    assert [at for at, result in enumerate(results) if isinstance(result, ValueError)] == [2, 50, 98]


def test_imap_takes_its_iterable_as_results_are_taken(pool):
    def endless():
        value = 0
        while True:
            yield value
            value += 1

    results = pool.imap(lambda value: value, endless(), chunksize=3)
    assert [results.next() for _ in range(1000)] == list(range(1000))


def test_imap_unordered_gives_what_is_ready(pool, make_gate):
    gate = make_gate()

    def work(value):
        if value == 0:
            ray.get(gate.wait.remote())
        return value

    results = pool.imap_unordered(work, range(3))
    assert sorted([next(results), next(results)]) == [1, 2]
    with pytest.raises(TimeoutError):
        results.next(timeout=0.01)
    ray.get(gate.open.remote())
    assert list(results) == [0]


def test_one_process_with_a_long_chunk_does_not_hold_up_the_others(pool, make_gate):
    gate = make_gate()
    stuck = pool.apply_async(lambda: ray.get(gate.wait.remote()))
    assert pool.map(lambda value: value, range(50), chunksize=1) == list(range(50))
    assert not stuck.ready()
    ray.get(gate.open.remote())
    assert stuck.get() is None


def test_a_chunk_that_blocks_does_not_hold_back_those_behind_it(pool, make_gate):
    gate = make_gate()

    def block_once(value):
        if value == 700:
            ray.get(gate.wait.remote())
        return value

    results = pool.imap_unordered(block_once, range(1000))
    assert len([next(results) for _ in range(999)]) == 999
    ray.get(gate.open.remote())
    assert list(results) == [700]


def test_a_result_can_be_waited_for(pool, make_gate):
    gate = make_gate()
    result = pool.apply_async(lambda: ray.get(gate.wait.remote()) or 5)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    ray.get(gate.open.remote())
    result.wait()
    assert result.ready() and result.successful() and result.get() == 5
    failed = pool.apply_async(fail_on(1), (1,))
    failed.wait()
    assert not failed.successful()


def test_callbacks_get_the_value_or_the_error(pool):
    values, errors = [], []
    pool.map_async(lambda value: value, range(3), callback=values.append, error_callback=errors.append).wait()
    pool.apply_async(fail_on(1), (1,), callback=values.append, error_callback=errors.append).wait()
    assert values == [[0, 1, 2]]
    assert [type(error).__name__ for error in errors] == ["RayTaskError(ValueError)"]


def test_short_chunks_travel_together_and_long_ones_alone(pool):
    def task_id(_):
        return ray.get_runtime_context().get_task_id()

    assert len(set(pool.map(task_id, range(2000), chunksize=1))) < 1000


# --- What goes wrong ----------------------------------------------------------


def test_what_cannot_travel_fails_its_own_call_only(pool):
    lock = threading.Lock()
    results = [pool.apply_async(lambda value: type(value).__name__, (value,)) for value in (1, lock, 2.0)]
    assert results[0].get() == "int" and results[2].get() == "float"
    with pytest.raises(TypeError, match="lock"):
        results[1].get()
    with pytest.raises(TypeError, match="lock"):
        pool.apply(threading.Lock)


def test_a_process_that_dies_is_replaced(pool):
    with pytest.raises(ray.exceptions.RayActorError):
        pool.apply(os._exit, (1,))
    assert pool.map(lambda value: value, range(20), chunksize=1) == list(range(20))


def test_more_processes_than_cpus_are_refused():
    with pytest.raises(ValueError, match="only 4 CPUs"):
        Pool(processes=5)
    with pytest.raises(ValueError, match=">0"):
        Pool(processes=0)


def test_an_initializer_that_raises_is_told_at_once():
    def broken():
        raise KeyError("no such setting")

    with pytest.raises(ray.exceptions.ActorDiedError, match="no such setting"):
        Pool(processes=1, initializer=broken)


# --- Life and end -------------------------------------------------------------


def test_the_initializer_runs_once_in_each_process():
    def remember(value):
        os.environ["POOL_TEST"] = value

    with Pool(2, initializer=remember, initargs=("seen",)) as own:
        assert own.map(lambda _: os.environ["POOL_TEST"], range(8), chunksize=1) == ["seen"] * 8


def test_processes_make_way_after_maxtasksperchild():
    with Pool(1, maxtasksperchild=2) as own:
        pids = own.map(lambda _: os.getpid(), range(6), chunksize=1)
    assert len(set(pids)) == 3 and all(pids.count(pid) == 2 for pid in pids)


def test_close_lets_the_work_finish_and_join_waits_for_it():
    own = Pool(1)
    with pytest.raises(ValueError, match="still running"):
        own.join()
    result = own.map_async(lambda value: value, range(10))
    stream = own.imap(lambda value: value, range(500))
    own.close()
    with pytest.raises(ValueError, match="not running"):
        own.apply(os.getpid)
    own.join()
    assert result.ready() and result.get() == list(range(10))
    assert list(stream) == list(range(500))


def test_terminate_fails_what_has_no_result(make_gate):
    gate = make_gate()
    own = Pool(1)
    stuck = own.apply_async(lambda: ray.get(gate.wait.remote()))
    queued = own.apply_async(os.getpid)
    own.terminate()
    own.join()
    for result in (stuck, queued):
        with pytest.raises(ray.exceptions.ActorDiedError, match="terminated"):
            result.get()


def test_a_pool_is_not_pickled(pool):
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


def test_a_task_may_have_a_pool_of_its_own():
    @ray.remote
    def total():
        with Pool(2) as own:
            return sum(own.map(lambda value: value, range(10)))

    assert ray.get(total.remote()) == 45


# --- joblib -------------------------------------------------------------------


def test_joblib_runs_on_the_cluster():
    register_ray()
    with joblib.parallel_backend("ray", n_jobs=2):
        results = joblib.Parallel()(joblib.delayed(lambda value: (value, os.getpid()))(at) for at in range(20))
    assert [value for value, _ in results] == list(range(20))
    assert os.getpid() not in {pid for _, pid in results}


def test_an_error_under_joblib_is_raised():
    register_ray()
    with joblib.parallel_backend("ray", n_jobs=2), pytest.raises(ValueError, match="bad 3"):
        joblib.Parallel()(joblib.delayed(fail_on(3))(at) for at in range(10))
