"""TFRecord files and `tf.train.Example` messages, read and written without TensorFlow.

A record is its length (8 bytes, little endian), a masked CRC-32C of those, the data, and a masked CRC-32C of the data.
An Example is protobuf: features by name, each a list of bytes, floats (packed) or int64 (packed varints). Source:
TensorFlow's tfrecord format page and feature.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from raybook.data.core.crc32c import crc32c

BYTES, FLOAT, INT = "bytes", "float", "int"
_KIND_OF_FIELD = {1: BYTES, 2: FLOAT, 3: INT}
_FIELD_OF_KIND = {kind: field for field, kind in _KIND_OF_FIELD.items()}
HEADER_BYTES, FOOTER_BYTES = 12, 4


class Malformed(ValueError):
    """The bytes are no record, or no Example."""


def masked_crc(data: bytes | memoryview) -> int:
    """The checksum as records have it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """A record of this data."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc(length)), data, struct.pack("<I", masked_crc(data))))


def record_length(header: bytes) -> int:
    """Bytes of data that follow this header. Malformed when its checksum does not fit: then this is no TFRecord."""
    if len(header) != HEADER_BYTES:
        raise Malformed(f"a record's header has {HEADER_BYTES} bytes, and {len(header)} are left")
    if struct.unpack("<I", header[8:])[0] != masked_crc(header[:8]):
        raise Malformed("the checksum of a record's length is wrong")
    return struct.unpack("<Q", header[:8])[0]


def decode_example(data: bytes) -> dict[str, tuple[str | None, list[Any]]]:
    """Features by name, each (kind, values); kind None for a feature that is empty. Malformed for anything else."""
    try:
        found: dict[str, tuple[str | None, list[Any]]] = {}
        for field, value in _fields(data):
            if field == 1:
                for inner, entry in _fields(value):
                    if inner == 1:
                        name, feature = _entry(entry)
                        found[name] = _feature(feature)
        return found
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise Malformed(f"the record is no tf.train.Example: {error}") from error


def encode_example(features: Mapping[str, tuple[str | None, Iterable[Any]]]) -> bytes:
    """An Example of features by name, each (kind, values)."""
    entries = []
    for name, (kind, values) in features.items():
        feature = b"" if kind is None else _chunk(_FIELD_OF_KIND[kind], _encode_list(kind, values))
        entries.append(_chunk(1, _chunk(1, name.encode()) + _chunk(2, feature)))
    return _chunk(1, b"".join(entries))


def _encode_list(kind: str, values: Iterable[Any]) -> bytes:
    if kind == BYTES:
        return b"".join(_chunk(1, value) for value in values)
    if kind == FLOAT:
        return _chunk(1, np.asarray(list(values), "<f4").tobytes())
    return _chunk(1, b"".join(_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values))


def _chunk(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Malformed("the record is no tf.train.Example: a number is longer than 64 bits")


def _fields(data: bytes) -> Iterable[tuple[int, Any]]:
    """(field number, value) of a message: bytes for chunks, int for numbers, raw bytes for fixed ones."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        wire = key & 7
        if wire == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise Malformed("the record is no tf.train.Example: a field is longer than the record")
            yield key >> 3, data[at : at + size]
            at += size
        elif wire == 0:
            value, at = _read_varint(data, at)
            yield key >> 3, value
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise Malformed(f"the record is no tf.train.Example: wire type {wire}")


def _entry(data: bytes) -> tuple[str, bytes]:
    name, feature = "", b""
    for field, value in _fields(data):
        if field == 1:
            name = value.decode()
        elif field == 2:
            feature = value
    return name, feature


def _feature(data: bytes) -> tuple[str | None, list[Any]]:
    for field, value in _fields(data):
        kind = _KIND_OF_FIELD.get(field)
        if kind == BYTES:
            return kind, [item for inner, item in _fields(value) if inner == 1]
        if kind == FLOAT:
            raw = b"".join(item for inner, item in _fields(value) if inner == 1)
            return kind, np.frombuffer(raw, "<f4").tolist()
        if kind == INT:
            return kind, _integers(value)
    return None, []


def _integers(data: bytes) -> list[int]:
    values = []
    for field, item in _fields(data):
        if field != 1:
            continue
        if isinstance(item, int):
            values.append(item)
            continue
        at = 0
        while at < len(item):
            value, at = _read_varint(item, at)
            values.append(value)
    return [value - (1 << 64) if value >> 63 else value for value in values]
