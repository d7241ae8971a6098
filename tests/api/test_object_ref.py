"""ObjectRef: identity, futures, await, release, and refs of another session."""

import asyncio
import copy
import gc
import os
import pickle
from collections import deque

import pytest

from raybook.api.object_ref import ObjectRef
from raybook.exceptions import StaleReferenceError


def make(object_id=b"\x01" * 20):
    released = deque()
    return ObjectRef(object_id, "", released.append), released


def test_refs_of_one_object_are_equal_and_hash_alike():
    first, _ = make()
    second, _ = make()
    other, _ = make(b"\x02" * 20)
    assert first == second and hash(first) == hash(second)
    assert first != other and first != "ref"


def test_repr_and_ids():
    ref, _ = make()
    assert repr(ref) == f"ObjectRef({'01' * 20})"
    assert ref.hex() == "01" * 20 and ref.binary() == ref.id
    assert ref.task_id() == b"\x01" * 16


def test_each_python_object_gives_back_one_count():
    ref, released = make()
    assert copy.copy(ref) is ref and copy.deepcopy([ref])[0] is ref
    del ref
    gc.collect()
    assert list(released) == [b"\x01" * 20]


def test_iterating_a_ref_says_what_to_do():
    ref, _ = make()
    with pytest.raises(TypeError, match="cannot be iterated"):
        list(ref)


def test_future_of_a_value_and_of_a_failure(ray):
    @ray.remote
    def work(fail):
        if fail:
            raise KeyError("bad")
        return 5

    assert work.remote(False).future().result(timeout=5) == 5
    with pytest.raises(KeyError):
        work.remote(True).future().result(timeout=5)


def test_ref_can_be_awaited(ray):
    @ray.remote
    class Slow:
        async def value(self):
            await asyncio.sleep(0)
            return 5

        async def fail(self):
            raise KeyError("bad")

    async def main():
        slow = Slow.remote()
        results = await asyncio.gather(slow.value.remote(), slow.value.remote())
        with pytest.raises(KeyError):
            await slow.fail.remote()
        return results

    assert asyncio.run(main()) == [5, 5]


def test_ref_inside_a_container_stays_a_ref_and_keeps_its_value(ray):
    @ray.remote
    def unwrap(box, plain):
        return type(box["ref"]).__name__, ray.get(box["ref"]), plain

    assert ray.get(unwrap.remote({"ref": ray.put(3)}, ray.put(4))) == ("ObjectRef", 3, 4)


def test_ref_inside_a_put_value_keeps_its_object_alive(ray):
    outer = ray.put([ray.put("inner")])
    gc.collect()
    ray.put("something else")
    assert ray.get(ray.get(outer)[0]) == "inner"


def test_plain_pickle_of_a_ref_works_within_the_session(ray):
    ref = ray.put(1)
    assert ray.get(pickle.loads(pickle.dumps(ref))) == 1


def test_ref_of_an_earlier_session_raises_on_use_and_starts_nothing(stopped):
    stopped.init(local_mode=True)
    ref = stopped.put(1)
    stopped.shutdown()
    for use in (
        lambda: stopped.get(ref),
        lambda: stopped.get([ref]),
        lambda: stopped.wait([ref]),
        lambda: stopped.cancel(ref),
        ref.future,
    ):
        with pytest.raises(StaleReferenceError, match="earlier raybook session"):
            use()
    assert not stopped.is_initialized()


def test_ref_of_an_earlier_session_raises_in_a_new_one(stopped):
    stopped.init(local_mode=True)
    ref = stopped.put(1)
    stopped.shutdown()
    stopped.init(local_mode=True)
    with pytest.raises(StaleReferenceError):
        stopped.get(ref)
    with pytest.raises(RuntimeError):
        stopped.get([stopped.put(2), ref])


def test_forked_child_can_use_nothing_of_its_parent(ray):
    ref = ray.put(1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for use in (lambda: ray.get(ref), lambda: ray.put(2)):
            try:
                use()
                said.append("worked")
            except RuntimeError as error:
                said.append(type(error).__name__)
        os.write(writer, " ".join(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "StaleReferenceError RuntimeError"
    assert ray.get(ref) == 1
