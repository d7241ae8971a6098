"""Executor: runs simulated tasks in a worker. The shipped intake and recent results, with a fiber as the main thread.

In the order of ``worker/executor``: work is taken out, its code runs, what it held is let go, it is answered, directly
or through the owner machine. Decides nothing itself but when gathered replies are sent, which is the seed's choice here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from raybook.base.ids import owner_of, return_id
from raybook.base.specs import STREAMING, ErrorValue, Value
from raybook.core.owner.records import CancelCommand, SealItems, SealReply, ToRaylet
from raybook.core.owner.task_manager import RETRYABLE
from raybook.core.worker.farewell import Farewell
from raybook.core.worker.intake import Intake
from raybook.core.worker.recent_results import RecentResults, has_refs, needs_seal
from raybook.protocol.messages.raylet import (
    ActorStarted,
    ExitWorker,
    LeaseProbe,
    LeaseProbeAnswer,
    RevokeLease,
    StartActor,
    WorkerExiting,
)
from raybook.protocol.messages.store import Sealed
from raybook.protocol.messages.worker import (
    ActorCreation,
    BindLease,
    CancelTask,
    PushCalls,
    PushTasks,
    StealTasks,
    StreamCredit,
    StreamItems,
    TaskReplies,
    TaskReply,
    TaskSpec,
)
from raybook.sim.bodies import run_body
from raybook.sim.fiber import Fiber, Program
from raybook.sim.network import Port
from raybook.sim.plans import TaskPlan, digest_of
from raybook.sim.user import Cancelled, User, UserError

if TYPE_CHECKING:
    from raybook.sim.process import Process

_decode_args = msgspec.msgpack.Decoder(tuple[TaskPlan, list[tuple[bytes, str]]]).decode
LOOK_US = 2_000
"""A worker that is to end looks this often whether it may."""
GATHER = 4
"""So many short replies are gathered at most."""


class Running:
    """One task or call whose code has begun, or is about to."""

    __slots__ = ("consumed", "credited", "fiber", "in_user_code", "is_cancelled", "is_stopped", "spec")

    def __init__(self, spec: TaskSpec, fiber: Fiber) -> None:
        self.spec = spec
        self.fiber = fiber
        self.in_user_code = False
        self.is_cancelled = False
        self.is_stopped = False
        self.consumed = spec.stream.consumed if spec.stream is not None else 0
        self.credited: Callable[..., None] | None = None
        """Wakes a producer that waits for room."""


class SimExecutor:
    """One per worker process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.intake = Intake(process.send_peer, process.to_raylet, lambda: self.actor is not None)
        self.recent = RecentResults(process.world.config.pipeline_depth_max)
        self.actor: StartActor | None = None
        self.state = User(process)
        """What the actor keeps."""
        self.exiting = False
        self._lanes_free = 1
        self._replies: list[TaskReply] = []
        self._reply_port: Port | None = None
        self._running: dict[bytes, Running] = {}
        self._wake: Callable[..., None] | None = None
        self._calls_made: dict[str, int] = {}
        self._random = process.world.rng.random
        self._main = process.spawn(self._run(), lambda result: process.leave())

    # The I/O thread

    def on_message(self, port: Port, message: Any) -> None:
        """From an owner."""
        kind = type(message)
        intake = self.intake
        if kind is PushTasks:
            if intake.take(port_caller(port), message):
                self._new_work()
        elif kind is PushCalls:
            intake.add(port_caller(port), message.calls)
            self._new_work()
        elif kind is BindLease:
            intake.bind(message)
        elif kind is StealTasks:
            intake.steal(port_caller(port), message.count)
        elif kind is CancelTask:
            self._cancel(port, message)
        elif kind is StreamCredit:
            self._on_credit(message)

    def on_raylet(self, message: Any) -> None:
        """From the raylet."""
        kind = type(message)
        if kind is RevokeLease:
            self.intake.on_revoke(message)
        elif kind is LeaseProbe:
            self.process.to_raylet(LeaseProbeAnswer(message.probe_id, self.intake.is_idle()))
        elif kind is StartActor:
            self.intake.add(None, [message])
            self._new_work()
        elif kind is ExitWorker and (self.actor is not None or not self.process.owner.references.owns_any()):
            self.intake.add(None, [message])
            self._new_work()

    def on_peer_gone(self, client_id: bytes) -> None:
        """A caller is gone."""
        for running in self._running.values():
            if owner_of(running.spec.task_id) == client_id:
                running.is_stopped = True
                self._go_on(running)
        self.intake.on_caller_gone(client_id)

    def on_idle(self) -> None:
        """Replies that were left behind go out."""
        self._flush()

    def _new_work(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def _cancel(self, port: Port, message: CancelTask) -> None:
        if message.recursive:
            for task_id, record in self.process.owner.tasks.tasks.items():
                if record.spec.parent == message.task_id:
                    self.process.submit(CancelCommand(task_id, message.force, True))
        waiting = self.intake.withdraw(message.task_id)
        if waiting is not None:
            self.process.send_peer(port.peer_id, TaskReplies([_cancelled(waiting)]))
            return
        running = self._running.get(message.task_id)
        if running is None:
            return
        if message.force:
            self.process.die("it was cancelled by force")
            return
        if self.actor is not None and self.actor.spec.max_concurrency == 1 and running.spec.stream is None:
            return  # The code of a sync actor is not interrupted.
        running.is_cancelled = True
        if running.spec.stream is not None:
            self._go_on(running)
        if running.in_user_code:
            running.fiber.interrupt(Cancelled())

    def _on_credit(self, message: StreamCredit) -> None:
        running = self._running.get(message.task_id)
        if running is not None:
            if message.consumed < 0:
                running.is_stopped = True
            else:
                running.consumed = max(running.consumed, message.consumed)
            self._go_on(running)

    def _go_on(self, running: Running) -> None:
        if running.credited is not None:
            running.credited()

    # The main thread

    def _run(self) -> Program:
        while not self.exiting:
            if not self.intake.work or not self._lanes_free:
                self._flush()
                self._wake = self._main.waker()
                yield
                continue
            caller, item = self.intake.work.popleft()
            if caller is None:
                self.intake.settled += 1
                yield from self._order(item)
            elif self.actor is None:
                yield from self._task(caller, item)
            elif self.actor.spec.max_concurrency == 1:
                yield from self._call(caller, item, self._main)
            else:
                self._start_lane(caller, item)
        self._flush()
        self.process.submit(self.intake.close)
        farewell = Farewell(self.process.owner, self.actor is not None, self.world.timeline.now_ms)
        while self.process.queue or not farewell.is_over(self.world.timeline.now_ms):
            self.world.timeline.after(LOOK_US, self._main.waker())
            yield

    def _order(self, order: Any) -> Program:
        if type(order) is ExitWorker:
            self.exiting = True
            return
        creation = msgspec.msgpack.decode(order.spec.creation, type=ActorCreation)
        plan, _ = _decode_args(creation.spec.args)
        user = User(self.process, order.spec.actor_id, frozenset([owner_of(order.spec.actor_id)]))
        user.fiber = self._main
        user.before_block, user.after_block = self._before_block, self._after_block
        for slot in creation.spec.slots or ():
            yield from user.fetch(slot.ref)
        yield from user.work(plan.run_us)
        user.close()
        if plan.raises:
            self.process.submit(ToRaylet(ActorStarted(order.spec.actor_id, b"-", "planned")))
            self.exiting = True
            return
        self.process.submit(ToRaylet(ActorStarted(order.spec.actor_id)))
        self.actor = order
        self._lanes_free = order.spec.max_concurrency

    def _task(self, caller: Caller, spec: TaskSpec) -> Program:
        if spec.slots is not None and not self.recent.resolve(spec):
            self._flush()
            self.intake.settled += 1
            self.process.submit(lambda: self.intake.bounce_early(caller, spec.task_id))
            return
        if self._replies and self._random() < 0.5:
            self._flush()
        if spec.max_calls:
            made = self._calls_made[spec.name] = self._calls_made.get(spec.name, 0) + 1
            self.intake.is_retiring = made >= spec.max_calls
        yield from self._call(caller, spec, self._main)
        # The I/O thread may get its turn between the two.
        if self.intake.is_retiring:
            yield from self._pause()
            yield from self._retire("max_calls")

    def _retire(self, reason: str) -> Program:
        self.exiting = True
        self._flush()
        self.process.submit(self.intake.close)
        while self.process.queue:
            yield from self._pause()
        self.process.submit(ToRaylet(WorkerExiting(reason, self._is_needed())))
        while self._is_needed():
            yield from self._pause()

    def _is_needed(self) -> bool:
        owner = self.process.owner
        return bool(owner.references.borrowers or owner.tasks.tasks or owner.borrows.is_handing_over())

    def _pause(self) -> Program:
        self.world.timeline.after(int(self._random() * LOOK_US), self._main.waker())
        yield

    def _start_lane(self, caller: Caller, spec: TaskSpec) -> None:
        self._lanes_free -= 1

        def program() -> Program:
            yield from self._call(caller, spec, fiber)

        def ended(result: Any) -> None:
            self._lanes_free += 1
            self._new_work()

        fiber = self.process.spawn(program(), ended)

    def _call(self, caller: Caller, spec: TaskSpec, fiber: Fiber) -> Program:
        """Run one task or call and answer it."""
        if not self.process.is_alive:
            yield  # It died of a message of the task before, and stops here.
        plan, boxed = _decode_args(spec.args)
        user = User(self.process, spec.task_id, frozenset([caller.client_id]))
        user.fiber = fiber
        if fiber is self._main:
            user.before_block, user.after_block = self._before_block, self._after_block
        running = self._running[spec.task_id] = Running(spec, fiber)
        self._begins(spec)
        start_us = self.world.timeline.now_us
        error: ErrorValue | None = None
        values: list[Value] = []
        held: list[Any] = []
        try:
            arguments, digests = yield from self._read_arguments(user, spec, boxed)
            running.in_user_code = True
            if running.is_cancelled:
                raise Cancelled
            held = yield from run_body(user, plan, spec.attempt, arguments, self.state)
            if plan.num_returns == STREAMING:
                yield from self._stream(caller, running, user, plan, digests, held)
                if plan.raises:
                    raise UserError("planned")
            running.in_user_code = False
            if plan.exits:
                self.process.die("its code ended it")
                yield
            values = yield from self._pack_all(user, spec, plan, digests, held)
        except Cancelled:
            error = ErrorValue("TaskCancelledError", "cancelled")
        except UserError as failure:
            error = ErrorValue("task", str(failure), b"pickled")
            if spec.retry_exceptions:
                error.code = RETRYABLE + error.code
            elif spec.stream is not None:
                values = [Value(inline=msgspec.msgpack.encode((digest_of(plan.seed, 0, ()), [])))]
        running.in_user_code = False
        del self._running[spec.task_id]
        run_us = self.world.timeline.now_us - start_us
        reply = TaskReply(spec.task_id, spec.attempt, [] if error and spec.stream is None else values, run_us, error)
        if values and any(value.error for value in values):
            reply = TaskReply(spec.task_id, spec.attempt, [], run_us, next(v.error for v in values if v.error))
        if has_refs(reply):
            # The result holds what is inside it until the reply is handed over.
            self._reply(caller, spec, reply)
            user.close()
        else:
            user.close()
            self._reply(caller, spec, reply)

    def _begins(self, spec: TaskSpec) -> None:
        self.world.check.values.begins(self.process, spec)
        if self.actor is not None:
            actor = self.actor.spec
            self.world.check.order.begins(self.process, actor, spec)
            self.world.check.lives.begins(self.process, actor.actor_id, self.actor.restarts)

    def _read_arguments(self, user: User, spec: TaskSpec, boxed: list[tuple[bytes, str]]) -> Program:
        """(handles inside and boxed, digests)."""
        handles: list[Any] = []
        digests = []
        via = frozenset([owner_of(spec.task_id)])
        for slot in spec.slots or ():
            assert slot.value is not None, "a task began with an argument that has no value"
            got = yield from user.unpack(slot.ref.object_id, slot.value, slot.ref.owner_address, via)
            self.world.check.values.got(self.process, slot.ref.object_id, got, via)
            if got.error is not None:
                # It was there when the task was pushed, and was lost since.
                raise UserError(f"an argument: {got.error.text}")
            digests.append(got.digest)
            handles += got.inside
        handles += [user.adopt(key, address, via) for key, address in boxed]
        return handles, digests

    def _pack_all(self, user: User, spec: TaskSpec, plan: TaskPlan, digests: list[int], held: list[Any]) -> Program:
        values = []
        for index in range(1 if plan.num_returns < 0 else plan.num_returns):
            size = 0 if plan.num_returns < 0 else plan.size
            inside = held if index == 0 and plan.num_returns > 0 else []
            digest = digest_of(plan.seed, index, digests)
            values.append((yield from self._pack(user, spec, index, digest, inside, size)))
        return values

    def _pack(self, user: User, spec: TaskSpec, index: int, digest: int, inside: list[Any], size: int) -> Program:
        key = return_id(spec.task_id, index)
        assert user.fiber is not None
        value = yield from user.pack(user.fiber, digest, inside, size, key)
        if value.location is not None:
            location = value.location
            self.world.check.lineage.made(key, location)
            self.process.submit(ToRaylet(Sealed(key, owner_of(spec.task_id), location.offset, location.size)))
        return value

    def _stream(
        self, caller: Caller, running: Running, user: User, plan: TaskPlan, digests: list[int], held: list[Any]
    ) -> Program:
        """Send the items of a generator, those that the owner does not have."""
        spec = running.spec
        order = spec.stream
        assert order is not None, "a generator without an order of its stream"
        resume, made, is_sealing = order.received, 0, False
        while made < plan.items and not running.is_stopped:
            yield from user.work(1 + plan.run_us // 4)
            made += 1
            if made > resume:
                inside = held if made == 1 else []
                running.in_user_code = False
                digest = digest_of(plan.seed, made, digests)
                value = yield from self._pack(user, spec, made, digest, inside, plan.size)
                running.in_user_code = True
                if value.error is not None:
                    raise UserError("full")
                items = StreamItems(spec.task_id, spec.attempt, made, [value])
                is_sealing = is_sealing or value.inline is None or bool(value.contained)
                if is_sealing:
                    self.process.submit(SealItems(caller.client_id, items))
                elif not self.process.send_now(caller.port, items):
                    running.is_stopped = True
            if running.is_cancelled:
                raise Cancelled
            while 0 < order.window <= made - running.consumed and made > resume and not running.is_stopped:
                running.credited = user.fiber.waker() if user.fiber is not None else None
                yield
                running.credited = None
                if running.is_cancelled:
                    raise Cancelled
        order.received = max(made, order.received)

    # Answers

    def _reply(self, caller: Caller, spec: TaskSpec, reply: TaskReply) -> None:
        self.intake.settled += 1
        if self.actor is None:
            self.recent.keep(reply)
        if needs_seal(spec, reply):
            self._flush()
            self.process.submit(SealReply(caller.client_id, reply))
        else:
            if self._reply_port is not caller.port:
                self._flush()
                self._reply_port = caller.port
            self._replies.append(reply)
            if not self.intake.work or len(self._replies) >= GATHER or self._random() < 0.3:
                self._flush()
        if self.intake.draining_epoch:
            self.process.submit(self.intake.answer_drain)

    def _flush(self) -> None:
        replies, self._replies = self._replies, []
        if replies and self._reply_port is not None:
            self.process.send_now(self._reply_port, TaskReplies(replies))

    def _before_block(self) -> None:
        self._flush()
        if self.actor is None:
            self.process.submit(self.intake.lend)

    def _after_block(self) -> None:
        if self.actor is None:
            self.process.submit(self.intake.unlend)


class Caller:
    """One connection, as the intake sees it."""

    __slots__ = ("client_id", "port")

    def __init__(self, port: Port) -> None:
        self.port = port
        self.client_id = port.peer_id


def port_caller(port: Port) -> Caller:
    """The same caller for the same connection: work is stolen back by who pushed it."""
    if port.caller is None:
        port.caller = Caller(port)
    return port.caller


def _cancelled(spec: TaskSpec) -> TaskReply:
    return TaskReply(spec.task_id, spec.attempt, [], 0, ErrorValue("TaskCancelledError", "cancelled"))
