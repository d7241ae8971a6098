"""Actor executor: this process is one actor; its methods run here, in one of three ways.

    sync      on the main thread, one at a time, in the order of arrival
    threaded  ``max_concurrency`` > 1: on a pool of threads, replies out of order
    async     the class has an ``async def`` method: on one event loop, ``max_concurrency`` calls at once
Concurrency groups are lanes beside the default one, each with threads or a loop of its own; a full or blocked lane holds
up no other.

Knows nothing of restarts: a restarted actor is a new process. The order of one caller's calls is the order of its
connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from raybook.base.errors import ActorExit
from raybook.base.names import short
from raybook.base.task_context import CURRENT_TASK, ActorContext, TaskContext
from raybook.core.worker.recent_results import has_refs
from raybook.protocol import functions
from raybook.protocol.messages.raylet import ActorStarted, ExitWorker, StartActor
from raybook.protocol.messages.worker import ActorCreation, TaskSpec
from raybook.worker.async_lane import AsyncLane, ThreadLane
from raybook.worker.fixed_items import is_taken_apart, take_items
from raybook.worker.loop_selector import LoopSelector

if TYPE_CHECKING:
    from raybook.worker.core_process import CoreProcess
    from raybook.worker.executor import WorkerExecutor
    from raybook.worker.peers import Peer
    from raybook.worker.values import Values

logger = logging.getLogger(__name__)

READY_METHOD = "__ray_ready__"
TERMINATE_METHOD = "__ray_terminate__"
CALL_METHOD = "__ray_call__"
SHUTDOWN_METHOD = "__ray_shutdown__"
"""A method of the user's: called once when the actor ends in good order."""
DEFAULT_GROUP = ""
LAST_CALLS_S = 30.0
"""How long an ending actor waits for the calls that run."""


