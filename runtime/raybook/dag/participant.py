"""Participant: an actor's part in a compiled graph: a thread that reads, calls methods, and writes, until the graph ends.

`join` runs as a call of the actor (``__ray_call__``) and returns when the thread stands; the actor stays free for plain
calls meanwhile. The methods of all graphs of one actor run one at a time; plain calls of the actor run beside them.
Coroutine methods run on the actor's own event loop.

Invariants: in each round every channel of the actor is read once and written once, whatever the methods do; nothing that
was received outlives its round here, so that its memory is free again unless the actor itself keeps it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import socket
import threading
from typing import Any

from raybook.api import ObjectRef, current_runtime, get, get_runtime_context
from raybook.api.context import started_engine
from raybook.base.errors import ActorDiedError, ActorExit, RayError
from raybook.base.names import short
from raybook.base.task_context import CURRENT_TASK
from raybook.dag.compile_plan import ActorPlan, Step
from raybook.dag.descriptors import receive
from raybook.dag.doorbell import Doorbell
from raybook.dag.graph_memory import GraphMemory
from raybook.dag.messages import Failure, failure_of, load
from raybook.dag.reductions import apply
from raybook.dag.ring import ERROR, VALUE, Ended, RingReader, RingWriter
from raybook.dag.transport import move
from raybook.protocol.serialization import Serialized, serialize

logger = logging.getLogger(__name__)

LAST_CALL_S = 5.0
LOCK_KEY = "dag.methods"
"""Where the session keeps the lock that lets one graph's method run at a time."""


