"""Exception codec: an exception of user code to bytes and back, whatever the exception is.

It decides what of an exception travels: the exception itself if it survives pickling, and always its texts (type,
message, formatted traceback), for it and for the causes and contexts behind it. It does not know tasks or how errors
are shown.

Invariants: `dumps_exception` never raises for an exception, and `loads_exception` never for its output; an exception
that cannot be rebuilt comes back as `OpaqueException` with its texts, never as a different error about pickling.
"""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from raybook.protocol.serialization import SerializationContext, deserialize, serialize

CODEC_VERSION = 1
CHAIN_LENGTH_MAX = 32
# A traceback of a million-deep recursion is no help to anybody; Python itself folds repeated frames.
TRACEBACK_CHARACTERS_MAX = 200_000


class OpaqueException(Exception):
    """Stands for an exception whose class or state could not travel. Its text begins with the original's type."""

    def __init__(self, type_name: str, message: str, reason: str) -> None:
        super().__init__(type_name, message, reason)
        self.type_name = type_name
        self.message = message
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message} (the exception itself could not be carried over: {self.reason})"


class ExceptionRecord(msgspec.Struct, array_like=True, gc=False):
    """One exception of a chain. cause, context: positions in the chain, or -1."""

    type_name: str
    message: str
    traceback_text: str
    pickled: bytes | None
    reason: str
    cause: int
    context: int
    suppress_context: bool


class ExceptionChain(msgspec.Struct, array_like=True, gc=False):
    """The wire form: the exception first, then what is behind it."""

    version: int
    records: list[ExceptionRecord]


class LoadedException(msgspec.Struct, gc=False):
    """A decoded exception. traceback_text: of the whole chain, as the other process would have printed it."""

    exception: BaseException
    type_name: str
    message: str
    traceback_text: str

    @property
    def is_original(self) -> bool:
        """Is it an instance of the class that was raised, not a stand-in?"""
        return not isinstance(self.exception, OpaqueException)


def dumps_exception(error: BaseException, context: SerializationContext) -> bytes:
    """Encode an exception with its chain. Cost: about 100 µs an exception, most of it the text of the traceback."""
    chain = _chain_of(error)
    position = {id(member): index for index, member in enumerate(chain)}
    records = [_record(member, position, context, whole=index == 0) for index, member in enumerate(chain)]
    return msgspec.msgpack.encode(ExceptionChain(CODEC_VERSION, records))


def _chain_of(error: BaseException) -> list[BaseException]:
    chain = [error]
    for member in chain:
        for behind in (member.__cause__, member.__context__):
            if behind is not None and len(chain) < CHAIN_LENGTH_MAX and all(behind is not known for known in chain):
                chain.append(behind)
    return chain


def _record(
    error: BaseException, position: dict[int, int], context: SerializationContext, *, whole: bool
) -> ExceptionRecord:
    pickled, reason = _pickle_checked(error, context)
    kind = type(error)
    return ExceptionRecord(
        type_name=kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        message=_text_of(error),
        traceback_text=_traceback_of(error) if whole else "",
        pickled=pickled,
        reason=reason,
        cause=position.get(id(error.__cause__), -1),
        context=position.get(id(error.__context__), -1),
        suppress_context=error.__suppress_context__,
    )


def _pickle_checked(error: BaseException, context: SerializationContext) -> tuple[bytes | None, str]:
    """The pickle of an exception, tried in both directions, or None and why not.

    An exception whose `__init__` takes other arguments than it hands to `Exception.__init__` pickles well and fails to
    load, so only loading shows it. User code runs in both, and anything may come out of it.
    """
    try:
        data = serialize(error, context, name=type(error).__name__).to_bytes()
        rebuilt = deserialize(data)
    except Exception as problem:  # noqa: BLE001 - user code: __reduce__, __getstate__, __init__ of the exception.
        return None, f"{type(problem).__name__}: {_text_of(problem)}"
    if type(rebuilt).__qualname__ != type(error).__qualname__:
        return None, f"pickling it gives a {type(rebuilt).__qualname__}"
    return data, ""


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001 - user code: __str__ of the exception.
        return f"<its __str__ raised {type(problem).__name__}>"


def _traceback_of(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as problem:  # noqa: BLE001 - user code again: __str__ and __notes__ of the chain.
        text = f"{type(error).__qualname__}: {_text_of(error)} (its traceback could not be formatted: {problem!r})\n"
    if len(text) > TRACEBACK_CHARACTERS_MAX:
        half = TRACEBACK_CHARACTERS_MAX // 2
        text = f"{text[:half]}\n  … {len(text) - 2 * half} characters left out …\n{text[-half:]}"
    return text


def loads_exception(data: Any) -> LoadedException:
    """Decode an exception, its causes and contexts attached again. Its traceback is text: frames do not travel.

    Raises ValueError if the bytes are no encoded exception of this version.
    """
    try:
        chain = msgspec.msgpack.decode(data, type=ExceptionChain)
    except msgspec.MsgspecError as error:
        raise ValueError(f"These bytes are no encoded exception: {error}") from error
    if chain.version != CODEC_VERSION or not chain.records:
        raise ValueError(f"An exception of codec version {chain.version} arrived; this raybook reads {CODEC_VERSION}.")
    errors = [_rebuild(record) for record in chain.records]
    for record, rebuilt in zip(chain.records, errors, strict=True):
        if 0 <= record.cause < len(errors):
            rebuilt.__cause__ = errors[record.cause]
        if 0 <= record.context < len(errors):
            rebuilt.__context__ = errors[record.context]
        rebuilt.__suppress_context__ = record.suppress_context
    first = chain.records[0]
    return LoadedException(errors[0], first.type_name, first.message, first.traceback_text)


def _rebuild(record: ExceptionRecord) -> BaseException:
    reason = record.reason
    if record.pickled is not None:
        try:
            error = deserialize(record.pickled)
        except Exception as problem:  # noqa: BLE001 - user code, and modules that this process cannot import.
            reason = f"{type(problem).__name__}: {_text_of(problem)}"
        else:
            if isinstance(error, BaseException):
                return error
            reason = f"its pickle holds a {type(error).__qualname__}"
    return OpaqueException(record.type_name, record.message, reason)