class ActorExecutor:
    """The actor that this worker became."""

    def __init__(self, executor: WorkerExecutor, core: CoreProcess, values: Values, order: StartActor) -> None:
        spec = order.spec
        self._executor = executor
        self._core = core
        self._values = values
        self._order = order
        self._creation = msgspec.msgpack.decode(spec.creation, type=ActorCreation)
        self._assignment = msgspec.structs.replace(order.assignment, resources=spec.resources)
        """What the actor holds while it lives; what it took to place it has been given back."""
        self.actor_id = spec.actor_id
        executor.outcome.actor_id = spec.actor_id
        executor.set_job(self._creation.job)
        self.wake: Callable[[], None] | None = None
        """Set while an event loop takes the calls: how the I/O thread tells it of new ones."""
        self._context = ActorContext(
            spec.actor_id, short(spec.class_name), spec.name, spec.namespace, order.restarts, self._creation.is_async,
            executor.decode_handle(spec.handle),
        )  # fmt: skip
        self._instance: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """Of an async actor: its ``__init__`` and its methods run on it."""
        self._own_methods: dict[str, Callable[..., Any]] = {
            READY_METHOD: _return_true,
            TERMINATE_METHOD: self._terminate,
            CALL_METHOD: self._call_function,
        }
        """Methods that every actor has."""
        self._running: dict[bytes, TaskContext] = {}
        self._coroutines: dict[bytes, AsyncLane] = {}

    def create(self) -> bool:
        """Run ``__init__`` and tell the raylet how it went."""
        creation = self._creation
        context = TaskContext(creation.spec.task_id, creation.spec.name, 0, self._assignment, self._context)
        token = CURRENT_TASK.set(context)
        # What it waits for may need the very CPU that it was placed on.
        self._executor.current = creation.spec
        try:
            actor_class = functions.load(creation.class_payload)
            args, kwargs = self._executor.arguments.read(creation.spec)
            if creation.is_async:
                # ``__init__`` may ask for the running loop, start tasks on it, or be a coroutine itself.
                self._selector = LoopSelector(self._core)
                self._loop = asyncio.SelectorEventLoop(self._selector)
                asyncio.set_event_loop(self._loop)
                self._instance = self._loop.run_until_complete(_make_on_loop(actor_class, args, kwargs))
            else:
                self._instance = actor_class(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises makes the actor dead.
            self._report_failure(error)
            return False
        finally:
            self._executor.current = None
            CURRENT_TASK.reset(token)
        shown = _repr_of(self._instance)
        self._executor.outcome.actor_repr = shown
        if type(self._instance).__repr__ is not object.__repr__:
            self._executor.outcome.own_repr = shown
        self._core.send_raylet(ActorStarted(self.actor_id, repr=self._executor.outcome.own_repr))
        return True

    def _report_failure(self, error: BaseException) -> None:
        value = self._executor.outcome.describe(self._creation.spec.name, error)
        self._core.send_raylet(ActorStarted(self.actor_id, value.payload or b"-", value.text))

    def run(self) -> None:
        """Serve calls until told to exit."""
        if self._loop is not None:
            self._serve_on(self._loop)
        elif self._creation.max_concurrency > 1 or self._creation.groups:
            self._serve_threaded()
        else:
            self._serve_sync()
        self._let_go()

    def _let_go(self) -> None:
        """The actor ends in good order: its own last words, then its ``__del__``."""
        shutdown = getattr(self._instance, SHUTDOWN_METHOD, None)
        if shutdown is not None:
            try:
                shutdown()
            except Exception:
                logger.exception(
                    "%s of %s raised; the actor ends all the same.", SHUTDOWN_METHOD, self._order.spec.class_name
                )
        self._instance = shutdown = None

    def cancel(self, task_id: bytes) -> bool:
        """I/O thread: a running call was cancelled. True when it runs here; a coroutine is cancelled, other code can
        ask ``get_runtime_context().is_canceled()``. Whatever they make of it, they end as cancelled."""
        lane = self._coroutines.get(task_id)
        if lane is not None:
            lane.cancel(task_id)
            return True
        context = self._running.get(task_id)
        if context is None:
            return False
        context.is_cancelled = True
        return True

    @property
    def is_async(self) -> bool:
        """Whether coroutines of its class may go on between its calls."""
        return self._creation.is_async

    def running(self) -> list[bytes]:
        """Calls that have begun here and not ended. Any thread."""
        return [*self._running.copy(), *self._coroutines.copy()]

    # One call

    def _method(self, spec: TaskSpec) -> Callable[..., Any]:
        name = spec.method
        return self._own_methods.get(name) or getattr(self._instance, name)

    def _terminate(self) -> NoReturn:
        raise ActorExit("its handle's __ray_terminate__ was called")

    def _call_function(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(self._instance, *args, **kwargs)

    def _execute(self, peer: Peer, spec: TaskSpec) -> None:
        context = TaskContext(spec.task_id, spec.name, spec.attempt, self._assignment, self._context)
        self._running[spec.task_id] = context
        try:
            method: Callable[..., Any] = self._method(spec)
        except AttributeError as error:
            method = _raiser(error)
        self._executor.execute(peer, spec, method, context)
        del self._running[spec.task_id]

    # Sync and threaded

    def _serve_sync(self) -> None:
        while not self._executor.exiting:
            item = self._executor.wait_for_call()
            if isinstance(item, ExitWorker):
                return
            self._execute(*item)

    def _serve_threaded(self) -> None:
        with ExitStack() as stack:
            lanes = {
                group: stack.enter_context(ThreadPoolExecutor(size, f"raybook-actor-{group}"))
                for group, size in self._lanes().items()
            }
            while not self._executor.exiting:
                item = self._executor.wait_for_call()
                if isinstance(item, ExitWorker):
                    return
                peer, spec = item
                lanes.get(spec.group, lanes[DEFAULT_GROUP]).submit(self._execute_threaded, peer, spec)

    def _lanes(self) -> dict[str, int]:
        return {DEFAULT_GROUP: self._creation.max_concurrency, **self._creation.groups}

    def _execute_threaded(self, peer: Peer, spec: TaskSpec) -> None:
        self._execute(peer, spec)
        if self._executor.exiting:
            self._executor.nudge()

    # Async

    def _serve_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """As ``asyncio.run`` does, on a loop that exists already: what still runs at the end is cancelled."""
        try:
            loop.run_until_complete(self._serve_async())
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def _serve_async(self) -> None:
        loop, selector = asyncio.get_running_loop(), self._selector
        self._finished = asyncio.Event()
        self._lane = AsyncLane(loop, self._creation.max_concurrency)
        self._group_lanes = {group: ThreadLane(group, size) for group, size in self._creation.groups.items()}
        self._scheduled = False

        def wake() -> None:
            if not (self._scheduled or selector.is_turning):
                self._scheduled = True
                loop.call_soon_threadsafe(self._drain_told)

        self.wake = wake
        self._executor.actor = self
        selector.on_turn = self._drain
        self._drain()
        await self._finished.wait()
        if self._coroutines:
            await self._wait_for_running()
        selector.on_turn = _do_nothing
        for lane in self._group_lanes.values():
            lane.close()
        self.wake = None

    def _drain_told(self) -> None:
        self._scheduled = False
        self._drain()

    def _drain(self) -> None:
        """On the loop: start everything that has arrived."""
        executor = self._executor
        # An actor that is ending starts nothing more; what it did not take fails with its death.
        while executor.work and not executor.exiting:
            item = executor.take_call()
            if item is None:
                return
            if isinstance(item, ExitWorker):
                self._finished.set()
                return
            peer, spec = item
            lane = self._group_lanes.get(spec.group, self._lane) if spec.group else self._lane
            self._coroutines[spec.task_id] = lane
            lane.start(spec.task_id, self._execute_async(peer, spec, lane))

    async def _wait_for_running(self) -> None:
        end = time.monotonic() + LAST_CALLS_S
        while self._coroutines and time.monotonic() < end:
            await asyncio.sleep(0.01)

    async def _execute_async(self, peer: Peer, spec: TaskSpec, lane: AsyncLane) -> None:
        executor = self._executor
        if executor.exiting:
            self._end_coroutine(spec, lane)
            return
        context = TaskContext(spec.task_id, spec.name, spec.attempt, self._assignment, self._context)
        CURRENT_TASK.set(context)
        start_ns = time.perf_counter_ns()
        try:
            if lane.free > 0:
                lane.free -= 1
            else:
                await lane.wait_for_slot()
            try:
                args, kwargs = executor.arguments.read(spec)
                start_ns = time.perf_counter_ns()
                method = context.function = self._method(spec)
                result = method(*args, **kwargs)
                if spec.num_returns < 0:
                    await executor.streams.drain_async(peer, spec, result)
                elif type(result) is CoroutineType or inspect.isawaitable(result):
                    result = await result
                elif type(result) is GeneratorType and is_taken_apart(result, spec.num_returns, self._method(spec)):
                    result = take_items(result, spec.num_returns)
            finally:
                lane.give_slot()
            if spec.task_id in lane.cancelled:
                raise asyncio.CancelledError
            run_us = (time.perf_counter_ns() - start_ns) // 1000
            reply = executor.outcome.of_result(spec, result, run_us)
        except BaseException as raised:  # noqa: BLE001 - everything user code raises has a meaning here.
            run_us = (time.perf_counter_ns() - start_ns) // 1000
            error = asyncio.CancelledError() if spec.task_id in lane.cancelled else raised
            reply = executor.error_reply(spec, error, run_us)
        args = kwargs = None  # type: ignore[assignment]
        if not has_refs(reply):
            result = None
        self._end_coroutine(spec, lane)
        has_others = bool(self._coroutines)
        executor.reply(peer, spec, reply, has_others)
        if has_others and not lane.is_flush_due:
            # Others may end in this round of the loop; what ends together is sent together.
            lane.is_flush_due = True
            lane.loop.call_soon(self._flush, lane)
        if executor.exiting:
            self._lane.loop.call_soon_threadsafe(self._finished.set)

    def _end_coroutine(self, spec: TaskSpec, lane: AsyncLane) -> None:
        lane.running.pop(spec.task_id, None)
        lane.cancelled.discard(spec.task_id)
        self._coroutines.pop(spec.task_id, None)

    def _flush(self, lane: AsyncLane) -> None:
        lane.is_flush_due = False
        self._executor.replies.flush()


async def _make_on_loop(actor_class: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if not inspect.iscoroutinefunction(actor_class.__init__):
        return actor_class(*args, **kwargs)
    instance = actor_class.__new__(actor_class, *args, **kwargs)
    await actor_class.__init__(instance, *args, **kwargs)
    return instance


def _repr_of(instance: Any) -> str:
    try:
        return repr(instance)
    except Exception:  # noqa: BLE001 - user code; an actor that cannot be shown works all the same.
        return object.__repr__(instance)


def _return_true() -> bool:
    return True


def _do_nothing() -> None:
    pass


def _raiser(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail
