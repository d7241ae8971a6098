"""User: the hands of one running piece of user code: submit, put, get, wait, call, cancel, kill.

What ``engines/native`` and ``worker/values`` do on user threads, in the same order of events towards the owner machine.
A value is a *digest* (a number that follows from the program and its arguments) and the references inside it. Methods
that wait are generators, to be used with ``yield from``. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from raybook.base.ids import ACTOR_ID_BYTES, owner_of, return_id, stream_id, task_of
from raybook.base.specs import (
    END_OF_STREAM,
    STREAMING,
    ActorSpec,
    ErrorValue,
    Location,
    RefInfo,
    Value,
)
from raybook.core.owner.records import (
    CancelCommand,
    CancelWait,
    CreateActorCommand,
    FunctionStats,
    HoldRef,
    KillingActor,
    KnowActor,
    Pin,
    Put,
    SourceLost,
    TakeItem,
    TaskRecord,
    Unpin,
    Wait,
)
from raybook.core.worker.copies import CopyTicket
from raybook.protocol.messages.gcs import CreateActor, KillActor
from raybook.protocol.messages.worker import ActorCreation, ArgRef, StreamOrder, TaskSpec
from raybook.sim.arena import Region, View
from raybook.sim.fiber import Fiber, Program
from raybook.sim.handles import Handle, TaskEntry
from raybook.sim.plans import TaskPlan, digest_of

if TYPE_CHECKING:
    from raybook.sim.process import Process

READ_AGAIN_US = 20_000
NODE_DIED = "NodeDiedError"
Payload = tuple[int, list[tuple[bytes, str]]]
_encode = msgspec.msgpack.encode
_decoder = msgspec.msgpack.Decoder(Payload)


class UserError(Exception):
    """What user code raises."""


class Cancelled(BaseException):
    """What the cancel signal raises in user code."""


class Got:
    """One value as user code got it: its digest and the references inside, or an error."""

    __slots__ = ("digest", "error", "inside")

    def __init__(self, digest: int, inside: list[Handle], error: ErrorValue | None = None) -> None:
        self.digest = digest
        self.inside = inside
        self.error = error


class User:
    """task_id: of the task whose code this is, b"" for a driver. Its handles and views go with ``close``, at the end."""

    def __init__(self, process: Process, task_id: bytes = b"", via: frozenset[bytes] = frozenset()) -> None:
        self.process = process
        self.world = process.world
        self.ledger = process.world.ledger
        self.task_id = task_id
        self.fiber: Fiber | None = None
        self.before_block: Callable[[], None] = _nothing
        self.after_block: Callable[[], None] = _nothing
        self.handles: dict[Handle, None] = {}
        self._views: list[tuple[View, Unpin]] = []
        self._via = via

    # References

    def _new(self, key: bytes) -> Handle:
        """A reference to an object of ours, counted by the event that makes it."""
        handle = Handle(self.ledger, self.process, key, self.process.address, frozenset())
        self.handles[handle] = None
        return handle

    def adopt(self, key: bytes, address: str, via: frozenset[bytes]) -> Handle:
        """A reference that came inside a value or with arguments."""
        info = RefInfo(key, address)
        self.process.submit(KnowActor(key, address) if len(key) == ACTOR_ID_BYTES else HoldRef(info))
        handle = Handle(self.ledger, self.process, key, address, via)
        self.handles[handle] = None
        return handle

    def drop(self, handle: Handle) -> None:
        """User code lets go of it."""
        self.handles.pop(handle, None)
        handle.drop()

    def give(self, handle: Handle, to: User) -> None:
        """Another piece of code of this process keeps it from now on (state of an actor)."""
        if self.handles.pop(handle, 0) is None:
            to.handles[handle] = None

    def close(self) -> None:
        """The code is over: its locals are gone."""
        self.close_views()
        for handle in list(self.handles):
            self.drop(handle)

    def close_views(self) -> None:
        """Let go of what was read without a copy."""
        views, self._views = self._views, []
        for view, unpin in views:
            self.world.check.memory.looked(view)
            view.close()
            self.process.append(unpin)

    # Tasks

    def submit(
        self, plan: TaskPlan, args: Sequence[Handle], boxed: Sequence[Handle], strategy: str = ""
    ) -> list[Handle]:
        """args: top-level arguments; boxed: references inside another one. strategy: of ``base/strategies``."""
        task_id = self.process.ids.task_id()
        spec = TaskSpec(task_id, b"f", plan.name, b"", plan.num_returns)
        what = plan.scheduling_class
        if strategy:
            what = msgspec.structs.replace(what, strategy=strategy)
        record = TaskRecord(spec, self._stats(plan.name), what, b"", plan.retries)
        return self._submit(record, plan, args, boxed, plan.retries)

    def _submit(
        self, record: TaskRecord, plan: TaskPlan, args: Sequence[Handle], boxed: Sequence[Handle], retries: int
    ) -> list[Handle]:
        spec = record.spec
        spec.args = _encode((plan, [(handle.key, handle.address) for handle in boxed]))
        spec.parent = self.task_id
        spec.retry_exceptions = plan.retry_exceptions
        spec.max_calls = plan.max_calls
        if plan.num_returns == STREAMING:
            spec.stream = StreamOrder(plan.window)
        self._hold_arguments(record, args, boxed)
        self._enter(spec.task_id, plan, args, retries)
        self.process.submit(record)
        count = 1 if plan.num_returns < 0 else plan.num_returns
        return [self._new(return_id(spec.task_id, index)) for index in range(count)]

    @staticmethod
    def _hold_arguments(record: TaskRecord, args: Sequence[Handle], boxed: Sequence[Handle]) -> None:
        spec = record.spec
        if args:
            spec.slots = [ArgRef(handle.info()) for handle in args]
        if boxed:
            spec.contained = [handle.info() for handle in boxed]
        if args or boxed:
            record.held = [handle.info() for handle in (*args, *boxed)]

    def _enter(self, task_id: bytes, plan: TaskPlan, args: Sequence[Handle], retries: int) -> None:
        expected, tasks = self.ledger.expected, self.ledger.tasks
        digests = [expected[handle.key] for handle in args]
        upstream = [tasks[task_of(handle.key)] for handle in args if task_of(handle.key) in tasks]
        raises = plan.raises or any(entry.raises for entry in upstream)
        tasks[task_id] = TaskEntry(plan.name, 1 + retries, raises=raises)
        for index in range(max(1, plan.num_returns, plan.items + 1)):
            expected[return_id(task_id, index)] = digest_of(plan.seed, index, digests)

    def _stats(self, name: str) -> FunctionStats:
        stats = self.process.stats.get(name)
        if stats is None:
            stats = self.process.stats[name] = FunctionStats(name)
        return stats

    def cancel(self, handle: Handle, force: bool, recursive: bool = True) -> None:
        """The user wants an end of the task that makes it."""
        task_id = task_of(handle.key)
        self.process.submit(CancelCommand(task_id, force, recursive))
        self.world.note_cancel(task_id)

    # Actors

    def create_actor(
        self,
        plan: TaskPlan,
        args: Sequence[Handle],
        max_restarts: int,
        resources: dict[str, int],
        concurrency: int,
        strategy: str = "",
    ) -> Handle:
        """An actor without a name; plan: its ``__init__``."""
        process = self.process
        actor_id = process.ids.actor_id()
        spec = TaskSpec(actor_id, b"a", f"{plan.name}.__init__", _encode((plan, [])))
        record = TaskRecord(spec, self._stats(spec.name), None, actor_id)
        self._hold_arguments(record, args, ())
        creation = ActorCreation(b"a", b"", spec, concurrency, False, process.owner.leases.job)
        placement = resources or {"CPU": 10_000}
        actor = ActorSpec(
            actor_id, process.job_id, plan.name, process.me, resources, placement, _encode(creation),
            max_restarts=max_restarts, max_concurrency=concurrency, strategy=strategy,
        )  # fmt: skip
        self.ledger.tasks[actor_id] = TaskEntry(spec.name, 1 << 30, raises=plan.raises)
        process.call_gcs("CreateActor", CreateActor(actor))
        process.submit(CreateActorCommand(actor_id, record.held or [], False))
        return self._new(actor_id)

    def call(
        self, actor: Handle, plan: TaskPlan, args: Sequence[Handle], boxed: Sequence[Handle], retries: int
    ) -> list[Handle]:
        """Call a method. retries: max_task_retries."""
        task_id = self.process.ids.call_id()
        spec = TaskSpec(task_id, b"", plan.name, b"", plan.num_returns)
        spec.method = plan.name
        record = TaskRecord(spec, self._stats(plan.name), None, actor.key, retries)
        self.world.check.order.submitted(self.process.client_id, actor.key, task_id)
        return self._submit(record, plan, args, boxed, retries)

    def kill(self, actor: Handle, no_restart: bool) -> Program:
        """``ray.kill``: waits for the GCS's word."""
        self.process.submit(KillingActor(actor.key))
        self.world.note_kill(actor.key)
        assert self.fiber is not None
        wake = self.fiber.waker()
        request = KillActor(actor.key, no_restart, False, "it was killed by `ray.kill`")
        self.process.call_gcs("KillActor", request, wake)
        yield

    # Objects

    def put(self, digest: int, size: int, boxed: Sequence[Handle]) -> Program:
        """A value with references inside; the handle, or None when the store is full."""
        assert self.fiber is not None
        value = yield from self.pack(self.fiber, digest, boxed, size, b"")
        if value.error is not None:
            return None
        key = self.process.ids.put_id()
        self._name_region(key, value)
        self.ledger.expected[key] = digest
        self.process.append(Put(key, value, value.location is not None))
        return self._new(key)

    def pack(self, fiber: Fiber, digest: int, boxed: Sequence[Handle], size: int, key: bytes) -> Program:
        """The value, inline or in the arena. key: of the object, if it is known."""
        payload = _encode((digest, [(handle.key, handle.address) for handle in boxed]))
        contained = [handle.info() for handle in boxed] or None
        if size <= self.world.config.inline_bytes_max:
            return Value(payload, None, None, contained)
        ticket = yield from self.process.allocate(fiber, size)
        if ticket.offset < 0:
            return Value(error=ErrorValue("task", f"ObjectStoreFullError: {ticket.refusal}", b"full"))
        region = Region(ticket.offset, size, key, payload, self.process.client_id)
        self.process.node.arena.write(region)
        return Value(None, Location(self.process.node.node_id, ticket.offset, size), None, contained)

    def _name_region(self, key: bytes, value: Value) -> None:
        if value.location is not None:
            regions = self.process.node.arena.regions
            regions[value.location.offset] = regions[value.location.offset]._replace(key=key)

    def get(self, handles: Sequence[Handle], timeout_ms: int | None = None) -> Program:
        """A list of ``Got``, each checked; None for those that are not there (one has failed, or the time is up)."""
        keys = list(dict.fromkeys(handle.key for handle in handles))
        values = self.process.owner.objects.values
        is_done = True
        if any(key not in values for key in keys):
            is_done = yield from self._block(Wait(keys, len(keys), True, None), timeout_ms)
        found: list[Value | None] = []
        for key in (handle.key for handle in handles):
            while key not in values and is_done and not self._has_failed(keys):
                # It was there, and was lost with its node a moment ago: it is on its way again.
                is_done = yield from self._block(Wait([key], 1, True, None), timeout_ms)
            found.append(values.get(key))
        got: list[Got | None] = []
        for handle, value in zip(handles, found, strict=True):
            got.append(None if value is None else (yield from self.read(handle, value)))
        self.world.check.liveness.got(self.process, handles, is_done, got)
        return got

    def _has_failed(self, keys: Sequence[bytes]) -> bool:
        values = self.process.owner.objects.values
        return any(key in values and values[key].error is not None for key in keys)

    def wait(self, handles: Sequence[Handle], count: int, timeout_ms: int | None) -> Program:
        """Which of them are ready."""
        values = self.process.owner.objects.values
        if sum(handle.key in values for handle in handles) < count:
            yield from self._block(Wait([handle.key for handle in handles], count, False, None), timeout_ms)
        return [handle for handle in handles if handle.key in values]

    def _block(self, wait: Wait, timeout_ms: int | None) -> Program:
        assert self.fiber is not None
        wake = self.fiber.waker()
        wait.callback = lambda: wake(True)
        timer = None
        if timeout_ms is not None:
            timer = self.world.timeline.after(timeout_ms * 1000, wake, False)
        self.world.check.liveness.begins(self.process, wait, timeout_ms)
        self.before_block()
        self.process.submit(wait)
        try:
            is_done = yield
        except BaseException:
            self.process.submit(CancelWait(wait))
            raise
        finally:
            self.world.check.liveness.ends(wait)
            self.after_block()
            if timer is not None:
                timer.cancel()
        if not is_done:
            self.process.submit(CancelWait(wait))
        return is_done

    def read(self, handle: Handle, value: Value) -> Program:
        """What ``get`` makes of a value that is there."""
        via = handle.via | frozenset(self._makers(handle.key))
        got = yield from self.unpack(handle.key, value, handle.address, via)
        self.world.check.values.got(self.process, handle.key, got, via)
        return got

    def _makers(self, key: bytes) -> list[bytes]:
        entry = self.ledger.tasks.get(task_of(key))
        return [owner_of(key), *(entry.ran_on if entry is not None else ())]

    def unpack(self, key: bytes, value: Value, address: str, via: frozenset[bytes]) -> Program:
        """The digest, and the references inside, adopted."""
        if value.error is not None:
            value.error.seen = True
            return Got(0, [], value.error)
        payload = value.inline
        if payload is None:
            payload = yield from self._look(key, value, address, via)
        if isinstance(payload, Got):
            return payload
        if payload is None:
            return Got(0, [], ErrorValue("garbage", f"what lies at {value.location} is another object."))
        digest, inside = _decoder.decode(payload)
        return Got(digest, [self.adopt(key, address, via | self._via) for key, address in inside])

    def _look(self, key: bytes, value: Value, address: str, via: frozenset[bytes]) -> Program:
        """First pinned, then looked at, as ``worker/values`` does. Bytes; None for garbage; a Got that took its place."""
        location = value.location
        assert location is not None, "a value is neither inline, nor located, nor an error"
        here = self.process.node.node_id
        while not location.spill_path or location.node_id != here:
            unpin = Unpin(key, location.offset)
            self.process.append(Pin(RefInfo(key, address), location.offset))
            if value.location is not location:
                self.process.append(unpin)
            elif location.node_id == here:
                return self._view(key, location.offset, unpin, via)
            else:
                try:
                    return (yield from self._read_copy(key, location, address, via))
                finally:
                    self.process.append(unpin)
            location = value.location
            assert location is not None, "a located value has lost its location"
        return self.process.node.disk.read(location, key)

    def _view(self, key: bytes, offset: int, unpin: Unpin, via: frozenset[bytes]) -> bytes | None:
        """Look at a place that is pinned, until the views are closed."""
        arena = self.process.node.arena
        region = arena.read(offset)
        if region is None or region.key not in (key, b""):
            self.process.append(unpin)
            return None
        if self.process.is_alive:
            self._views.append((arena.view(region, self.process.client_id, via), unpin))
        return region.payload

    def _read_copy(self, key: bytes, location: Location, address: str, via: frozenset[bytes]) -> Program:
        """The object lies on another node: read a copy, which is made if there is none yet."""
        process, copies = self.process, self.process.owner.objects.copies
        while True:
            copy = copies.get(key)
            if copy is None:
                assert self.fiber is not None
                ticket: CopyTicket = yield from process.fetch_copy(self.fiber, key, location)
                if ticket.copy is None:
                    return (yield from self._read_again(RefInfo(key, address), location, ticket, via))
                copy = ticket.copy
            # First pinned, then looked at: the raylet may ask for the copy back between the two.
            unpin = Unpin(key, copy.offset)
            process.append(Pin(RefInfo(key, address), copy.offset))
            if copies.get(key) is copy:
                return self._view(key, copy.offset, unpin, via)
            process.append(unpin)

    def _read_again(self, ref: RefInfo, location: Location, ticket: CopyTicket, via: frozenset[bytes]) -> Program:
        """The node where it lay is dead. Its owner has it made again, or says why not."""
        process, key = self.process, ref.object_id
        if ticket.code != NODE_DIED and not process.owner.recovery.is_dead(location.node_id):
            text = (
                f"it lies on node {location.node_id.hex()} and could not be read: {ticket.reason}. The node is alive."
            )
            return Got(0, [], ErrorValue("unreadable", text))
        process.append(SourceLost(key, location))
        process.submit(HoldRef(ref))
        values = process.owner.objects.values
        try:
            # Its owner may not have heard of the death yet, and would name the same place again.
            yield from self.work(READ_AGAIN_US)
            value = values.get(key)
            if value is None:
                yield from self._block(Wait([key], 1, False, None), None)
                value = values[key]
            return (yield from self.unpack(key, value, ref.owner_address, via))
        finally:
            process.append(key)

    def fetch(self, info: RefInfo) -> Program:
        """An object that is not held here yet: arguments of an actor's ``__init__``."""
        key = info.object_id
        self.process.submit(HoldRef(info))
        values = self.process.owner.objects.values
        try:
            if key not in values:
                yield from self._block(Wait([key], 1, False, None), None)
            got = yield from self.unpack(key, values[key], info.owner_address, self._via)
            self.world.check.values.got(self.process, key, got, self._via, self.task_id)
            return got
        finally:
            self.process.append(key)

    # Streams

    def open_stream(self, first: Handle) -> Handle:
        """The generator itself, which counts what nobody has taken."""
        return self._new(stream_id(task_of(first.key)))

    def next_item(self, first: Handle, index: int, timeout_ms: int | None = None) -> Program:
        """(Whether the stream goes on, the item's handle if there is one)."""
        task_id = task_of(first.key)
        key = return_id(task_id, index)
        values = self.process.owner.objects.values
        if key not in values:
            if not (yield from self._block(Wait([key], 1, False, None), timeout_ms)):
                return True, None
        value = values[key]
        if value.error is not None and value.error.code == END_OF_STREAM:
            return False, None
        self.process.submit(TakeItem(task_id, index))
        return True, self._new(key)

    # Time

    def work(self, run_us: int) -> Program:
        """Compute for a while."""
        assert self.fiber is not None
        self.world.timeline.after(run_us, self.fiber.waker(), None)
        yield


def _nothing() -> None:
    pass
