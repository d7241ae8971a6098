"""Local mode: the Engine protocol in one process, for debuggers and for tests of everything above it.

A task runs inside ``.remote()``, on the caller's thread, so that breakpoints, ``print`` and ``%debug`` work as in a
plain function call. What can be the same as on a cluster is: arguments and results are copied through serialization,
functions run from their exported form, errors come as RayTaskError, actors keep their state and order. What differs: a
task whose arguments are ready runs at once and blocks its caller (one that waits for something the caller does later
waits for ever), resources are compared with the totals only, and nothing crashes alone. Async and threaded actors do
run beside the caller, so that patterns such as signals work.
"""

from __future__ import annotations

import itertools
import os
import platform
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raybook.base.dynamic_generator import DynamicObjectRefGenerator
from raybook.base.errors import (
    TASK_CODE,
    ActorAlreadyExistsError,
    GetTimeoutError,
    PendingCallsLimitExceeded,
    StaleReferenceError,
)
from raybook.base.facts import Fact, FactDelta
from raybook.base.ids import ACTOR_ID_BYTES, IdFactory, is_stream, random_id, return_id, task_of
from raybook.base.names import short
from raybook.base.resources import CPU, GPU, MEMORY, Shape, describe, missing, shape_of
from raybook.base.specs import DYNAMIC, ErrorValue, PlacementGroupSpec
from raybook.base.task_context import TaskContext
from raybook.engines.engine import ActorHandleState, ActorOptions, CallOptions, Function, TaskOptions
from raybook.engines.local_actors import LocalActor
from raybook.engines.local_groups import LocalPlacementGroups
from raybook.engines.local_objects import LocalObjects
from raybook.engines.local_resources import assign, physical_memory_bytes
from raybook.engines.local_rows import actor_info, only_job, survey_reply, task_row
from raybook.engines.local_streams import LocalStreams
from raybook.engines.local_tasks import Ended, LocalCall, LocalRunner, cancelled
from raybook.engines.own_tasks import NothingUnfinished
from raybook.protocol import functions
from raybook.protocol.messages import gcs
from raybook.protocol.messages.survey import Survey
from raybook.protocol.serialization import SerializationContext, serialize

TIMELINE_EVENTS_MAX = 10_000


