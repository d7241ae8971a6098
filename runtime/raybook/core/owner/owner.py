"""The owner machine: everything one driver or worker decides about its tasks, actors' calls, objects and references.

Events in, effects out. It composes the tables of this folder and holds the edges between them: a task's arguments keep
objects alive, a reply makes objects ready, a ready object wakes waits and resolves arguments, a released reference
frees a region. Knows nothing of sockets, threads, user code or time (``now_ms`` comes with each batch).

Invariants: those of the tables; every return of a living task is held or discarded on arrival; every id waited for is
owned and unfinished, or asked of its owner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from raybook.base.config import Config
from raybook.base.ids import CLIENT_ID_BYTES, FIRST_RETURN, owner_of, return_id
from raybook.base.machine import earliest
from raybook.base.specs import ErrorValue, RefInfo, Value
from raybook.core.owner.actor_calls import ActorCalls
from raybook.core.owner.borrows import Borrows
from raybook.core.owner.cancellation import Cancellation
from raybook.core.owner.dependencies import Dependencies
from raybook.core.owner.evacuation import Evacuation
from raybook.core.owner.exchange import Exchange, owner_died
from raybook.core.owner.garbage import Garbage
from raybook.core.owner.generators import Generators
from raybook.core.owner.lease_endings import LeaseEndings
from raybook.core.owner.lease_requester import LeaseRequester
from raybook.core.owner.losses import Losses
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.oom_retries import OutOfMemoryRetries
from raybook.core.owner.out_of_reach import OutOfReach
from raybook.core.owner.pins import Pins
from raybook.core.owner.post_mortem import PostMortem
from raybook.core.owner.records import (
    CancelCommand,
    CancelWait,
    CreateActorCommand,
    FromPeer,
    FromRaylet,
    Fulfil,
    HoldRef,
    KillingActor,
    KnowActor,
    PeerGone,
    Pin,
    Put,
    SealItems,
    SealReply,
    SourceLost,
    TakeItem,
    TaskRecord,
    ToRaylet,
    Unpin,
    Wait,
    WakeUp,
)
from raybook.core.owner.recovery import Recovery
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.core.owner.relocations import Relocations
from raybook.core.owner.story import explain
from raybook.core.owner.task_manager import RETRYABLE, TaskManager, cancelled_error
from raybook.core.owner.task_report import ENDED_ROWS_MAX, EndedTask
from raybook.core.owner.wait_set import WaitSet
from raybook.protocol.messages import worker as wm
from raybook.protocol.messages.raylet import (
    ActorUpdate,
    DemandInfeasible,
    DemandRefused,
    DropCopies,
    LeaseGranted,
    LeaseLost,
    NodeDraining,
    NodeGone,
    ObjectTaken,
)
from raybook.protocol.messages.store import ObjectsSpilled, SpillWanted


class Owner:
    """One per process. ``handle`` is called by the I/O thread only."""

    def __init__(self, client_id: bytes, config: Config) -> None:
        self.client_id = client_id
        self._effects: list[Any] = []
        self.references = ReferenceCounter(client_id)
        self.borrows = Borrows(self.references, self._effects, self._forget)
        self.objects = ObjectDirectory()
        self.exchange = Exchange(self.references, self.objects, self._effects)
        self.dependencies = Dependencies(self.objects, self.exchange)
        self.waits = WaitSet()
        self.tasks = TaskManager()
        self.leases = LeaseRequester(config)
        self.oom_retries = OutOfMemoryRetries(config, self.tasks.tasks, self._effects)
        self.endings = LeaseEndings(
            self.leases, self.tasks, self.oom_retries, self._requeue, self._end_cancelled, self._fail
        )
        self.actors = ActorCalls(self.references, self.borrows, self._effects)
        self.pins = Pins(self.references, self.borrows)
        self.post_mortem = PostMortem(self.references)
        self.relocations = Relocations(self.references, self.objects, self.tasks, self.pins, self._effects)
        self.evacuation = Evacuation(self.references, self.objects, self.relocations, self._effects)
        self.garbage = Garbage(self.references, self.objects, self.actors, self.relocations, self._effects)
        self.losses = Losses(
            self.tasks, self.leases, self.actors, self._effects, self._requeue, self._end_cancelled, self._fail
        )
        self.cancellation = Cancellation(self.tasks, self.leases, self.actors, self._effects, self._end_cancelled)
        self.generators = Generators(
            self.references, self.objects, self.borrows, self.garbage, self._effects,
            self._become_ready, self.cancellation.place_of,
        )  # fmt: skip
        self.cancellation.on_ended = self.generators.hush
        self.recovery = Recovery(
            self.references, self.objects, self.tasks, self.dependencies, self.exchange, self.borrows, self.actors,
            self.generators, self.relocations, self._become_ready, self.leases.enqueue, self._fail_unrun,
            config.lineage_bytes_max,
        )  # fmt: skip
        self.garbage.on_forgotten = self.recovery.forget
        self.out_of_reach = OutOfReach(
            config.health_check_timeout_ms, self.references, self.borrows, self.leases, self.endings, self.actors,
            self.recovery, self._fail, self._end_cancelled, self._lose_owner,
        )  # fmt: skip
        self.ended: deque[EndedTask] = deque(maxlen=ENDED_ROWS_MAX)
        """The last tasks that ended: the source of panels and the timeline."""
        self.ended_count = 0
        self.wall_s = 0.0
        """Seconds since the epoch, as the shell last said: nothing is decided by it, it is written into ``ended``."""
        self._now_ms = 0
        # What the parts have to do at the end of a batch. They empty these, and never replace them.
        self._released, self._returned = self.references.released, self.references.returned
        self._fresh, self._taken, self._needed = self.borrows.fresh, self.borrows.taken, self.exchange.needed
        self._dirty, self._touched = self.leases.dirty, self.actors.touched
        self._leaving, self._leaving_nodes = self.evacuation.queue, self.evacuation.nodes
        self._dispatch: dict[type, Any] = {
            TaskRecord: self._on_submit,
            bytes: self.references.drop,
            Wait: self._on_wait,
            Put: self._on_put,
            HoldRef: self.borrows.on_hold,
            Fulfil: lambda event: self._become_ready(event.object_id, event.value, False),
            Pin: self.pins.on_pin,
            Unpin: self.pins.on_unpin,
            CancelWait: lambda command: self.waits.cancel(command.wait),
            SourceLost: lambda event: self.recovery.source_lost(event.object_id, event.location, event.damage),
            CreateActorCommand: self.actors.on_create,
            KnowActor: self.actors.on_know,
            KillingActor: self.actors.on_killing,
            CancelCommand: self.cancellation.on_cancel,
            SealReply: self.borrows.on_seal,
            SealItems: self.borrows.on_seal_items,
            TakeItem: self.generators.taken,
            FromRaylet: lambda event: self._raylet_dispatch[type(event.message)](event.message),
            PeerGone: lambda event: self.out_of_reach.peer_gone(event, self._now_ms),
        }
        self._peer_dispatch: dict[type, Any] = {
            wm.TaskReplies: self._on_replies,
            wm.TasksBounced: self.losses.on_bounced,
            wm.GetObject: self.exchange.on_get_object,
            wm.ObjectReady: self._on_object_ready,
            wm.AddBorrows: self.borrows.on_add,
            wm.BorrowsAdded: self.borrows.on_added,
            wm.DropBorrows: self.borrows.on_drop,
            wm.ReturnsTaken: self.borrows.on_returns_taken,
            wm.StreamItems: self.generators.on_items,
            wm.ObjectMoved: self.relocations.on_object_moved,
            wm.MoveNoted: self.relocations.on_move_noted,
        }
        self.accepted = frozenset(self._peer_dispatch)
        """Types of a peer's messages that are for the owner rather than the executor."""
        self._raylet_dispatch: dict[type, Any] = {
            LeaseGranted: lambda message: self.leases.granted(message, self._now_ms, self._effects),
            LeaseLost: lambda message: self.endings.lost(message, self._now_ms),
            DemandInfeasible: self.losses.on_infeasible,
            DemandRefused: self.losses.on_refused,
            NodeGone: self.out_of_reach.node_gone,
            NodeDraining: self.evacuation.node_draining,
            ObjectTaken: self.evacuation.on_taken,
            ActorUpdate: self.losses.on_actor_update,
            SpillWanted: self.relocations.on_spill_wanted,
            ObjectsSpilled: self.relocations.on_objects_spilled,
        }
        self.accepted_from_raylet = frozenset(self._raylet_dispatch)

    # The machine's contract

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply a batch of events; the effects to execute, in order. Cost: 1–3 µs an event."""
        self._now_ms = now_ms
        dispatch = self._dispatch
        for event in events:
            kind = type(event)
            if kind is FromPeer:
                message = event.message
                self._peer_dispatch[type(message)](event.client_id, message)
            else:
                dispatch[kind](event)
        effects = self._effects
        # Only the parts that have something to do are called: for a sync call that is one or two of them.
        if self._released:
            self.garbage.collect()
        if self._returned:
            self.borrows.give_back()
        if self._fresh or self._taken:
            self.borrows.announce()
        if self._needed:
            self.exchange.ask()
        if self._leaving:
            self.evacuation.act()
        if self.relocations.has_work:
            self.relocations.settle(now_ms)
        if self.objects.dropped_copies:
            effects.append(ToRaylet(DropCopies(self.objects.take_dropped())))
        if self._dirty:
            self.leases.act(now_ms, effects)
        if self._touched:
            self.actors.act()
        if not effects:
            return []
        out = effects.copy()
        effects.clear()
        return out

    def tick(self, now_ms: int) -> list[Any]:
        """A deadline passed."""
        self._now_ms = now_ms
        for record in self.oom_retries.due(now_ms):
            self._requeue(record)
        self.leases.tick(now_ms, self._effects)
        self.evacuation.tick(now_ms)
        self.out_of_reach.tick(now_ms)
        self.endings.end(self.leases.overdue(now_ms), now_ms)
        return self.handle((), now_ms)

    def next_deadline_ms(self) -> int | None:
        rooms = self.leases, self.relocations, self.oom_retries
        found = earliest(rooms[0].next_deadline_ms(), rooms[1].next_deadline_ms(), rooms[2].next_deadline_ms())
        found = earliest(found, self.out_of_reach.next_deadline_ms())
        return earliest(found, self.evacuation.next_deadline_ms(self._now_ms)) if self._leaving_nodes else found

    # Tasks

    def _on_submit(self, record: TaskRecord) -> None:
        spec = record.spec
        task_id = spec.task_id
        stats = record.stats
        stats.submitted += 1
        stats.changed = True
        self.tasks.tasks[task_id] = record
        counts = self.references.counts
        if spec.num_returns == 1:
            counts[task_id + FIRST_RETURN] = 1
        elif spec.num_returns < 0:
            self.generators.open(record)
        else:
            for index in range(spec.num_returns):
                counts[return_id(task_id, index)] = 1
        actor_id = record.actor_id
        if actor_id:
            counts[actor_id] = counts.get(actor_id, 0) + 1
        if record.held is not None:
            self._hold_arguments(record)
        if actor_id:
            error = self.actors.queue(actor_id).submit(record) if record.unresolved >= 0 else None
            if error is not None:
                self._fail(record, error)
        elif not record.unresolved:
            self.leases.enqueue(record)
        elif record.unresolved > 0:
            self.leases.follow(self.tasks.tasks.get(self.dependencies.only_producer(record)), record)

    def _hold_arguments(self, record: TaskRecord) -> None:
        for ref in record.held or ():
            self.borrows.hold(ref)
        error = self.dependencies.add(record)
        if error is not None:
            self._fail_unrun(record, error)

    def _fail_unrun(self, record: TaskRecord, error: ErrorValue) -> None:
        """An argument is an error: the task fails with it and never runs."""
        self._fail(record, error)
        record.unresolved = -1

    def _on_replies(self, client_id: bytes, message: wm.TaskReplies) -> None:
        tasks = self.tasks.tasks
        for reply in message.replies:
            record = tasks.get(reply.task_id)
            if record is None or record.spec.attempt != reply.attempt:
                self._on_late_reply(client_id, reply)
                continue
            if record.actor_id:
                queue = self.actors.queues.get(record.actor_id)
                if queue is None or not queue.answered(record):
                    self._on_late_reply(client_id, reply)
                    continue
                pid = queue.pid
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
                if record.spec.num_returns < 0 and self.generators.runs_again(record) and self.tasks.spend(record):
                    self._again(record)
                    continue
                self._finish(record, "FINISHED", reply.run_us, pid, reply=reply, client_id=client_id)
                continue
            if self.tasks.should_retry_error(record, error):
                self._again(record)
                continue
            error.code = error.code.removeprefix(RETRYABLE)
            state = "CANCELLED" if error.code == "TaskCancelledError" else "FAILED"
            # A generator that raised has a return beside its error.
            returned = reply if reply.returns else None
            self._finish(record, state, reply.run_us, pid, reply=returned, client_id=client_id, error=error)

    def _on_late_reply(self, client_id: bytes, reply: wm.TaskReply) -> None:
        if self.garbage.discard_reply(reply):
            self.borrows.take_returns(client_id, reply.task_id)

    def _again(self, record: TaskRecord) -> None:
        if record.actor_id:
            self.actors.queue(record.actor_id).queue.append(record)
        else:
            self._requeue(record)

    def _requeue(self, record: TaskRecord) -> None:
        """To the front of its queue. One that was pushed ahead of its argument waits for that, as others do."""
        record.lease = None
        if not record.unresolved:
            self.leases.requeue(record)
        elif (error := self.dependencies.error_of(record)) is not None:
            self._fail_unrun(record, error)

    def _finish(
        self,
        record: TaskRecord,
        state: str,
        run_us: int,
        pid: int,
        *,
        reply: wm.TaskReply | None = None,
        client_id: bytes = b"",
        error: ErrorValue | None = None,
    ) -> None:
        """A task is over: its returns get their values, its arguments are let go."""
        spec = record.spec
        if self.tasks.tasks.pop(spec.task_id, None) is None:
            return  # Of several that fail together, one may have failed with another, whose result it takes.
        record.stats.ended(state)
        if error is not None and record.cancelled:
            error.seen = True  # Whoever cancels a task wants no news of it.
        self.ended_count += 1
        self.ended.append(EndedTask.of(record, state, self.wall_s, run_us, pid, error))
        if reply is not None:
            taken = False
            key = spec.task_id + FIRST_RETURN
            for index, value in enumerate(reply.returns):
                if index:
                    key = return_id(spec.task_id, index)
                value.origin = record.call_site
                if value.contained:
                    taken = True
                    if self.references.is_alive(key):
                        self.borrows.hold_contained(key, value.contained)
                self._become_ready(key, value, False)
            if taken:
                self.borrows.take_returns(client_id, spec.task_id)
            if self.recovery.is_on and error is None:
                self.recovery.keep(record, reply)
        else:
            value = Value(error=error, origin=record.call_site)
            for index in range(spec.num_returns):
                self._become_ready(return_id(spec.task_id, index), value, False)
        if spec.num_returns < 0:
            self.generators.ended(record, error)
        if error is not None and self.post_mortem.wants(record, error.code):
            self.post_mortem.keep(record)
        elif record.held is not None:
            self.post_mortem.release(record)
        actor_id = record.actor_id
        if actor_id:
            actor = self.actors.queues.get(actor_id)
            if actor is not None:
                actor.ended += 1
            counts = self.references.counts
            if counts.get(actor_id, 0) > 1:
                counts[actor_id] -= 1
            else:
                self.references.drop(actor_id)

    def _fail(self, record: TaskRecord, error: ErrorValue) -> None:
        self._finish(record, "FAILED", 0, 0, error=error)

    def _end_cancelled(self, record: TaskRecord) -> None:
        self._finish(record, "CANCELLED", 0, 0, error=cancelled_error(record))

    # Objects

    def _on_put(self, put: Put) -> None:
        self.references.create(put.object_id)
        if put.ticket is not None:
            put.ticket.is_adopted = True
        if put.value.contained:
            self.borrows.hold_contained(put.object_id, put.value.contained)
        self._become_ready(put.object_id, put.value, put.own_region)

    def _become_ready(self, key: bytes, value: Value, own_region: bool) -> None:
        references = self.references
        if key not in references.counts and key not in references.borrowers:
            if owner_of(key) == self.client_id:
                self.garbage.discard(key, value, value.location.offset if own_region and value.location else None)
            return
        if self.recovery.rebuilt and key in self.objects.values:
            return self.garbage.discard(key, value, None)  # Its task ran again for another result of it.
        if value.inline is not None and key not in self.objects.values:
            self.objects.values[key] = value
        else:
            self.objects.put(key, value, own_region)
            if self._leaving_nodes and value.location and value.location.node_id in self._leaving_nodes:
                self.evacuation.arrived(key)
        if key in self.waits.waiting:
            for wait in self.waits.ready(key, value.error is not None):
                self._effects.append(WakeUp(wait))
        if self.exchange.asked:
            self.exchange.answer(key, value)
        if self.dependencies.waiting:
            self.dependencies.settle(key, value, self._resolved)

    def _resolved(self, record: TaskRecord, error: ErrorValue | None) -> None:
        """The last argument of a task is there, or one has failed. What was pushed before that runs, or comes back."""
        if record.spec.task_id not in self.tasks.tasks or record.unresolved < 0 or record.lease is not None:
            return
        if record.actor_id:
            queue = self.actors.queue(record.actor_id)
            if error is not None:
                queue.withdraw(record)
            else:
                queue.resolved(record)
        elif error is None:
            self.leases.enqueue(record)
        if error is not None:
            self._fail_unrun(record, error)

    def _on_wait(self, wait: Wait) -> None:
        missing = self.waits.add(wait, self.objects.values)
        if wait.done:
            self._effects.append(WakeUp(wait))
            return
        for key in missing:
            if key[:CLIENT_ID_BYTES] != self.client_id:
                self.exchange.need(RefInfo(key, self.references.owners.get(key, "")))

    def _on_object_ready(self, client_id: bytes, message: wm.ObjectReady) -> None:
        key = message.object_id
        self.exchange.stop_waiting(key)
        if message.value.contained and self.references.is_held(key):
            self.borrows.hold_contained(key, message.value.contained)
        self._become_ready(key, message.value, False)

    # References

    def _forget(self, keys: list[bytes]) -> None:
        """Borrowed objects are held here no longer."""
        self.objects.forget(keys)
        self.exchange.stop_waiting_for(keys)

    # Peers

    def _lose_owner(self, key: bytes, event: PeerGone) -> None:
        """A borrowed object's owner is gone: unless its value came inline, it is lost, also when it was read before."""
        self.exchange.stop_waiting(key)
        self.borrows.was_lost(key)
        known = self.objects.values.get(key)
        if known is not None and known.location is None:
            return
        self._become_ready(key, owner_died(key, event.client_id, event.reason, event.is_cut_off), False)

    # What there is

    def explain(self, key: bytes) -> str:
        """Why an object is not ready, in one line for people."""
        return explain(self, key)

    story = explain

    def check_invariants(self) -> None:
        self.references.check_invariants()
        self.objects.check_invariants()
        self.leases.check_invariants()
        self.actors.check_invariants()
        self.generators.check_invariants()
        self.recovery.check_invariants()
