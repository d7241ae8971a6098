"""Errors: the dual class, texts with user frames only, and the way across processes."""

import linecache
import pickle

import cloudpickle
import pytest

from raybook import exceptions
from raybook.base import errors
from raybook.base.error_values import error_from_code, error_from_value, failed_argument, value_from_error
from raybook.base.errors import (
    ERROR_CLASSES,
    RayTaskError,
)
from raybook.base.specs import ErrorValue
from raybook.base.task_traceback import FAILED_ARGUMENT, with_source_lines


class TwoArguments(Exception):
    """Pickles, and does not load the usual way: ``__init__`` takes more than ``args`` holds."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first


class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("not me")


class NoSubclass(Exception):
    def __init_subclass__(cls):
        raise TypeError("final")


class HttpError(Exception):
    code = 404


def task_error(error, name="work"):
    """The RayTaskError that a worker makes of ``error``."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - as a worker does.
        return RayTaskError.from_exception(name, raised, 7, "10.0.0.1")


def travelled(error, name="work"):
    """What ``get`` raises in another process."""
    return error_from_value(value_from_error(task_error(error, name), cloudpickle.dumps))


def test_task_error_is_an_instance_of_the_cause_too():
    error = travelled(KeyError("missing"))
    assert isinstance(error, RayTaskError) and isinstance(error, KeyError)
    assert error.args == ("missing",)
    assert isinstance(error.cause, KeyError)


def test_attributes_of_the_cause_are_visible():
    error = travelled(TwoArguments("a", "b"))
    assert isinstance(error, TwoArguments)
    assert error.first == "a"


@pytest.mark.parametrize(
    ("cause", "attribute", "value"),
    [
        (OSError(2, "nope", "file"), "errno", 2),
        (StopIteration(4), "value", 4),
        (SystemExit(3), "code", 3),
        (ImportError("x", name="module"), "name", "module"),
        (HttpError("gone"), "code", 404),
        (UnicodeDecodeError("utf8", b"x", 0, 1, "why"), "reason", "why"),
    ],
)
def test_c_level_attributes_of_the_cause_are_visible(cause, attribute, value):
    error = travelled(cause)
    assert isinstance(error, type(cause))
    assert getattr(error, attribute) == value


def test_exception_group_keeps_its_members():
    error = travelled(ExceptionGroup("several", [ValueError(1), TypeError(2)]))
    assert isinstance(error, ExceptionGroup)
    assert [type(member) for member in error.exceptions] == [ValueError, TypeError]


def test_base_exception_of_a_task_keeps_its_class():
    class Interrupted(BaseException):
        pass

    assert isinstance(travelled(Interrupted("now")), Interrupted)


def test_class_that_refuses_subclasses_gives_a_plain_task_error():
    error = travelled(NoSubclass("final"))
    assert type(error) is RayTaskError
    assert isinstance(error.cause, NoSubclass)


def test_cause_that_cannot_be_pickled_gives_a_plain_task_error_with_the_text():
    error = travelled(Unpicklable("stuck"))
    assert type(error) is RayTaskError
    assert error.cause is None
    assert "Unpicklable: stuck" in str(error)


def test_payload_that_cannot_be_loaded_gives_a_plain_task_error_that_says_so():
    error = error_from_value(ErrorValue("task", "the text", b"\x80\x05cno_such_module\nThing\n."))
    assert type(error) is RayTaskError
    assert "the text" in str(error) and "no_such_module" in str(error)


def test_dual_error_survives_pickling():
    error = pickle.loads(pickle.dumps(travelled(TwoArguments("a", "b"))))
    assert isinstance(error, TwoArguments) and isinstance(error, RayTaskError)
    assert error.first == "a" and error.pid == 7


def test_code_of_errors():
    assert errors.ObjectStoreFullError("full").code == "ObjectStoreFullError"
    assert task_error(ValueError()).code == "task"


def test_text_begins_with_the_task_and_ends_with_the_error():
    lines = str(travelled(ValueError("bad"), "clean")).split("\n")
    assert lines[0] == "ray::clean() (pid=7, ip=10.0.0.1)"
    assert lines[-1] == "ValueError: bad"


