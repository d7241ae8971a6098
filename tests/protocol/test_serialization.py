"""Values to bytes and back."""

from __future__ import annotations

import collections
import dataclasses
import functools
import gc
import pickle
import subprocess
import sys
import threading
import weakref

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybook.protocol.serialization import (
    ALIGN_BYTES,
    SerializationContext,
    ValuePickler,
    deserialize,
    serialize,
)

CONTEXT = SerializationContext()


def there_and_back(value, context=CONTEXT):
    return deserialize(serialize(value, context).to_bytes())


@dataclasses.dataclass
class Point:
    x: int
    y: object


class Reference:
    """Stands for the engine's reference type."""

    def __init__(self, name):
        self.name = name


def reduce_reference(reference, contained):
    contained.append(reference)
    return Reference, (reference.name,)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.sets(st.integers())
    ),
    max_leaves=20,
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(PLAIN)
def test_builtin_values_come_back_equal(value):
    serialized = serialize(value, CONTEXT)

    data = serialized.to_bytes()

    assert deserialize(data) == value
    assert len(data) == serialized.total_bytes == sum(len(part) for part in serialized.parts())


@pytest.mark.parametrize(
    "value",
    [
        Point(1, [2]),
        collections.OrderedDict(a=1),
        b"x" * 1_000_000,
        bytearray(b"y" * 1_000_000),
        "ü" * 100_000,
        [b"x" * 200_000, {"k": bytearray(b"y" * 200_000)}],
        list(range(1000)),
        1 << 5000,
        3 + 4j,
        range(5),
        ValueError("text", 3),
        int,
        len,
        subprocess.Popen,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_come_back_equal_and_of_the_same_type(value):
    back = there_and_back(value)

    assert type(back) is type(value)
    assert back == value or repr(back) == repr(value)


def test_large_bytes_are_not_copied_before_they_are_written():
    value = b"x" * 1_000_000

    assert any(part is value for part in serialize(value, CONTEXT).parts())
    assert any(part is value for part in serialize(["first", value], CONTEXT).parts())


def test_same_object_twice_stays_one_object():
    inner = [1]

    back = there_and_back([inner, inner])

    assert back[0] is back[1]


def test_lambda_and_closure_and_local_class_travel_by_value():
    factor = 3

    class Local:
        def times(self, x):
            return x * factor

    assert there_and_back(lambda x: x * factor)(2) == 6
    assert there_and_back(Local()).times(2) == 6
    assert there_and_back(functools.partial(lambda a, b: a - b, 5))(2) == 3


def test_instance_of_a_main_class_loads_in_a_process_that_has_no_such_class():
    # Plain pickle "succeeds" here and fails in the worker.
    maker = """
import sys
from raybook.protocol.serialization import SerializationContext, serialize
class Cell:
    def __init__(self): self.value = 41
    def next(self): return self.value + 1
sys.stdout.buffer.write(serialize([Cell(), Cell], SerializationContext()).to_bytes())
"""
    made = subprocess.run([sys.executable, "-c", maker], capture_output=True, check=True, timeout=30)

    instance, cls = deserialize(made.stdout)

    assert instance.next() == 42
    assert type(instance) is cls


ARRAYS = [
    numpy.arange(10_000.0),
    numpy.arange(6, dtype=numpy.int8).reshape(2, 3),
    numpy.asfortranarray(numpy.arange(60_000.0).reshape(200, 300)),
    numpy.arange(60_000.0).reshape(200, 300)[::2, ::3],
    numpy.zeros((0, 5)),
    numpy.array(7.5),
    numpy.array(["2020-01-01"], dtype="M8[ns]"),
    numpy.arange(4, dtype=">i4"),
    numpy.array([True, False]),
    numpy.arange(10, dtype=numpy.complex64),
    numpy.array(["a", "bcd"]),
    numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    numpy.array([{"a": 1}, None], dtype=object),
    numpy.float32(3.5),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
@pytest.mark.parametrize("nested", [False, True])
def test_arrays_come_back_equal(array, nested):
    back = there_and_back({"k": [array]})["k"][0] if nested else there_and_back(array)

    assert back.dtype == array.dtype and back.shape == array.shape
    numpy.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("length", [3, 100_000])
@pytest.mark.parametrize("nested", [False, True])
def test_numeric_arrays_come_back_read_only(length, nested):
    array = numpy.zeros(length)

    back = there_and_back([array])[0] if nested else there_and_back(array)

    assert not back.flags.writeable
    assert array.flags.writeable, "serializing changed the caller's array"


def test_fortran_order_is_kept():
    assert there_and_back(ARRAYS[2]).flags.f_contiguous


def test_slice_of_an_array_does_not_take_its_parent_along():
    parent = numpy.zeros(1_000_000)

    assert serialize(parent[:10], CONTEXT).total_bytes < 1000
    assert serialize([parent[::1000]], CONTEXT).total_bytes < 9000


def test_large_buffers_stay_outside_the_pickle_and_are_aligned():
    arrays = [numpy.arange(1000.0), numpy.arange(999, dtype=numpy.uint8), numpy.arange(5001, dtype=numpy.uint8)]
    serialized = serialize({"arrays": arrays, "text": "x"}, CONTEXT)

    assert [len(buffer) for buffer in serialized.buffers] == [8000, 5001]
    data = serialized.to_bytes()
    for buffer in serialized.buffers:
        assert data.index(bytes(buffer)) % ALIGN_BYTES == 0


def test_buffers_of_the_callers_array_are_not_copied():
    array = numpy.zeros(1000)
    serialized = serialize([array], CONTEXT)

    array[0] = 5

    assert numpy.frombuffer(serialized.buffers[0], numpy.float64)[0] == 5


def test_wrapped_buffer_keeps_the_pin_alive_as_long_as_any_array():
    wrapped = []

    class Pinned(numpy.ndarray):
        def __del__(self):
            wrapped.append("released")

    def wrap(view):
        wrapped.append(len(view))
        return memoryview(numpy.frombuffer(view, numpy.uint8).view(Pinned))

    data = serialize({"a": numpy.arange(1000.0), "b": numpy.arange(2000.0)}, CONTEXT).to_bytes()

    value = deserialize(memoryview(data), wrap_buffer=wrap)
    part = value.pop("b")[5:]
    del value

    assert wrapped == [len(data)]
    assert part[0] == 5
    del part
    assert wrapped == [len(data), "released"]


def test_value_without_buffers_needs_no_pin():
    def wrap(view):
        raise AssertionError("a value that keeps nothing alive was pinned")

    assert deserialize(memoryview(serialize([b"x" * 100_000], CONTEXT).to_bytes()), wrap_buffer=wrap)


def test_contained_references_are_collected_in_order():
    context = SerializationContext({Reference: reduce_reference})
    first, second = Reference("a"), Reference("b")

    serialized = serialize({"k": [first, (second,)], "again": first}, context)

    assert serialized.contained == [first, second]
    assert deserialize(serialized.to_bytes())["k"][1][0].name == "b"


def test_references_in_closures_are_collected():
    context = SerializationContext({Reference: reduce_reference})
    reference = Reference("a")

    assert serialize(lambda: reference, context).contained == [reference]


GOLDEN_ARRAY = (
    "01020000010000001c00000000000000060000000000000080059511000000000000008c033c6932944b0385948c01439487942e"
    "000000000000000000000000000001000200"
)
GOLDEN_PICKLE_HEAD = (
    "0101000001000000570000000000000000100000000000008005954c000000000000007d948c0161948c19726179626f6f6b2e70726f746f"
    "636f6c2e7265647563657273948c0d72656275696c645f61727261799493942897988c037c7531944d001085948c01439474945294732e"
    "0000000000000000000000000000000000"
)
GOLDEN = {
    "none": (None, "80054e2e"),
    "int": (5, "80054b052e"),
}


@pytest.mark.parametrize("name", ["none", "int"])
def test_golden_bytes_of_bare_pickles(name):
    value, golden = GOLDEN[name]

    assert serialize(value, CONTEXT).to_bytes().hex() == golden


def test_golden_bytes_of_layout_one():
    # Bytes of layout version 1, written once. Later versions may write otherwise, and still have to read these.
    array = bytes.fromhex(GOLDEN_ARRAY)
    mixed = bytes.fromhex(GOLDEN_PICKLE_HEAD) + bytes(range(256)) * 16

    numpy.testing.assert_array_equal(deserialize(array), numpy.arange(3, dtype="<i2"))
    numpy.testing.assert_array_equal(deserialize(mixed)["a"], numpy.frombuffer(bytes(range(256)) * 16, numpy.uint8))
    assert serialize(numpy.arange(3, dtype="<i2"), CONTEXT).to_bytes() == array


@pytest.mark.parametrize("cut", [1, 8, 17, 60, 100, 8000])
def test_cut_bytes_are_refused(cut):
    data = serialize([numpy.arange(1000.0)], CONTEXT).to_bytes()

    with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
        deserialize(data[:cut])


def test_trailing_bytes_after_buffers_are_refused():
    with pytest.raises(ValueError, match="mixed up"):
        deserialize(serialize(numpy.arange(1000.0), CONTEXT).to_bytes() + b"x")


def test_unknown_layout_is_refused_with_its_version():
    with pytest.raises(ValueError, match="0x02"):
        deserialize(b"\x02" + bytes(30))
    with pytest.raises(ValueError, match="none"):
        deserialize(b"")


class ReducesToNonsense:
    def __reduce__(self):
        return 5


class ReducesToAnotherGlobal:
    def __reduce__(self):
        return "Point"


def test_wrong_reduce_raises_and_names_the_object():
    with pytest.raises(TypeError, match=r"value\['a'\]"):
        serialize({"a": ReducesToNonsense()}, CONTEXT)


def test_reduce_to_the_name_of_something_else_raises():
    with pytest.raises(TypeError, match="not the same object"):
        serialize(ReducesToAnotherGlobal(), CONTEXT)


def test_buffers_left_over_after_loading_raise():
    good = serialize([numpy.arange(1000.0), numpy.arange(1000.0)], CONTEXT)
    good.inband = serialize([numpy.arange(1000.0)], CONTEXT).inband
    good.inband_bytes = sum(map(len, good.inband))

    with pytest.raises(ValueError, match="without reading 1 of its buffers"):
        deserialize(good.to_bytes())


class RaisesWhilePickled:
    def __getstate__(self):
        raise KeyError("mine")


def test_errors_of_the_users_own_getstate_come_as_they_are():
    with pytest.raises(KeyError, match="mine"):
        serialize(RaisesWhilePickled(), CONTEXT)


class Callback:
    def __init__(self):
        self._lock = threading.Lock()


class Model:
    def __init__(self):
        self.callbacks = ["a", "b", Callback()]


def test_message_names_the_attribute_path():
    with pytest.raises(TypeError) as caught:
        serialize({"m": Model()}, CONTEXT, name="argument `config` of `train`")

    assert "cannot pickle '_thread.lock' object at" in str(caught.value)
    assert "['m'].callbacks[2]._lock`" in str(caught.value)


def test_message_names_the_function_and_the_variable_that_captured_it():
    model = Model()

    def train():
        return model

    with pytest.raises(TypeError) as caught:
        serialize(train, CONTEXT)

    assert (
        "cannot pickle '_thread.lock' object at `model.callbacks[2]._lock` "
        "(captured by function `train` as variable `model`)" in str(caught.value)
    )


class Slotted:
    __slots__ = ("__hidden", "open")

    def __init__(self):
        self.open = 1
        self.__hidden = threading.Lock()


def test_path_goes_through_slots_sets_partials_methods_and_defaults():
    lock = threading.Lock()

    def with_default(x=lock):
        return x

    for value, expected in [
        (Slotted(), "value.__hidden"),
        (functools.partial(print, 1, key=lock), "value.keywords['key']"),
        (with_default, "value.__defaults__[0]"),
        ([iter_of_generator()], "value[0]"),
        ({"k": (1, {"deep": [lock]})}, "value['k'][1]['deep'][0]"),
    ]:
        with pytest.raises(TypeError) as caught:
            serialize(value, CONTEXT)
        assert f"`{expected}`" in str(caught.value)


def iter_of_generator():
    yield 1


def test_cyclic_values_with_an_unpicklable_part_end():
    value = {"lock": None}
    value["self"] = [value]
    value["lock"] = threading.Lock()

    with pytest.raises(TypeError, match="_thread.lock"):
        serialize(value, CONTEXT)


def test_importing_serialization_does_not_import_numpy_torch_or_pyarrow():
    code = "import sys, raybook.protocol.serialization; print({'numpy', 'torch', 'pyarrow'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=30)

    assert done.stdout.strip() == "set()"


def test_small_builtin_values_never_ask_python(monkeypatch):
    def refuse(self, obj):
        raise AssertionError(f"Python was asked about {obj!r}")

    monkeypatch.setattr(ValuePickler, "reducer_override", refuse)

    assert there_and_back({"a": [1, (2.0, {"b": {3}})], "c": list(range(1000))})


def test_what_was_pickled_dies_with_its_last_reference_without_the_collector():
    class Thing:
        pass

    thing = Thing()
    watch = weakref.ref(thing)
    gc.disable()
    try:
        serialize([thing, numpy.zeros(10_000)], SerializationContext())
        del thing

        assert watch() is None
    finally:
        gc.enable()
