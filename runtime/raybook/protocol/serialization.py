"""Serialization: a Python value to bytes, and bytes to a value.

It decides how a value is laid out: what is pickled, by which pickler, what stays outside the pickle as a buffer, and
where each byte goes. It does not know where the bytes are kept, who owns them, or what a reference is: the engine
registers reducers for its reference types. `reducers.py` knows the libraries' types, `unpicklable.py` explains
failures, `exception_codec.py` carries exceptions.

Two layouts. A value without buffers is a *bare pickle*; it starts with 0x80, which is pickle's own version mark. Any
other value starts with a header of 16 bytes (layout version, kind, buffer count, in-band bytes), the sizes of the
buffers (8 bytes each), the in-band pickle, and the buffers, each at a multiple of 64 bytes. All numbers are
little-endian.

Invariants: the layout takes exactly `total_bytes`; every buffer is read exactly once by the value it belongs to, or
`deserialize` raises; plain C pickle, which finds notebook classes by name and so "succeeds" here and fails in the
worker, gets exact builtin types only. Arrays come back read-only, inline ones too. Tensors come back as copies.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pickle import PickleBuffer
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
import msgspec

from raybook.protocol import reducers
from raybook.protocol.unpicklable import explain

Buffer = bytes | bytearray | memoryview
# A reducer turns an object of the engine into a reduce tuple and appends the references in it to the list. It does
# nothing else: it runs also for values that then fail to pickle, and again while the failing part is looked for.
Reducer = Callable[[Any, list[Any]], tuple[Any, ...]]

PICKLE_PROTOCOL = 5
LAYOUT_VERSION = 1
KIND_PICKLE = 1
# One numeric array and nothing else: its in-band pickle is (dtype, shape, order). Saves 10 µs over an array's own
# pickle.
KIND_ARRAY = 2
HEADER = struct.Struct("<BBHIQ")
ALIGN_BYTES = 64
# Smaller buffers go into the pickle: a buffer of its own costs about 1 µs, 4 KiB of memcpy a tenth of that.
BUFFER_BYTES_MIN = 4096
# The C pickler hands larger `bytes` and strings to its file object as they are, without a copy (its frame size).
LARGE_BYTES_MIN = 64 << 10
# Longer containers go to the pickler object: it costs 1 µs once, and looks at the elements in C.
PLAIN_LENGTH_MAX = 64

ATOMS = frozenset({type(None), bool, int, float, complex, str})
NOTHING: tuple[Any, ...] = ()


class SerializationContext(msgspec.Struct, gc=False):
    """What the engine adds to serialization. One for each runtime.

    reducers: exact type → reducer, for references and actor handles.
    """

    reducers: dict[type, Reducer] = {}


class Serialized(msgspec.Struct, gc=False):
    """A value in pieces that are not copied yet. The buffers are still the caller's memory: copy before returning to
    him.

    inband: the pickle, in one or more pieces. contained: references found in the value, in order.
    kind: 0 for a bare pickle. total_bytes: what `to_bytes` or `parts` come to.
    """

    inband: Sequence[Buffer]
    buffers: Sequence[memoryview | reducers.Pieces]
    contained: Sequence[Any]
    kind: int
    inband_bytes: int
    total_bytes: int

    def parts(self) -> list[Buffer]:
        """The layout as consecutive buffers, padding included, to be written to an address that 64 divides."""
        if self.kind == 0:
            return list(self.inband)
        sizes = [len(buffer) for buffer in self.buffers]
        header = HEADER.pack(LAYOUT_VERSION, self.kind, 0, len(sizes), self.inband_bytes)
        parts: list[Buffer] = [header + struct.pack(f"<{len(sizes)}Q", *sizes), *self.inband]
        position = HEADER.size + 8 * len(sizes) + self.inband_bytes
        for size, buffer in zip(sizes, self.buffers, strict=True):
            if padding := -position % ALIGN_BYTES:
                parts.append(bytes(padding))
            if isinstance(buffer, reducers.Pieces):
                parts += buffer.parts
            else:
                parts.append(buffer)
            position += padding + size
        return parts

    def to_bytes(self) -> bytes:
        """The layout in one piece, for a value that travels inline."""
        if self.kind == 0 and len(self.inband) == 1:
            return bytes(self.inband[0])
        return b"".join(self.parts())


NAMELESS_CODE = "<dynamic-code>"
"""What cloudpickle writes for the file of code that travels by value."""


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """The C pickler, asking Python only about objects that are not of builtin types.

    Functions and classes that the reader cannot import (`__main__`, notebook cells) travel by value. Used once.
    """

    def __init__(self, context: SerializationContext) -> None:
        self.inband: list[Buffer] = []
        self.buffers: list[memoryview | reducers.Pieces] = []
        self.contained: list[Any] = []
        self.reducers = context.reducers
        # What cloudpickle's own __init__ does, without its second look at the arguments: saves 0.7 µs.
        self.globals_ref: dict[Any, Any] = {}
        self.proto = PICKLE_PROTOCOL
        # Not a bound method: a cycle would keep all that was pickled alive until the collector comes.
        super(cloudpickle.Pickler, self).__init__(
            _Sink(self.inband), PICKLE_PROTOCOL, buffer_callback=partial(_take_buffer, self.buffers)
        )

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        reducer = self.reducers.get(kind)
        if reducer is not None:
            return reducer(obj, self.contained)
        if kind is FunctionType and obj.__module__ == reducers.__name__:
            # Ours can be imported everywhere; cloudpickle would spend 5 µs on finding that out.
            return NotImplemented
        if kind is CodeType:
            return _code_with_its_file(obj)
        library_reducer = reducers.LIBRARY_REDUCERS.get(kind.__module__)
        if library_reducer is not None:
            reduced = library_reducer(obj)
            if reduced is not NotImplemented:
                return reduced
        return super().reducer_override(obj)


def _code_with_its_file(code: CodeType) -> Any:
    """As cloudpickle does it, but with the name of the file: from 3.1.3 on it leaves that out, and tracebacks of workers
    could not show the user's lines any more."""
    make, parts = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if part == NAMELESS_CODE else part for part in parts)