class LocalModeEngine:
    """See ``engines.engine.Engine`` for the contract. Amounts are the user's numbers; None for what the machine has."""

    session = None

    def __init__(
        self,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        namespace: str | None = None,
    ) -> None:
        self.client_id = random_id()
        self.node_id = random_id()
        self.job_id = random_id()
        self.namespace = namespace or random_id().hex()
        self.address = "local_mode"
        self.gcs_address = self.environment = ""
        self.session_dir = os.path.join(tempfile.gettempdir(), f"raybook-local-{self.client_id.hex()}")
        self.closed, self.own_tasks = False, NothingUnfinished()
        self.make_ref: Callable[[bytes, str, Callable[[bytes], None]], Any] = _no_factory
        self.serialization = SerializationContext({})
        self._totals: Shape = shape_of(
            {CPU: (os.cpu_count() or 1) if num_cpus is None else num_cpus, GPU: num_gpus or 0, **(resources or {})}
        )
        self._totals[MEMORY] = int(memory) if memory is not None else physical_memory_bytes()
        self._labels = dict(labels or {})
        self._released: deque[bytes] = deque()
        self.release = self._released.append
        self._ids = IdFactory(self.client_id)
        self._objects = LocalObjects()
        self._streams = LocalStreams(self._objects)
        self._runner = LocalRunner(self._objects, self.serialization)
        self._groups = LocalPlacementGroups(self.node_id, self._totals, self._labels, self._objects)
        self._functions: dict[bytes, Any] = {}
        self._calls: dict[bytes, LocalCall] = {}
        self._actors: dict[bytes, LocalActor] = {}
        self._names: dict[tuple[str, str], LocalActor] = {}
        self._kv: dict[tuple[str, bytes], bytes] = {}
        self._facts: dict[tuple[str, str], Fact] = {}
        self._fact_version = itertools.count(1)
        self._listeners: list[Callable[[Any], None]] = []
        self._events: deque[dict[str, Any]] = deque(maxlen=TIMELINE_EVENTS_MAX)
        self._lock = threading.RLock()

    # Tasks

    def submit_task(self, function: Function, args: tuple, kwargs: dict, options: TaskOptions) -> list[Any]:
        self._check_open()
        call = self._runner.pack(self._ids.task_id(), options.name, options.num_returns, args, kwargs, self.make_ref)
        call.retries, call.retry_exceptions = options.max_retries, options.retry_exceptions
        shape = dict(options.scheduling_class.resources)
        strategy = options.scheduling_class.strategy
        call.context = TaskContext(call.task_id, call.name, 0, assign(shape, strategy))
        refs = self._begin(call)
        lacking = missing(shape, self._totals)
        if lacking:
            self._finish(call, Ended([], self._infeasible("TaskUnschedulableError", options.name, shape)))
            return refs
        self._calls[call.task_id] = call
        payload, key = function.payload, function.key

        def run() -> None:
            ended = (
                Ended([], cancelled(call))
                if call.is_cancelled
                else self._runner.run(call, lambda: self._load(key, payload))
            )
            self._finish(call, ended)

        self._when_resolved(call, run)
        return refs

    def _begin(self, call: LocalCall) -> list[Any]:
        self._hold(call.held)
        for object_id in call.return_ids():
            self._objects.add(object_id)
        if call.num_returns < 0:
            self._streams.begin(call.task_id)
        return [self.make_ref(object_id, self.address, self.release) for object_id in call.return_ids()]

    def _when_resolved(self, call: LocalCall, run: Callable[[], None]) -> None:
        """Run it now, on this thread, if its arguments are there; else beside the caller as soon as they are."""
        pending = [object_id for object_id in call.dependencies if not self._objects.is_ready(object_id)]
        if not pending:
            run()
            return
        arrived: list[None] = []

        def on_ready() -> None:
            arrived.append(None)
            if len(arrived) == len(pending) and not self.closed:
                # A thread of its own, and not a pool's: one that never ends must not hold up the interpreter's exit.
                threading.Thread(target=run, name=f"raybook-{call.name}", daemon=True).start()

        self._objects.when_ready(pending, on_ready)

    def _load(self, key: bytes, payload: bytes) -> Any:
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = functions.load(payload)
        return function

    def _finish(self, call: LocalCall, ended: Ended) -> None:
        self._calls.pop(call.task_id, None)
        self._events.append(task_row(call, ended))
        if ended.error is None:
            # Before anything is given back: the call's own references to what its results hold are gone already.
            self._hold([info.object_id for value in ended.values for info in value.contained])
        orphans: list[bytes] = []
        if call.num_returns < 0:
            orphans += self._finish_stream(call, ended)
        for index, object_id in enumerate(call.return_ids()):
            orphans += self._objects.fill(object_id, ended.error if ended.error is not None else ended.values[index])
        orphans += self._objects.drop(call.held)
        self._forget_handles(orphans)
        self._drain()
        if isinstance(ended.exit, KeyboardInterrupt):
            raise ended.exit

    def _finish_stream(self, call: LocalCall, ended: Ended) -> list[bytes]:
        """What a generator made becomes its items; an error is the last of them, and no error of the call itself where
        the generator raised it."""
        items: list[Any] = list(call.items)
        self._hold([info.object_id for item in call.items for info in item.contained])
        if ended.error is not None:
            items.append(ended.error)
        value: Any = None
        if call.num_returns == DYNAMIC:
            keys = [return_id(call.task_id, index) for index in range(1, len(items) + 1)]
            value = DynamicObjectRefGenerator([self.make_ref(key, self.address, lambda key: None) for key in keys])
        orphans = self._streams.finish(call.task_id, items)
        if ended.error is not None and ended.error.code == TASK_CODE:
            ended.error = None
        packed = serialize(value, self.serialization, f"return value of `{call.name}`")
        self._hold([info.object_id for info in packed.contained])
        ended.values = [packed]
        return orphans + (self._streams.drop(call.task_id) if call.num_returns == DYNAMIC else [])

    def _infeasible(self, code: str, name: str, shape: Shape) -> ErrorValue:
        text = (
            f"`{name}` asks for {describe(shape)}, and local mode has {describe(self._totals)} in all, so it could "
            "never run. Ask for less, or give init(local_mode=True) more: the numbers are only counted here."
        )
        return ErrorValue(code, text)

    # Actors

    def create_actor(self, function: Function, args: tuple, kwargs: dict, options: ActorOptions) -> ActorHandleState:
        self._check_open()
        namespace = self.namespace if options.namespace is None else options.namespace
        with self._lock:
            taken = self._living(options.name, namespace)
            if taken is not None and options.get_if_exists:
                return taken.state.weakened()
            if taken is not None:
                raise ActorAlreadyExistsError(
                    f"The name {options.name} (namespace={namespace}) is already taken. Use another name, or get the "
                    f"existing actor with raybook.get_actor({options.name!r}, namespace={namespace!r})."
                )
        actor_id = self._ids.actor_id()
        state = ActorHandleState(
            actor_id=actor_id,
            owner_address=self.address,
            class_name=options.class_name,
            methods=options.methods,
            is_async=options.is_async,
            max_task_retries=options.max_task_retries,
            max_pending_calls=options.max_pending_calls,
            name=options.name,
            namespace=namespace,
            detached=options.detached,
            method_defaults=options.method_defaults,
            concurrency_groups=list(options.concurrency_groups),
        )
        creation = self._runner.pack(actor_id, f"{short(options.class_name)}.__init__", 0, args, kwargs, self.make_ref)
        self._hold(creation.held)
        payload, key = function.payload, function.key
        actor = LocalActor(
            state,
            options,
            creation,
            lambda: self._load(key, payload),
            assign(options.resources, options.strategy),
            self._objects,
            self._runner,
            self._finish,
        )
        self._actors[actor_id] = actor
        if options.name:
            self._names[namespace, options.name] = actor
        if missing(options.placement, self._totals):
            error = self._infeasible("ActorUnschedulableError", options.class_name, options.placement)
            actor.refuse(error)
        actor.start()
        return state

    def call_actor(
        self, actor: ActorHandleState, method: str, args: tuple, kwargs: dict, options: CallOptions
    ) -> list[Any]:
        self._check_open()
        local = self._actors.get(actor.actor_id)
        if local is not None and 0 <= actor.max_pending_calls <= local.unfinished:
            raise PendingCallsLimitExceeded(
                f"The actor {actor.class_name} ({actor.actor_id.hex()}) has {local.unfinished} calls pending, and its "
                f"max_pending_calls is {actor.max_pending_calls}. The call was not submitted; wait for results first."
            )
        call = self._runner.pack(self._ids.task_id(), options.name, options.num_returns, args, kwargs, self.make_ref)
        call.retries, call.retry_exceptions = options.max_task_retries, options.retry_exceptions
        refs = self._begin(call)
        self._calls[call.task_id] = call
        if local is None:
            text = f"The actor {actor.class_name} is dead because nobody held a handle of it."
            self._finish(call, Ended([], ErrorValue("ActorDiedError", text)))
        else:
            local.call(method, options.concurrency_group, call)
        return refs

    def get_actor(self, name: str, namespace: str | None) -> ActorHandleState:
        self._check_open()
        wanted = self.namespace if namespace is None else namespace
        actor = self._living(name, wanted)
        if actor is None:
            raise ValueError(
                f"Failed to look up actor with name '{name}' in namespace '{wanted}'. It was never created, has died, "
                "or lives in another namespace: give namespace=... to look there."
            )
        return actor.state.weakened()

    def kill_actor(self, actor: ActorHandleState, no_restart: bool) -> None:
        local = self._actors.get(actor.actor_id)
        if local is not None:
            local.kill("it was killed by `ray.kill`", may_restart=not no_restart)

    def _living(self, name: str, namespace: str) -> LocalActor | None:
        actor = self._names.get((namespace, name)) if name else None
        return actor if actor is not None and not actor.is_dead else None

    # Streams

    def peek_item(self, task_id: bytes, index: int) -> bool | None:
        return self._streams.peek(task_id, index)

    def next_item(self, task_id: bytes, index: int, timeout_s: float | None) -> Any:
        self._check_open()
        key = return_id(task_id, index)
        self._objects.wait([key], 1, timeout_s, any_error=False)
        there = self._streams.peek(task_id, index)
        if there is None:
            raise GetTimeoutError(f"The next item of a generator ({key.hex()}) was not there after {timeout_s} s.")
        if not there:
            return None
        self._streams.take(task_id, index)
        return self.make_ref(key, self.address, self.release)

    # Objects

    def adopt_ref(self, object_id: bytes, owner_address: str) -> Any:
        self._hold([object_id])
        return self.make_ref(object_id, owner_address, self.release)

    def adopt_actor(self, actor: ActorHandleState) -> None:
        if not actor.is_weak:
            self._hold([actor.actor_id])

    def put(self, value: Any) -> Any:
        self._check_open()
        packed = serialize(value, self.serialization, "value")
        self._hold([info.object_id for info in packed.contained])
        object_id = self._ids.put_id()
        self._objects.add(object_id)
        self._objects.fill(object_id, packed)
        return self.make_ref(object_id, self.address, self.release)

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]:
        self._check_open()
        return self._objects.get([ref.id for ref in refs], timeout_s)

    def wait(
        self, refs: Sequence[Any], num_returns: int, timeout_s: float | None, fetch_local: bool
    ) -> tuple[list[Any], list[Any]]:
        self._check_open()
        self._objects.wait([ref.id for ref in refs], num_returns, timeout_s, any_error=False)
        ready: list[Any] = []
        rest: list[Any] = []
        for ref in refs:
            (ready if len(ready) < num_returns and self._objects.is_ready(ref.id) else rest).append(ref)
        return ready, rest

    def when_ready(self, ref: Any, callback: Callable[[], None]) -> None:
        self._check_open()
        self._objects.when_ready([ref.id], callback)

    def cancel(self, ref: Any, force: bool, recursive: bool) -> None:
        self._check_open()
        call = self._calls.get(task_of(ref.id))
        if call is None:
            return
        if force and call.context is not None and call.context.actor is not None:
            raise ValueError("force=True is not supported for actor calls; kill(actor) ends the whole actor.")
        call.is_cancelled = True
        if call.context is not None:
            call.context.is_cancelled = True
        if call.stop is not None:
            call.stop()

    # Counting

    def _hold(self, ids: list[bytes]) -> None:
        for key in ids:
            if len(key) == ACTOR_ID_BYTES:
                actor = self._actors.get(key)
                if actor is not None:
                    actor.handles += 1
            else:
                self._objects.hold((key,))

    def _drain(self) -> None:
        """Give back what refs and handles released; here and not in their finalizers."""
        while self._released:
            key = self._released.popleft()
            if is_stream(key):
                self._forget_handles(self._streams.drop(task_of(key)))
                continue
            self._forget_handles([key] if len(key) == ACTOR_ID_BYTES else self._objects.drop((key,)))

    def _forget_handles(self, ids: list[bytes]) -> None:
        for key in ids:
            actor = self._actors.get(key)
            if actor is None:
                continue
            actor.handles -= 1
            if actor.handles <= 0 and not actor.state.detached:
                actor.end_when_idle("nobody held a handle of it")

    def _check_open(self) -> None:
        if self.closed:
            raise StaleReferenceError("raybook was shut down; call raybook.init() to start again.")
        self._drain()

    # Placement groups

    def create_placement_group(self, spec: PlacementGroupSpec) -> bytes:
        self._check_open()
        spec.group_id, spec.job_id, spec.namespace = self._ids.task_id(), self.job_id, self.namespace
        with self._lock:
            self._groups.create(spec)
        return spec.group_id

    def wait_placement_group(self, group_id: bytes, timeout_s: float) -> bool:
        self._check_open()
        return self._groups.is_created(group_id)

    def placement_group_ready(self, group_id: bytes, value: Any) -> Any:
        self._check_open()
        object_id = self._ids.put_id()
        self._objects.add(object_id)
        with self._lock:
            self._groups.promise(group_id, object_id, serialize(value, self.serialization, "value"))
        return self.make_ref(object_id, self.address, self.release)

    def remove_placement_group(self, group_id: bytes) -> None:
        self._check_open()
        with self._lock:
            self._groups.remove(group_id)

    # The rest

    def gcs_call(self, method: str, request: Any) -> Any:
        about_groups = self._groups.answer(request)
        if about_groups is not None:
            return about_groups
        if isinstance(request, gcs.ListNodes):
            return gcs.NodeList([self._node_info()])
        if isinstance(request, gcs.ListActors):
            return gcs.ActorList([actor_info(actor) for actor in self._actors.values()])
        if isinstance(request, gcs.ListJobs):
            return only_job(self.job_id, self.node_id, self.namespace)
        if isinstance(request, Survey):
            return survey_reply(request, self.client_id, self.node_id, self._events, self._objects.memory())
        if isinstance(request, gcs.KvGet):
            return gcs.KvReply(self._kv.get((request.namespace, request.key)))
        if isinstance(request, gcs.KvPut):
            key = (request.namespace, request.key)
            added = key not in self._kv
            if added or request.overwrite:
                self._kv[key] = request.value
            return gcs.KvReply(added=added)
        if isinstance(request, gcs.KvDelete):
            return gcs.KvReply(added=self._kv.pop((request.namespace, request.key), None) is not None)
        if isinstance(request, gcs.KvKeys):
            keys = [key for space, key in self._kv if space == request.namespace and key.startswith(request.prefix)]
            return gcs.KvReply(keys=keys)
        raise ValueError(
            f"Local mode has no {method}: it belongs to a cluster. Call raybook.init() without local_mode."
        )

    def _node_info(self) -> gcs.NodeInfo:
        return gcs.NodeInfo(
            node_id=self.node_id,
            hostname=platform.node(),
            pid=os.getpid(),
            resources_total=dict(self._totals),
            resources_available=dict(self._totals),
            labels=dict(self._labels),
            is_head=True,
        )

    def publish_facts(self, facts: list[Fact]) -> None:
        with self._lock:
            for fact in facts:
                self._facts[fact.kind, fact.key] = fact
            version = next(self._fact_version)
            listeners = list(self._listeners)
        for listener in listeners:
            listener(FactDelta(version - 1, version, facts))

    def subscribe_facts(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        with self._lock:
            self._listeners.append(callback)
            snapshot = FactDelta(0, next(self._fact_version), list(self._facts.values()), True)
        callback(snapshot)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._listeners:
                    self._listeners.remove(callback)

        return unsubscribe

    def flush_output(self, timeout_s: float) -> None:
        """What runs here has printed already."""

    def memory(self) -> list[dict]:
        return self._objects.memory()

    def shutdown(self) -> None:
        if self.closed:
            return
        self.closed = True
        for actor in list(self._actors.values()):
            actor.stop()


def _no_factory(object_id: bytes, owner_address: str, release: Callable[[bytes], None]) -> Any:
    raise RuntimeError("The API has not introduced its class of references (raybook.api.connect).")
