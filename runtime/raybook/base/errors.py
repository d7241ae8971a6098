"""Errors: every exception class of raybook, on one page, in four families that say whose move it is.

    your code raised        RayTaskError (also an instance of what was raised), TaskCancelledError
    you asked wrongly       TypeError, ValueError, RuntimeError as Python has them, and the few named ones here
    the cluster cannot now  ObjectStoreFullError, OutOfMemoryError, TaskUnschedulableError, GetTimeoutError, ...
    something was lost      WorkerCrashedError, ActorDiedError, ObjectLostError, OwnerDiedError, NodeDiedError, ...
and RaySystemError: our own mistake, with the story that a bug report needs.

A message has up to four parts: what happened, to which id, what raybook already did, what the user can do. Errors cross
processes as ``base.specs.ErrorValue``: ``code`` is the class name here (or "task"), ``text`` is the whole message.
Invariants: every class here but RayTaskError is made from its message alone; ``text`` wins over what is in ``payload``.
Names and the tree of bases are Ray's, because users' ``except`` clauses name them.
"""

from __future__ import annotations

import builtins
import functools
import pickle
from collections.abc import Callable
from types import FunctionType, GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any

from raybook.base.specs import ErrorValue
from raybook.base.task_traceback import (
    FAILED_ARGUMENT,
    format_exception,
    header,
    local_frames,
    with_source_lines,
)

ACTOR_DIED = "The actor died unexpectedly before finishing this task."
INIT_FAILED = "The actor died because of an error raised in its creation task, "
"""How the texts of ActorDiedError begin, as in Ray."""

TASK_CODE = "task"
"""``ErrorValue.code`` of an error that user code raised."""


class RayError(Exception):
    """The base of everything raybook raises by name."""

    @property
    def code(self) -> str:
        """What ``ErrorValue.code`` says for this class."""
        return type(self).__name__

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the user's frames, then the message; our frames are left out."""
        where = local_frames(self.__traceback__)
        return [*(["Traceback (most recent call last):", *where] if where else []), f"{type(self).__name__}: {self}"]


# --- Your code raised. ------------------------------------------------------------------------------------------------


