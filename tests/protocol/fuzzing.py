"""Mutated bytes for decoders: a seeded mutator, and a record of every message that raybook sends.

Mutations are those of the fuzzers that find most: bits and bytes changed, numbers at their limits, pieces cut out, doubled,
moved in from another message. Same seed, same cases.
"""

from __future__ import annotations

import random
import struct
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

LIMITS = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xdd\xff\xff\xff\xff",
          b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\xff", b"\xd9\xff", b"\x91" * 64,
          struct.pack("<Q", (1 << 63) - 1), b"\xd7\xff" + b"\xff" * 8, b"\xc0", b"\xa2\xc3\x28"]  # fmt: skip
"""Numbers at their limits; and, in msgpack's words, arrays, maps, bytes and extensions that announce gigabytes, nesting, a
date that cannot be, text that is not UTF-8."""


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A relative of ``data``. other: where pieces may come from. Cost: 3 µs."""
    out = bytearray(data)
    for _ in range(1 + (rng.random() < 0.4) + (rng.random() < 0.1) * 4):
        size = len(out)
        place = int(rng.random() * (size + 1))
        what = int(rng.random() * 8)
        if what == 0 and size:
            out[place % size] ^= 1 << int(rng.random() * 8)
        elif what == 1 and size:
            out[place % size] = int(rng.random() * 256)
        elif what == 2:
            out[place : place + 1] = LIMITS[int(rng.random() * len(LIMITS))]
        elif what == 3:
            del out[place : place + int(rng.random() * 9)]
        elif what == 4:
            del out[place:]
        elif what == 5:
            out[place:place] = rng.randbytes(int(rng.random() * 9))
        elif what == 6:
            out[place:place] = out[place : place + int(rng.random() * 40)]
        else:
            start = int(rng.random() * (len(other) + 1))
            out[place : place + int(rng.random() * 9)] = other[start : start + int(rng.random() * 40)]
    return bytes(out)


def cases(seed: int, corpus: list[bytes], count: int) -> Iterator[bytes]:
    """Mutants of a corpus; each hundredth is noise, and has no parent."""
    rng = random.Random(seed)
    for number in range(count):
        if number % 100 == 0:
            yield rng.randbytes(rng.randrange(200))
        else:
            yield mutate(rng, corpus[int(rng.random() * len(corpus))], corpus[int(rng.random() * len(corpus))])


def sample(kind: Any, salt: int) -> Any:
    """A value of a type, with something in every field."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {"n": salt, "nested": [1, {"x": None}], "f": 0.5}
    if kind is int:
        return salt + 1
    if kind is str:
        return f"text é {salt}"
    if kind is bytes:
        return bytes([salt % 256, 0, 255])
    if kind is bool:
        return True
    if kind is float:
        return salt + 0.5
    if kind is type(None):
        return None
    if origin in (types.UnionType, typing.Union):
        return sample(next(a for a in arguments if a is not types.NoneType), salt)
    if origin is dict:
        return {sample(arguments[0], salt + n): sample(arguments[1], salt + n) for n in (0, 1)}
    if origin in (list, set, frozenset):
        return [sample(arguments[0], salt + n) for n in (0, 1)]
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return tuple(sample(arguments[0], salt + n) for n in (0, 1))
        return tuple(sample(argument, salt + n) for n, argument in enumerate(arguments))
    assert isinstance(kind, type) and issubclass(kind, msgspec.Struct), kind
    return kind(**{field.name: sample(field.type, salt + n) for n, field in enumerate(msgspec.structs.fields(kind))})


def all_of(union: Any) -> list[Any]:
    """One of each message of a conversation."""
    return [sample(kind, salt) for salt, kind in enumerate(typing.get_args(union))]
