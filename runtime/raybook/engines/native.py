"""The native engine: the owner in this process, driven by its I/O thread. The fast path and the default.

Runs on user threads: makes ids, serializes arguments, hands records over, waits on locks. What is decided is decided in
``core/owner``; what touches sockets is ``worker/core_process``.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from raybook.base.environments import PLAIN, merged_key
from raybook.base.error_values import error_from_code
from raybook.base.errors import GetTimeoutError, StaleReferenceError
from raybook.base.facts import Fact
from raybook.base.ids import FIRST_RETURN, is_actor_call, owner_of, return_id, task_of
from raybook.base.names import short
from raybook.base.specs import DYNAMIC, END_OF_STREAM, ActorSpec, Job, PlacementGroupSpec, RefInfo, SchedulingClass
from raybook.base.task_context import CURRENT_TASK
from raybook.core.owner import memory_report
from raybook.core.owner.records import (
    CancelCommand,
    CreateActorCommand,
    FunctionStats,
    HoldRef,
    KillingActor,
    KnowActor,
    TakeItem,
    TaskRecord,
    Wait,
)
from raybook.engines.call_sites import recorder
from raybook.engines.engine import ActorHandleState, ActorOptions, CallOptions, Function, TaskOptions
from raybook.engines.function_table import FunctionTable
from raybook.engines.own_tasks import OwnTasks
from raybook.engines.pending_calls import PendingCalls
from raybook.engines.placement_groups import PlacementGroups
from raybook.protocol.messages import gcs
from raybook.protocol.messages.output import FlushOutput, OutputFlushed, WorkerLine, WorkerLines
from raybook.protocol.messages.raylet import PublishFacts, Subscribe
from raybook.protocol.messages.worker import ActorCreation, ArgRef, StreamOrder, TaskSpec
from raybook.protocol.serialization import SerializationContext, serialize
from raybook.worker import args as arguments
from raybook.worker.core_process import CoreProcess, encode
from raybook.worker.survey import Surveyor
from raybook.worker.values import Values

MEMORY_LOOK_S = 0.5
"""How often a caller who waits for the memory report looks whether the cluster is lost."""


class NativeEngine:
    """One membership of this process in one cluster. See ``engines.engine.Engine`` for the contract."""

    session: Any = None

    def __init__(
        self, core: CoreProcess, job: Job, stop_cluster: Callable[[], None] | None = None, environment: str = PLAIN
    ) -> None:
        self._core = core
        self._stamp, self._site_of_put = recorder(core.config.record_ref_creation_sites)
        self.environment = environment
        self._merged: dict[SchedulingClass, SchedulingClass] = {}
        """Scheduling classes as asked for → with this process's runtime environment."""
        self._submit = core.submit_soon
        self._stop_cluster = stop_cluster
        self._ids = core.ids
        self.serialization = SerializationContext({})
        self.values = self._make_values(core)
        self._inline_bytes_max = core.config.inline_bytes_max
        self._functions = self.own_tasks.functions = FunctionTable(core)
        self._known = self._functions.known
        self._method_stats: dict[tuple[str, str], FunctionStats] = {}
        self.placement_groups = PlacementGroups(core, self._ids)
        self._pending = PendingCalls(core.owner.actors.queues)
        self.client_id = core.client_id
        self.node_id = core.registered.node_id
        self.set_job(job)
        self.session_dir = core.registered.session_dir
        self.gcs_address = core.registered.gcs_address
        self.address = f"unix:{self.session_dir}/raylet.sock"
        self._address = core.address
        self.make_ref: Callable[..., Any] = _no_factory
        self.release = core.queue.append
        self.closed = False
        self._is_forked = False
        self._listeners_lock = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def _make_values(self, core: CoreProcess) -> Values:
        """What else this engine needs of the owner in this process: reports of it, and its values."""
        values = Values(core, self.serialization)
        self.own_tasks = OwnTasks(core, values)
        core.facts.largest_objects = lambda count: memory_report.largest(core.owner, count)
        self.orders = Surveyor(core, lambda: self.job.job_id).orders
        return values

    def _after_fork(self) -> None:
        self.closed = True
        self._is_forked = True

    @classmethod
    def connect(
        cls, node_socket: str, token: bytes, *, namespace: str | None = None, kernel_id: str = "",
        environment: str = PLAIN, stop_cluster: Callable[[], None] | None = None,
        on_output: Callable[[list[WorkerLine]], None] | None = None, logging: str = "",
    ) -> NativeEngine:  # fmt: skip
        """Connect this process, as a driver, to the raylet at ``node_socket``. on_output: is called on the I/O thread
        with what workers print. ConnectionError when the raylet refuses or is not there. Cost: 2 ms."""
        namespace = namespace or str(uuid.uuid4())
        core = CoreProcess(
            node_socket, token, "driver", namespace=namespace, kernel_id=kernel_id, entrypoint=sys.argv[0],
            wants_output=on_output is not None,
        )  # fmt: skip
        if on_output is not None:
            core.raylet_handlers[WorkerLines] = lambda message: on_output(message.lines)
        core.start()
        import_paths = tuple(os.path.abspath(path) for path in sys.path)
        return cls(core, Job(core.registered.job_id, namespace, import_paths, logging), stop_cluster, environment)

    def set_job(self, job: Job) -> None:
        """On whose behalf this process works: a driver's own job, or that of the lease a worker serves."""
        self.job = job
        self.job_id = job.job_id
        self.namespace = job.namespace
        self._core.owner.leases.job = job

    def adopt_ref(self, object_id: bytes, owner_address: str) -> Any:
        self.release(HoldRef(RefInfo(object_id, owner_address)))  # No wake-up: what depends on it is queued behind it.
        return self.make_ref(object_id, owner_address, self.release)

    def adopt_actor(self, actor: ActorHandleState) -> None:
        if actor.is_weak:
            return
        if actor.max_pending_calls >= 0:
            self._pending.begin(actor.actor_id)
        # Nobody need tell the owner of a detached actor, who may be gone; what holds it here is counted all the same.
        self._submit(KnowActor(actor.actor_id, "" if actor.detached else actor.owner_address))

    # Tasks

    def submit_task(self, function: Function, args: tuple, kwargs: dict, options: TaskOptions) -> list[Any]:
        if self.closed:
            raise self._stale()
        key = function.key
        stats = self._known.get(key) or self._functions.enter(function, options.name)
        task_id = self._ids.task_id()
        spec = TaskSpec(task_id, key, options.name, arguments.NO_ARGUMENTS, options.num_returns)
        what = options.scheduling_class
        if self.environment:
            what = self._merged.get(what) or self._with_environment(what)
        record = TaskRecord(spec, stats, what, b"", options.max_retries)
        self._stamp(record)
        stored = self._pack_arguments(record, args, kwargs) if args or kwargs else None
        if options.retry_exceptions:
            self._ask_for_retries(spec, options.retry_exceptions)
        if options.max_calls:
            spec.max_calls = options.max_calls
        spec.runs_once = not options.max_retries
        if options.num_returns < 0:
            spec.stream = self._stream_order(options)
        context = CURRENT_TASK.get()
        if context is not None:
            spec.parent = context.task_id
        first, count = task_id + FIRST_RETURN, options.num_returns
        refs = [self.make_ref(first, self._address, self.release)] if count == 1 else self._refs_of(task_id, count)
        self._submit(record)
        if stored is not None:
            self.release(stored)
        return refs

    def _with_environment(self, what: SchedulingClass) -> SchedulingClass:
        """The class of a task that is started from here: in this process's environment, with its own on top."""
        merged = msgspec.structs.replace(what, environment=merged_key(self.environment, what.environment))
        self._merged[what] = merged
        return merged

    def _refs_of(self, task_id: bytes, num_returns: int) -> list[Any]:
        make, release, address = self.make_ref, self.release, self._address
        if num_returns < 0:
            return [make(task_id + FIRST_RETURN, address, release)]
        return [make(return_id(task_id, index), address, release) for index in range(num_returns)]

    def _pack_arguments(self, record: TaskRecord, args: tuple, kwargs: dict) -> bytes | None:
        """Serialize the arguments into the spec. Large ones become an object of their own; its id is returned, to be
        released once the task, which holds it from then on, has been submitted."""
        spec = record.spec
        args, kwargs, slots = arguments.split(args, kwargs, self.make_ref)
        serialized = serialize((args, kwargs), self.serialization, f"arguments of `{spec.name}`")
        held = [slot.ref for slot in slots] if slots else []
        spec.slots = slots
        if serialized.contained:
            spec.contained = list(serialized.contained)
            held += spec.contained
        stored = None
        if serialized.total_bytes <= self._inline_bytes_max:
            spec.args = serialized.to_bytes()
        else:
            stored = self._ids.put_id()
            self.values.put(stored, serialized, "")
            spec.args = b""
            spec.args_value = ArgRef(RefInfo(stored, self._address))
            held.append(spec.args_value.ref)
        if held:
            record.held = held
        return stored

    def _ask_for_retries(self, spec: TaskSpec, retry_exceptions: Any) -> None:
        spec.retry_exceptions = True
        if retry_exceptions is not True:
            spec.retry_classes = serialize(tuple(retry_exceptions), self.serialization, "retry_exceptions").to_bytes()

    # Actors

    def create_actor(self, function: Function, args: tuple, kwargs: dict, options: ActorOptions) -> ActorHandleState:
        if self.closed:
            raise self._stale()
        actor_id = self._ids.actor_id()
        namespace = self.namespace if options.namespace is None else options.namespace
        name = f"{short(options.class_name)}.__init__"
        spec = TaskSpec(actor_id, function.key, name, arguments.NO_ARGUMENTS)
        record = TaskRecord(spec, FunctionStats(name), None, actor_id)
        stored = self._pack_arguments(record, args, kwargs) if args or kwargs else None
        state = ActorHandleState(
            actor_id, self._address, options.class_name, options.methods, options.is_async, options.max_task_retries,
            options.max_pending_calls, options.name, namespace, options.detached,
            method_defaults=options.method_defaults, concurrency_groups=list(options.concurrency_groups),
            is_unordered=options.is_unordered,
        )  # fmt: skip
        request = gcs.CreateActor(self._actor_spec(spec, state, function, options), options.get_if_exists)
        command = CreateActorCommand(actor_id, record.held or [], options.detached)
        try:
            if options.name:
                existing = self.gcs_call("CreateActor", request).existing
                if existing is not None:
                    return self._state_of(existing)
                self._submit(command)
            else:
                # In this order: the owner machine watches the actor, which must be known by then.
                self._core.send_gcs("CreateActor", encode(request))
                self._submit(command)
        finally:
            if stored is not None:
                self.release(stored)
        return state

    def _actor_spec(
        self, spec: TaskSpec, state: ActorHandleState, function: Function, options: ActorOptions
    ) -> ActorSpec:
        concurrency = options.max_concurrency or (1000 if options.is_async else 1)
        creation = ActorCreation(
            function.key,
            function.payload,
            spec,
            concurrency,
            options.is_async,
            self.job,
            options.concurrency_groups,
        )
        return ActorSpec(
            state.actor_id, self.job_id, options.class_name, self._core.me, options.resources, options.placement,
            msgspec.msgpack.encode(creation), options.name, state.namespace, options.detached, options.max_restarts,
            merged_key(self.environment, options.environment), options.strategy, concurrency, options.is_async,
            msgspec.msgpack.encode(state), options.labels, options.fallbacks,
        )  # fmt: skip

    def _state_of(self, spec: ActorSpec) -> ActorHandleState:
        state = msgspec.msgpack.decode(spec.handle, type=ActorHandleState).weakened()
        if state.max_pending_calls >= 0:
            self._pending.begin(state.actor_id)
        return state

    def call_actor(
        self, actor: ActorHandleState, method: str, args: tuple, kwargs: dict, options: CallOptions
    ) -> list[Any]:
        if self.closed:
            raise self._stale()
        stats = self._method_stats.get((actor.class_name, method))
        if stats is None:
            stats = self._method_stats[actor.class_name, method] = FunctionStats(f"{short(actor.class_name)}.{method}")
            self._core.facts.register(stats)
        if 0 <= actor.max_pending_calls:
            self._pending.admit(actor, method)
        task_id = self._ids.call_id()
        spec = TaskSpec(task_id, b"", stats.name, arguments.NO_ARGUMENTS, options.num_returns)
        spec.method = method
        record = TaskRecord(spec, stats, None, actor.actor_id, options.max_task_retries)
        record.may_overtake = actor.is_unordered
        self._stamp(record)
        stored = self._pack_arguments(record, args, kwargs) if args or kwargs else None
        if options.retry_exceptions:
            self._ask_for_retries(spec, options.retry_exceptions)
        if options.concurrency_group:
            spec.group = options.concurrency_group
        if options.num_returns < 0:
            spec.stream = self._stream_order(options)
        context = CURRENT_TASK.get()
        if context is not None:
            spec.parent = context.task_id
        first, count = task_id + FIRST_RETURN, options.num_returns
        refs = [self.make_ref(first, self._address, self.release)] if count == 1 else self._refs_of(task_id, count)
        self._submit(record)
        if stored is not None:
            self.release(stored)
        return refs

    def get_actor(self, name: str, namespace: str | None) -> ActorHandleState:
        wanted = self.namespace if namespace is None else namespace
        reply = self.gcs_call("GetNamedActor", gcs.GetNamedActor(name, wanted))
        if reply.spec is None:
            raise ValueError(
                f"Failed to look up actor with name '{name}' in namespace '{wanted}'. It was never created, has died, "
                f"or lives in another namespace: give namespace=... to look there."
            )
        return self._state_of(reply.spec)

    def kill_actor(self, actor: ActorHandleState, no_restart: bool) -> None:
        self._submit(KillingActor(actor.actor_id))
        self.gcs_call("KillActor", gcs.KillActor(actor.actor_id, no_restart, False))

    # Streams

    def _stream_order(self, options: TaskOptions | CallOptions) -> StreamOrder:
        return StreamOrder(options.backpressure, collect=self._address if options.num_returns == DYNAMIC else "")

    def peek_item(self, task_id: bytes, index: int) -> bool | None:
        value = self._core.owner.objects.values.get(return_id(task_id, index))
        if value is None:
            return None
        return value.error is None or value.error.code != END_OF_STREAM

    def next_item(self, task_id: bytes, index: int, timeout_s: float | None) -> Any:
        if self.closed:
            raise self._stale()
        key = return_id(task_id, index)
        there = self.peek_item(task_id, index)
        if there is None:
            if not self.values.block(Wait([key], 1, False, None), timeout_s):
                raise GetTimeoutError(
                    f"The next item of a generator (number {index}, {key.hex()}) was not there after {timeout_s:g} s: "
                    f"{self._core.owner.explain(key)}. The generator goes on; ask again."
                )
            there = self.peek_item(task_id, index)
        if not there:
            return None
        # Only a producer that may wait for this is worth waking the I/O thread.
        hand_over = self._submit if self._core.owner.generators.has_window(task_id) else self._core.queue.append
        hand_over(TakeItem(task_id, index))
        return self.make_ref(key, self._address, self.release)

    # Objects

    def put(self, value: Any) -> Any:
        if self.closed:
            raise self._stale()
        serialized = serialize(value, self.serialization)
        key = self._ids.put_id()
        ref = self.make_ref(key, self._address, self.release)
        self.values.put(key, serialized, self._site_of_put())
        return ref

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]:
        if self.closed:
            raise self._stale()
        values = self.values
        return [values.get_one(refs[0], timeout_s)] if len(refs) == 1 else values.get(refs, timeout_s)

    def wait(
        self, refs: Sequence[Any], num_returns: int, timeout_s: float | None, fetch_local: bool
    ) -> tuple[list[Any], list[Any]]:
        if self.closed:
            raise self._stale()
        return self.values.wait(refs, num_returns, timeout_s, fetch_local)

    def when_ready(self, ref: Any, callback: Callable[[], None]) -> None:
        self._submit(Wait([ref.id], 1, False, None, callback))

    def cancel(self, ref: Any, force: bool, recursive: bool) -> None:
        if owner_of(ref.id) != self.client_id:
            raise ValueError(
                f"The object {ref.id.hex()} was created by another process, and only that process can cancel its task."
            )
        task_id = task_of(ref.id)
        if force and is_actor_call(task_id):
            raise ValueError(
                f"force=True is not supported for actor tasks: it would end the actor that runs {task_id.hex()} for "
                f"everybody. Use cancel without force, or raybook.kill(actor)."
            )
        self._submit(CancelCommand(task_id, force, recursive))

    # Placement groups

    def create_placement_group(self, spec: PlacementGroupSpec) -> bytes:
        if self.closed:
            raise self._stale()
        spec.group_id, spec.job_id, spec.namespace = self._ids.task_id(), self.job_id, self.namespace
        self.placement_groups.create(spec)
        return spec.group_id

    def wait_placement_group(self, group_id: bytes, timeout_s: float) -> bool:
        if self.closed:
            raise self._stale()
        return self.placement_groups.wait(group_id, timeout_s)

    def placement_group_ready(self, group_id: bytes, value: Any) -> Any:
        if self.closed:
            raise self._stale()
        packed, _ = self.values.pack(value)
        make_ref = lambda object_id: self.make_ref(object_id, self._address, self.release)  # noqa: E731
        return self.placement_groups.ready(group_id, packed, make_ref)

    def remove_placement_group(self, group_id: bytes) -> None:
        if self.closed:
            raise self._stale()
        self.placement_groups.remove(group_id)

    # The rest

    def gcs_call(self, method: str, request: Any) -> Any:
        reply = self._core.call_gcs(method, encode(request))
        if reply.error_code:
            raise error_from_code(reply.error_code, reply.error_text)
        return msgspec.msgpack.decode(reply.reply, type=gcs.METHODS[method][1])

    def publish_facts(self, facts: list[Fact]) -> None:
        self._core.send_raylet(PublishFacts(facts))

    def subscribe_facts(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        core = self._core
        with self._listeners_lock:
            core.fact_listeners.append(callback)
            core.send_raylet(Subscribe(0, True))

        def unsubscribe() -> None:
            with self._listeners_lock:
                if callback in core.fact_listeners:
                    core.fact_listeners.remove(callback)
                    if not core.fact_listeners:
                        core.send_raylet(Subscribe(0, False))

        return unsubscribe

    def flush_output(self, timeout_s: float) -> None:
        if self.closed or self._core.lost_reason:
            return
        flushed = threading.Event()
        self._core.raylet_handlers[OutputFlushed] = lambda message: flushed.set()
        self._core.send_raylet(FlushOutput())
        flushed.wait(timeout_s)

    def memory(self) -> list[dict]:
        if self.closed or self._core.lost_reason:
            raise self._stale()
        # Answered between two batches of the I/O thread, so that the tables fit together; and not before the next one,
        # so that what this thread did earlier is in them.
        answer: Future[list[dict]] = Future()

        def report() -> None:
            try:
                answer.set_result(memory_report.rows(self._core.owner))
            except Exception as error:  # noqa: BLE001 - a fault in a report belongs to who asked, not to the thread.
                answer.set_exception(error)

        self._core.submit_call(lambda: self._core.submit_call(report))
        while True:
            try:
                return answer.result(MEMORY_LOOK_S)
            except TimeoutError:
                if self._core.lost_reason:
                    raise self._stale() from None

    def shutdown(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._core.stop()
        if self._stop_cluster is not None:
            self._stop_cluster()

    def _stale(self) -> Exception:
        if self._is_forked:
            return StaleReferenceError(
                "This process was forked from one that is connected to raybook; the connection did not come along. "
                "Call raybook.init(address=...) here, or do the work with raybook tasks instead of fork."
            )
        if self._core.lost_reason:
            return self._core.lost_error()
        return StaleReferenceError("raybook was shut down; call raybook.init() to start or join a cluster again.")


def _no_factory(*args: Any) -> Any:
    raise RuntimeError("No class of references was registered with this engine.")
