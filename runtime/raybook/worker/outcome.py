"""Outcome: what a worker says of a task that ended: its values, or its error.

Runs on the thread that ran the task. Large values go into the arena and are sealed for the caller, who owns them. Knows
nothing of how replies travel or what ends the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from raybook.base.dynamic_generator import DynamicObjectRefGenerator
from raybook.base.error_values import value_from_error
from raybook.base.errors import ACTOR_DIED, TASK_CODE, ActorExit, RayTaskError, TaskCancelledError
from raybook.base.ids import owner_of, return_id
from raybook.base.specs import ErrorValue, Value
from raybook.core.owner.records import ToRaylet
from raybook.core.owner.task_manager import RETRYABLE
from raybook.protocol.messages.store import Sealed
from raybook.protocol.messages.worker import TaskReply, TaskSpec
from raybook.protocol.serialization import deserialize, plain_bytes, serialize
from raybook.worker.core_process import CoreProcess
from raybook.worker.fixed_items import FixedItems
from raybook.worker.values import Values


class Outcome:
    """Makes replies. ``actor_id`` and ``actor_repr`` are set once this process is an actor."""

    def __init__(self, core: CoreProcess, values: Values) -> None:
        self._core = core
        self._values = values
        self._inline_bytes_max = core.config.inline_bytes_max
        self._ip = core.registered.node_ip
        self._pid = os.getpid()
        self.actor_id = b""
        self.actor_repr = ""
        self.own_repr = ""
        """``actor_repr`` where the actor's class says how it is shown, "" where that is Python's own."""
        self.make_ref: Callable[..., Any] = _no_refs
        """The public class of references; set by the composition."""

    def of_result(self, spec: TaskSpec, result: Any, run_us: int) -> TaskReply:
        """A task returned. A result that cannot be pickled, is not what num_returns says, or does not fit the store
        makes it a failed one."""
        if type(result) is FixedItems:
            return self._of_items(spec, result, run_us)
        if spec.num_returns > 1 and (mistake := _miscounted(spec, result)) is not None:
            return self.of_error(spec, mistake, run_us)
        try:
            returns = [self._pack(spec, 0, result)] if spec.num_returns == 1 else self._values_of(spec, result)
            return TaskReply(spec.task_id, spec.attempt, returns, run_us)
        except Exception as error:  # noqa: BLE001 - pickling and iterating run user code.
            return self.of_error(spec, error, run_us)

    def _values_of(self, spec: TaskSpec, result: Any) -> list[Value]:
        if spec.num_returns == 0:
            return []
        if spec.stream is not None:
            return [self._pack(spec, 0, self._all_items(spec, spec.stream.received))]
        return [self._pack(spec, index, value) for index, value in enumerate(result)]

    def _of_items(self, spec: TaskSpec, taken: FixedItems, run_us: int) -> TaskReply:
        """A generator with a declared number of returns ended. One that may be tried again is, as a whole."""
        error = self._error_value(spec, taken.error) if taken.error is not None else None
        if error is not None and error.code.startswith(RETRYABLE):
            return TaskReply(spec.task_id, spec.attempt, [], run_us, error)
        try:
            returns = [self._pack(spec, index, item) for index, item in enumerate(taken.items)]
        except Exception as problem:  # noqa: BLE001 - pickling runs user code.
            return self.of_error(spec, problem, run_us)
        returns += [Value(error=error)] * (spec.num_returns - len(returns))
        return TaskReply(spec.task_id, spec.attempt, returns, run_us, error)

    def _pack(self, spec: TaskSpec, index: int, result: Any) -> Value:
        data = plain_bytes(result)
        if data is not None and len(data) <= self._inline_bytes_max:
            return Value(data)
        owner_id = owner_of(spec.task_id)
        value, room = self._values.pack(result, f"return value of `{spec.name}`", owner_id)
        if room is not None and value.location is not None:
            object_id = return_id(spec.task_id, index)
            location = value.location
            # Without a wake-up: the loop turns for the next region or when the tasks have run out, if not before.
            self._core.leave(ToRaylet(Sealed(object_id, owner_id, location.offset, location.size)))
        return value

    def pack_item(self, spec: TaskSpec, index: int, item: Any) -> Value:
        """Item number ``index`` of a generator, from 1 on. Raises as ``Values.pack`` does."""
        return self._pack(spec, index, item)

    def _all_items(self, spec: TaskSpec, count: int) -> DynamicObjectRefGenerator | None:
        """What return 0 of a generator is, after ``count`` items."""
        order = spec.stream
        if order is None or not order.collect:
            return None
        # Not counted here: whoever sends them holds them until the owner has taken them.
        keys = [return_id(spec.task_id, index) for index in range(1, count + 1)]
        return DynamicObjectRefGenerator([self.make_ref(key, order.collect, _release_nothing) for key in keys])

    def of_error(self, spec: TaskSpec, error: BaseException, run_us: int) -> TaskReply:
        """A task raised. Of a generator that is one more item, and no error of the stream itself, unless it may be tried
        again or was ended from outside."""
        value = self._error_value(spec, error)
        returns = []
        if spec.stream is not None and value.code == TASK_CODE:
            returns = [self._pack(spec, 0, self._all_items(spec, spec.stream.received + 1))]
        return TaskReply(spec.task_id, spec.attempt, returns, int(run_us), value)

    def _error_value(self, spec: TaskSpec, error: BaseException) -> ErrorValue:
        if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
            text = f"Task: TaskID({spec.task_id.hex()}) was cancelled."
            error = TaskCancelledError.of_text(text).with_traceback(error.__traceback__)
        if isinstance(error, TaskCancelledError):
            value = self.describe(spec.name, error)
            value.code, value.is_of_task = "TaskCancelledError", True
            return value
        if isinstance(error, ActorExit):
            text = f"{ACTOR_DIED}\nThe actor is dead because in `{spec.name}` {error}."
            return ErrorValue("ActorDiedError", text, actor_id=self.actor_id)
        if isinstance(error, SystemExit) and self.actor_id:
            text = f"{ACTOR_DIED}\nThe actor is dead because its code called sys.exit({error.code!r}) in `{spec.name}`."
            return ErrorValue("ActorDiedError", text, actor_id=self.actor_id)
        value = self.describe(spec.name, error)
        if spec.retry_exceptions and _is_retryable(spec, error):
            value.code = RETRYABLE + value.code
        return value

    def describe(self, name: str, error: BaseException) -> ErrorValue:
        """An exception of user code with its frames, the process and the node it happened in."""
        wrapped = RayTaskError.from_exception(name, error, self._pid, self._ip, self.actor_id, self.actor_repr)
        return value_from_error(wrapped, self._dumps)

    def _dumps(self, value: Any) -> bytes:
        return serialize(value, self._values.context, "exception").to_bytes()

    @staticmethod
    def cancelled(spec: TaskSpec) -> TaskReply:
        """A task was cancelled before it started, or while a method ran that nothing interrupts."""
        text = f"Task: TaskID({spec.task_id.hex()}) was cancelled."
        return TaskReply(spec.task_id, spec.attempt, [], 0, ErrorValue("TaskCancelledError", text))


def _miscounted(spec: TaskSpec, result: Any) -> Exception | None:
    """The error of a result that is not the declared number of values; it has no frames, because none is to blame."""
    try:
        count = len(result)
    except TypeError as error:
        return TypeError(f"{error}: with num_returns={spec.num_returns}, a task returns so many values in a tuple.")
    if count == spec.num_returns:
        return None
    return ValueError(f"Task returned {count} objects, but num_returns={spec.num_returns}.")


def _is_retryable(spec: TaskSpec, error: BaseException) -> bool:
    if not spec.retry_classes:
        return isinstance(error, Exception)
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, tuple(deserialize(spec.retry_classes)))


def _release_nothing(key: bytes) -> None:
    pass


def _no_refs(*args: Any) -> Any:
    raise RuntimeError("No class of references was registered with this worker.")