def _take_buffer(buffers: list[memoryview | reducers.Pieces], buffer: PickleBuffer) -> bool:
    """Keep a buffer outside the pickle, or say True to have it inside."""
    raw = buffer.raw()
    if type(raw.obj) is reducers.PiecesMark:
        buffers.append(raw.obj.pieces)
        return False
    if raw.nbytes < BUFFER_BYTES_MIN:
        return True
    buffers.append(raw)
    return False


class _Sink:
    """The file that the pickler writes to: a list of what it wrote."""

    __slots__ = ("write",)

    def __init__(self, pieces: list[Buffer]) -> None:
        self.write = pieces.append


def bare(data: bytes) -> Serialized:
    """A finished pickle without buffers and references."""
    return Serialized((data,), NOTHING, NOTHING, 0, len(data), len(data))


# The value that most tasks return.
SERIALIZED_NONE = bare(pickle.dumps(None, PICKLE_PROTOCOL))


NONE_BYTES = SERIALIZED_NONE.to_bytes()


def plain_bytes(value: Any) -> bytes | None:
    """The layout of a small value of builtin types; None for all others, which are for ``serialize``. Cost: 0.3 µs."""
    if value is None:
        return NONE_BYTES
    return pickle.dumps(value, PICKLE_PROTOCOL) if _is_plain(value) else None


def serialize(value: Any, context: SerializationContext, name: str = "value") -> Serialized:
    """Lay a value out. name: what an error message calls it, such as "argument `model` of `train`".

    Raises TypeError naming the attribute path if something in the value cannot be pickled; whatever the value's own
    `__reduce__` or `__getstate__` raises beside that comes as it is. Cost: 0.4 µs for an int, 0.7 µs for a small dict,
    3 µs for an array, 2 µs and up for other values; large buffers are not copied.
    """
    if value is None:
        return SERIALIZED_NONE
    if _is_plain(value):
        return bare(pickle.dumps(value, PICKLE_PROTOCOL))
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ndarray and reducers.is_numeric_array(value):
        return _serialize_array(value, numpy)
    pickler = ValuePickler(context)
    try:
        pickler.dump(value)
    except (TypeError, pickle.PicklingError, AttributeError, ValueError, NotImplementedError, RecursionError) as error:
        raise TypeError(explain(value, name, error, lambda part: ValuePickler(context).dump(part))) from error
    inband_bytes = sum(map(len, pickler.inband))
    if not pickler.buffers:
        return Serialized(pickler.inband, NOTHING, pickler.contained, 0, inband_bytes, inband_bytes)
    total = _total_bytes(inband_bytes, pickler.buffers)
    return Serialized(pickler.inband, pickler.buffers, pickler.contained, KIND_PICKLE, inband_bytes, total)


def _is_plain(value: Any) -> bool:
    """Can plain C pickle not lie about this value, and is it quicker than a pickler object?"""
    kind = type(value)
    if kind in ATOMS:
        return True
    if kind is bytes:
        return len(value) < LARGE_BYTES_MIN
    if kind is tuple or kind is list:
        return len(value) <= PLAIN_LENGTH_MAX and ATOMS.issuperset(map(type, value))
    if kind is dict:
        return (
            len(value) <= PLAIN_LENGTH_MAX
            and ATOMS.issuperset(map(type, value))
            and ATOMS.issuperset(map(type, value.values()))
        )
    return False


