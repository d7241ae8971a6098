"""Executor: runs tasks on the worker's main thread, and answers their owners.

The I/O thread puts work into a deque and opens a gate; the main thread takes it out, runs it and replies itself. Work
that has not started can be taken back by the I/O thread at any time (steal, revoke, cancel, block): what is taken in and
given back, ``core/worker/intake`` decides. Knows nothing of leases' merits or of who else exists.

Invariant: a task taken out of the deque is answered exactly once, by a reply or a bounce.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

from raybook.base.errors import ActorExit
from raybook.base.specs import Assignment, Job
from raybook.base.task_context import CURRENT_TASK, TaskContext
from raybook.core.owner.records import CancelCommand, SealReply
from raybook.core.worker.farewell import Farewell
from raybook.core.worker.intake import Intake
from raybook.core.worker.recent_results import has_refs, needs_seal
from raybook.protocol.messages.raylet import (
    ExitWorker,
    LeaseProbe,
    LeaseProbeAnswer,
    RevokeLease,
    StartActor,
    WorkerExiting,
)
from raybook.protocol.messages.worker import (
    BindLease,
    CancelTask,
    ForgetFunctions,
    PushCalls,
    PushTasks,
    SendFunction,
    StealTasks,
    StreamCredit,
    TaskReplies,
    TaskReply,
    TaskSpec,
)
from raybook.worker.accelerators import expose_cpus, expose_gpus
from raybook.worker.actor_executor import ActorExecutor
from raybook.worker.argument_reader import ArgumentReader
from raybook.worker.core_process import CoreProcess
from raybook.worker.executor_base import Executor
from raybook.worker.fixed_items import END, is_taken_apart, take_items
from raybook.worker.function_cache import FunctionCache
from raybook.worker.interruption import Interruption
from raybook.worker.item_streams import ItemStreams
from raybook.worker.outcome import Outcome
from raybook.worker.peers import Peer
from raybook.worker.reply_channel import ReplyChannel
from raybook.worker.values import Values

_now_ns = time.perf_counter_ns
OWN_THREADS = 2
"""The main thread and the I/O thread; others are users'."""
SHORT_US = 200
"""A function that took longer than this last time does not keep earlier replies waiting."""


