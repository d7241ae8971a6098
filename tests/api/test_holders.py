"""Holders: the names under which a namespace holds objects, as a user would write them."""

from __future__ import annotations

import sys
from collections import deque

import numpy as np
import pytest

from raybook.api.decorator import remote
from raybook.api.holders import ELEMENTS_MAX, NAMES_MAX, holders
from raybook.api.object_ref import ObjectRef
from raybook.core.owner.records import Unpin
from raybook.io.shm_arena import pinned_buffer


@pytest.fixture
def ref() -> ObjectRef:
    return ObjectRef(b"k" * 20, "unix:/me", lambda key: None)


def names(ref: ObjectRef, **namespace: object) -> list[str]:
    return holders(namespace).get(ref.id, [])


def test_variable_is_told_by_its_name(ref):
    assert names(ref, x=ref, y=3) == ["x"]


def test_elements_are_told_as_they_are_written(ref):
    assert names(ref, a=[0, ref], b={"k": (ref,)}, c=deque([ref]), d={ref}) == [
        "a[1]", "b['k'][0]", "c[0]", "d (an element)",
    ]  # fmt: skip


def test_outputs_of_a_notebook_are_told_and_their_second_names_are_not(ref):
    space = {"Out": {5: ref, 6: [ref]}, "_oh": {5: ref}, "_5": ref, "_": ref, "__": 1}

    assert names(ref, **space) == ["Out[5]", "Out[6][0]"]
    assert names(ref, _=ref) == ["_"]


def test_closures_defaults_and_remote_functions_are_looked_into(ref):
    def make():
        def inner():
            return ref

        return inner

    plain = make()
    decorated = remote(make())

    assert names(ref, plain=plain, decorated=decorated, other=lambda r=ref: r) == [
        "plain (its closure's ref)", "decorated (its closure's ref)", "other (a default)",
    ]  # fmt: skip


def test_attributes_of_objects_are_looked_into(ref):
    class Model:
        def __init__(self) -> None:
            self.weights = ref
            self.layers = [ref]

    assert names(ref, model=Model()) == ["model.weights", "model.layers[0]"]


def test_array_that_looks_into_an_object_is_told(ref):
    buffer = pinned_buffer(memoryview(bytes(800)), __import__("functools").partial(lambda item: None, Unpin(ref.id, 0)))
    array = np.frombuffer(buffer, np.float64)

    assert names(ref, whole=array, part=array[3:].reshape(1, -1), view=buffer, other=np.zeros(3)) == [
        "whole", "part", "view",
    ]  # fmt: skip


def test_frame_of_pandas_that_looks_into_an_object_is_told(ref):
    pandas = pytest.importorskip("pandas")
    buffer = pinned_buffer(memoryview(bytes(800)), __import__("functools").partial(lambda item: None, ref.id))
    frame = pandas.DataFrame(np.frombuffer(buffer, np.float64).reshape(50, 2), copy=False)

    assert names(ref, frame=frame) == ["frame"]


def test_variables_in_the_frames_of_the_last_error_are_told(ref, monkeypatch):
    def broken(value: object) -> None:
        raise ValueError("on purpose")

    try:
        broken(ref)
    except ValueError as error:
        monkeypatch.setattr(sys, "last_traceback", error.__traceback__, raising=False)

    assert "value of broken() in the last error" in names(ref)


def test_what_refers_to_itself_ends_and_long_lists_are_not_searched_to_their_end(ref):
    loop: list[object] = [ref]
    loop.append(loop)

    assert names(ref, loop=loop, long=[0] * ELEMENTS_MAX + [ref])[0] == "loop[0]"
    assert len(names(ref, many=[ref] * 100)) == NAMES_MAX


def test_values_that_answer_every_question_are_left_alone(ref):
    class Eager:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"asked for {name}")

    assert names(ref, eager=Eager(), x=ref) == ["x"]