def join(instance: Any, address: str, plan: ActorPlan) -> int:
    """Become a part of the graph whose driver listens at ``address``; the process id. OSError when it cannot be reached:
    it is on another machine, or gone."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
    except OSError as error:
        connection.close()
        raise ConnectionError(
            f"{plan.class_name} (pid {os.getpid()}) cannot reach the driver of the compiled graph at {address} ({error}). "
            "The processes of a compiled graph share memory, so all its actors must be on the machine that compiles it; "
            "place them there, or run the graph with execute()."
        ) from None
    connection.sendall(plan.participant.to_bytes(4, "little"))
    control_fd, heap_fd, *doorbells = receive(connection, 2 + plan.participants)
    memory = GraphMemory(control_fd, heap_fd, plan.participants, plan.channels)
    participant = Participant(instance, plan, memory, doorbells, connection, _running_loop())
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(participant.run,), daemon=True, name="raybook-graph").start()
    return os.getpid()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Participant:
    """One actor in one graph."""

    def __init__(
        self,
        instance: Any,
        plan: ActorPlan,
        memory: GraphMemory,
        doorbells: list[int],
        connection: socket.socket,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._instance = instance
        self._plan = plan
        self._memory = memory
        self._doorbells = doorbells
        self._connection = connection
        self._loop = loop
        self._context = started_engine().serialization
        self._lock = current_runtime.session.setdefault(LOCK_KEY, threading.Lock())
        self._bell = Doorbell(doorbells[plan.participant], memory.flags, plan.participant)
        self._bell.watch(connection.fileno(), memory.end)
        self._readers = {
            value: RingReader(memory, channel, plan.participant, self._bell, doorbells)
            for value, channel in plan.reads.items()
        }
        self._writers = {
            output.channel: RingWriter(memory, output.channel, self._bell, doorbells)
            for step in plan.steps
            for output in step.outputs
            if output.channel >= 0
        }

    def run(self) -> None:
        """The thread's life."""
        try:
            for step in self._plan.steps:
                step.constants = [get(value) if isinstance(value, ObjectRef) else value for value in step.constants]
            while not self._memory.has_ended:
                self._round()
        except Ended:
            pass
        except Exception:
            logger.exception("The part of %s in a compiled graph ended by an error of ours.", self._plan.class_name)
        finally:
            self._leave()

    def _leave(self) -> None:
        self._instance = None
        self._readers.clear()
        self._writers.clear()
        self._memory.close()
        for fd in self._doorbells:
            os.close(fd)
        # Last: its end tells the driver that we are gone.
        self._connection.close()

    def _round(self) -> None:
        """One execution."""
        values: dict[int, Any] = {}
        for step in self._plan.steps:
            args = [
                self._value(source, values) if source >= 0 else constant
                for source, constant in zip(step.sources, step.constants, strict=True)
            ]
            failed = next((arg for arg in args if type(arg) is Failure), None)
            if failed is None:
                self._publish(step, self._call(step, args), values)
            else:
                self._publish(step, failed, values)

    def _value(self, number: int, values: dict[int, Any]) -> Any:
        """A value of this round, read when it is first asked for."""
        if number in values:
            return values[number]
        reader = self._readers[number]
        reader.wait()
        try:
            value = reader.take(load)
        except Exception as error:  # noqa: BLE001 - unpickling runs user code, and imports its modules.
            value = self._failure(error, "argument")
        device = self._plan.devices.get(number)
        if device and type(value) is not Failure:
            try:
                value = move(value, device)
            except Exception as error:  # noqa: BLE001 - whatever torch says of a device that is not there.
                value = self._failure(error, "argument")
        values[number] = value
        return value

    def _call(self, step: Step, args: list[Any]) -> Any:
        """The method's result, or a Failure."""
        try:
            with self._lock:
                if step.collective is not None:
                    return apply(step.collective, args)
                result = getattr(self._instance, step.method)(*args, **step.kwargs)
                if inspect.iscoroutine(result):
                    return self._await(result)
                return result
        except (SystemExit, ActorExit):
            self._end_actor()
            raise Ended from None
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is the result.
            return self._failure(error, step.method)

    def _end_actor(self) -> None:
        """A method asked for the actor's end, as plain calls may: in good order, by a call of its own."""
        actor = get_runtime_context().current_actor
        try:
            get(actor.__ray_terminate__.remote(), timeout=LAST_CALL_S)
        except ActorDiedError:
            pass  # Its answer.
        except RayError:
            logger.info("%s did not say that it ends; it is ending all the same.", self._plan.class_name)

    def _await(self, coroutine: Any) -> Any:
        if self._loop is None:
            return asyncio.run(coroutine)
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _publish(self, step: Step, result: Any, values: dict[int, Any]) -> None:
        if step.num_returns > 1 and type(result) is not Failure:
            result = self._split(step, result)
        for output in step.outputs:
            value = result if output.index < 0 or type(result) is Failure else result[output.index]
            if output.channel >= 0:
                value = self._write(output.channel, value, step)
            values[output.value] = value

    def _split(self, step: Step, result: Any) -> Any:
        """The values of a method that returns several, or a Failure."""
        try:
            parts = list(result)
            if len(parts) != step.num_returns:
                raise ValueError(f"Task returned {len(parts)} objects, but num_returns={step.num_returns}.")
            return parts
        except Exception as error:  # noqa: BLE001 - iterating runs user code.
            return self._failure(error, step.method)

    def _write(self, channel: int, value: Any, step: Step) -> Any:
        """Write a value for other processes; what this one should take it for: the value, or a Failure."""
        writer = self._writers[channel]
        if type(value) is not Failure:
            try:
                message: Serialized = serialize(value, self._context, f"return value of `{self._name(step.method)}`")
                writer.write(message, VALUE)
                return value
            except Ended:
                raise
            except Exception as error:  # noqa: BLE001 - pickling runs user code; the heap may be full.
                value = self._failure(error, step.method)
        writer.write(value.message(), ERROR)
        return value

    def _failure(self, error: BaseException, method: str) -> Failure:
        task = CURRENT_TASK.get()
        actor_id = task.actor.actor_id if task is not None and task.actor is not None else b""
        return failure_of(error, self._name(method), self._context, actor_id, "")

    def _name(self, method: str) -> str:
        return f"{short(self._plan.class_name)}.{method}"
