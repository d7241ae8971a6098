"""Session core: what a core process is to the native engine, for a thin client: the owner is behind a network.

Has the same names as ``worker/core_process``, as far as the engine uses them. The records that user threads hand over become
orders to the session (``protocol/messages/session``), in the same order; answers fill a mirror of those values that somebody
here has looked at. Decides nothing: what a record does is decided by the session's owner machine, when a connection is made
by ``core/session/client``.

Invariants: only the link's thread touches the mirror's waits; a value leaves the mirror when a reference to it goes or the
mirror is full, and is then looked at again by whoever needs it.
"""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Iterable
from typing import Any

from raybook.base.errors import SessionLostError
from raybook.base.ids import IdFactory, return_id
from raybook.base.specs import STREAMING, Value
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
    ToRaylet,
    Wait,
)
from raybook.core.owner.wait_set import WaitSet
from raybook.core.session.client import OPEN
from raybook.engines.session_mirror import MirroredOwner, NoFacts
from raybook.engines.session_transfers import Transfers
from raybook.io.transport import FramedSocket
from raybook.protocol.messages import session as m
from raybook.protocol.messages.output import WorkerLines
from raybook.protocol.messages.raylet import FactsDelta, GcsReply, PublishFacts, Subscribe
from raybook.session.client_link import ClientLink
from raybook.worker.leading import shut_lock
from raybook.worker.raylet_link import GcsRequest

LOST_CODE = "SessionLostError"
LOOK_S = 5.0
"""How often a thread that waits looks whether there is anything left to wait for."""

encode_body = m.encode_body


class Question:
    """One ``Ask`` from a user thread, which waits on ``lock``."""

    __slots__ = ("body", "done", "lock", "told", "what")

    def __init__(self, what: str, body: bytes) -> None:
        self.what = what
        self.body = body
        self.told: m.Told | None = None
        self.done = False
        self.lock = shut_lock()

    def answer(self, told: m.Told | None) -> None:
        if not self.done:
            self.told = told
            self.done = True
            self.lock.release()


