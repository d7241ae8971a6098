"""Local actors: the actors of local mode, each an instance in this process with its own order of calls.

It decides when a call of an actor may run and on which thread: the caller's for a plain actor (so that a debugger stops
in it), threads of its own for ``max_concurrency`` > 1 and concurrency groups, an event loop's for an async actor. It
does not know names or handles; ``local_mode`` does.
Invariants: calls of a plain actor run one at a time, in the order of submission; after its death every call fails with
the same reason.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from raybook.base.errors import ActorExit
from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_PENDING
from raybook.base.specs import Assignment, ErrorValue
from raybook.base.task_context import CURRENT_TASK, ActorContext, TaskContext
from raybook.engines.engine import ActorHandleState, ActorOptions
from raybook.engines.local_objects import LocalObjects
from raybook.engines.local_tasks import Ended, LocalCall, LocalRunner, cancelled


class LocalActor:
    """One actor. ``finish(call, ended)`` is told of every call that ended, on the thread that ran it."""

    def __init__(
        self,
        state: ActorHandleState,
        options: ActorOptions,
        creation: LocalCall,
        load_class: Callable[[], Any],
        assignment: Assignment,
        objects: LocalObjects,
        runner: LocalRunner,
        finish: Callable[[LocalCall, Ended], None],
    ) -> None:
        self.state = state
        self.options = options
        self.life = ACTOR_PENDING
        self.restarts = 0
        self.handles = 1
        """How many Python handles and stored values name it; at none it ends after its queued calls."""
        self.death: ErrorValue | None = None
        self.unfinished = 0
        self._creation = creation
        self._load_class = load_class
        self._assignment = assignment
        self._objects = objects
        self._runner = runner
        self._finish = finish
        self._instance: Any = None
        self._queue: deque[tuple[str, str, LocalCall]] = deque([("__init__", "", creation)])
        self._lock = threading.Lock()
        self._is_pumping = False
        self._ending = ""
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self._slots: dict[str, asyncio.Semaphore] = {}

    @property
    def is_dead(self) -> bool:
        return self.death is not None

    def call(self, method: str, group: str, call: LocalCall) -> None:
        """Queue one call; a plain actor runs it before this returns if nothing else is in its way."""
        with self._lock:
            self.unfinished += 1
            self._queue.append((method, group, call))
        self._when_resolved(call)

    def start(self) -> None:
        """Run ``__init__``, as soon as its arguments are there."""
        self._when_resolved(self._creation)

    def kill(self, reason: str, may_restart: bool) -> None:
        """End it; with ``may_restart`` and a restart left, begin a new life instead."""
        if self.is_dead:
            return
        left = self.options.max_restarts
        if may_restart and (left == -1 or self.restarts < left):
            self.restarts += 1
            self._construct()
        else:
            self._die(ErrorValue("ActorDiedError", f"The actor {self.state.class_name} is dead because {reason}."))

    def refuse(self, reason: ErrorValue) -> None:
        """It can never be placed: dead before its first life."""
        self._die(reason)

    def end_when_idle(self, reason: str) -> None:
        """Nobody names it any more: end it after the calls that were submitted."""
        with self._lock:
            is_idle = not self.unfinished and not self._queue
            self._ending = reason
        if is_idle:
            self.kill(reason, may_restart=False)

    def stop(self) -> None:
        """End its threads; what waits fails. Idempotent."""
        if not self.is_dead:
            self._die(ErrorValue("ActorDiedError", "The actor is dead because raybook was shut down."))
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        if self._loop is not None and self._loop_thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            if threading.current_thread() is not self._loop_thread:
                self._loop_thread.join(timeout=5.0)

    # The order of calls.

    def _when_resolved(self, call: LocalCall) -> None:
        waiting = len(call.dependencies)
        if not waiting:
            self._pump()
            return
        arrived: list[None] = []

        def on_ready() -> None:
            arrived.append(None)
            if len(arrived) == waiting:
                self._pump()

        self._objects.when_ready(call.dependencies, on_ready)

    def _pump(self) -> None:
        """Run what is first in line, while its arguments are there; one thread at a time does this."""
        while True:
            with self._lock:
                if self._is_pumping or not self._queue:
                    return
                call = self._queue[0][2]
                if not call.is_cancelled and not all(map(self._objects.is_ready, call.dependencies)):
                    return
                method, group, call = self._queue.popleft()
                self._is_pumping = True
            try:
                self._dispatch(method, group, call)
            finally:
                with self._lock:
                    self._is_pumping = False

    def _dispatch(self, method: str, group: str, call: LocalCall) -> None:
        if method == "__init__":
            self._construct()
        elif call.is_cancelled:
            self._end(call, Ended([], cancelled(call)))
        elif self.death is not None:
            self._end(call, Ended([], self.death))
        elif self.options.is_async:
            self._run_on_loop(method, group, call)
        elif self.options.max_concurrency != 1 or self.options.concurrency_groups:
            self._pool(group).submit(self._run_here, method, call)
        else:
            self._run_here(method, call)

    def _construct(self) -> None:
        if self.death is not None:
            self._finish(self._creation, Ended([], self.death))
            return
        creation = self._creation
        creation.context = self._context_of(creation)

        def make(*args: Any, **kwargs: Any) -> None:
            self._instance = self._load_class()(*args, **kwargs)

        ended = self._runner.run(creation, lambda: make)
        if ended.error is None:
            self.life = ACTOR_ALIVE
        else:
            text = (
                f"The actor {self.state.class_name} ({self.state.actor_id.hex()}) died because its __init__ raised:\n"
                f"{ended.error.text}"
            )
            self._die(ErrorValue("ActorDiedError", text))
        self._finish(creation, ended)

    def _context_of(self, call: LocalCall) -> TaskContext:
        state = self.state
        actor = ActorContext(
            state.actor_id, state.class_name, state.name, state.namespace, self.restarts, state.is_async, state
        )
        return TaskContext(call.task_id, call.name, 0, self._assignment, actor)

    # One call.

    def _run_here(self, method: str, call: LocalCall) -> None:
        if self.death is not None:
            self._end(call, Ended([], self.death))
            return
        call.context = self._context_of(call)
        ended = self._runner.run(call, lambda: self._method(method))
        if call.is_cancelled and ended.exit is None and call.num_returns >= 0:
            ended = Ended([], cancelled(call))
        self._end(call, ended)

    def _method(self, name: str) -> Callable[..., Any]:
        if name == "__ray_ready__":
            return _return_true
        if name == "__ray_terminate__":
            return self._terminate
        if name == "__ray_call__":
            return self._call_function
        return getattr(self._instance, name)

    def _call_function(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(self._instance, *args, **kwargs)

    def _terminate(self) -> NoReturn:
        raise ActorExit("its handle's __ray_terminate__ was called")

    def _end(self, call: LocalCall, ended: Ended) -> None:
        if isinstance(ended.exit, (ActorExit, SystemExit)) and ended.error is not None:
            self._die(ErrorValue("ActorDiedError", ended.error.text))
        with self._lock:
            self.unfinished -= 1
            ends = self._ending and not self.unfinished
        if ends and self.handles <= 0:
            self.kill(self._ending, may_restart=False)
        self._finish(call, ended)

    def _die(self, reason: ErrorValue) -> None:
        self.death = reason
        self.life = ACTOR_DEAD
        self._instance = None

    # Threads and the event loop.

    def _pool(self, group: str) -> ThreadPoolExecutor:
        pool = self._pools.get(group)
        if pool is None:
            size = self.options.concurrency_groups.get(group) or self.options.max_concurrency or 1
            pool = self._pools[group] = ThreadPoolExecutor(size, f"raybook-{self.state.class_name}")
        return pool

    def _run_on_loop(self, method: str, group: str, call: LocalCall) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop_thread = threading.Thread(
                target=_serve, args=(self._loop,), name=f"raybook-{self.state.class_name}", daemon=True
            )
            self._loop_thread.start()
        self._loop.call_soon_threadsafe(self._start_on_loop, self._loop, method, group, call)

    def _start_on_loop(self, loop: asyncio.AbstractEventLoop, method: str, group: str, call: LocalCall) -> None:
        task = loop.create_task(self._run_async(method, group, call))

        def end(task: asyncio.Task) -> None:
            self._end(call, Ended([], cancelled(call)) if task.cancelled() else task.result())

        task.add_done_callback(end)
        call.stop = lambda: loop.call_soon_threadsafe(task.cancel)
        if call.is_cancelled:
            task.cancel()

    async def _run_async(self, method: str, group: str, call: LocalCall) -> Ended:
        slot = self._slots.get(group)
        if slot is None:
            size = self.options.concurrency_groups.get(group) or self.options.max_concurrency or 1
            slot = self._slots[group] = asyncio.Semaphore(size)
        call.context = context = self._context_of(call)
        CURRENT_TASK.set(context)
        started = time.time_ns() // 1000
        async with slot:
            call.has_started = True
            return await self._try_async(method, call, context, started)

    async def _try_async(self, method: str, call: LocalCall, context: TaskContext, started: int) -> Ended:
        failed = self._runner.failed_dependency(call)
        if failed is not None:
            return failed
        if self.death is not None:
            return Ended([], self.death)
        while True:
            try:
                args, kwargs = self._runner.unpack(call)
                call.items.clear()
                result = self._method(method)(*args, **kwargs)
                if inspect.isawaitable(result):
                    result = await result
                if call.num_returns < 0 and hasattr(result, "__anext__"):
                    async for item in result:
                        call.items.append(self._runner.pack_item(call, item))
                    result = None
                return self._runner.ended(call, result, started)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - as in the runner: whatever user code raises means something.
                if self._runner.may_retry(call, context, error):
                    context.attempt += 1
                    continue
                return self._runner.failed(call, error, started)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The thread of an async actor: runs until the loop is stopped, then cancels what is left and closes it."""
    loop.run_forever()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(_settle(left))
    loop.close()


async def _settle(tasks: set[asyncio.Task]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _return_true() -> bool:
    return True
