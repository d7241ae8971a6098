"""Pickling of programs: once on the driver, into bytes that travel with each task, so that no task has to ask for them.

A task that waits for an object gives its CPU to another worker meanwhile; so a program must be there when it starts.
"""

from __future__ import annotations

import io
from types import CodeType
from typing import Any

import cloudpickle

from raybook.api.serializers import serialization_error

PICKLE_PROTOCOL = 5
NAMELESS_CODE = "<dynamic-code>"
"""What cloudpickle writes for the file of code that travels by value."""


class ProgramPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """cloudpickle, with the names of files, which tracebacks of workers need to show the user's lines."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is CodeType:
            make, parts = cloudpickle.Pickler.dispatch_table[CodeType](obj)
            return make, tuple(obj.co_filename if part == NAMELESS_CODE else part for part in parts)
        return super().reducer_override(obj)


def dumps_program(value: Any, name: str) -> bytes:
    """The value as bytes. TypeError, naming the step and the part that is to blame, when it cannot be pickled."""
    sink = io.BytesIO()
    try:
        ProgramPickler(sink, protocol=PICKLE_PROTOCOL).dump(value)
    except Exception as error:
        found = serialization_error(value)
        raise TypeError(
            f"What {name} runs cannot be sent to workers: {found or error} Nothing has run. A function must not hold "
            "locks, files or connections; open them inside it, or in the __init__ of a callable class."
        ) from error
    return sink.getvalue()
