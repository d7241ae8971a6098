"""Errors: every exception class of raybook, on one page, in four families that say whose move it is.

    your code raised        RayTaskError (also an instance of what was raised), TaskCancelledError
    you asked wrongly       TypeError, ValueError, RuntimeError as Python has them, and the few named ones here
    the cluster cannot now  ObjectStoreFullError, OutOfMemoryError, TaskUnschedulableError, GetTimeoutError, ...
    something was lost      WorkerCrashedError, ActorDiedError, ObjectLostError, OwnerDiedError, NodeDiedError, ...
and RaySystemError: our own mistake, with the story that a bug report needs.

A message has up to four parts: what happened, to which id, what raybook already did, what the user can do. How errors
cross processes is in ``base/error_values``.
Invariants: every class here but RayTaskError can be made of its message alone (``of_text``); constructors take what
Ray's take, for user code that raises them. ``text`` wins over what is in ``payload``.
Names and the tree of bases are Ray's, because users' ``except`` clauses name them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from raybook.base.dual_errors import copy_members, dual_type, is_plainly_reduced, native_base
from raybook.base.task_traceback import (
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
    """The base of everything raybook raises by name. ``default_text`` is what one says that was made without a text."""

    default_text = ""

    @classmethod
    def of_text(cls, text: str) -> Any:
        """An error whose whole message is ``text``, whatever its constructor takes."""
        return _rebuild_error(cls, (text,))

    def __str__(self) -> str:
        return super().__str__() or self.default_text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (type(self), self.args, self.__dict__ or None)

    @property
    def code(self) -> str:
        """What ``ErrorValue.code`` says for this class."""
        return type(self).__name__

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the user's frames, then the message; our frames are left out."""
        where = local_frames(self.__traceback__)
        return [*(["Traceback (most recent call last):", *where] if where else []), f"{type(self).__name__}: {self}"]


class _WithMessage(RayError):
    @property
    def error_message(self) -> str:
        """The whole message."""
        return str(self)

    message = error_message


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
        return dual_type(RayTaskError, cause_type)

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as an instance of its cause's class too; itself where that cannot be (no cause, a class that
        refuses subclasses) or adds nothing (a plain Exception). Cost: 30 µs for the first error of a class."""
        cause = self.cause
        if cause is None or type(self) is not RayTaskError or isinstance(self, type(cause)):
            return self
        if isinstance(cause, RayTaskError):
            return self
        cause_type: type = type(cause)
        try:
            dual = dual_type(RayTaskError, cause_type)
            error = native_base(cause_type).__new__(dual, *cause.args)
        except Exception:  # noqa: BLE001 - metaclass, __init_subclass__ and __new__ of the cause are user code.
            return self
        copy_members(cause, error)
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
        if cause is not None and is_plainly_reduced(type(cause)):
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
    """The task was cancelled. task_id: of the task, where it is known."""

    task_id: Any = None
    error_message: str | None = None

    def __init__(self, task_id: Any = None, error_message: str | None = None) -> None:
        self.task_id = task_id
        self.error_message = error_message
        text = error_message or (f"Task: {task_id} was cancelled." if task_id else "")
        super().__init__(*([text] if text else []))


class ObjectRefStreamEndOfStreamError(RayError):
    """A stream of references has ended."""


# --- You asked wrongly. -----------------------------------------------------------------------------------------------


class ActorAlreadyExistsError(ValueError, _WithMessage):
    """The name of a new actor is taken."""


class ActorHandleNotFoundError(ValueError, _WithMessage):
    """No such actor handle in this process."""


class StaleReferenceError(RayError, RuntimeError, ValueError):
    """A reference or handle of an earlier session, of another cluster, or of the parent process was used."""


class AuthenticationError(_WithMessage):
    """The cluster did not accept the token."""


class UnserializableException(RayError):
    """An exception that could not be pickled; its text is here."""


class CrossLanguageError(RayError):
    """Another language's worker raised."""


class RuntimeEnvSetupError(_WithMessage):
    """The runtime environment could not be made; the text holds the log of the step that failed."""

    default_text = "Failed to set up runtime environment."


# --- The cluster cannot now. ------------------------------------------------------------------------------------------


class GetTimeoutError(RayError, TimeoutError):
    """``get`` ran out of time; the task goes on."""


class ObjectStoreFullError(RayError):
    """The object store has no room, and nothing that could be spilled or evicted."""


class OutOfDiskError(RayError):
    """The disk that spilled objects go to is full."""


class OutOfMemoryError(_WithMessage):
    """A worker was ended because memory of its node ran short. The text says what it held, what the node had, and who
    held most."""


class PendingCallsLimitExceeded(RayError):
    """The handle has ``max_pending_calls`` unanswered calls already."""


class TaskUnschedulableError(_WithMessage):
    """No node of the cluster can ever run the task."""


class ActorUnschedulableError(_WithMessage):
    """No node of the cluster can ever hold the actor."""


# --- Something was lost. ----------------------------------------------------------------------------------------------


class WorkerCrashedError(RayError):
    """The worker process died under the task."""

    default_text = "The worker died unexpectedly while executing this task."


class NodeDiedError(_WithMessage):
    """The node died."""


class LocalRayletDiedError(RayError):
    """The raylet of this node died."""

    default_text = "The task's local raylet died."


class SessionLostError(RayError, ConnectionError):
    """The session process on the head, which owns what this thin client refers to, has ended or is out of reach."""