class Order:
    """An order as it is."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message


class SessionCore:
    """One membership of a thin client in one session. first: the welcomed connection."""

    def __init__(
        self, address: str, token: bytes, knock: m.Knock, first: tuple[FramedSocket, m.Welcome, list[Any]]
    ) -> None:
        self.registered = self.welcome = welcome = first[1]
        self.config = welcome.config
        self.me = welcome.me
        self.client_id = welcome.me.client_id
        self.address = welcome.me.address
        self.ids = IdFactory(self.client_id, welcome.first_number)
        self.lost_reason = ""
        self.lost_code = ""
        self.on_log: Callable[[str], None] = _print_line
        self.on_cluster_lost: Callable[[str], None] = lambda reason: None
        self.fact_listeners: list[Callable[[FactsDelta], None]] = []
        self.raylet_handlers: dict[type, Callable[[Any], None]] = {}
        self.facts = NoFacts()
        self.owner = MirroredOwner(self._explain)
        self.leading = self
        self.transfers = Transfers(lambda order: self.submit(Order(order)))
        self.tickets = _Tickets(self)
        self.noted: set[bytes] = set()
        """Actors whose handles the session has."""
        self._functions: set[bytes] = set()
        self._waits = WaitSet()
        self._looked: set[bytes] = set()
        self._calls: dict[int, GcsRequest] = {}
        self._questions: dict[int, Question] = {}
        self._next_number = 1
        self._out: list[bytes] = []
        self._to_look: list[bytes] = []
        self._released: list[bytes] = []
        self._link = ClientLink(address, token, knock, first, self._encode, self._deliver, self._say, self._ended)
        self.queue = self._link.queue
        self.submit = self.submit_soon = self._link.submit
        self._encoders: dict[type, Callable[[Any], None]] = {
            bytes: self._released.append,
            TaskRecord: self._on_record,
            Put: lambda event: self._on_value(m.Store, event),
            Fulfil: lambda event: self._on_value(m.Resolve, event),
            HoldRef: self._on_hold,
            TakeItem: self._on_take,
            CreateActorCommand: lambda event: self._send(m.NoteActor(event.actor_id, event.held, event.detached)),
            KnowActor: lambda event: self._send(m.MeetActor(event.actor_id, event.owner_address)),
            KillingActor: lambda event: self._send(m.WillKill(event.actor_id)),
            CancelCommand: lambda event: self._send(m.CancelTask(event.task_id, event.force, event.recursive)),
            Wait: self._on_wait,
            CancelWait: lambda event: self._waits.cancel(event.wait),
            GcsRequest: self._on_gcs_request,
            ToRaylet: self._on_to_raylet,
            Question: self._on_question,
            Order: lambda event: self._send(event.message),
            types.FunctionType: lambda event: event(),
            types.MethodType: lambda event: event(),
        }
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.Arrived: self._on_arrived,
            m.GcsAnswered: self._on_gcs_answered,
            m.Told: self._on_told,
            m.FactsChanged: self._on_facts,
            m.Printed: self._on_printed,
            m.Logged: lambda message: self.on_log(message.text),
            m.Uploaded: self.transfers.on_uploaded,
            m.Sending: self.transfers.on_sending,
            m.Part: self.transfers.on_part,
            m.Credit: self.transfers.on_credit,
            m.ClusterLost: lambda message: self._ended("", message.reason),
        }

    # Called by user threads; names and meanings are the core process's.

    def start(self) -> None:
        self._link.start()

    def stop(self, ends_session: bool = True) -> None:
        reason = "This process has left its cluster (shutdown was called)."
        self._link.stop(m.Goodbye(ends_session), reason)

    def close_in_child(self) -> None:
        self._link.close_in_child()

    def lost_error(self) -> Exception:
        return SessionLostError(self.lost_reason)

    def wait_for(self, event: Any, timeout_s: float | None = None) -> bool:
        """Hand an event over and wait until it is done."""
        if self._link.is_own_thread:
            raise RuntimeError(
                "A blocking call of raybook was made by a callback that runs inside raybook itself; it would wait for "
                "itself. Nothing was done. Make the call from ordinary code."
            )
        if event.lock is None:
            event.lock = shut_lock()
        self.submit(event)
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = LOOK_S if end_s is None else min(LOOK_S, end_s - time.monotonic())
            if event.lock.acquire(timeout=max(0.0, left_s)):
                return True
            # What was handed over at the moment of the end has nobody to open it.
            if self.lost_reason or (end_s is not None and time.monotonic() >= end_s):
                return bool(event.done)

    def submit_call(self, function: Callable[[], None]) -> None:
        self.submit(function)

    def call_gcs(self, method: str, request: bytes) -> GcsReply:
        call = GcsRequest(method, request)
        self.wait_for(call)
        return call.reply or GcsReply(0, error_code=LOST_CODE, error_text=self.lost_reason)

    def send_gcs(self, method: str, request: bytes) -> None:
        self.submit(GcsRequest(method, request, is_watched=False))

    def send_raylet(self, message: Any) -> None:
        self.submit(ToRaylet(message))

    def ask(self, what: str, body: bytes = b"", timeout_s: float | None = None) -> m.Told | None:
        """Ask the session; None when the time is up. SessionLostError."""
        question = Question(what, body)
        self.wait_for(question, timeout_s)
        if question.done and question.told is None:
            raise self.lost_error()
        return question.told

    def forget_code(self, key: bytes) -> None:
        """The session keeps the code that it has."""

    @property
    def is_connected(self) -> bool:
        return self._link.machine.state == OPEN

    def _explain(self, key: bytes) -> str:
        """For a second at most."""
        told = self.ask(m.EXPLAIN, key, timeout_s=1.0)
        if told is None:
            return "the session does not answer now; the connection may be lost"
        return told.body.decode() or told.error_text

    # Records → orders, on the link's thread.

    def _encode(self, events: list[Any]) -> Iterable[bytes]:
        if self.lost_reason:
            for event in events:
                self._refuse(event)
            return ()
        encoders = self._encoders
        released = self._released
        for event in events:
            kind = type(event)
            if released and kind is not bytes:
                self._let_go()
            encoders[kind](event)
        if released:
            self._let_go()
        return self._take_out()

    def _take_out(self) -> list[bytes]:
        if self._to_look:
            ids, self._to_look = self._to_look, []
            self._out.append(encode_body(m.Look(ids)))
        out, self._out = self._out, []
        return out

    def _send(self, message: Any) -> None:
        self._out.append(encode_body(message))

    def _let_go(self) -> None:
        ids = list(self._released)
        self._released.clear()
        values, references = self.owner.objects.values, self.owner.references
        for key in ids:
            values.drop(key)
            references.release(key)
            self._looked.discard(key)
        self._send(m.Release(ids))

    def _on_hold(self, event: HoldRef) -> None:
        self.owner.references.hold(event.ref.object_id)
        self._send(m.Hold(event.ref))

    def _on_record(self, record: TaskRecord) -> None:
        spec = record.spec
        if record.actor_id:
            self._send(
                m.Call(
                    spec, record.actor_id, record.retries_left, record.held, record.submitted_s, record.call_site,
                    record.may_overtake,
                )
            )  # fmt: skip
        else:
            self._introduce(spec.function_key, record.stats)
            self._send(
                m.Submit(
                    spec,
                    record.scheduling_class,
                    record.retries_left,
                    record.held,
                    record.submitted_s,
                    record.call_site,
                )
            )
        if spec.num_returns == STREAMING:
            self._look(return_id(spec.task_id, 1))

    def _introduce(self, key: bytes, stats: FunctionStats) -> None:
        if key not in self._functions:
            self._functions.add(key)
            self._send(m.Function(key, stats.name, stats.function, stats.payload))

    def _on_value(self, kind: type, event: Put | Fulfil) -> None:
        value = event.value
        self._send(kind(event.object_id, value))
        if value.location is None:
            # Whoever asks for it next need not ask the session.
            self._become_ready(event.object_id, Value(value.inline, None, value.error))

    def _on_take(self, event: TakeItem) -> None:
        self._send(m.Take(event.task_id, event.index))
        self._look(return_id(event.task_id, event.index + 1))

    def _on_wait(self, wait: Wait) -> None:
        values = self.owner.objects.values
        missing = self._waits.add(wait, values)
        if wait.done:
            _wake(wait)
            return
        for key in missing:
            self._look(key)

    def _look(self, key: bytes) -> None:
        if key not in self._looked and key not in self.owner.objects.values:
            self._looked.add(key)
            self._to_look.append(key)

    def _on_gcs_request(self, request: GcsRequest) -> None:
        number = 0
        if request.is_watched or request.on_reply is not None:
            number = self._number()
            self._calls[number] = request
        self._send(m.CallGcs(number, request.method, request.request))

    def _on_to_raylet(self, event: ToRaylet) -> None:
        message = event.message
        if type(message) is PublishFacts:
            self._send(m.Publish(message.facts))
        elif type(message) is Subscribe:
            self._send(m.Follow(message.active))

    def _on_question(self, question: Question) -> None:
        number = self._number()
        self._questions[number] = question
        if self._to_look:
            # What is looked at before the question is looked at by the session before it, too.
            ids, self._to_look = self._to_look, []
            self._send(m.Look(ids))
        self._send(m.Ask(number, question.what, question.body))

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number

    # Answers

    def _deliver(self, body: bytes) -> None:
        message = m.decode_answer(body)
        self._handlers[type(message)](message)

    def _on_arrived(self, message: m.Arrived) -> None:
        self._looked.discard(message.object_id)
        self._become_ready(message.object_id, message.value)

    def _become_ready(self, key: bytes, value: Value) -> None:
        self.owner.objects.values.add(key, value)
        if key in self._waits.waiting:
            for wait in self._waits.ready(key, value.error is not None):
                _wake(wait)

    def _on_gcs_answered(self, message: m.GcsAnswered) -> None:
        request = self._calls.pop(message.number, None)
        if request is not None:
            request.answer(GcsReply(message.number, message.reply, message.error_code, message.error_text))

    def _on_told(self, message: m.Told) -> None:
        question = self._questions.pop(message.number, None)
        if question is not None:
            question.answer(message)

    def _on_facts(self, message: m.FactsChanged) -> None:
        delta = FactsDelta(message.since, message.version, message.facts, message.reset)
        for listener in list(self.fact_listeners):
            listener(delta)

    def _on_printed(self, message: m.Printed) -> None:
        handler = self.raylet_handlers.get(WorkerLines)
        if handler is not None:
            handler(WorkerLines(message.lines))

    def _say(self, text: str) -> None:
        self.on_log(text)

    # The end

    def _ended(self, code: str, text: str) -> None:
        """Link's thread: nothing will come any more; whoever waits finds out why."""
        if self.lost_reason:
            return
        self.lost_code, self.lost_reason = code, text
        self.on_cluster_lost(text)
        for wait in self._waits.abandon():
            _wake(wait)
        calls, self._calls = self._calls, {}
        for request in calls.values():
            request.answer(None)
        questions, self._questions = self._questions, {}
        for question in questions.values():
            question.answer(None)
        self.transfers.fail_all(LOST_CODE, text)
        # What was appended and not looked at yet is refused when it is.
        self._link.submit(_nothing)

    def _refuse(self, event: Any) -> None:
        kind = type(event)
        if kind is Wait:
            _wake(event)
        elif kind is GcsRequest or kind is Question:
            event.answer(None)
        elif kind is types.FunctionType or kind is types.MethodType:
            event()


class _Tickets:
    def __init__(self, core: SessionCore) -> None:
        self._core = core

    def abandon(self, ticket: Any) -> None:
        """An upload will not become an object."""
        self._core.submit(Order(m.DropUpload(ticket.number)))


def _wake(wait: Wait) -> None:
    if wait.callback is not None:
        wait.callback()
    elif wait.lock is not None:
        wait.lock.release()


def _nothing() -> None:
    pass


def _print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
