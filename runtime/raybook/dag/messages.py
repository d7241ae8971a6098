"""Messages: values and errors as they lie in channels.

An error is an ``ErrorValue``, as tasks' errors are, so that whoever reads it raises what a plain call would have raised;
those it passes through on its way hand the bytes on and rebuild nothing.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from raybook.base.error_values import error_from_value, value_from_error
from raybook.base.errors import RayTaskError
from raybook.base.specs import ErrorValue
from raybook.dag.ring import ERROR, load_value
from raybook.protocol.serialization import SerializationContext, Serialized, bare, deserialize, serialize


class Failure:
    """A value that is not there, because what should have made it raised. data: the encoded error."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def exception(self) -> BaseException:
        """What to raise for it, anew each time."""
        return error_from_value(msgspec.msgpack.decode(self.data, type=ErrorValue), deserialize)

    def message(self) -> Serialized:
        """As a message."""
        return bare(self.data)


def failure_of(
    error: BaseException, name: str, context: SerializationContext, actor_id: bytes, actor_repr: str
) -> Failure:
    """What user code raised in the step ``name``, with its frames and this process."""
    wrapped = RayTaskError.from_exception(name, error, os.getpid(), "127.0.0.1", actor_id, actor_repr)
    value = value_from_error(wrapped, lambda part: serialize(part, context, "exception").to_bytes())
    return Failure(msgspec.msgpack.encode(value))


def load(kind: int, data: Any, pin: Any) -> Any:
    """A value, or a Failure."""
    return Failure(bytes(data)) if kind == ERROR else load_value(data, pin)