class WorkerExecutor(Executor):
    """One per worker process. ``run`` is the main thread's life."""

    def __init__(self, core: CoreProcess, values: Values) -> None:
        self._core = core
        self._values = values
        self.intake = Intake(core.send_peer, core.to_raylet, lambda: self.actor is not None)
        self.work = self.intake.work
        """What has arrived and has not been taken."""
        self._assignment = Assignment({})
        self._exposed: Assignment | None = None
        self._functions = FunctionCache()
        self._loaded = self._functions.loaded
        self._run_us: dict[bytes, int] = {}
        self._calls_made: dict[bytes, int] = {}
        self.outcome = Outcome(core, values)
        self.replies = ReplyChannel(core)
        self.streams = ItemStreams(core, self.outcome)
        self.arguments = ArgumentReader(values, core.config.pipeline_depth_max)
        self.current: TaskSpec | None = None
        self._interruption = Interruption(lambda: self.current, core.deferred.deferrable)
        self.exiting = False
        self.actor: ActorExecutor | None = None
        self.decode_handle: Callable[[bytes], Any] = bytes
        """Rebuilds the actor's own handle for ``get_runtime_context``; set by the composition."""
        self.set_job: Callable[[Job], None] = lambda job: None
        """Tells the engine on whose behalf this process works; set by the composition."""
        self._main = _thread.get_ident()
        values.before_block = self._before_block
        values.after_block = self._after_block

    # The I/O thread's side

    def on_message(self, peer: Peer, message: Any) -> None:
        kind = type(message)
        if kind is PushTasks:
            self.intake.take(peer, message)
        elif kind is PushCalls:
            self.intake.add(peer, message.calls)
            self._tell_actor()
        elif kind is SendFunction:
            self._functions.receive(peer.client_id, message)
        elif kind is ForgetFunctions:
            for key in self._functions.forget(peer.client_id, message):
                self._run_us.pop(key, None)
                self._calls_made.pop(key, None)
        elif kind is BindLease:
            if self.intake.bind(message):
                self._assignment = message.assignment
                self.set_job(message.job)
        elif kind is StealTasks:
            self.intake.steal(peer, message.count)
        elif kind is CancelTask:
            self._cancel(peer, message)
        elif kind is StreamCredit:
            self.streams.on_credit(message)

    def _order(self, message: Any) -> None:
        """Something of the raylet's, to be done by the main thread in its turn."""
        self.intake.add(None, [message])
        self._tell_actor()

    def _tell_actor(self) -> None:
        actor = self.actor
        if actor is not None and actor.wake is not None:
            actor.wake()

    def _cancel(self, peer: Peer, message: CancelTask) -> None:
        if message.recursive:
            self._cancel_children(message)
        waiting = self.intake.withdraw(message.task_id)
        if waiting is not None:
            self._core.send_peer(peer.client_id, TaskReplies([self.outcome.cancelled(waiting)]))
            return
        self.streams.cancel(message.task_id)
        if self.actor is not None:
            self.actor.cancel(message.task_id)
            return
        if message.force and self._interruption.is_current(message.task_id):
            os._exit(1)
        self._interruption.ask(message.task_id)

    def _cancel_children(self, message: CancelTask) -> None:
        for task_id, record in self._core.owner.tasks.tasks.items():
            if record.spec.parent == message.task_id:
                self._core.submit(CancelCommand(task_id, message.force, True))

    def on_raylet(self, message: Any) -> None:
        kind = type(message)
        if kind is RevokeLease:
            self.intake.on_revoke(message)
        elif kind is LeaseProbe:
            self._core.to_raylet(LeaseProbeAnswer(message.probe_id, self.intake.is_idle()))
        elif kind is StartActor:
            self._order(message)
        elif kind is ExitWorker:
            if not message.graceful:
                os._exit(0)
            if self.actor is not None or not self._core.owner.references.owns_any():
                self._order(message)
            # Else it stays: objects that others still refer to would be lost with it.

    def on_peer_gone(self, client_id: bytes) -> None:
        """A caller is gone: what it pushed and has not started is dropped."""
        self.streams.on_peer_gone(client_id)
        self.intake.on_caller_gone(client_id)

    def on_idle(self) -> None:
        self.replies.flush_left_behind()
        if self._interruption.wanted:
            # What came too late finds nothing of itself here any more.
            self._interruption.wanted.clear() if self.intake.is_idle() else self._interruption.ask_again()

    def is_busy(self) -> bool:
        return bool(self.replies.gathered or self.work or self._interruption.wanted)

    def is_at_rest(self) -> bool:
        if self.is_busy() or threading.active_count() > OWN_THREADS:
            return False
        if self.actor is None:
            return self.intake.is_idle()
        # The order that made it an actor is settled at its end.
        return self.intake.accepted == self.intake.settled + 1 and not self.actor.is_async

    # The main thread's side

    def run(self) -> None:
        """Take work until told to exit."""
        work = self.work
        replies, lead_for_work = self.replies, self._core.leading.lead_for_work
        while not self.exiting:
            if not work:
                if replies.gathered:
                    replies.flush()
                lead_for_work(work, self)
                continue
            try:
                peer, item = work.popleft()
            except IndexError:
                # The I/O thread has taken it back.
                continue
            if peer is not None:
                self._run_task(peer, item)
            else:
                self._run_order(item)
                self.intake.settled += 1
        self.replies.flush()
        self._linger()

    def _linger(self) -> None:
        """Stay until nobody needs anything of this process any more (``core/worker/farewell``)."""
        core = self._core
        farewell = Farewell(core.owner, self.actor is not None, _now_ms())
        core.submit(self.intake.close)
        core.leading.lead_until(lambda: not core.queue and farewell.is_over(_now_ms()))

    def _run_order(self, order: Any) -> None:
        if type(order) is ExitWorker:
            self.exiting = True
            return
        self._assignment = order.assignment
        self._expose()
        actor = ActorExecutor(self, self._core, self._values, order)
        if not actor.create():
            self.exiting = True
            return
        self.actor = actor
        actor.run()
        self.exiting = True

    def take_call(self) -> tuple[Peer, TaskSpec] | ExitWorker | None:
        """The next call for an actor that runs its own loop; None when there is none."""
        try:
            peer, item = self.work.popleft()
        except IndexError:
            return None
        if peer is None:
            self.intake.settled += 1
            return item if type(item) is ExitWorker else None
        return peer, item

    def wait_for_call(self) -> tuple[Peer, TaskSpec] | ExitWorker:
        """As ``take_call``, blocking (sync and threaded actors)."""
        work = self.work
        while True:
            if work:
                item = self.take_call()
                if item is not None:
                    return item
                continue
            if self.replies.gathered:
                self.replies.flush()
            self._core.leading.lead_for_work(work, self)
            if self.exiting:
                return ExitWorker("retired")

    def _run_task(self, peer: Peer, spec: TaskSpec) -> None:
        key = spec.function_key
        if spec.slots is not None and not self.arguments.resolve(spec):
            self._bounce_early(peer, spec)
            return
        if self.replies.gathered and (spec.runs_once or self._run_us.get(key, SHORT_US) >= SHORT_US):
            self.replies.flush()
        function = self._loaded.get(key)
        if function is None:
            function = self._functions.load(key, spec.name)
            if function is None:
                self.reply(peer, spec, self.outcome.of_error(spec, self._functions.error, 0))
                return
        if self._exposed is not self._assignment:
            self._expose()
        if spec.max_calls:
            # Known before the answer, for in that moment the raylet may ask whether this worker is free for an actor.
            made = self._calls_made[key] = self._calls_made.get(key, 0) + 1
            self.intake.is_retiring = made >= spec.max_calls
        self._run_us[key] = self.execute(peer, spec, function, None)
        if self.intake.is_retiring:
            self._retire_when_free(f"`{spec.name}` may run {spec.max_calls} times in one process (max_calls)")

    def _bounce_early(self, peer: Peer, spec: TaskSpec) -> None:
        """The argument that was to be made here before this task was not: back to the owner, who waits for it."""
        self.replies.flush()
        self.intake.settled += 1
        self._core.submit(lambda: self.intake.bounce_early(peer, spec.task_id))

    def _expose(self) -> None:
        self._exposed = self._assignment
        expose_gpus(self._assignment)
        expose_cpus(self._assignment)

    def execute(self, peer: Peer, spec: TaskSpec, function: Callable[..., Any], context: TaskContext | None) -> int:
        """Run one task or call on this thread and answer; returns the run time in µs."""
        if context is None:
            context = TaskContext(spec.task_id, spec.name, spec.attempt, self._assignment)
        interruption = self._interruption
        context.function = function
        token = CURRENT_TASK.set(context)
        self.current = spec
        start_ns = 0
        result: Any = None
        try:
            args, kwargs = self.arguments.read(spec)
            start_ns = _now_ns()
            try:
                interruption.is_open = True
                if interruption.wanted:
                    interruption.heed()
                result = function(*args, **kwargs)
            finally:
                interruption.is_open = False
            if spec.num_returns < 0:
                self.streams.drain(peer, spec, result, self._step)
            elif type(result) is GeneratorType and is_taken_apart(result, spec.num_returns, function):
                result = take_items(result, spec.num_returns, self._step)
        except BaseException as error:  # noqa: BLE001 - everything user code raises has a meaning here.
            interruption.is_open = False
            run_us = (_now_ns() - start_ns) // 1000 if start_ns else 0
            if _ends_as_cancelled(spec, context) and isinstance(error, Exception):
                reply = self.outcome.cancelled(spec)
            else:
                reply = self.error_reply(spec, error, run_us)
        else:
            run_us = (_now_ns() - start_ns) // 1000
            if _ends_as_cancelled(spec, context):
                reply = self.outcome.cancelled(spec)
            else:
                reply = self.outcome.of_result(spec, result, run_us)
        args = kwargs = None  # type: ignore[assignment]
        if not has_refs(reply):
            result = None
        self.current = None
        if interruption.wanted:
            interruption.over(spec.task_id)
        CURRENT_TASK.reset(token)
        self.reply(peer, spec, reply)
        return run_us

    def _step(self, iterator: Iterator[Any]) -> Any:
        """Run a generator up to its next item."""
        try:
            self._interruption.is_open = True
            if self._interruption.wanted:
                self._interruption.heed()
            return next(iterator, END)
        finally:
            self._interruption.is_open = False

    # Answers

    def error_reply(self, spec: TaskSpec, error: BaseException, run_us: int) -> TaskReply:
        """What to say of a task whose code raised. Ends the process where that is what the error asks for."""
        if isinstance(error, ActorExit):
            self.retire(str(error))
        elif isinstance(error, SystemExit) and (self.actor is None or error.code not in (None, 0)):
            # A task's process, or an actor that says it failed: a crash, with what retries and restarts make of it.
            self.replies.flush()
            os._exit(error.code if isinstance(error.code, int) else 1)
        elif isinstance(error, SystemExit):
            self.retire("its code called sys.exit()")
        return self.outcome.of_error(spec, error, run_us)

    def reply(self, peer: Peer, spec: TaskSpec, reply: TaskReply, more_soon: bool = False) -> None:
        """Answer. Where references are involved, through the owner machine, which first makes sure that what this
        process still holds is known. more_soon: the caller flushes when no more come. Any thread that runs tasks."""
        intake = self.intake
        intake.settled += 1
        if self.actor is None:
            self.arguments.keep(reply)
        if needs_seal(spec, reply):
            self.replies.flush()
            self._core.submit(SealReply(peer.client_id, reply))
        else:
            self.replies.add(peer, reply, (more_soon or bool(self.work)) and not spec.runs_once)
        if intake.draining_epoch:
            self._core.submit(intake.answer_drain)

    # Blocking and ending

    def _before_block(self) -> None:
        """User code is about to wait in get or wait: give back what it would hold up, lend out the CPU."""
        if _thread.get_ident() != self._main or self.current is None:
            return
        self.replies.flush()
        if self.actor is None:
            self._core.leave(self.intake.lend)

    def _after_block(self) -> None:
        if self.actor is None and self.current is not None and _thread.get_ident() == self._main:
            self._core.leave(self.intake.unlend)

    def retire(self, reason: str) -> None:
        """End this process after the present work, on purpose."""
        self.exiting = True
        self.replies.flush()
        self._core.send_raylet(WorkerExiting(reason))

    def _retire_when_free(self, reason: str) -> None:
        """End this process between two tasks: at once, or when the tasks it has submitted have ended and nobody else
        needs its objects. Until then it takes no work and holds no resources."""
        self.exiting = True
        self.replies.flush()
        core = self._core
        core.submit(self.intake.close)
        # What the last reply says of references is looked at first.
        core.leading.lead_until(lambda: not core.queue)
        core.send_raylet(WorkerExiting(reason, self._is_needed()))
        core.leading.lead_until(lambda: not self._is_needed())

    def _is_needed(self) -> bool:
        owner = self._core.owner
        return bool(owner.references.borrowers or owner.tasks.tasks or owner.borrows.is_handing_over())

    def nudge(self) -> None:
        """Make the main thread look whether it should exit."""
        self._core.wake()


def _now_ms() -> int:
    return int(time.monotonic() * 1000)


def _ends_as_cancelled(spec: TaskSpec, context: TaskContext) -> bool:
    """Whether a call of a sync actor ends as cancelled, whatever its method made of it. A stream says so in its items."""
    return context.is_cancelled and spec.stream is None
