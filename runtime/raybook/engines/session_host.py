"""Session host: does in a session process what its client orders, with the owner machine that lives there.

Orders become the records that user threads of a driver hand over, in the same order. On the I/O thread of the core process,
but for large values, which threads of the pool read and store. Decides nothing of connections
(``core/session/server``) or of tasks (``core/owner``). Nothing of a user's is unpickled here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from raybook.base.ids import is_stream, task_of
from raybook.base.specs import Job, Location, RefInfo, Value
from raybook.core.owner import memory_report
from raybook.core.owner.records import (
    CancelCommand,
    CancelWait,
    CreateActorCommand,
    Fulfil,
    FunctionStats,
    HoldRef,
    KillingActor,
    KnowActor,
    Put,
    TakeItem,
    TaskRecord,
    Wait,
)
from raybook.core.session.ledger import ACTOR, OBJECT, Ledger, Origin
from raybook.core.session.server import Greet
from raybook.engines.hosted_transfers import HostedTransfers
from raybook.engines.hosted_values import HostedValues
from raybook.engines.own_tasks import OwnTasks
from raybook.io.log_file import log_names, log_piece
from raybook.io.session_dir import LOGS
from raybook.protocol.messages import session as m
from raybook.protocol.messages.output import FlushOutput, OutputFlushed, WorkerLines
from raybook.protocol.messages.raylet import FactsDelta, GcsReply, PublishFacts, Subscribe
from raybook.session.host_link import HostLink
from raybook.worker.core_process import CoreProcess
from raybook.worker.raylet_link import GcsRequest
from raybook.worker.survey import Surveyor

logger = logging.getLogger(__name__)

LINES_MAX = 10_000
"""Printed lines that wait for a client; of more it is only said how many."""

encode_body = m.encode_body


class SessionHost:
    """``session/host_link.Host``. leave: ends the process; called once, with the reason."""

    def __init__(self, core: CoreProcess, ledger: Ledger, job: Job, leave: Callable[[str], None]) -> None:
        self._core = core
        self._ledger = ledger
        self._job = job
        self._leave = leave
        self._submit = core.queue.append
        self.values = HostedValues(core)
        self._stats: dict[bytes, FunctionStats] = {}
        self._method_stats: dict[str, FunctionStats] = {}
        self._looks: dict[bytes, Wait] = {}
        self._waiting: deque[Callable[[], None]] = deque()
        """Answers that are made when there is room."""
        self._lines_waiting = 0
        self._lines_left_out = 0
        self._generation = 0
        """Grows with each client process: answers to a former one's questions are nobody's."""
        self._wants_output = False
        self._follows = False
        self._facts_version = 0
        self._flushes: deque[Callable[[], None]] = deque()
        self._log_folder = f"{core.registered.session_dir}/{LOGS}"
        self.link: HostLink
        self.transfers = HostedTransfers(core, self.values, self._answer)
        core.facts.largest_objects = lambda count: memory_report.largest(core.owner, count)
        Surveyor(core, lambda: self._job.job_id)
        core.owner.leases.job = job
        core.on_log = lambda text: self.answer(m.Logged(text))
        core.on_cluster_lost = self._on_cluster_lost
        core.raylet_handlers[WorkerLines] = self._on_lines
        core.raylet_handlers[OutputFlushed] = lambda message: self._on_flushed()
        core.fact_listeners.append(self._on_facts)
        self._orders: dict[type, Callable[[Any], None]] = {
            m.Function: self._on_function,
            m.Submit: self._on_submit,
            m.Call: self._on_call,
            m.Hold: self._on_hold,
            m.Release: self._on_release,
            m.Store: self._on_store,
            m.Resolve: lambda order: self._submit(Fulfil(order.object_id, self._placed(order.value)[0])),
            m.Take: self._on_take,
            m.NoteActor: self._on_note_actor,
            m.MeetActor: self._on_meet_actor,
            m.KeepHandle: self._on_handle,
            m.WillKill: lambda order: self._submit(KillingActor(order.actor_id)),
            m.CancelTask: lambda order: self._submit(CancelCommand(order.task_id, order.force, order.recursive)),
            m.Look: self._on_look,
            m.SeenError: self._on_seen,
            m.CallGcs: self._on_call_gcs,
            m.Publish: lambda order: core.to_raylet(PublishFacts(order.facts)),
            m.Follow: self._on_follow,
            m.Ask: self._on_ask,
            m.Upload: self.transfers.on_upload,
            m.Part: self.transfers.on_part,
            m.DropUpload: self.transfers.on_drop_upload,
            m.Download: self.transfers.on_download,
            m.Credit: self.transfers.on_credit,
            m.DropDownload: self.transfers.on_drop_download,
        }
        self._questions: dict[str, Callable[[m.Ask], None]] = {
            m.SYNC: lambda ask: self._later(partial(self._tell, ask, b"")),
            m.MEMORY: lambda ask: self._later(partial(self._tell_memory, ask)),
            m.EXPLAIN: lambda ask: self._later(partial(self._explain, ask)),
            m.FLUSH_OUTPUT: self._on_flush,
            m.LIST_KEPT: lambda ask: self._tell(ask, encode_body(self._rows())),
            m.TAKE_KEPT: self._on_take_kept,
            m.NAME_KEPT: self._on_name,
            m.FORGET_KEPT: self._on_forget,
            m.LIST_LOGS: lambda ask: self._tell(ask, encode_body(log_names(self._log_folder))),
            m.READ_LOG: self._on_read_log,
            m.UNFINISHED: lambda ask: self._later(
                lambda: self._tell(ask, encode_body(OwnTasks(self._core).unfinished()))
            ),
        }

    # What the link asks for

    def welcome(self, greet: Greet) -> m.Welcome:
        core, machine = self._core, self.link.machine
        registered = core.registered
        return m.Welcome(
            session_id=machine.session_id,
            session_name=machine.name,
            received=greet.received,
            me=core.me,
            job_id=self._job.job_id,
            namespace=greet.knock.namespace or self._job.namespace,
            session_dir=registered.session_dir,
            gcs_address=registered.gcs_address,
            config=core.config,
            first_number=greet.first_number,
            is_new=greet.is_new,
            idle_limit_s=machine.idle_limit_ms / 1000,
            node_ip=registered.node_ip,
        )

    def deliver(self, body: bytes) -> None:
        order = m.decode_order(body)
        try:
            self._orders[type(order)](order)
        except Exception as error:
            logger.exception("An order of the client failed.")
            self.answer(m.Logged(f"The session could not do a {type(order).__name__}: {error}. Please report it."))

    def reset(self, knock: m.Knock) -> None:
        """Another process is the client: what the former one waited for is nobody's. The tasks go on."""
        self._generation += 1
        self._wants_output = knock.wants_output
        for wait in self._looks.values():
            self._submit(CancelWait(wait))
        self._looks.clear()
        self._waiting.clear()
        self._lines_waiting = 0
        self.transfers.reset()
        if self._follows:
            self._follows = False
            self._core.to_raylet(Subscribe(0, False))
        job = self._job
        namespace = knock.namespace or job.namespace
        self._job = msgspec.structs.replace(
            job, namespace=namespace, import_paths=knock.import_paths, logging=knock.logging
        )
        self._core.owner.leases.job = self._job

    def attached(self) -> None:
        if self._follows:
            self._core.to_raylet(Subscribe(self._facts_version, True))

    def detached(self) -> None:
        if self._follows:
            # Nobody looks: the cluster need not tell. Where it went on is asked for when somebody looks again.
            self._core.to_raylet(Subscribe(0, False))

    def end(self, reason: str) -> None:
        self._leave(reason)

    def has_room(self) -> None:
        while self._waiting and not self.link.is_full:
            self._waiting.popleft()()

    # Answers

    def answer(self, message: Any) -> None:
        """Say this to the client, now or when there is room."""
        if self._waiting or self.link.is_full:
            self._waiting.append(lambda: self.link.send(encode_body(message)))
        else:
            self.link.send(encode_body(message))

    def _answer(self, message: Any) -> None:
        """The same from any thread, for a transfer, which has a window of its own."""
        body = encode_body(message)
        self._core.submit(lambda: self.link.send(body))

    def _tell(self, ask: m.Ask, body: bytes) -> None:
        self.answer(m.Told(ask.number, body))

    def _later(self, function: Callable[[], None]) -> None:
        """Not before the next batch of the I/O thread: what was ordered earlier is in the tables then. For this process
        of the client only."""
        core, generation = self._core, self._generation

        def ask_again() -> None:
            core.submit(lambda: function() if generation == self._generation else None)

        core.submit(ask_again)

    # Tasks and actors

    def _on_function(self, order: m.Function) -> None:
        if order.key not in self._stats:
            stats = self._stats[order.key] = FunctionStats(order.name, order.payload, order.short_name)
            self._core.facts.register(stats)

    def _on_submit(self, order: m.Submit) -> None:
        spec = order.spec
        record = TaskRecord(
            spec, self._stats[spec.function_key], order.scheduling_class, b"", order.retries, held=order.held
        )
        self._count(record, order)
        self._submit(record)

    def _on_call(self, order: m.Call) -> None:
        name = order.spec.name
        stats = self._method_stats.get(name)
        if stats is None:
            stats = self._method_stats[name] = FunctionStats(name)
            self._core.facts.register(stats)
        record = TaskRecord(order.spec, stats, None, order.actor_id, order.retries, held=order.held)
        record.may_overtake = order.may_overtake
        self._count(record, order)
        self._submit(record)

    def _count(self, record: TaskRecord, order: m.Submit | m.Call) -> None:
        record.submitted_s, record.call_site = order.submitted_s, order.call_site
        spec = record.spec
        self._ledger.submitted(spec.task_id, spec.num_returns, Origin(spec.name, order.call_site, order.submitted_s))

    def _on_note_actor(self, order: m.NoteActor) -> None:
        self._ledger.hold(order.actor_id)
        self._submit(CreateActorCommand(order.actor_id, order.held, order.detached))

    def _on_meet_actor(self, order: m.MeetActor) -> None:
        self._ledger.hold(order.actor_id)
        self._submit(KnowActor(order.actor_id, order.owner_address))

    def _on_handle(self, order: m.KeepHandle) -> None:
        if self._ledger.is_counted(order.actor_id):
            self._ledger.handles[order.actor_id] = order.handle
            self._ledger.origins[order.actor_id] = Origin(order.class_name)

    # Objects

    def _on_hold(self, order: m.Hold) -> None:
        self._ledger.hold(order.ref.object_id)
        self._submit(HoldRef(order.ref))

    def _on_release(self, order: m.Release) -> None:
        ledger = self._ledger
        for key in order.ids:
            if not ledger.release(key):
                continue
            if not ledger.is_counted(key):
                self._look_away(key)
            self._submit(key)

    def _look_away(self, key: bytes) -> None:
        """Nobody refers to it any more, so nobody waits for it."""
        keys = [key]
        if is_stream(key):
            task_id = task_of(key)
            keys = [look for look in self._looks if task_of(look) == task_id]
        for each in keys:
            wait = self._looks.pop(each, None)
            if wait is not None:
                self._submit(CancelWait(wait))

    def _on_store(self, order: m.Store) -> None:
        value, ticket = self._placed(order.value)
        self._ledger.hold(order.object_id)
        self._submit(Put(order.object_id, value, ticket is not None, ticket))

    def _placed(self, value: Value) -> tuple[Value, Any]:
        """A value that was uploaded before, as it lies in the store."""
        if value.location is None:
            return value, None
        stored, ticket = self.transfers.take(value.location.offset)
        stored.contained, stored.origin = value.contained, value.origin
        return stored, ticket

    def _on_take(self, order: m.Take) -> None:
        self._ledger.taken(order.task_id, order.index)
        self._submit(TakeItem(order.task_id, order.index))

    def _on_look(self, order: m.Look) -> None:
        for key in order.ids:
            if key not in self._looks:
                wait = self._looks[key] = Wait([key], 1, False, None, partial(self._is_ready, key))
                self._submit(wait)

    def _is_ready(self, key: bytes) -> None:
        """A look is over: what there is of the object goes out, when there is room for it."""
        if self._looks.pop(key, None) is None:
            return
        if self._waiting or self.link.is_full:
            self._waiting.append(partial(self._send_value, key))
        else:
            self._send_value(key)

    def _send_value(self, key: bytes) -> None:
        value = self._core.owner.objects.values.get(key)
        if value is None:
            # Lost with its node since, or let go of; in the first case it is made again.
            if self._ledger.is_counted(key):
                self._on_look(m.Look([key]))
            return
        location = value.location
        if location is None:
            shown = Value(value.inline, None, value.error)
        else:
            shown = Value(None, Location(b"", 0, location.size))
        self.link.send(encode_body(m.Arrived(key, shown)))

    def _on_seen(self, order: m.SeenError) -> None:
        value = self._core.owner.objects.values.get(order.object_id)
        if value is not None and value.error is not None:
            value.error.seen = True

    # The cluster

    def _on_call_gcs(self, order: m.CallGcs) -> None:
        if not order.number:
            self._submit(GcsRequest(order.method, order.request, is_watched=False))
            return
        answered = partial(self._on_gcs_reply, order.number, self._generation)
        self._submit(GcsRequest(order.method, order.request, on_reply=answered))

    def _on_gcs_reply(self, number: int, generation: int, reply: GcsReply | None) -> None:
        if generation != self._generation:
            return
        if reply is None:
            reply = GcsReply(0, error_code="SessionLostError", error_text=self._core.lost_reason)
        self.answer(m.GcsAnswered(number, reply.reply, reply.error_code, reply.error_text))

    def _on_follow(self, order: m.Follow) -> None:
        self._follows = order.active
        self._core.to_raylet(Subscribe(0, order.active))

    def _on_facts(self, delta: FactsDelta) -> None:
        if self._follows and self.link.machine.connection:
            self._facts_version = delta.version
            self.answer(m.FactsChanged(delta.since, delta.version, delta.facts, delta.reset))

    def _on_lines(self, message: WorkerLines) -> None:
        count = len(message.lines)
        if not self._wants_output:
            return
        if self._lines_waiting + count > LINES_MAX:
            self._lines_left_out += count
            return
        if self.link.is_full or self._waiting:
            self._lines_waiting += count

            def send() -> None:
                self._lines_waiting -= count
                self._send_lines(message)

            self._waiting.append(send)
        else:
            self._send_lines(message)

    def _send_lines(self, message: WorkerLines) -> None:
        left_out, self._lines_left_out = self._lines_left_out, 0
        if left_out:
            text = f"{left_out} lines that workers printed were not sent here: the connection could not take them."
            self.link.send(encode_body(m.Logged(text)))
        self.link.send(encode_body(m.Printed(message.lines)))

    def _on_flush(self, ask: m.Ask) -> None:
        self._flushes.append(partial(self._tell, ask, b""))
        self._core.to_raylet(FlushOutput())

    def _on_flushed(self) -> None:
        if self._flushes:
            self._flushes.popleft()()

    def _on_cluster_lost(self, reason: str) -> None:
        self.answer(m.ClusterLost(reason))
        self._leave(reason)

    # Questions

    def _on_ask(self, ask: m.Ask) -> None:
        question = self._questions.get(ask.what)
        if question is None:
            text = f"This session knows no answer to {ask.what!r}."
            self.answer(m.Told(ask.number, b"", "ValueError", text))
        else:
            question(ask)

    def _tell_memory(self, ask: m.Ask) -> None:
        self._tell(ask, encode_body(memory_report.rows(self._core.owner)))

    def _explain(self, ask: m.Ask) -> None:
        self._tell(ask, self._core.owner.explain(ask.body).encode())

    def _on_read_log(self, ask: m.Ask) -> None:
        name, offset, count = msgspec.msgpack.decode(ask.body, type=tuple[str, int, int])
        try:
            self._tell(ask, log_piece(self._log_folder, name, offset, count))
        except (OSError, ValueError) as error:
            self.answer(m.Told(ask.number, b"", "ValueError", f"The log {name!r} of the head cannot be read: {error}"))

    def _rows(self) -> list[m.KeptThing]:
        return [self._shown(row) for row in self._ledger.rows()]

    def _shown(self, row: dict[str, Any]) -> m.KeptThing:
        thing = m.KeptThing(**row)
        thing.owner_address = self._core.owner.references.owners.get(thing.key, "") or self._core.address
        if thing.kind == OBJECT:
            value = self._core.owner.objects.values.get(thing.key)
            thing.state = memory_report._kind(value)
            thing.size_bytes = memory_report._size(value)
        return thing

    def _on_take_kept(self, ask: m.Ask) -> None:
        key = ask.body
        row = next((row for row in self._ledger.rows() if row["key"] == key), None)
        surplus = self._ledger.take(key)
        if row is None or surplus is None:
            text = f"This session keeps no {key.hex()}: nobody held or named it, or it was forgotten."
            self.answer(m.Told(ask.number, b"", "KeyError", text))
            return
        if surplus < 0:
            self._hold_once_more(key, row["kind"])
        for _ in range(surplus):
            self._submit(key)
        self._tell(ask, encode_body(self._shown(row)))

    def _hold_once_more(self, key: bytes, kind: str) -> None:
        if kind == ACTOR:
            self._submit(KnowActor(key, ""))
        else:
            self._submit(HoldRef(RefInfo(key, self._core.owner.references.owners.get(key, ""))))

    def _on_name(self, ask: m.Ask) -> None:
        key, name = msgspec.msgpack.decode(ask.body, type=tuple[bytes, str])
        if not self._ledger.is_counted(key):
            text = f"{key.hex()} is no object or actor of this session."
            self.answer(m.Told(ask.number, b"", "ValueError", text))
            return
        self._hold_once_more(key, self._ledger.kind(key))
        before = self._ledger.name(key, name)
        if before is not None:
            self._submit(before)
        self._tell(ask, b"")

    def _on_forget(self, ask: m.Ask) -> None:
        for _ in range(self._ledger.forget(ask.body)):
            self._submit(ask.body)
        if not self._ledger.is_counted(ask.body):
            self._look_away(ask.body)
        self._tell(ask, b"")
