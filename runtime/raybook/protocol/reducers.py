"""Reducers: how values of numpy, torch and pyarrow are taken apart and rebuilt.

It decides the shape of their pickles: which bytes become buffers. It does not import these libraries; a type that
exists was imported by somebody, and the reader imports on demand.

Invariants: what is rebuilt equals what was reduced; a slice never takes its parent along; a type that is not handled
here exactly is left to its own pickle support.

The `rebuild_*` functions are named in stored pickles: their names and parameters only ever grow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any, Literal

# Booleans, integers, floats, complex numbers, times: what `dtype.str` describes completely.
NUMERIC_KINDS = frozenset("biufcmM")
SMALL_ARRAY_BYTES = 4096
# Copying 4 KiB costs less than one more piece does when the value is written.
SMALL_PIECE_BYTES = 4096
LARGE_PIECE_BYTES = 64 << 10


def is_numeric_array(array: Any) -> bool:
    """Is this numpy array described by dtype string, shape and order? The caller has checked its exact type."""
    dtype = array.dtype
    return dtype.kind in NUMERIC_KINDS and dtype.metadata is None


def in_one_piece(array: Any, numpy: Any) -> tuple[Any, Literal["C", "F"]]:
    """The array in contiguous memory, copied only if it is not, and its order: "C" or "F"."""
    flags = array.flags
    if flags.c_contiguous:
        return array, "C"
    if flags.f_contiguous:
        return array, "F"
    return numpy.ascontiguousarray(array), "C"


def reduce_numpy(value: Any) -> Any:
    numpy = sys.modules["numpy"]
    if type(value) is not numpy.ndarray or not is_numeric_array(value):
        return NotImplemented
    value, order = in_one_piece(value, numpy)
    if value.nbytes < SMALL_ARRAY_BYTES:
        # Inside the pickle a writable buffer would become a bytearray and the array writable; large ones are read-only.
        value = value.view()
        value.flags.writeable = False
    return rebuild_array, (PickleBuffer(exportable(value)), value.dtype.str, value.shape, order)


def reduce_as_own(array: Any, contained: list[Any]) -> Any:
    """A numpy array so that it can be written to once it is rebuilt, which one that was read-only could not."""
    if not is_numeric_array(array):
        return NotImplemented
    numpy = sys.modules["numpy"]
    array, order = in_one_piece(numpy.array(array), numpy)
    return rebuild_array, (PickleBuffer(exportable(array)), array.dtype.str, array.shape, order)


def exportable(array: Any) -> Any:
    """The same memory as an array that exports a buffer: the buffer protocol has no times, they go as integers."""
    return array.view("i8") if array.dtype.kind in "mM" else array


def rebuild_array(buffer: Any, dtype: str, shape: tuple[int, ...], order: Literal["C", "F"]) -> Any:
    """An array over `buffer`, read-only if that is."""
    import numpy

    # Not `numpy.ndarray(buffer=...)`: it looks through the memoryview and may make the array's base something behind
    # the pin, which is then released too early.
    return numpy.frombuffer(buffer, dtype).reshape(shape, order=order)


def reduce_torch(value: Any) -> Any:
    """Dense CPU tensors and parameters. Tensors that share memory come back apart; the same tensor twice stays one.

    Everything else (CUDA, sparse, quantized, with hooks or attributes of its own) is torch's own affair.
    """
    torch = sys.modules.get("torch")
    kind = type(value)
    if torch is None or (kind is not torch.Tensor and kind is not torch.nn.Parameter):
        return NotImplemented
    if value.device.type != "cpu" or value.layout is not torch.strided or value.is_quantized or value.__dict__:
        return NotImplemented
    if value._backward_hooks:
        return NotImplemented
    flat = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    if flat.stride() != (1,):
        # A single element counts as contiguous whatever its stride, and cannot be viewed as bytes then.
        flat = flat.clone(memory_format=torch.contiguous_format)
    raw = flat.view(torch.uint8).numpy()
    dtype = str(value.dtype).removeprefix("torch.")
    is_parameter = kind is torch.nn.Parameter
    return rebuild_tensor, (PickleBuffer(raw), dtype, tuple(value.shape), value.requires_grad, is_parameter)


def rebuild_tensor(buffer: Any, dtype: str, shape: tuple[int, ...], requires_grad: bool, is_parameter: bool) -> Any:
    """A tensor with memory of its own: an in-place operation on a read-only view would be a segmentation fault."""
    import numpy
    import torch

    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    numpy.copyto(tensor.reshape(-1).view(torch.uint8).numpy(), numpy.frombuffer(buffer, numpy.uint8))
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


def reduce_pyarrow(value: Any) -> Any:
    """Tables, record batches and arrays by Arrow's own stream format, which cuts slices out of their parents. Large columns
    are not copied."""
    pyarrow = sys.modules["pyarrow"]
    if isinstance(value, pyarrow.Table):
        form, schema, batches = "table", value.schema, value.to_batches()
    elif isinstance(value, pyarrow.RecordBatch):
        form, schema, batches = "batch", value.schema, [value]
    elif isinstance(value, pyarrow.Array):
        batches = [pyarrow.RecordBatch.from_arrays([value], names=[""])]
        form, schema = "array", batches[0].schema
    elif isinstance(value, pyarrow.ChunkedArray):
        schema = pyarrow.schema([("", value.type)])
        form, batches = "chunks", [pyarrow.RecordBatch.from_arrays([chunk], schema=schema) for chunk in value.chunks]
    else:
        return NotImplemented
    if _has_large_columns(batches):
        pieces = PieceSink()
        with pyarrow.ipc.new_stream(pyarrow.PythonFile(pieces, mode="w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return rebuild_arrow, (pieces.buffer(), form)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return rebuild_arrow, (PickleBuffer(sink.getvalue()), form)


def _has_large_columns(batches: list[Any]) -> bool:
    """Whether keeping columns where they are pays: each costs two microseconds then. Of a slice, its parent counts."""
    columns = sum(batch.num_columns for batch in batches)
    total = sum(batch.get_total_buffer_size() for batch in batches)
    return total >= LARGE_PIECE_BYTES and total >= columns * SMALL_PIECE_BYTES


class Pieces:
    """A buffer of a value whose bytes lie in several places: laid out one after the other when the value is stored."""

    __slots__ = ("nbytes", "parts")

    def __init__(self, parts: list[Any], nbytes: int) -> None:
        self.parts, self.nbytes = parts, nbytes

    def __len__(self) -> int:
        return self.nbytes


class PiecesMark(bytes):
    """What pickle gets for `Pieces`, which have no memory of one piece that it could ask for."""

    pieces: Pieces


class PieceSink:
    """The file that Arrow writes a stream to: it keeps what is written. Columns come as buffers over their own memory, so
    nothing is copied; a stream in memory of its own would be, twice, into pages that the machine has to find first: 100 ms
    for 16 MB. Small pieces are joined: each costs a microsecond later.
    """

    closed = False

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._small: list[Any] = []
        self._small_bytes = self._bytes = 0

    def write(self, piece: Any) -> int:
        view = memoryview(piece).cast("B")
        size = len(view)
        self._bytes += size
        if size < SMALL_PIECE_BYTES:
            self._small.append(view)
            self._small_bytes += size
            if self._small_bytes >= LARGE_PIECE_BYTES:
                self._join()
        else:
            self._join()
            self._parts.append(view)
        return size

    def _join(self) -> None:
        if self._small:
            self._parts.append(memoryview(b"".join(self._small)))
            self._small, self._small_bytes = [], 0

    def buffer(self) -> PickleBuffer:
        """All of it, as pickle takes it."""
        self._join()
        if self._bytes < LARGE_PIECE_BYTES or len(self._parts) == 1:
            return PickleBuffer(b"".join(self._parts))
        mark = PiecesMark()
        mark.pieces = Pieces(self._parts, self._bytes)
        return PickleBuffer(mark)

    def flush(self) -> None:
        """All that was written is here."""

    def close(self) -> None:
        """Arrow is done."""


def rebuild_arrow(buffer: Any, form: str) -> Any:
    """Arrow data over `buffer`, without a copy."""
    import pyarrow

    with pyarrow.ipc.open_stream(pyarrow.py_buffer(buffer)) as reader:
        if form == "batch":
            return reader.read_next_batch()
        if form == "array":
            return reader.read_next_batch().column(0)
        table = reader.read_all()
    return table if form == "table" else table.column(0)


# By the module that a type says it is from: no library has to be imported to look it up.
LIBRARY_REDUCERS: dict[str, Callable[[Any], Any]] = {
    "numpy": reduce_numpy,
    "torch": reduce_torch,
    "torch.nn.parameter": reduce_torch,
    "pyarrow.lib": reduce_pyarrow,
}