class RayTaskError(RayError):
    """A task or actor method raised. ``get`` raises an instance of this class *and* of the class of the cause.

    function_name: of the task. traceback_str: the whole text, user frames only. cause: the exception itself, None when
    it could not travel. pid, ip, actor_repr, actor_id: where it ran.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException | None,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        self._describe(function_name, traceback_str, cause, proctitle, pid, ip, actor_repr, actor_id)
        self.args = (traceback_str,)

    def _describe(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException | None,
        proctitle: str | None,
        pid: int | None,
        ip: str | None,
        actor_repr: str | None,
        actor_id: str | None,
    ) -> None:
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.proctitle = proctitle
        self.pid = pid
        self.ip = ip
        self.actor_repr = actor_repr
        self.actor_id = actor_id

    @classmethod
    def from_exception(
        cls, name: str, error: BaseException, pid: int, ip: str, actor_id: bytes = b"", actor_repr: str = ""
    ) -> RayTaskError:
        """What a worker makes of an exception of user code. When the error came from another task (through ``get``),
        the cause is that task's cause, and the text holds both stories. Cost: 0.1 ms and up."""
        text = format_exception(error, header(name, pid, ip, actor_id.hex(), actor_repr))
        cause: BaseException | None = error
        if isinstance(error, RayTaskError):
            cause = error.cause
        return cls(name, text, cause, f"ray::{name}", pid, ip, actor_repr, actor_id.hex())

    code = TASK_CODE  # type: ignore[assignment]

    def make_dual_exception_type(self) -> type:
        """The class that is both RayTaskError and the cause's class. TypeError when the latter allows no subclass."""
        if self.cause is None:
            raise TypeError("This error's cause could not travel, so there is no class to combine with.")
        cause_type: type = type(self.cause)
        return _dual_type(cause_type)

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as an instance of its cause's class too; itself where that cannot be (no cause, a class that
        refuses subclasses, or one that is a RayTaskError already). Cost: 30 µs for the first error of a class."""
        cause = self.cause
        if cause is None or isinstance(cause, RayTaskError) or type(self) is not RayTaskError:
            return self
        cause_type: type = type(cause)
        try:
            dual = _dual_type(cause_type)
            error = _native_base(cause_type).__new__(dual, *cause.args)
        except Exception:  # noqa: BLE001 - metaclass, __init_subclass__ and __new__ of the cause are user code.
            return self
        _copy_members(cause, error)
        error.args = cause.args
        error._describe(*self._fields())
        return error

    def _fields(self) -> tuple[Any, ...]:
        return (
            self.function_name,
            self.traceback_str,
            self.cause,
            self.proctitle,
            self.pid,
            self.ip,
            self.actor_repr,
            self.actor_id,
        )

    def _without_cause(self) -> RayTaskError:
        fields = self._fields()
        return RayTaskError(fields[0], fields[1], None, *fields[3:])

    def __str__(self) -> str:
        return self.traceback_str

    def __reduce__(self) -> tuple[Any, ...]:
        fields = list(self._fields())
        cause = fields[2]
        is_dual = type(self) is not RayTaskError
        if cause is not None and _is_plainly_reduced(type(cause)):
            fields[2] = None
            return _rebuild_task_error, (is_dual, fields, type(cause), cause.args, dict(cause.__dict__))
        return _rebuild_task_error, (is_dual, fields)

    def _render_traceback_(self) -> list[str]:
        """The remote frames first, one line of worker and node, then the line here that asked for the result."""
        place = f"{self.function_name}() failed in pid {self.pid} on {self.ip}." if self.pid else ""
        where = local_frames(self.__traceback__)
        lines = with_source_lines(self.traceback_str).split("\n")
        return [*lines, *([place] if place else []), *(["Asked for here:", *where] if where else [])]


class UserCodeException(RayError):
    """User code that a library ran has raised."""


class TaskCancelledError(RayError):
    """The task was cancelled."""


class ObjectRefStreamEndOfStreamError(RayError):
    """A stream of references has ended."""


# --- You asked wrongly. -----------------------------------------------------------------------------------------------


class ActorAlreadyExistsError(ValueError, RayError):
    """The name of a new actor is taken."""


class ActorHandleNotFoundError(ValueError, RayError):
    """No such actor handle in this process."""


class StaleReferenceError(RayError, RuntimeError):
    """A reference or handle of an earlier session, of another cluster, or of the parent process was used."""


class AuthenticationError(RayError):
    """The cluster did not accept the token."""


class UnserializableException(RayError):
    """An exception that could not be pickled; its text is here."""


class CrossLanguageError(RayError):
    """Another language's worker raised."""


class RuntimeEnvSetupError(RayError):
    """The runtime environment could not be made; the text holds the log of the step that failed."""


class ReferenceCountingAssertionError(RayError, AssertionError):
    """An object was used after everybody had let go of it."""


# --- The cluster cannot now. ------------------------------------------------------------------------------------------


class GetTimeoutError(RayError, TimeoutError):
    """``get`` ran out of time; the task goes on."""


class ObjectStoreFullError(RayError):
    """The object store has no room, and nothing that could be spilled or evicted."""


class OutOfDiskError(RayError):
    """The disk that spilled objects go to is full."""


class OutOfMemoryError(RayError):
    """A worker was ended because memory of its node ran short. The text says what it held, what the node had, and who
    held most."""


class PendingCallsLimitExceeded(RayError):
    """The handle has ``max_pending_calls`` unanswered calls already."""


class TaskUnschedulableError(RayError):
    """No node of the cluster can ever run the task."""


class ActorUnschedulableError(RayError):
    """No node of the cluster can ever hold the actor."""


class RayCgraphCapacityExceeded(RayError):
    """A compiled graph has too many executions in flight."""


# --- Something was lost. ----------------------------------------------------------------------------------------------


class WorkerCrashedError(RayError):
    """The worker process died under the task."""


