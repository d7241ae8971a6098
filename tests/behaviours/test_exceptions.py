"""Exceptions: classes that users name, construct, match and catch."""

from __future__ import annotations

import os
import pickle
import signal
import sys

import pytest

from raybook import exceptions


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (exceptions.RayActorError(), "The actor experienced an error before finishing this task."),
        (exceptions.RayActorError(actor_id="ab", error_msg="gone"), "gone"),
        (exceptions.ActorDiedError(), "The actor died unexpectedly before finishing this task."),
        (exceptions.ActorUnavailableError("msg", b"\x01" * 16), "The actor 0101.* is unavailable: msg"),
        (exceptions.TaskCancelledError(error_message="stopped"), "stopped"),
        (exceptions.ObjectLostError("abc", None, ""), "Failed to retrieve object abc"),
        (exceptions.OwnerDiedError("abc", None, ""), "Failed to retrieve object abc"),
        (exceptions.RuntimeEnvSetupError(), "Failed to set up runtime environment"),
        (exceptions.RaySystemError("m", "tb"), "m\ntraceback: tb"),
        (exceptions.WorkerCrashedError(), "The worker died unexpectedly while executing this task"),
        (exceptions.TaskPlacementGroupRemoved(), "placement group corresponding to this task has been removed"),
        (exceptions.NodeDiedError("m"), "m"),
    ],
)
def test_errors_are_made_as_rays_are_and_survive_pickling(error, text):
    again = pickle.loads(pickle.dumps(error))
    with pytest.raises(type(error), match=text):
        raise again
    assert vars(again) == vars(error)


def test_errors_carry_what_they_were_made_of():
    assert exceptions.RayActorError("ab", "gone").actor_id == "ab"
    assert exceptions.RayActorError("ab", "gone").error_msg == "gone"
    assert exceptions.ActorUnavailableError("m", b"\x01" * 16).actor_id == "01" * 16
    assert exceptions.ObjectLostError("abc", None, "here").object_ref_hex == "abc"
    assert exceptions.OutOfMemoryError("much").message == "much"
    assert exceptions.TaskUnschedulableError("why").error_message == "why"
    failed = exceptions.RayTaskError("A.__init__", "ValueError: 3", ValueError(3))
    assert "because of an error raised in its creation task, ValueError: 3" in str(exceptions.ActorDiedError(failed))


def test_a_subclass_of_a_users_own_keeps_its_attributes():
    assert pickle.loads(pickle.dumps(_Own(3))).number == 3


class _Own(exceptions.RayError):
    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")
        self.number = number


def test_a_plain_exception_is_a_plain_task_error(ray):
    @ray.remote
    def work():
        raise Exception("plain")

    with pytest.raises(ray.exceptions.RayTaskError, match="plain") as caught:
        ray.get(work.remote())
    assert caught.type is ray.exceptions.RayTaskError
    assert type(caught.value.cause) is Exception


def test_base_exceptions_keep_their_class(ray):
    class Base(BaseException):
        pass

    @ray.remote
    def work():
        raise Base("abc")

    @ray.remote
    class Actor:
        def work(self):
            raise Base("abc")

    @ray.remote
    class AsyncActor:
        async def work(self):
            raise Base("abc")

    for ref in (work.remote(), Actor.remote().work.remote(), AsyncActor.remote().work.remote()):
        with pytest.raises(Base):
            ray.get(ref)


def test_a_base_exception_in_init_is_named_by_the_actors_death(ray):
    class Base(BaseException):
        pass

    @ray.remote
    class Actor:
        def __init__(self):
            raise Base("abc")

    with pytest.raises(ray.exceptions.ActorDiedError, match="Base"):
        ray.get(Actor.remote().__ray_ready__.remote())


@pytest.mark.parametrize("where", ["start", "middle"])
def test_a_base_exception_of_a_generator_is_its_last_item(ray, where):
    class Base(BaseException):
        pass

    @ray.remote(_generator_backpressure_num_objects=1)
    def work():
        if where == "middle":
            yield 1
        raise Base("rip")
        yield 2

    items = work.remote()
    if where == "middle":
        assert ray.get(next(items)) == 1
    with pytest.raises(Base):
        ray.get(next(items))


def test_exiting_a_task_is_a_crash_and_an_interrupt_a_cancellation(ray):
    @ray.remote(max_retries=0)
    def leave():
        raise SystemExit("abc")

    @ray.remote
    def interrupted():
        raise KeyboardInterrupt("abc")

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(leave.remote())
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(interrupted.remote())


@pytest.mark.parametrize("end", ["exit", "kill", "fault"])
def test_a_dependent_of_a_crashed_task_fails_with_a_task_error_of_that_class(ray, end):
    @ray.remote(max_retries=0)
    def crash():
        if end == "exit":
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL if end == "kill" else signal.SIGSEGV)

    @ray.remote
    def use(value):
        return value

    with pytest.raises(
        ray.exceptions.RayTaskError, match="input arguments for this task could not be computed"
    ) as error:
        ray.get(use.remote(crash.remote()))
    assert isinstance(error.value, ray.exceptions.WorkerCrashedError)


def test_a_dependent_of_a_dead_actor_fails_with_a_task_error_of_that_class(ray):
    @ray.remote
    class Actor:
        def leave(self):
            os._exit(1)

    @ray.remote
    def use(value):
        return value

    with pytest.raises(ray.exceptions.RayTaskError) as error:
        ray.get(use.remote(Actor.remote().leave.remote()))
    assert isinstance(error.value, ray.exceptions.ActorDiedError)


def test_an_error_survives_a_second_task_that_does_not_catch_it(ray):
    @ray.remote
    def inner():
        raise KeyError("deep")

    @ray.remote
    def outer():
        return ray.get(inner.remote())

    with pytest.raises(KeyError) as caught:
        ray.get(outer.remote())
    assert str(caught.value).index("outer()") < str(caught.value).index("inner()")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are of Python 3.11")
def test_groups_can_be_caught_in_parts(ray):
    @ray.remote
    def work():
        raise ExceptionGroup("both", [ValueError("a"), TypeError("b")])

    caught = {}
    code = """
try:
    get()
except* ValueError as part:
    caught["values"] = part
except* TypeError as part:
    caught["types"] = part
try:
    get()
except* task_error as part:
    caught["all"] = part
"""
    exec(code, {"get": lambda: ray.get(work.remote()), "caught": caught, "task_error": ray.exceptions.RayTaskError})
    assert [str(error) for error in caught["values"].exceptions] == ["a"]
    assert [str(error) for error in caught["types"].exceptions] == ["b"]
    assert len(caught["all"].exceptions) == 2


def test_an_error_with_a_constructor_of_its_own_arrives_whole(ray):
    class Custom(Exception):
        def __init__(self, code, *, hint):
            super().__init__(f"{code}: {hint}")
            self.code = code

    @ray.remote
    def work():
        raise Custom(7, hint="none")

    with pytest.raises(Custom, match="7: none") as caught:
        ray.get(work.remote())
    assert caught.value.code == 7


def test_a_function_whose_module_is_not_there_says_what_is_missing(ray, tmp_path, monkeypatch):
    (tmp_path / "only_on_the_driver.py").write_text("def work(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("only_on_the_driver")
    (tmp_path / "only_on_the_driver.py").unlink()

    @ray.remote
    def work():
        return module.work()

    with pytest.raises(RuntimeError, match="The remote function failed to import on the worker.*only_on_the_driver"):
        ray.get(work.remote())