class RayActorError(RayError):
    """A call could not be made because of the actor's state."""

    default_text = "The actor experienced an error before finishing this task."
    actor_id: str | None = None
    """Of the actor, in hexadecimal; None where it is not known."""
    preempted = False
    """Whether the actor's node was taken away."""
    actor_init_failed = False
    """Whether ``__init__`` raised."""

    def __init__(
        self, actor_id: str | None = None, error_msg: str = "", actor_init_failed: bool = False, preempted: bool = False
    ) -> None:
        super().__init__(*([error_msg] if error_msg else []))
        self.actor_id = actor_id
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted

    @property
    def error_msg(self) -> str:
        """The whole message."""
        return str(self)


class ActorDiedError(RayActorError):
    """The actor is dead, and will not be restarted. cause: the text, or the RayTaskError of its ``__init__``."""

    default_text = "The actor died unexpectedly before finishing this task."

    def __init__(self, cause: Any = None) -> None:
        failed = isinstance(cause, RayTaskError)
        text = f"The actor died because of an error raised in its creation task, {cause}" if failed else cause
        super().__init__(cause.actor_id if failed else None, str(text or ""), failed)


class ActorOutOfMemoryError(ActorDiedError, OutOfMemoryError):
    """The actor's process was ended because memory of its node ran short."""


class ActorUnavailableError(RayActorError):
    """The actor does not answer now (it restarts, or its connection broke); the call may or may not have run."""

    def __init__(self, error_message: str = "", actor_id: bytes | None = None) -> None:
        text = error_message
        if actor_id is not None:
            text = (
                f"The actor {actor_id.hex()} is unavailable: {error_message}. "
                "The task may or may not have been executed on the actor."
            )
        super().__init__(actor_id.hex() if actor_id is not None else None, text)


class ObjectLostError(RayError):
    """The object's value is gone, and could not be rebuilt. Made from its whole text, or, by user code, from the id of
    the object in hexadecimal, its owner's address and where it was made."""

    reason = "Its value is gone, and could not be rebuilt."
    object_ref_hex = ""
    owner_address: Any = None
    call_site = ""

    def __init__(self, text_or_id: str, *place: Any) -> None:
        super().__init__(f"Failed to retrieve object {text_or_id}. {self.reason}" if place else text_or_id)
        if place:
            self.object_ref_hex = text_or_id
            self.owner_address, self.call_site = (*place, "")[:2]


class ObjectFetchTimedOutError(ObjectLostError):
    """Fetching the object from another node took too long."""


class OwnerDiedError(ObjectLostError):
    """The process that owned the object died, and everything it knew of the object with it."""

    reason = "The process that owned it has died, and what it knew of the object with it."


class ObjectFreedError(ObjectLostError):
    """The object was freed on request."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object could not be rebuilt from its lineage."""


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """The object was rebuilt as often as its task allows."""


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """The record of how to rebuild the object was dropped to bound memory."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """An object was used after everybody had let go of it."""


class TaskPlacementGroupRemoved(WorkerCrashedError):
    """The task's placement group was removed, whether it ran already (Ray: WorkerCrashedError) or waited."""

    default_text = "The placement group corresponding to this task has been removed."


class ActorPlacementGroupRemoved(ActorDiedError):
    """The actor's placement group was removed, whether it lived already (Ray: ActorDiedError) or waited."""

    default_text = "The placement group corresponding to this Actor has been removed."


class RpcError(_WithMessage):
    """A daemon could not be reached. rpc_code: gRPC's number of the reason, where it is known."""

    rpc_code: int | None = None

    def __init__(self, message: str = "", rpc_code: int | None = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code


# --- Our own mistake, and control flow. -------------------------------------------------------------------------------


class RaySystemError(RayError):
    """raybook broke one of its own rules. The message carries the story of the thing; please report it."""

    def __init__(self, client_exc: Any = "", traceback_str: str | None = None) -> None:
        self.client_exc = client_exc
        self.traceback_str = traceback_str
        super().__init__(f"{client_exc}\ntraceback: {traceback_str}" if traceback_str else str(client_exc))


class RayChannelError(RaySystemError):
    """A channel between actors broke."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel between actors was not written or read in time."""


class RayCgraphCapacityExceeded(RaySystemError):
    """A compiled graph has too many executions in flight."""


class RayDirectTransportError(RaySystemError):
    """A direct transfer between devices failed."""


class NotStartedError(RaySystemError, RuntimeError):
    """A verb that needs a cluster was used before ``init``, or after ``shutdown``. A system error only because Ray
    calls it one."""


class ActorExit(BaseException):
    """``exit_actor()``: unwinds the running method; the worker ends the actor on purpose. Never seen by a caller. Made of
    what happened, for messages: "exit_actor() was called"."""


# --- Made anew. ---------------------------------------------------------------------------------------------------------


def _rebuild_error(kind: type[RayError], args: tuple[Any, ...], state: dict[str, Any] | None = None) -> Any:
    """An error without its ``__init__``, whose parameters are Ray's and not what it holds."""
    error = kind.__new__(kind)
    error.args = args
    if state:
        error.__dict__.update(state)
    return error


def _rebuild_task_error(
    is_dual: bool, fields: list[Any], cause_type: type | None = None, args: tuple = (), state: dict | None = None
) -> RayTaskError:
    if cause_type is not None:
        cause = native_base(cause_type).__new__(cause_type, *args)
        cause.args = args
        cause.__dict__.update(state or {})
        fields[2] = cause
    error = RayTaskError(*fields)
    return error.as_instanceof_cause() if is_dual else error


ERROR_CLASSES = MappingProxyType(
    {
        name: item
        for name, item in globals().items()
        if isinstance(item, type) and issubclass(item, RayError) and not name.startswith("_")
    }
)
"""Every named error by class name."""

for _error_class in ERROR_CLASSES.values():
    # Users meet and pickle these by their public address; this module may move.
    _error_class.__module__ = "raybook.exceptions"