class NodeDiedError(RayError):
    """The node died."""


class LocalRayletDiedError(RayError):
    """The raylet of this node died."""


class RayActorError(RayError):
    """A call could not be made because of the actor's state."""

    actor_id: str | None = None
    """Of the actor, in hexadecimal; None where it is not known."""
    preempted = False
    """Whether its node was taken away by whoever lent it."""

    @property
    def error_msg(self) -> str:
        """The whole text."""
        return str(self)

    @property
    def actor_init_failed(self) -> bool:
        """Whether ``__init__`` raised."""
        return str(self).startswith(INIT_FAILED)


class ActorDiedError(RayActorError):
    """The actor is dead, and will not be restarted."""


class ActorOutOfMemoryError(ActorDiedError, OutOfMemoryError):
    """The actor's process was ended because memory of its node ran short."""


class ActorUnavailableError(RayActorError):
    """The actor does not answer now (it restarts, or its connection broke); the call may or may not have run."""


class ObjectLostError(RayError):
    """The object's value is gone, and could not be rebuilt."""


class ObjectFetchTimedOutError(ObjectLostError):
    """Fetching the object from another node took too long."""


class OwnerDiedError(ObjectLostError):
    """The process that owned the object died, and everything it knew of the object with it."""


class ObjectFreedError(ObjectLostError):
    """The object was freed on request."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object could not be rebuilt from its lineage."""


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """The object was rebuilt as often as its task allows."""


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """The record of how to rebuild the object was dropped to bound memory."""


class TaskPlacementGroupRemoved(WorkerCrashedError):
    """The task's placement group was removed, whether it ran already (Ray: WorkerCrashedError) or waited."""


class ActorPlacementGroupRemoved(ActorDiedError):
    """The actor's placement group was removed, whether it lived already (Ray: ActorDiedError) or waited."""


class RayChannelError(RayError):
    """A channel between actors broke."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel between actors was not written or read in time."""


class RpcError(RayError):
    """A daemon could not be reached."""


class RayDirectTransportError(RayError):
    """A direct transfer between devices failed."""


# --- Our own mistake, and control flow. -------------------------------------------------------------------------------


class RaySystemError(RayError):
    """raybook broke one of its own rules. The message carries the story of the thing; please report it."""


class ActorExit(BaseException):
    """``exit_actor()``: unwinds the running method; the worker ends the actor on purpose. Never seen by a caller."""


# --- Across processes. ------------------------------------------------------------------------------------------------

ERROR_CLASSES = MappingProxyType(
    {name: item for name, item in globals().items() if isinstance(item, type) and issubclass(item, RayError)}
)
"""Every named error by class name."""

_BUILTIN_CODES = frozenset({"ValueError", "TypeError", "RuntimeError", "ConnectionError", "TimeoutError", "KeyError"})

for _error_class in ERROR_CLASSES.values():
    # Users meet and pickle these by their public address; this module may move.
    _error_class.__module__ = "raybook.exceptions"


def error_from_code(code: str, text: str) -> Exception:
    """The exception for an error code and its message; an unknown code (a newer peer) becomes RaySystemError."""
    known = ERROR_CLASSES.get(code)
    if known is not None and known is not RayTaskError:
        return known(text)
    if code in _BUILTIN_CODES:
        return getattr(builtins, code)(text)
    return RaySystemError(f"{code}: {text}")


def error_from_value(value: ErrorValue, loads: Callable[[bytes], Any] = pickle.loads) -> BaseException:
    """The exception to raise for a failed object, ready for ``raise``. loads: the other half of the ``dumps`` that
    ``value_from_error`` was given. Runs the unpickling code of user exceptions; one that fails leaves a RayTaskError
    with the text."""
    if value.code != TASK_CODE:
        known = error_from_code(value.code, value.text)
        if value.actor_id and isinstance(known, RayActorError):
            known.actor_id = value.actor_id.hex()
        return known
    text = with_source_lines(value.text)
    error = None
    if value.payload:
        try:
            error = loads(value.payload)
        except Exception as failure:  # noqa: BLE001 - loading runs user code, and may miss its modules.
            text += (
                f"\n(The exception itself could not be rebuilt in this process: {type(failure).__name__}: {failure})"
            )
    if not isinstance(error, RayTaskError):
        return RayTaskError("task", text, None)
    error.traceback_str = text
    return error.as_instanceof_cause()


