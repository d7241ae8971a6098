"""Exceptions of user code, well-behaved and not."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading

import pytest

from raybook.protocol.exception_codec import OpaqueException, dumps_exception, loads_exception
from raybook.protocol.serialization import SerializationContext

CONTEXT = SerializationContext()


def raised(function):
    with pytest.raises(BaseException) as caught:
        function()
    return caught.value


def there_and_back(error):
    return loads_exception(dumps_exception(error, CONTEXT))


class TakesTwo(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


class HoldsALock(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class CannotSay(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class BecomesAnother(Exception):
    def __reduce__(self):
        return ValueError, ("something else",)


def test_builtin_exception_comes_back_with_its_traceback_as_text():
    loaded = there_and_back(raised(lambda: {}["key"]))

    assert type(loaded.exception) is KeyError
    assert loaded.exception.args == ("key",)
    assert loaded.is_original
    assert "Traceback (most recent call last)" in loaded.traceback_text
    assert 'lambda: {}["key"]' in loaded.traceback_text


def test_causes_and_contexts_are_attached_again():
    def fails():
        try:
            try:
                raise ValueError("first")
            except ValueError:
                raise TypeError("second")  # noqa: B904 - an implicit context is the subject
        except TypeError as error:
            raise RuntimeError("third") from error

    error = there_and_back(raised(fails)).exception

    assert str(error.__cause__) == "second" and error.__cause__ is error.__context__
    assert error.__suppress_context__
    assert str(error.__cause__.__context__) == "first"


def test_unpicklable_cause_does_not_lose_the_exception_in_front():
    def fails():
        try:
            raise HoldsALock()
        except HoldsALock as error:
            raise ValueError("in front") from error

    error = there_and_back(raised(fails)).exception

    assert type(error) is ValueError
    assert isinstance(error.__cause__, OpaqueException)
    assert "HoldsALock: holds a lock" in str(error.__cause__)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: TakesTwo(5, "bad"), "5: bad"),
        (HoldsALock, "_thread.lock"),
        (BecomesAnother, "pickling it gives a ValueError"),
    ],
)
def test_exception_that_does_not_survive_pickling_comes_back_as_text(make, expected):
    loaded = there_and_back(make())

    assert not loaded.is_original
    assert loaded.type_name.endswith(type(make()).__name__)
    assert expected in str(loaded.exception)


def test_exception_whose_str_raises_is_carried_all_the_same():
    loaded = there_and_back(raised(lambda: (_ for _ in ()).throw(CannotSay("x"))))

    assert type(loaded.exception) is CannotSay
    assert "RuntimeError" in loaded.message


def test_chain_that_loops_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first

    error = there_and_back(first).exception

    assert error.__context__.__context__ is error


def test_class_of_a_module_that_the_reader_cannot_import_comes_back_as_text():
    maker = """
import sys, types
module = types.ModuleType("only_here")
exec("class Special(Exception): pass", module.__dict__)
sys.modules["only_here"] = module
from raybook.protocol.exception_codec import dumps_exception
from raybook.protocol.serialization import SerializationContext
sys.stdout.buffer.write(dumps_exception(module.Special("text"), SerializationContext()))
"""
    made = subprocess.run([sys.executable, "-c", maker], capture_output=True, check=True, timeout=30)

    loaded = loads_exception(made.stdout)

    assert isinstance(loaded.exception, OpaqueException)
    assert (loaded.type_name, loaded.message) == ("only_here.Special", "text")
    assert "ModuleNotFoundError" in str(loaded.exception)


def test_system_exit_and_keyboard_interrupt_are_carried():
    assert there_and_back(SystemExit(3)).exception.code == 3
    assert type(there_and_back(KeyboardInterrupt()).exception) is KeyboardInterrupt


def test_stand_in_can_itself_be_carried_on():
    once = there_and_back(HoldsALock()).exception

    again = pickle.loads(pickle.dumps(once))

    assert str(again) == str(once)


@pytest.mark.parametrize("data", [b"", b"\x93\x63\xc0", b"nonsense", b"\x92\x02\x90"])
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="exception"):
        loads_exception(data)
