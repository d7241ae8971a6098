"""References: how they are made, compared, named and carried around."""

from __future__ import annotations

import asyncio
import copy
import pickle

import numpy as np
import pytest


def test_a_reference_can_be_made_again_from_its_id(ray):
    ref = ray.put(5)
    again = ray.ObjectRef(ref.binary())
    assert again == ref and hash(again) == hash(ref)
    assert ray.get(again) == 5
    assert ray.get(ray.ObjectRef.from_binary(ref.binary())) == 5
    assert ray.get(ray.ObjectRef.from_hex(ref.hex())) == 5


def test_a_reference_made_again_keeps_its_object(ray):
    ref = ray.put(np.zeros(100_000))
    again = ray.ObjectRef(ref.binary())
    del ref
    ray.get(ray.put(0))
    assert ray.get(again).size == 100_000


def test_what_is_no_id_makes_no_reference(ray):
    with pytest.raises(TypeError, match="expected bytes"):
        ray.ObjectRef("abc")
    with pytest.raises(ValueError, match="needs to have length"):
        ray.ObjectRef(b"abc")


def test_nil_and_random_references_name_nothing(ray):
    assert ray.ObjectRef.nil().is_nil() and ray.ObjectRef.nil() == ray.ObjectRef.nil()
    assert not ray.ObjectRef.from_random().is_nil()
    assert ray.ObjectRef.from_random() != ray.ObjectRef.from_random()
    assert not ray.put(1).is_nil()


def test_references_may_stand_in_annotations(ray):
    def work(ref: ray.ObjectRef[int]) -> ray.ObjectRef[str]:
        return ref

    assert ray.ObjectRef.__module__ in ("raybook", "ray")


def test_a_reference_knows_its_task_and_its_job(ray):
    @ray.remote
    def work():
        context = ray.get_runtime_context()
        return context.get_task_id(), context.get_job_id()

    ref = work.remote()
    task_id, job_id = ray.get(ref)
    assert ref.task_id().hex() == task_id
    assert ref.job_id().hex() == job_id == ray.get_runtime_context().get_job_id()
    assert ref.task_id().job_id() == ref.job_id()


def test_references_can_be_keys_and_members(ray):
    ref = ray.put(1)
    assert {ref: 1}[copy.copy(ref)] == 1
    assert len({ref, copy.deepcopy(ref)}) == 1


@pytest.mark.parametrize("pickler", ["pickle", "cloudpickle"])
def test_a_reference_may_be_pickled_by_hand(ray, pickler):
    dumps = pickle.dumps if pickler == "pickle" else ray.cloudpickle.dumps
    ref = ray.put([1, 2])

    @ray.remote
    def read(data):
        return ray.get(pickle.loads(data))

    assert ray.get(read.remote(dumps(ref))) == [1, 2]


def test_the_future_of_a_reference_knows_it(ray):
    ref = ray.put(1)
    future = ref.future()
    assert future.object_ref == ref and future.result(10) == 1


def test_references_can_be_awaited_in_several_loops(ray):
    @ray.remote
    def work(x):
        return x

    async def main():
        first, second = await asyncio.gather(work.remote(1), work.remote(2))
        third = await asyncio.wait_for(work.remote(3), 10)
        fourth = await work.remote(4).as_future()
        fifth = await asyncio.wrap_future(work.remote(5).future())
        return [first, second, third, fourth, fifth]

    assert asyncio.run(main()) == [1, 2, 3, 4, 5]
    assert asyncio.run(main()) == [1, 2, 3, 4, 5]


def test_a_get_without_time_finds_what_was_put_just_before(ray):
    for number in range(50):
        assert ray.get(ray.put(number), timeout=0) == number


@pytest.mark.parametrize("timeout", [np.float64(5), np.int64(5), 5, 5.0])
def test_a_timeout_may_be_any_number(ray, timeout):
    assert ray.get(ray.put(1), timeout=timeout) == 1
    assert len(ray.wait([ray.put(1)], timeout=timeout)[0]) == 1