def value_from_error(error: BaseException, dumps: Callable[[Any], bytes]) -> ErrorValue:
    """An exception as a failed object. dumps: the pickler for user values. A RayTaskError whose cause cannot be pickled
    travels without it."""
    if not isinstance(error, RayTaskError):
        return ErrorValue(type(error).__name__, str(error))
    try:
        payload = dumps(error)
    except Exception:  # noqa: BLE001 - pickling runs the cause's __reduce__, which is user code. The text remains.
        payload = dumps(error._without_cause())
    return ErrorValue(TASK_CODE, error.traceback_str, payload)


def failed_argument(value: ErrorValue, name: str) -> ErrorValue:
    """The error of task ``name``, one of whose arguments failed with ``value``. It keeps the class of the first
    failure; a chain of failures names its last task only, so that the text stays bounded."""
    _, marked, rest = value.text.partition(FAILED_ARGUMENT + "\n")
    text = f"{header(name, None, None)}\n{FAILED_ARGUMENT}\n{rest if marked else value.text}"
    return ErrorValue(value.code, text, value.payload, actor_id=value.actor_id)


# --- The dual class. --------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _dual_type(cause_type: type) -> type:
    """``RayTaskError(ValueError)``: bounded memo, because a sweep may fail ten thousand times in one way."""
    name = f"RayTaskError({cause_type.__name__})"
    body = {
        "__module__": "raybook.exceptions",
        "__qualname__": name,
        "__getattr__": _attribute_of_cause,
        # Many exceptions of users (HTTP, SystemExit) have a code of their own: theirs is what they look for.
        "code": property(lambda error: getattr(error.cause, "code", TASK_CODE)),
    }
    return type(cause_type)(name, (RayTaskError, cause_type), body)


def _attribute_of_cause(error: RayTaskError, name: str) -> Any:
    if name == "cause" or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(name)
    return getattr(error.cause, name)


def _native_base(kind: type) -> type:
    """The first builtin class among the bases of an exception class: its ``__new__`` makes the C part."""
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


def _copy_members(source: BaseException, target: BaseException) -> None:
    """Copy what lives in C fields and slots (``OSError.errno``): ``__getattr__`` is never asked for those."""
    for base in type(source).__mro__:
        if base in (BaseException, object):
            continue
        for name, member in vars(base).items():
            if isinstance(member, (MemberDescriptorType, GetSetDescriptorType)) and not name.startswith("__"):
                try:
                    setattr(target, name, getattr(source, name))
                except (AttributeError, TypeError):
                    continue  # Unset, or read-only and made by __new__ already (ExceptionGroup.exceptions).


def _class_attribute(kind: type, name: str) -> Any:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _is_plainly_reduced(kind: type) -> bool:
    """Whether pickle would rebuild an exception by ``kind(*args)`` although ``kind.__init__`` is the user's: the call
    that fails for every ``__init__`` whose parameters are not ``args``. Those are rebuilt without ``__init__``."""
    return (
        isinstance(_class_attribute(kind, "__init__"), FunctionType)
        and kind.__reduce__ is _native_base(kind).__reduce__
        and kind.__reduce__ is BaseException.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and not hasattr(kind, "__getnewargs__")
        and not isinstance(_class_attribute(kind, "__setstate__"), FunctionType)
    )


def _rebuild_task_error(
    is_dual: bool, fields: list[Any], cause_type: type | None = None, args: tuple = (), state: dict | None = None
) -> RayTaskError:
    if cause_type is not None:
        cause = _native_base(cause_type).__new__(cause_type, *args)
        cause.args = args
        cause.__dict__.update(state or {})
        fields[2] = cause
    error = RayTaskError(*fields)
    return error.as_instanceof_cause() if is_dual else error
