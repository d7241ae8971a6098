"""The contract: objects, and what holds them."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest


def test_a_value_comes_back_as_it_was_put(engine, ray, get):
    value = {"a": [1, (2, "three")], "b": None, "c": {4}}
    assert get(ray.put(value)) == value


def test_a_large_array_comes_back_whole_and_read_only(engine, ray, get):
    array = np.arange(300_000, dtype=np.int64)
    back = get(ray.put(array))
    assert np.array_equal(back, array) and not back.flags.writeable


def test_a_large_argument_and_a_large_result_arrive(engine, ray, get):
    @ray.remote
    def double(array):
        return array * 2

    array = np.ones(300_000)
    assert get(double.remote(ray.put(array))).sum() == get(double.remote(array)).sum() == 600_000


def test_classes_and_closures_of_a_notebook_travel(engine, ray, get):
    class Point:
        def __init__(self, x):
            self.x = x

    @ray.remote
    def move(point):
        return Point(point.x + 1)

    assert get(move.remote(Point(1))).x == 2


def test_what_cannot_be_pickled_is_refused_where_it_is_passed(engine, ray):
    with pytest.raises(TypeError):
        ray.put(threading.Lock())


def test_a_reference_put_inside_a_value_keeps_its_object(engine, ray, get):
    outer = ray.put([ray.put("kept")])
    assert get(get(outer)[0]) == "kept"


def test_references_are_equal_hashable_and_print_their_id(engine, ray):
    ref = ray.put(1)
    assert {ref: 1}[ref] == 1 and ref != ray.put(1) and ref.hex() in repr(ref)


def test_a_list_of_references_is_gotten_in_its_order(engine, ray, get):
    assert get([ray.put(number) for number in range(50)]) == list(range(50))


def test_what_is_no_reference_is_refused(engine, ray):
    with pytest.raises((TypeError, ValueError)):
        ray.get(1)
    with pytest.raises(TypeError):
        ray.wait(1)


def test_a_reference_can_be_awaited_here(engine, ray):
    @ray.remote
    def one():
        return 1

    async def wait_for_it():
        return await one.remote()

    assert asyncio.run(wait_for_it()) == 1


def test_a_reference_has_a_future(engine, ray):
    assert ray.put("now").future().result(timeout=50) == "now"
