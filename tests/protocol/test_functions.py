"""Exported functions and classes."""

from __future__ import annotations

import subprocess
import sys

import numpy
import pytest

from raybook.protocol.functions import ERROR_BYTES, KEY_BYTES, WARN_BYTES, export, load
from raybook.protocol.serialization import SerializationContext

CONTEXT = SerializationContext()


def double(x):
    return 2 * x


def test_exported_function_does_the_same_after_loading():
    blob = export(lambda x: double(x) + 1, CONTEXT)

    assert load(blob.payload)(5) == 11
    assert blob.size == len(blob.payload) and len(blob.key) == KEY_BYTES


def test_same_content_has_the_same_key_and_other_content_another():
    assert export(double, CONTEXT).key == export(double, CONTEXT).key
    assert export(double, CONTEXT).key != export(len, CONTEXT).key


def test_closure_is_frozen_when_it_is_exported():
    factor = 2
    blob = export(lambda x: x * factor, CONTEXT)

    factor = 5

    assert load(blob.payload)(1) == 2
    assert factor == 5


def test_name_is_for_people():
    def inner():
        return None

    assert export(inner, CONTEXT).name == f"{__name__}.inner"


def test_class_from_main_is_loaded_where_main_is_another():
    maker = """
import sys
from raybook.protocol.functions import export
from raybook.protocol.serialization import SerializationContext
class Counter:
    def __init__(self): self.n = 0
    def add(self): self.n += 1; return self.n
sys.stdout.buffer.write(export(Counter, SerializationContext()).payload)
"""
    made = subprocess.run([sys.executable, "-c", maker], capture_output=True, check=True, timeout=30)

    counter = load(made.stdout)()

    assert (counter.add(), counter.add()) == (1, 2)


def test_large_capture_warns():
    data = bytes(WARN_BYTES)

    blob = export(lambda: data, CONTEXT)

    assert "implicitly capturing a large array" in blob.warning
    assert "9 MiB" in blob.warning
    assert export(double, CONTEXT).warning == ""


def test_too_large_capture_is_an_error():
    # Sparse zero pages: the test costs address space, no memory.
    data = numpy.zeros(ERROR_BYTES, numpy.uint8)

    def train():
        return data

    with pytest.raises(ValueError, match="remote function train is too large.*implicitly capturing a large array"):
        export(train, CONTEXT)


def test_captured_references_are_told():
    class Reference:
        pass

    def reduce_reference(reference, contained):
        contained.append(reference)
        return dict, ()

    reference = Reference()

    assert export(lambda: reference, SerializationContext({Reference: reduce_reference})).contained == (reference,)


def test_unpicklable_capture_names_function_and_variable():
    import threading

    lock = threading.Lock()

    def train():
        return lock

    with pytest.raises(TypeError, match=r"at `lock` \(captured by function `train` as variable `lock`\)"):
        export(train, CONTEXT)


def test_code_that_travels_by_value_keeps_the_name_of_its_file():
    function = exec_function("def from_a_cell():\n    return 1\n", "<cell 7>")
    blob = export(function, SerializationContext())
    assert load(blob.payload).__code__.co_filename == "<cell 7>"


def exec_function(source, filename):
    names = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), names)
    return names["from_a_cell"]