def _serialize_array(value: Any, numpy: Any) -> Serialized:
    value, order = reducers.in_one_piece(value, numpy)
    inband = pickle.dumps((value.dtype.str, value.shape, order), PICKLE_PROTOCOL)
    buffers = [PickleBuffer(reducers.exportable(value)).raw()]
    return Serialized((inband,), buffers, NOTHING, KIND_ARRAY, len(inband), _total_bytes(len(inband), buffers))


def _total_bytes(inband_bytes: int, buffers: Sequence[memoryview | reducers.Pieces]) -> int:
    total = HEADER.size + 8 * len(buffers) + inband_bytes
    for buffer in buffers:
        total += -total % ALIGN_BYTES + buffer.nbytes
    return total


def private_copy(value: Any, context: SerializationContext) -> Any:
    """An equal value that shares no bytes with this one, and whose arrays may be written to. Errors of ``serialize``.
    Cost: two memcpys, and a round trip through the pickler."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        context = SerializationContext({**context.reducers, numpy.ndarray: reducers.reduce_as_own})
    return deserialize(bytearray().join(serialize(value, context).parts()), is_own=True)


def deserialize(
    data: Buffer, *, wrap_buffer: Callable[[memoryview], memoryview] | None = None, is_own: bool = False
) -> Any:
    """The value of a layout. data: exactly its bytes, such as a view of the arena. is_own: nobody else has these bytes,
    and arrays in them may be written to; they are read-only otherwise.

    wrap_buffer: called once, with all of `data`, if the value keeps a buffer of it alive; what it returns is sliced, so
    the value keeps that alive instead (a pin). Not called when the value copied all it needs.

    Raises ValueError if the bytes are no layout of this version or do not fit their own header; whatever the value's
    classes raise while they are rebuilt comes as it is. Cost: 0.3 µs for an int, 3 µs for an array.
    """
    if not len(data):
        raise ValueError("A serialized value has at least two bytes; these are none.")
    if data[0] == 0x80:
        return pickle.loads(data)
    if data[0] != LAYOUT_VERSION:
        raise ValueError(
            f"These bytes begin with {data[0]:#04x}, which is no value layout that this version of raybook reads "
            f"(it reads bare pickles and layout {LAYOUT_VERSION}). Run the same version on every node."
        )
    view = memoryview(data)
    kind, inband_start, spans = read_layout(view)
    inband = view[inband_start : spans[0][0]]
    if wrap_buffer is not None:
        view = wrap_buffer(view)
    if not is_own:
        view = view.toreadonly()
    buffers = [view[start:end] for start, end in spans[1:]]
    if kind == KIND_ARRAY:
        return reducers.rebuild_array(buffers[0], *pickle.loads(inband))
    return _load_with_buffers(inband, buffers)


def read_layout(view: memoryview) -> tuple[int, int, list[tuple[int, int]]]:
    """What the header of a value with buffers says: its kind, where the in-band pickle begins, and spans: that from the
    pickle's end to the same place, then each buffer's begin and end. ValueError unless all of it fits these bytes exactly.
    Nothing is unpickled. Cost: 0.8 µs and 0.2 for each buffer."""
    if len(view) < HEADER.size:
        raise ValueError(f"A value of {len(view)} bytes was cut: its header alone has {HEADER.size}.")
    _version, kind, _reserved, buffer_count, inband_bytes = HEADER.unpack_from(view)
    inband_start = HEADER.size + 8 * buffer_count
    position = inband_start + inband_bytes
    is_array = kind == KIND_ARRAY
    if position > len(view) or not (is_array or kind == KIND_PICKLE) or (is_array and buffer_count != 1):
        raise ValueError(f"A value of {len(view)} bytes was cut or mixed up: its header does not fit it.")
    spans = [(position, position)]
    for size in struct.unpack_from(f"<{buffer_count}Q", view, HEADER.size):
        start = position + -position % ALIGN_BYTES
        position = start + size
        spans.append((start, position))
    if position != len(view):
        raise ValueError(f"A value of {position} bytes was cut or mixed up: {len(view)} bytes arrived.")
    return kind, inband_start, spans


def _load_with_buffers(inband: memoryview, buffers: Iterable[memoryview]) -> Any:
    waiting = iter(buffers)
    value = pickle.loads(inband, buffers=waiting)
    left = sum(1 for _ in waiting)
    if left:
        # A reducer that wrote a buffer and does not read it: later buffers of the value would be the wrong ones.
        raise ValueError(f"A {type(value).__name__} was rebuilt without reading {left} of its buffers.")
    return value
