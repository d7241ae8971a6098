"""CRC-32C (Castagnoli), the checksum of TFRecord files: by table for short data, in lanes of numpy for long.

Lanes: the data is cut into equal pieces whose checksums are computed side by side, and put together by the rule that
appending n zero bytes is a linear map of the checksum. Check value: crc32c(b"123456789") = 0xE3069283.
"""

from __future__ import annotations

import numpy as np

POLYNOMIAL = 0x82F63B78
LANES = 512
LONG_BYTES = 16 * LANES
"""Shorter data is quicker byte by byte."""


def _make_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _make_table()
_NUMPY_TABLE = np.array(_TABLE, np.uint32)


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of the data. Cost: 40 ns a byte when short, 1 ns when long."""
    view = memoryview(data)
    if len(view) < LONG_BYTES:
        return _update(0xFFFFFFFF, view) ^ 0xFFFFFFFF
    width = len(view) // LANES
    rows = np.frombuffer(view[: width * LANES], np.uint8).reshape(LANES, width)
    crcs = np.zeros(LANES, np.uint32)
    crcs[0] = 0xFFFFFFFF
    for column in np.ascontiguousarray(rows.T):
        crcs = crcs >> np.uint32(8) ^ _NUMPY_TABLE[(crcs ^ column) & np.uint32(0xFF)]
    shift = _zeros_operator(width)
    crc = int(crcs[0])
    for lane in crcs[1:].tolist():
        crc = _apply(shift, crc) ^ lane
    return _update(crc, view[width * LANES :]) ^ 0xFFFFFFFF


def _update(crc: int, data: memoryview) -> int:
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def _apply(operator: list[int], crc: int) -> int:
    """The operator's columns where the checksum has ones, added up."""
    out = 0
    for column in operator:
        if crc & 1:
            out ^= column
        crc >>= 1
    return out


def _zeros_operator(count: int) -> list[int]:
    """What `count` zero bytes do to a checksum, as the images of its 32 bits: by squaring what one byte does."""
    square = [(1 << bit) >> 8 ^ _TABLE[(1 << bit) & 0xFF] for bit in range(32)]
    result = [1 << bit for bit in range(32)]
    while count:
        if count & 1:
            result = [_apply(square, column) for column in result]
        square = [_apply(square, column) for column in square]
        count >>= 1
    return result