def test_text_keeps_user_frames_and_drops_runtime_frames():
    def helper():
        with_source_lines(None)  # Raises inside the runtime.

    try:
        helper()
    except AttributeError as raised:
        text = RayTaskError.from_exception("work", raised, 1, "ip").traceback_str
    assert "in helper" in text
    assert "task_traceback.py" not in text


def test_text_tells_the_chain_of_causes():
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as raised:
        text = RayTaskError.from_exception("work", raised, 1, "ip").traceback_str
    assert text.index("KeyError: 'first'") < text.index("direct cause") < text.index("ray::work()")
    assert text.endswith("ValueError: second")


def test_nested_task_error_keeps_the_innermost_cause_and_both_stories():
    error = travelled(travelled(ValueError("deep"), "inner"), "outer")
    assert type(error.cause) is ValueError
    assert isinstance(error, ValueError)
    assert str(error).index("ray::outer()") < str(error).index("ray::inner()")


def test_actor_is_named_in_the_header():
    try:
        raise ValueError("x")
    except ValueError as raised:
        error = RayTaskError.from_exception("A.f", raised, 7, "ip", b"\x01\x02", "<A>")
    assert str(error).startswith("ray::A.f() (pid=7, ip=ip, actor_id=0102, repr=<A>)")


def test_failed_argument_keeps_class_and_says_what_failed():
    value = failed_argument(value_from_error(task_error(ValueError("bad"), "a"), cloudpickle.dumps), "b")
    error = error_from_value(value)
    assert isinstance(error, ValueError)
    assert str(error).startswith("ray::b()\n  " + FAILED_ARGUMENT)
    assert "ray::a()" in str(error)


def test_failed_arguments_in_a_chain_keep_the_text_bounded():
    value = value_from_error(task_error(ValueError("bad"), "a"), cloudpickle.dumps)
    for number in range(100):
        value = failed_argument(value, f"step{number}")
    assert value.text.count(FAILED_ARGUMENT) == 1
    assert value.text.startswith("ray::step99()")


def test_source_lines_of_this_process_complete_the_text():
    linecache.cache["<cell 3>"] = (20, None, ["x = 1\n", "1 / 0\n"], "<cell 3>")
    try:
        text = with_source_lines('ray::f()\n  File "<cell 3>", line 2, in f\nZeroDivisionError: division by zero')
    finally:
        del linecache.cache["<cell 3>"]
    assert text.split("\n")[2] == "    1 / 0"


def test_ipython_shows_remote_frames_then_the_worker_then_the_cell():
    try:
        raise travelled(ValueError("bad"), "clean")
    except RayTaskError as raised:
        lines = raised._render_traceback_()
    text = "\n".join(lines)
    assert lines[0].startswith("ray::clean()")
    assert text.index("ValueError: bad") < text.index("failed in pid 7 on 10.0.0.1") < text.index("Asked for here:")
    assert "test_ipython_shows_remote_frames" in text


@pytest.mark.parametrize("name", sorted(set(ERROR_CLASSES) - {"RayTaskError"}))
def test_every_named_error_is_rebuilt_from_its_code_and_pickles(name):
    error = error_from_code(name, "what happened")
    assert type(error) is getattr(exceptions, name, ERROR_CLASSES[name])
    assert str(pickle.loads(pickle.dumps(error))) == "what happened"
    assert type(error_from_value(value_from_error(error, pickle.dumps))) is type(error)


def test_every_named_error_is_public():
    assert set(ERROR_CLASSES) <= set(exceptions.__all__) | {"ActorExit"}


def test_bases_that_users_catch():
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ActorAlreadyExistsError, ValueError)
    assert issubclass(exceptions.ActorDiedError, exceptions.RayActorError)
    assert issubclass(exceptions.OwnerDiedError, exceptions.ObjectLostError)
    assert issubclass(exceptions.StaleReferenceError, RuntimeError)
    assert not issubclass(errors.ActorExit, Exception)


def test_unknown_code_of_a_newer_peer_is_not_lost():
    error = error_from_code("BrandNewError", "text")
    assert isinstance(error, exceptions.RaySystemError)
    assert "BrandNewError" in str(error) and "text" in str(error)
