"""Functions: a function or class of the user as bytes that any worker can load.

It decides the form and the key of an exported function, and refuses one that drags too much along. It does not know who
asks for it or where it is kept; workers and owners keep what they loaded by key.

Invariants: the key is the content's hash, so equal keys mean equal bytes and a worker never needs to be told of a
change.

Export once for each remote object, not once for each call. Looking for changed closures or globals before every call
would cost more than the call (a pickling is 50 µs and up), and Ray too freezes a function when it is first called:
running the cell again makes a new remote object and so a new export.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from raybook.protocol.captures import captures_of
from raybook.protocol.serialization import Buffer, SerializationContext, deserialize, serialize

KEY_BYTES = 16
# Ray's limits (`FUNCTION_SIZE_WARN_THRESHOLD`, `FUNCTION_SIZE_ERROR_THRESHOLD`).
WARN_BYTES = 10_000_000
ERROR_BYTES = 100_000_000
NAMED_BYTES = 1 << 20
NAMED_MAX = 3
ADVICE = (
    "Check that its definition is not implicitly capturing a large array or other object in scope: in its closure or its "
    "globals. Put such an object into the object store with `put` and pass the reference as an argument."
)


class FunctionBlob(msgspec.Struct, frozen=True):
    """An exported function or class.

    key: hash of the payload, 16 bytes. name: module and qualified name, to show. size: bytes of the payload.
    contained: references that it captures; they have to live as long as it may be called. warning: to be shown, or "".
    """

    key: bytes
    payload: bytes
    name: str
    size: int
    contained: tuple[Any, ...] = ()
    warning: str = ""
    short_name: str = ""
    """Without the module."""


def export(function: Callable[..., Any], context: SerializationContext) -> FunctionBlob:
    """Pickle a function or class, by value if the reader could not import it.

    Raises TypeError naming the attribute path if it captures something that cannot be pickled, ValueError above 100
    MB. Above 10 MB the blob has a warning. Cost: 50 µs and up.
    """
    qualified_name = getattr(function, "__qualname__", type(function).__qualname__)
    short_name = qualified_name.rpartition("<locals>.")[2]
    name = f"{getattr(function, '__module__', None) or '?'}.{short_name}"
    kind = "actor" if isinstance(function, type) else "remote function"
    try:
        serialized = serialize(function, context, name=short_name)
    except TypeError as error:
        what = "actor class" if kind == "actor" else "function"
        raise TypeError(f"Could not serialize the {what} {short_name}: {error}") from error.__cause__
    size = serialized.total_bytes
    if size > ERROR_BYTES:
        raise ValueError(
            f"The {kind} {short_name} is too large ({_mib(size)} MiB > FUNCTION_SIZE_ERROR_THRESHOLD="
            f"{_mib(ERROR_BYTES)} MiB). Nothing was sent. {_captured(function)}{ADVICE}"
        )
    warning = ""
    if size > WARN_BYTES:
        warning = f"The {kind} {short_name} is very large ({_mib(size)} MiB). {_captured(function)}{ADVICE}"
    payload = serialized.to_bytes()
    key = blake2b(payload, digest_size=KEY_BYTES).digest()
    return FunctionBlob(key, payload, name, size, tuple(serialized.contained), warning, short_name)


def _captured(function: Callable[..., Any]) -> str:
    """ "It captures `df` (120 MiB). ": the variables to blame; "" when none of them is large."""
    large = captures_of(function, NAMED_BYTES)[:NAMED_MAX]
    if not large:
        return ""
    return f"It captures {', '.join(f'`{name}` ({_mib(size)} MiB)' for name, size in large)}. "


def _mib(size: int) -> int:
    return size >> 20


def load(payload: Buffer) -> Any:
    """The function or class of a payload. Raises what its modules raise while they are imported."""
    return deserialize(payload)
