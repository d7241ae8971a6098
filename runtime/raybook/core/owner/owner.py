"""The owner machine: everything one driver or worker decides about its tasks, actors' calls, objects and references.

Events in, effects out. It composes the tables of this folder and holds the edges between them: a task's arguments keep
objects alive, a reply makes objects ready, a ready object wakes waits and resolves arguments, a released reference
frees a region. Knows nothing of sockets, threads, user code or time (``now_ms`` comes with each batch).

Invariants: those of the tables; every return of a living task is held or discarded on arrival; every id waited for is
owned and unfinished, or asked of its owner.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raybook.base.config import Config
from raybook.base.ids import ACTOR_ID_BYTES, FIRST_RETURN, owner_of, return_id
from raybook.base.specs import ErrorValue, RefInfo, Value
from raybook.core.owner.actor_queue import ActorQueue
from raybook.core.owner.lease_requester import LeaseRequester
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import (
    CancelCommand,
    CancelWait,
    CreateActorCommand,
    FreeOwn,
    FromPeer,
    FromRaylet,
    HoldRef,
    KnowActor,
    LogLine,
    PeerGone,
    Pin,
    Put,
    SealReply,
    TaskRecord,
    ToPeer,
    ToRaylet,
    Unpin,
    Wait,
    WakeUp,
)
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.task_manager import RETRYABLE, TaskManager, cancelled_error, crash_error
from raybook.core.owner.wait_set import WaitSet
from raybook.protocol.messages.raylet import (
    ActorDown,
    ActorUpdate,
    DemandInfeasible,
    LeaseGranted,
    LeaseLost,
    WatchActor,
)
from raybook.protocol.messages.store import FreeRegions
from raybook.protocol.messages.worker import (
    AddBorrows,
    BorrowsAdded,
    CancelTask,
    DropBorrows,
    GetObject,
    LostObject,
    ObjectReady,
    ReturnsTaken,
    TaskReplies,
    TaskReply,
    TasksBounced,
)


class Owner:
    """One per process. ``handle`` is called by the I/O thread only."""

    def __init__(self, client_id: bytes, config: Config) -> None:
        self.client_id = client_id
        self.references = ReferenceCounter(client_id)
        self.objects = ObjectDirectory()
        self.waits = WaitSet()
        self.tasks = TaskManager()
        self.leases = LeaseRequester(config)
        self.actors: dict[bytes, ActorQueue] = {}
        self.pins: dict[bytes, tuple[int, int]] = {}
        """Objects that views of this process look into: id → (offset, views). Nobody may reuse those bytes."""
        self.finished: list[tuple[TaskRecord, str, int, int]] = []
        """(task, state, run µs, worker pid) since the shell last looked: the source of panels and the timeline."""
        self._dependents: dict[bytes, list[TaskRecord]] = {}
        self._asked: dict[bytes, list[bytes]] = {}
        self._fetching: set[bytes] = set()
        self._touched_actors: dict[bytes, ActorQueue] = {}
        self._fresh: dict[bytes, RefInfo] = {}
        self._announced: set[bytes] = set()
        self._acks: dict[int, bytes] = {}
        self._next_ack = 1
        self._sealing: list[tuple[SealReply, int]] = []
        self._return_holds: dict[bytes, tuple[bytes, list[bytes]]] = {}
        self._effects: list[Any] = []
        self._now_ms = 0
        self._dispatch: dict[type, Any] = {
            TaskRecord: self._on_submit,
            bytes: self.references.drop,
            Wait: self._on_wait,
            Put: self._on_put,
            HoldRef: self._on_hold,
            Pin: self._on_pin,
            Unpin: self._on_unpin,
            CancelWait: self._on_cancel_wait,
            CreateActorCommand: self._on_create_actor,
            KnowActor: self._on_know_actor,
            CancelCommand: self._on_cancel,
            SealReply: self._on_seal_reply,
            FromPeer: self._on_peer_message,
            FromRaylet: self._on_raylet_message,
            PeerGone: self._on_peer_gone,
        }
        self._peer_dispatch: dict[type, Any] = {
            TaskReplies: self._on_replies,
            TasksBounced: self._on_bounced,
            GetObject: self._on_get_object,
            ObjectReady: self._on_object_ready,
            AddBorrows: self._on_add_borrows,
            BorrowsAdded: self._on_borrows_added,
            DropBorrows: self._on_drop_borrows,
            ReturnsTaken: self._on_returns_taken,
            LostObject: self._on_lost_object,
        }
        self._raylet_dispatch: dict[type, Any] = {
            LeaseGranted: self._on_granted,
            LeaseLost: self._on_lease_lost,
            DemandInfeasible: self._on_infeasible,
            ActorUpdate: self._on_actor_update,
        }

    # The machine's contract

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply a batch of events; the effects to execute, in order. Cost: 1–3 µs an event."""
        self._now_ms = now_ms
        dispatch = self._dispatch
        for event in events:
            dispatch[type(event)](event)
        effects = self._effects
        self._collect_garbage()
        if self._fresh:
            self._announce_borrows()
        self.leases.act(now_ms, effects)
        if self._touched_actors:
            touched, self._touched_actors = self._touched_actors, {}
            for queue in touched.values():
                queue.send_ready(effects)
        self._effects = []
        return effects

    def tick(self, now_ms: int) -> list[Any]:
        """A deadline passed."""
        self._now_ms = now_ms
        self.leases.tick(now_ms, self._effects)
        return self.handle((), now_ms)

    def next_deadline_ms(self) -> int | None:
        return self.leases.next_deadline_ms()

    def accepts(self, message_type: type) -> bool:
        """Whether a peer's message of this type is for the owner (rather than the executor)."""
        return message_type in self._peer_dispatch

    def accepts_raylet(self, message_type: type) -> bool:
        return message_type in self._raylet_dispatch

    # Tasks

    def _on_submit(self, record: TaskRecord) -> None:
        spec = record.spec
        stats = record.stats
        stats.submitted += 1
        stats.changed = True
        self.tasks.tasks[spec.task_id] = record
        counts = self.references.counts
        if spec.num_returns == 1:
            counts[spec.task_id + FIRST_RETURN] = 1
        else:
            for index in range(spec.num_returns):
                counts[return_id(spec.task_id, index)] = 1
        if record.held is not None:
            self._hold_arguments(record)
        if record.actor_id:
            if record.unresolved >= 0:
                self.references.hold_again(record.actor_id)
            self._submit_call(record)
        elif not record.unresolved:
            self.leases.enqueue(record)

    def _hold_arguments(self, record: TaskRecord) -> None:
        for ref in record.held or ():
            self._hold(ref)
        spec = record.spec
        slots = [*(spec.slots or ()), *((spec.args_value,) if spec.args_value else ())]
        for slot in slots:
            key = slot.ref.object_id
            value = self.objects.values.get(key)
            if value is None:
                record.unresolved += 1
                self._dependents.setdefault(key, []).append(record)
                self._ensure_coming(slot.ref)
            elif value.error is not None:
                record.unresolved = -1
                self._finish(record, "FAILED", 0, 0, error=value.error)
                return
            else:
                slot.value = value

    def _fail_unrun(self, record: TaskRecord, error: ErrorValue) -> None:
        """An argument is an error: the task fails with it and never runs."""
        self._finish(record, "FAILED", 0, 0, error=error)
        record.unresolved = -1

    def _submit_call(self, record: TaskRecord) -> None:
        if record.unresolved < 0:
            return
        queue = self._actor(record.actor_id)
        error = queue.submit(record)
        if error is not None:
            self._finish(record, "FAILED", 0, 0, error=error)
        else:
            self._touched_actors[record.actor_id] = queue

    def _on_replies(self, client_id: bytes, message: TaskReplies) -> None:
        tasks = self.tasks.tasks
        for reply in message.replies:
            record = tasks.get(reply.task_id)
            if record is None or record.spec.attempt != reply.attempt:
                continue
            if record.actor_id:
                queue = self.actors.get(record.actor_id)
                if queue is None or not queue.answered(record):
                    continue
                pid = 0
            else:
                lease = record.lease
                pid = lease.worker_pid if lease is not None else 0
                self.leases.answered(record, self._now_ms)
            record.stats.measure(reply.run_us)
            if reply.borrowed:
                for key in reply.borrowed:
                    self.references.add_borrower(key, client_id)
            error = reply.error
            if error is None:
                self._finish(record, "FINISHED", reply.run_us, pid, reply=reply, client_id=client_id)
                continue
            if self.tasks.should_retry_error(record, error):
                self._again(record)
                continue
            error.code = error.code.removeprefix(RETRYABLE)
            state = "CANCELLED" if error.code == "TaskCancelledError" else "FAILED"
            self._finish(record, state, reply.run_us, pid, error=error)

    def _again(self, record: TaskRecord) -> None:
        if record.actor_id:
            queue = self._actor(record.actor_id)
            queue.queue.append(record)
            self._touched_actors[record.actor_id] = queue
        else:
            self.leases.requeue(record)

    def _finish(
        self,
        record: TaskRecord,
        state: str,
        run_us: int,
        pid: int,
        *,
        reply: TaskReply | None = None,
        client_id: bytes = b"",
        error: ErrorValue | None = None,
    ) -> None:
        """A task is over: its returns get their values, its arguments are let go."""
        spec = record.spec
        stats = record.stats
        self.tasks.tasks.pop(spec.task_id, None)
        stats.changed = True
        if state == "FINISHED":
            stats.finished += 1
        elif state == "CANCELLED":
            stats.cancelled += 1
        else:
            stats.failed += 1
        self.finished.append((record, state, run_us, pid))
        if reply is not None:
            taken = False
            for index, value in enumerate(reply.returns):
                key = spec.task_id + FIRST_RETURN if index == 0 else return_id(spec.task_id, index)
                if value.contained:
                    taken = True
                    self._take_contained(key, value, client_id)
                self._become_ready(key, value, False)
            if taken:
                self._effects.append(ToPeer(client_id, "", ReturnsTaken(spec.task_id)))
        else:
            value = Value(error=error)
            for index in range(spec.num_returns):
                self._become_ready(return_id(spec.task_id, index), value, False)
        if record.held is not None:
            for ref in record.held:
                self.references.drop(ref.object_id)
        if record.actor_id:
            queue = self.actors.get(record.actor_id)
            if queue is not None:
                queue.ended += 1
            if record.unresolved >= 0:
                self.references.drop(record.actor_id)

    def _take_contained(self, key: bytes, value: Value, client_id: bytes) -> None:
        """A return value holds references: borrow them before the worker lets go."""
        contained = value.contained or []
        if key not in self.references.counts and key not in self.references.borrowers:
            return
        self._borrow_all(self.references.contain(key, contained))

    def _on_bounced(self, client_id: bytes, message: TasksBounced) -> None:
        blocked = message.reason == "blocked"
        for task_id in message.task_ids:
            record = self.tasks.tasks.get(task_id)
            if record is None:
                continue
            if record.actor_id:
                queue = self._actor(record.actor_id)
                queue.bounced(record)
                self._touched_actors[record.actor_id] = queue
            else:
                self.leases.bounced(record, blocked)
                if record.cancelled:
                    self.leases.withdraw(record)
                    self._finish(record, "CANCELLED", 0, 0, error=cancelled_error(record))
        self.leases.steal_answered(client_id)

    def _on_cancel(self, command: CancelCommand) -> None:
        record = self.tasks.tasks.get(command.task_id)
        if record is None or record.cancelled:
            return
        record.cancelled = True
        if record.lease is not None:
            worker = record.lease.worker
            message = CancelTask(command.task_id, command.force, command.recursive)
            self._effects.append(ToPeer(worker.client_id, worker.address, message))
            return
        if record.actor_id:
            queue = self._actor(record.actor_id)
            if not queue.withdraw(record):
                endpoint = queue.endpoint
                if endpoint is not None:
                    message = CancelTask(command.task_id, False, command.recursive)
                    self._effects.append(ToPeer(endpoint.client_id, endpoint.address, message))
                return
        else:
            self.leases.withdraw(record)
        self._finish(record, "CANCELLED", 0, 0, error=cancelled_error(record))

    # Leases

    def _on_granted(self, message: LeaseGranted) -> None:
        self.leases.granted(message, self._now_ms, self._effects)

    def _on_lease_lost(self, message: LeaseLost) -> None:
        records = self.leases.lost(message.lease_id)
        for index, record in enumerate(reversed(records)):
            started = message.died and index == len(records) - 1
            if not started:
                self.leases.requeue(record)
            elif record.cancelled:
                self._finish(record, "CANCELLED", 0, 0, error=cancelled_error(record))
            elif self.tasks.should_retry_crash(record, message):
                self.leases.requeue(record)
            else:
                self._finish(record, "FAILED", 0, 0, error=crash_error(record, message))

    def _on_infeasible(self, message: DemandInfeasible) -> None:
        self.leases.infeasible(message.class_key, message.text)
        self._effects.append(LogLine(message.text))

    # Actors

    def _actor(self, actor_id: bytes) -> ActorQueue:
        queue = self.actors.get(actor_id)
        if queue is None:
            queue = self.actors[actor_id] = ActorQueue(actor_id)
            self._effects.append(ToRaylet(WatchActor(actor_id)))
        return queue

    def _on_create_actor(self, command: CreateActorCommand) -> None:
        self.references.create(command.actor_id)
        for ref in command.held:
            self._hold(ref)
        queue = self._actor(command.actor_id)
        queue.held = command.held
        queue.creation = command

    def _on_know_actor(self, command: KnowActor) -> None:
        if command.owner_address:
            self._hold(RefInfo(command.actor_id, command.owner_address))

    def _on_actor_update(self, update: ActorUpdate) -> None:
        queue = self.actors.get(update.actor_id)
        if queue is None:
            return
        for record, error in queue.update(update):
            if record.cancelled:
                self._finish(record, "CANCELLED", 0, 0, error=cancelled_error(record))
            else:
                self._finish(record, "FAILED", 0, 0, error=error)
        if update.state == "DEAD" and queue.held:
            for ref in queue.held:
                self.references.drop(ref.object_id)
            queue.held = None
        self._touched_actors[update.actor_id] = queue

    # Objects

    def _on_put(self, put: Put) -> None:
        self.references.create(put.object_id)
        if put.value.contained:
            self._borrow_all(self.references.contain(put.object_id, put.value.contained))
        self._become_ready(put.object_id, put.value, put.own_region)

    def _become_ready(self, key: bytes, value: Value, own_region: bool) -> None:
        if key not in self.references.counts and key not in self.references.borrowers:
            self._discard(value, value.location.offset if own_region and value.location else None)
            return
        self.objects.put(key, value, own_region)
        if self.waits.is_awaited(key):
            for wait in self.waits.ready(key, value.error is not None):
                self._effects.append(WakeUp(wait))
        for client_id in self._asked.pop(key, ()):
            self._effects.append(ToPeer(client_id, "", ObjectReady(key, value)))
        for record in self._dependents.pop(key, ()):
            self._resolve(record, key, value)

    def _resolve(self, record: TaskRecord, key: bytes, value: Value) -> None:
        if record.spec.task_id not in self.tasks.tasks or record.unresolved < 0:
            return
        if value.error is not None:
            if record.actor_id:
                self._actor(record.actor_id).withdraw(record)
                self._touched_actors[record.actor_id] = self._actor(record.actor_id)
            self._fail_unrun(record, value.error)
            return
        spec = record.spec
        for slot in (*(spec.slots or ()), *((spec.args_value,) if spec.args_value else ())):
            if slot.ref.object_id == key and slot.value is None:
                slot.value = value
                record.unresolved -= 1
        if record.unresolved:
            return
        if record.actor_id:
            self._touched_actors[record.actor_id] = self._actor(record.actor_id)
        else:
            self.leases.enqueue(record)

    def _on_wait(self, wait: Wait) -> None:
        if self.waits.add(wait, self.objects.is_ready, self.objects.is_failed):
            self._effects.append(WakeUp(wait))
            return
        for key in wait.ids:
            if key not in self.objects.values and owner_of(key) != self.client_id:
                self._ensure_coming(RefInfo(key, self.references.owners.get(key, "")))

    def _on_cancel_wait(self, command: CancelWait) -> None:
        if not command.wait.done:
            self.waits.cancel(command.wait)

    def _ensure_coming(self, ref: RefInfo) -> None:
        """A value we do not own is needed: ask its owner, once."""
        key = ref.object_id
        if owner_of(key) == self.client_id or key in self._fetching:
            return
        self._fetching.add(key)
        address = ref.owner_address or self.references.owners.get(key, "")
        self._effects.append(ToPeer(owner_of(key), address, GetObject(key)))

    def _on_get_object(self, client_id: bytes, message: GetObject) -> None:
        key = message.object_id
        value = self.objects.values.get(key)
        if value is None and key not in self.references.counts and key not in self.references.borrowers:
            text = f"The object {key.hex()} was freed by its owner while another process still asked for it."
            value = Value(error=ErrorValue("ObjectLostError", text))
        if value is not None:
            self._effects.append(ToPeer(client_id, "", ObjectReady(key, value)))
        else:
            self._asked.setdefault(key, []).append(client_id)

    def _on_object_ready(self, client_id: bytes, message: ObjectReady) -> None:
        key = message.object_id
        self._fetching.discard(key)
        if message.value.contained and self.references.is_held(key):
            self._borrow_all(self.references.contain(key, message.value.contained))
        self._become_ready(key, message.value, False)

    def _on_lost_object(self, client_id: bytes, message: LostObject) -> None:
        self._effects.append(LogLine(f"Object {message.object_id.hex()} was reported lost: {message.reason}"))

    # References

    def _on_hold(self, event: HoldRef) -> None:
        self._hold(event.ref)

    def _on_pin(self, event: Pin) -> None:
        key = event.ref.object_id
        self._hold(event.ref)
        _, views = self.pins.get(key, (0, 0))
        self.pins[key] = (event.offset, views + 1)

    def _on_unpin(self, event: Unpin) -> None:
        offset, views = self.pins.pop(event.object_id, (0, 1))
        if views > 1:
            self.pins[event.object_id] = (offset, views - 1)
        self.references.drop(event.object_id)

    def _hold(self, ref: RefInfo) -> None:
        if self.references.hold(ref):
            self._fresh[ref.object_id] = ref

    def _borrow_all(self, refs: Iterable[RefInfo]) -> None:
        for ref in refs:
            self._fresh[ref.object_id] = ref

    def _announce_borrows(self) -> None:
        """Tell owners of what this process holds since the last batch. A reference that came and went within one batch
        is never mentioned."""
        fresh, self._fresh = self._fresh, {}
        for key, ref in fresh.items():
            if not self.references.is_held(key) or not ref.owner_address or key in self._announced:
                continue
            self._announced.add(key)
            ack = self._next_ack
            self._next_ack += 1
            owner = owner_of(key)
            self._acks[ack] = owner
            self._effects.append(ToPeer(owner, ref.owner_address, AddBorrows([key], ack)))

    def _on_add_borrows(self, client_id: bytes, message: AddBorrows) -> None:
        for key in message.object_ids:
            self.references.add_borrower(key, client_id)
        if message.ack_id:
            self._effects.append(ToPeer(client_id, "", BorrowsAdded(message.ack_id)))

    def _on_borrows_added(self, client_id: bytes, message: BorrowsAdded) -> None:
        self._acknowledge(message.ack_id)

    def _acknowledge(self, ack: int) -> None:
        if self._acks.pop(ack, None) is None or not self._sealing:
            return
        waiting, self._sealing = self._sealing, []
        for seal, last_ack in waiting:
            self._seal(seal, last_ack)

    def _on_drop_borrows(self, client_id: bytes, message: DropBorrows) -> None:
        for key in message.object_ids:
            self.references.drop_borrower(key, client_id)

    def _on_seal_reply(self, seal: SealReply) -> None:
        """A task of this worker ended. What it still holds must be known to the owners before the caller hears of the
        end, because the caller then lets go."""
        held = [ref for value in seal.reply.returns for ref in value.contained or ()]
        if held:
            for ref in held:
                self._hold(ref)
            self._return_holds[seal.reply.task_id] = (seal.caller, [ref.object_id for ref in held])
        self._announce_borrows()
        self._seal(seal, self._next_ack)

    def _seal(self, seal: SealReply, last_ack: int) -> None:
        """Reply as soon as third owners have acknowledged. The caller itself need not: what we borrow of it was said
        earlier on the very connection that carries the reply."""
        caller = seal.caller
        if any(ack < last_ack and owner != caller for ack, owner in self._acks.items()):
            self._sealing.append((seal, last_ack))
            return
        self._effects.append(ToPeer(caller, "", TaskReplies([seal.reply])))

    def _on_returns_taken(self, client_id: bytes, message: ReturnsTaken) -> None:
        _, keys = self._return_holds.pop(message.task_id, (b"", ()))
        for key in keys:
            self.references.drop(key)

    def _collect_garbage(self) -> None:
        references = self.references
        offsets: list[int] = []
        while references.released:
            released, references.released = references.released, []
            for key in released:
                if key in references.counts or key in references.borrowers:
                    continue
                if len(key) == ACTOR_ID_BYTES:
                    self._actor_out_of_scope(key)
                    continue
                value, own_offset = self.objects.remove(key)
                if value is not None and value.location is not None:
                    if own_offset is not None:
                        self._effects.append(FreeOwn(own_offset))
                    else:
                        offsets.append(value.location.offset)
        if offsets:
            self._effects.append(ToRaylet(FreeRegions(offsets)))
        if references.returned and not self._acks:
            self._give_back()

    def _give_back(self) -> None:
        """Tell owners what is held no longer. Not while a borrow is unacknowledged: the container it came out of may be
        what keeps it alive until then."""
        by_owner: dict[tuple[bytes, str], list[bytes]] = {}
        for key, address in self.references.returned:
            if self.references.is_held(key):
                continue
            self.objects.remove(key)
            self._fetching.discard(key)
            if key in self._announced:
                self._announced.discard(key)
                by_owner.setdefault((owner_of(key), address), []).append(key)
        self.references.returned.clear()
        for (client_id, address), keys in by_owner.items():
            self._effects.append(ToPeer(client_id, address, DropBorrows(keys)))

    def _actor_out_of_scope(self, actor_id: bytes) -> None:
        queue = self.actors.pop(actor_id, None)
        if queue is None or queue.state == "DEAD":
            return
        command: Any = queue.creation
        self._effects.append(ToRaylet(WatchActor(actor_id, watch=False)))
        if command is not None and not command.detached:
            self._effects.append(ToRaylet(ActorDown(actor_id, no_restart=True, graceful=True)))
        if queue.held:
            for ref in queue.held:
                self.references.drop(ref.object_id)

    def _discard(self, value: Value, own_offset: int | None) -> None:
        """A value arrived that nobody wants any more."""
        if own_offset is not None:
            self._effects.append(FreeOwn(own_offset))
        elif value.location is not None:
            self._effects.append(ToRaylet(FreeRegions([value.location.offset])))

    # Peers

    def _on_peer_message(self, event: FromPeer) -> None:
        self._peer_dispatch[type(event.message)](event.client_id, event.message)

    def _on_raylet_message(self, event: FromRaylet) -> None:
        self._raylet_dispatch[type(event.message)](event.message)

    def _on_peer_gone(self, event: PeerGone) -> None:
        """A process is out of reach: what it borrowed is given back, what it owned fails."""
        client_id = event.client_id
        self.references.drop_client(client_id)
        for task_id in [task_id for task_id, (caller, _) in self._return_holds.items() if caller == client_id]:
            self._on_returns_taken(client_id, ReturnsTaken(task_id))
        for ack in [ack for ack, owner in self._acks.items() if owner == client_id]:
            self._acknowledge(ack)
        for key in [key for key in self.references.owners if owner_of(key) == client_id]:
            self._lose_owner(key, client_id)

    def _lose_owner(self, key: bytes, client_id: bytes) -> None:
        """A borrowed object's owner died: unless its value came inline, it is lost, also when it was read before."""
        self._fetching.discard(key)
        self._announced.discard(key)
        known = self.objects.values.get(key)
        if known is not None and known.location is None:
            return
        text = (
            f"The object {key.hex()} cannot be read: its owner, process {client_id.hex()}, has died, and with it what it "
            f"knew of the object. Create objects that must outlive a worker from the driver or an actor."
        )
        self._become_ready(key, Value(error=ErrorValue("OwnerDiedError", text)), False)

    # What there is

    def explain(self, key: bytes) -> str:
        """Why an object is not ready, in one line for people."""
        record = self.tasks.tasks.get(key[:ACTOR_ID_BYTES])
        if key in self.objects.values:
            return "it is ready"
        if record is None:
            return "its owner has not answered yet" if key in self._fetching else "nothing will make it ready"
        if record.unresolved:
            return f"`{record.spec.name}` waits for {record.unresolved} of its arguments"
        if record.lease is not None:
            return f"`{record.spec.name}` runs on worker process {record.lease.worker_pid}"
        if record.actor_id:
            queue = self.actors.get(record.actor_id)
            state = queue.state if queue is not None else "gone"
            return f"`{record.spec.name}` waits for its actor, which is {state}"
        return f"`{record.spec.name}` waits: {self.leases.waiting_reason(record)}"

    story = explain

    def check_invariants(self) -> None:
        self.references.check_invariants()
        self.objects.check_invariants()
        self.leases.check_invariants()
        for queue in self.actors.values():
            queue.check_invariants()
