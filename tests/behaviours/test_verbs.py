"""get, put, wait, cancel, kill: keywords and texts that users' code relies on."""

from __future__ import annotations

import threading

import numpy as np
import pytest


def test_verbs_take_rays_keywords(ray):
    ref = ray.put(1)
    assert ray.get(object_refs=ref) == 1
    assert ray.wait(ray_waitables=[ref], num_returns=1) == ([ref], [])
    ray.cancel(ray_waitable=ref)


@pytest.mark.parametrize("what", ["tuple", "set", "generator", "number", "function"])
def test_get_of_anything_else_says_what_it_takes(ray, what):
    ref = ray.put(1)
    things = {"tuple": (ref,), "set": {ref}, "generator": (r for r in [ref]), "number": 3, "function": print}
    with pytest.raises(ValueError, match="'object_refs' must either be an ObjectRef or a list of ObjectRefs"):
        ray.get(things[what])


def test_get_of_a_list_names_the_stranger_in_it(ray):
    with pytest.raises(TypeError, match="Attempting to call `get` on the value None, which is not an ray.ObjectRef"):
        ray.get([ray.put(1), None])


def test_a_get_that_ran_out_of_time_says_so(ray, gate):
    with pytest.raises(ray.exceptions.GetTimeoutError, match=r"Get timed out: some object\(s\) not ready"):
        ray.get(gate.wait.remote(), timeout=0.01)


def test_wait_says_what_it_takes(ray):
    ref = ray.put(1)
    expected = "wait\\(\\) expected a list of ray.ObjectRef or ray.ObjectRefGenerator"
    for wrong in (ref, (ref,), {ref}, None, 1):
        with pytest.raises(TypeError, match=expected):
            ray.wait(wrong)
    with pytest.raises(TypeError, match=f"{expected}, got list containing <class 'int'>"):
        ray.wait([1])
    with pytest.raises(ValueError, match="Wait requires a list of unique ray_waitables"):
        ray.wait([ref, ref])
    with pytest.raises(ValueError, match="Invalid number of objects to return 0"):
        ray.wait([ref], num_returns=0)
    with pytest.raises(ValueError, match="num_returns cannot be greater than the number of ray_waitables"):
        ray.wait([ref], num_returns=2)
    with pytest.raises(ValueError, match="must be nonnegative. Received -1"):
        ray.wait([ref], timeout=-1)


def test_put_of_a_reference_is_refused(ray):
    with pytest.raises(TypeError, match="Calling 'put' on an ray.ObjectRef is not allowed"):
        ray.put(ray.put(1))


def test_cancel_and_kill_send_each_other_their_strangers(ray):
    with pytest.raises(TypeError, match=r"ray.cancel\(\) only supported for object refs. For actors, try ray.kill"):
        ray.cancel(1)
    with pytest.raises(ValueError, match=r"ray.kill\(\) only supported for actors. For tasks, try ray.cancel"):
        ray.kill(ray.put(1))


def test_get_actor_wants_a_name(ray):
    with pytest.raises(ValueError, match="Please supply a non-empty value to get_actor"):
        ray.get_actor("")


def test_a_remote_function_cannot_be_called(ray):
    @ray.remote
    def work():
        pass

    with pytest.raises(TypeError, match=r"Remote functions cannot be called directly.*work\.remote\(\)"):
        work()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"num_cpus": -1}, ValueError, "quantity of resource num_cpus cannot be negative"),
        ({"num_gpus": 0.00001}, ValueError, "fractional quantity of resource num_gpus cannot go beyond 0.0001"),
        ({"num_cpus": "a"}, TypeError, "The type of keyword 'num_cpus' must be"),
        ({"resources": {"CPU": 1}}, ValueError, "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU'"),
        ({"max_retries": -2}, ValueError, "'max_retries' only accepts None, 0, -1 or a positive integer"),
        ({"max_calls": -1}, ValueError, "'max_calls' only accepts None, 0 or a positive integer"),
        ({"num_returns": -1}, ValueError, "'num_returns' only accepts None, a non-negative integer, 'streaming'"),
        ({"retry_exceptions": ["a"]}, ValueError, "retry_exceptions must be either a boolean or a list of exceptions"),
        ({"retry_exceptions": ValueError}, TypeError, "The type of keyword 'retry_exceptions' must be"),
        ({"enable_task_events": 3}, TypeError, "The type of keyword 'enable_task_events' must be"),
        ({"max_restarts": 1}, ValueError, "Invalid option keyword max_restarts for remote functions"),
        (
            {"_generator_backpressure_num_objects": 0},
            ValueError,
            "_generator_backpressure_num_objects=0 is not allowed",
        ),
    ],
)
def test_a_wrong_option_is_told_in_words_that_can_be_matched(ray, options, kind, words):
    with pytest.raises(kind, match=words):
        ray.remote(**options)(lambda: 1)


def test_what_cannot_be_pickled_is_told_by_what_was_asked_for(ray):
    lock = threading.Lock()

    @ray.remote
    def takes(value):
        pass

    @ray.remote
    def captures():
        return lock

    @ray.remote
    class Captures:
        def value(self):
            return lock

    with pytest.raises(TypeError, match="Could not serialize the put value.*_thread.lock"):
        ray.put([lock])
    with pytest.raises(TypeError, match="Could not serialize the argument for a task or actor takes.*_thread.lock"):
        takes.remote(lock)
    with pytest.raises(TypeError, match="Could not serialize the function captures.*_thread.lock"):
        captures.remote()
    with pytest.raises(TypeError, match="Could not serialize the actor class Captures.*_thread.lock"):
        Captures.remote()


def test_a_large_capture_is_warned_about_and_a_huge_one_refused(ray):
    large, huge = np.ones(11_000_000, np.uint8), np.ones(101_000_000, np.uint8)
    with pytest.warns(UserWarning, match="implicitly capturing a large array or other object in scope"):
        assert ray.get(ray.remote(lambda: large.size).remote()) == 11_000_000
    with pytest.raises(
        ValueError, match="too large.*FUNCTION_SIZE_ERROR_THRESHOLD.*implicitly capturing a large array"
    ):
        ray.remote(lambda: huge.size).remote()


@pytest.mark.parametrize("wrong", [1, "a", None])
def test_decorating_something_else_is_an_assertion_of_rays(ray, wrong):
    with pytest.raises(AssertionError):
        ray.remote(wrong)
    with pytest.raises(AssertionError):
        ray.remote()


def test_dynamic_returns_are_announced_to_go(ray):
    def work():
        yield 1

    with pytest.warns(DeprecationWarning, match="num_returns='dynamic' is deprecated"):
        ray.remote(num_returns="dynamic")(work)


def test_the_environment_says_how_often_tasks_are_tried_again(ray, monkeypatch, attempts):
    monkeypatch.setenv("RAY_TASK_MAX_RETRIES", "1")

    @ray.remote
    def crash():
        import os

        attempts()
        os._exit(1)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(crash.remote())
    assert attempts() == 3
