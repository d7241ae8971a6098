"""Local tasks: how local mode runs one task or actor call: arguments, context, retries, results, errors.

It does what a worker does, without a process: arguments and results are copied through serialization, functions are
loaded from their exported bytes. It does not know when or on which thread it runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import GeneratorType
from typing import Any

import msgspec

from raybook.base.error_values import failed_argument, value_from_error
from raybook.base.errors import ActorExit, RayTaskError, TaskCancelledError
from raybook.base.ids import return_id
from raybook.base.specs import ErrorValue
from raybook.base.task_context import CURRENT_TASK, TaskContext
from raybook.engines.local_objects import LocalObjects
from raybook.protocol.messages.worker import ArgRef
from raybook.protocol.serialization import SerializationContext, Serialized, deserialize, serialize
from raybook.worker import args as arguments
from raybook.worker.fixed_items import take_items

LOCAL_IP = "127.0.0.1"
UNLIMITED = -1


class LocalCall(msgspec.Struct):
    """One task or call, packed. ``held``: ids it counts until it has ended. ``retries``: for errors of its code."""

    task_id: bytes
    name: str
    num_returns: int
    packed: bytes
    slots: list[ArgRef]
    held: list[bytes]
    retries: int = 0
    retry_exceptions: Any = False
    context: TaskContext | None = None
    is_cancelled: bool = False
    has_started: bool = False
    stop: Callable[[], Any] | None = None
    """Cancels it while it runs, where that can be done (coroutines)."""
    items: list[Serialized] = []
    """What a generator has made so far in this attempt."""

    @property
    def dependencies(self) -> list[bytes]:
        return [slot.ref.object_id for slot in self.slots]

    def return_ids(self) -> list[bytes]:
        return [return_id(self.task_id, index) for index in range(self.num_returns if self.num_returns >= 0 else 1)]


class Ended(msgspec.Struct):
    """How a call ended: its returns, or the error of all of them. ``exit``: what also ends the actor."""

    values: list[Serialized]
    error: ErrorValue | None = None
    exit: BaseException | None = None
    started_us: int = 0
    run_us: int = 0


class LocalRunner:
    """Packs and runs calls against one object table."""

    def __init__(self, objects: LocalObjects, context: SerializationContext) -> None:
        self._objects = objects
        self._context = context

    def pack(self, task_id: bytes, name: str, num_returns: int, args: tuple, kwargs: dict, ref_type: Any) -> LocalCall:
        """Copy the arguments. TypeError, naming the path, for what cannot be pickled."""
        args, kwargs, slots = arguments.split(args, kwargs, ref_type)
        serialized = serialize((args, kwargs), self._context, f"arguments of `{name}`")
        held = [slot.ref.object_id for slot in slots or ()] + [info.object_id for info in serialized.contained]
        return LocalCall(task_id, name, num_returns, serialized.to_bytes(), slots or [], held)

    def unpack(self, call: LocalCall) -> tuple[tuple, dict]:
        """The arguments. Raises what a failed dependency raised."""
        args, kwargs = deserialize(call.packed)
        if call.slots:
            values = [self._objects.value(object_id) for object_id in call.dependencies]
            args, kwargs = arguments.join(args, kwargs, values)
        return args, kwargs

    def failed_dependency(self, call: LocalCall) -> Ended | None:
        """How a call ends whose argument failed."""
        for object_id in call.dependencies:
            error = self._objects.error(object_id)
            if error is not None:
                return Ended([], failed_argument(error, call.name))
        return None

    def run(self, call: LocalCall, load: Callable[[], Callable[..., Any]]) -> Ended:
        """Run it here, with its retries. A KeyboardInterrupt ends the call as cancelled and is raised again, because in
        this process it is the user's."""
        failed = self.failed_dependency(call)
        if failed is not None:
            return failed
        call.has_started = True
        context = call.context or TaskContext(call.task_id, call.name)
        while True:
            token = CURRENT_TASK.set(context)
            started = time.time_ns() // 1000
            try:
                function = load()
                args, kwargs = self.unpack(call)
                call.items.clear()
                result = function(*args, **kwargs)
                return self.ended(call, result, started)
            except BaseException as error:  # noqa: BLE001 - all that user code raises has a meaning, SystemExit too.
                if self.may_retry(call, context, error):
                    context.attempt += 1
                    continue
                return self.failed(call, error, started)
            finally:
                CURRENT_TASK.reset(token)

    def ended(self, call: LocalCall, result: Any, started_us: int) -> Ended:
        """How a call ends that returned ``result``. Raises when the result does not fit or cannot be pickled."""
        name = f"return value of `{call.name}`"
        run_us = time.time_ns() // 1000 - started_us
        values: list[Serialized]
        if call.num_returns < 0:
            if result is not None:
                self._collect(call, result)
            values = []
        elif call.num_returns == 0:
            values = []
        elif type(result) is GeneratorType and call.num_returns > 1:
            values = [serialize(item, self._context, name) for item in self._first_items(call, result)]
        elif call.num_returns == 1:
            values = [serialize(result, self._context, name)]
        else:
            if len(result) != call.num_returns:
                raise ValueError(f"Task returned {len(result)} objects, but num_returns={call.num_returns}.")
            values = [serialize(item, self._context, name) for item in result]
        return Ended(values, started_us=started_us, run_us=run_us)

    @staticmethod
    def _first_items(call: LocalCall, generator: GeneratorType) -> list[Any]:
        """The returns of a generator that declares how many it has. Unlike a worker's, one that raises has none."""
        taken = take_items(generator, call.num_returns)
        if taken.error is not None:
            raise taken.error
        return taken.items

    def _collect(self, call: LocalCall, produced: Any) -> None:
        if not hasattr(produced, "__next__"):
            raise TypeError(
                f"`{call.name}` is called as a generator (num_returns='streaming' or 'dynamic') and returned "
                f"{type(produced).__name__}. Write it with `yield`, or leave num_returns out."
            )
        for item in produced:
            call.items.append(self.pack_item(call, item))

    def pack_item(self, call: LocalCall, item: Any) -> Serialized:
        """One item of a generator."""
        return serialize(item, self._context, f"return value of `{call.name}`")

    def failed(self, call: LocalCall, error: BaseException, started_us: int) -> Ended:
        """How a call ends that raised."""
        run_us = time.time_ns() // 1000 - started_us
        actor = call.context.actor if call.context is not None else None
        if isinstance(error, (TaskCancelledError, KeyboardInterrupt)):
            value = self._interrupted(call, error)
        elif isinstance(error, ActorExit):
            text = f"The actor is dead because in `{call.name}` {error}."
            value = ErrorValue("ActorDiedError", text)
        elif isinstance(error, SystemExit) and actor is None:
            text = f"Task `{call.name}` called sys.exit({error.code!r}), which ends its worker. Return instead."
            value = ErrorValue("WorkerCrashedError", text)
        else:
            actor_id = actor.actor_id if actor is not None else b""
            wrapped = RayTaskError.from_exception(call.name, error, os.getpid(), LOCAL_IP, actor_id)
            value = value_from_error(wrapped, self._dumps)
        leaves = isinstance(error, (KeyboardInterrupt, ActorExit, SystemExit))
        return Ended([], value, error if leaves else None, started_us, run_us)

    def _interrupted(self, call: LocalCall, error: BaseException) -> ErrorValue:
        """The error of a task that was cancelled while it ran: where it was, as a TaskCancelledError."""
        if isinstance(error, KeyboardInterrupt):
            error = TaskCancelledError.of_text(cancelled(call).text).with_traceback(error.__traceback__)
        wrapped = RayTaskError.from_exception(call.name, error, os.getpid(), LOCAL_IP)
        value = value_from_error(wrapped, self._dumps)
        value.code, value.is_of_task = "TaskCancelledError", True
        return value

    @staticmethod
    def may_retry(call: LocalCall, context: TaskContext, error: BaseException) -> bool:
        """Whether an error of user code is tried again: asked for, and not tried too often."""
        wanted = call.retry_exceptions
        if not wanted or call.is_cancelled or not isinstance(error, Exception):
            return False
        if call.retries != UNLIMITED and context.attempt >= call.retries:
            return False
        cause = error.cause if isinstance(error, RayTaskError) else error
        return wanted is True or isinstance(cause, tuple(wanted))

    def _dumps(self, value: Any) -> bytes:
        return serialize(value, self._context, "exception").to_bytes()


def cancelled(call: LocalCall) -> ErrorValue:
    """The error of a call that was cancelled."""
    return ErrorValue("TaskCancelledError", f"Task {call.name} ({call.task_id.hex()}) was cancelled.")
