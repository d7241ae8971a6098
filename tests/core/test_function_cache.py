"""The code that a worker has from owners, and when it goes."""

from __future__ import annotations

from raybook.protocol import functions
from raybook.protocol.messages.worker import ForgetFunctions, SendFunction
from raybook.protocol.serialization import SerializationContext
from raybook.worker.function_cache import FunctionCache

KEY = b"k" * 16
OWNER, OTHER = b"a" * 8, b"b" * 8


def sent() -> SendFunction:
    return SendFunction(KEY, functions.export(lambda: 7, SerializationContext({})).payload)


def test_code_that_came_is_loaded_once() -> None:
    cache = FunctionCache()
    cache.receive(OWNER, sent())

    assert cache.load(KEY, "f")() == 7
    assert cache.loaded[KEY]() == 7


def test_code_goes_when_its_only_owner_forgets_it() -> None:
    cache = FunctionCache()
    cache.receive(OWNER, sent())
    cache.load(KEY, "f")

    assert cache.forget(OWNER, ForgetFunctions([KEY])) == [KEY]
    assert KEY not in cache.loaded
    assert cache.load(KEY, "f") is None
    assert "never arrived" in str(cache.error)


def test_code_stays_while_another_owner_needs_it() -> None:
    cache = FunctionCache()
    cache.receive(OWNER, sent())
    cache.receive(OTHER, sent())
    cache.load(KEY, "f")

    assert cache.forget(OWNER, ForgetFunctions([KEY])) == []
    assert cache.loaded[KEY]() == 7
    assert cache.forget(OTHER, ForgetFunctions([KEY])) == [KEY]


def test_code_that_was_forgotten_comes_again() -> None:
    cache = FunctionCache()
    cache.receive(OWNER, sent())
    cache.forget(OWNER, ForgetFunctions([KEY]))
    cache.receive(OWNER, sent())

    assert cache.load(KEY, "f")() == 7


def test_to_forget_what_never_came_is_nothing() -> None:
    assert FunctionCache().forget(OWNER, ForgetFunctions([KEY])) == []


def test_code_whose_unpickling_raises_says_why_and_may_be_tried_again() -> None:
    cache = FunctionCache()
    cache.receive(OWNER, SendFunction(KEY, b"not a pickle"))

    assert cache.load(KEY, "f") is None
    first = cache.error
    assert cache.load(KEY, "f") is None
    assert type(cache.error) is type(first)
